"""`vagrant.exe`, `VBoxManage.exe`, `ssh.exe`, `powershell.exe` in the Windows of the tests.

The first argument says which. Vagrant is the one of the unit tests: a world that is a file of text,
here in C:\\world. ssh logs in for real, with paramiko.
"""

import os
import re
import sys
import time
from io import TextIOWrapper

import fake_vagrant  # type: ignore[import-not-found]  # beside it in the .exe

PLACE = r"C:\world"
FOLDER = r"C:\Users\王 小明\VirtualBox VMs"


def vboxmanage(words: list[str]) -> None:
    if words == ["--version"]:
        sys.stdout.write("7.2.8r172322\n")
    elif words == ["list", "systemproperties"]:
        # In the code page of the system, as VirtualBox' own runtime does.
        sys.stdout.buffer.write(f"Default machine folder:          {FOLDER}\r\n".encode("cp950"))
    else:
        fake_vagrant.main()


def vagrant(words: list[str]) -> None:
    if words == ["--version"]:
        sys.stdout.write("Vagrant 2.4.9\n")
        return
    world = fake_vagrant.load()
    if words[:1] == ["up"] and world["hangs"]:
        # As the real one: a launcher with a Ruby below it, which has children of its own.
        import subprocess

        code = f"import time; open({PLACE + chr(92) + 'child'!r}, 'w').close(); time.sleep(300)"
        child = subprocess.Popen([sys.executable, "-I", "-c", code])
        fake_vagrant.write(rf"{PLACE}\pids", f"{os.getpid()} {child.pid}")
        time.sleep(300)
    fake_vagrant.main()


def powershell(words: list[str]) -> None:
    """Answers about the hypervisor, as the world says what Windows runs it for."""
    assert words[:-1] == ["-NoProfile", "-NonInteractive", "-Command"], words
    users = fake_vagrant.load()["hyperv"]
    if "HypervisorPresent" in words[-1]:
        sys.stdout.write(f"present={bool(users)}\nvbs={2 if 'vbs' in users else 0}\n")
    else:
        assert "Win32_OptionalFeature" in words[-1]
        sys.stdout.write("".join(f"feature={name}\n" for name in users if name != "vbs"))


def ssh(words: list[str]) -> int:
    """The options that labctl passes, read as ssh(1) does."""
    import paramiko

    options: dict[str, str] = {}
    port = 22
    while words[0].startswith("-"):
        option = words.pop(0)
        if option == "-t":
            continue
        value = words.pop(0)
        if option == "-o":
            name, _, text = value.partition("=")
            # Between quotes a backslash protects a backslash and a quote (misc.c, argv_split).
            options[name] = re.sub(r"\\([\\\"])", r"\1", text.strip('"')).replace("%%", "%")
        elif option == "-p":
            port = int(value)
    user, _, host = words.pop(0).partition("@")
    client = paramiko.SSHClient()
    client.load_host_keys(options["UserKnownHostsFile"])
    keys = client.get_host_keys().lookup(options["HostKeyAlias"])
    assert keys is not None
    for kind in keys:
        client.get_host_keys().add(f"[{host}]:{port}", kind, keys[kind])
    client.connect(host, port, user, key_filename=options["IdentityFile"], look_for_keys=False)
    _, out, err = client.exec_command(" ".join(words))
    sys.stdout.buffer.write(out.read())
    sys.stderr.buffer.write(err.read())
    return out.channel.recv_exit_status()


def main() -> None:
    fake_vagrant.HERE = PLACE
    fake_vagrant.WORLD = rf"{PLACE}\world"
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, TextIOWrapper)
        stream.reconfigure(encoding="utf-8")  # as Ruby's
    program, words = sys.argv.pop(1), sys.argv[1:]
    if program == "ssh":
        sys.exit(ssh(words))
    sys.argv[0] = program
    programs = {"vagrant": vagrant, "VBoxManage": vboxmanage, "powershell": powershell}
    programs[program](words)
