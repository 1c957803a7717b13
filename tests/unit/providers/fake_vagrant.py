"""`vagrant`, `virsh` and `VBoxManage` of a machine that is a file of text; run under these names.

They speak as the real ones do (tests/golden/vagrant/lines.yaml), and do to the file what those do
to machines. Run as programs, by the hundred: nothing of labctl is imported, and nothing that takes
longer to import than what it is for. The file holds a literal of Python.
"""

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

HERE = os.path.dirname(sys.argv[0])
WORLD = f"{HERE}/world"


def sleep(seconds: float) -> None:
    """time.sleep by other means: tests/ahead/sitecustomize.py says why, and is not loaded here."""
    if sys.platform == "win32":  # its select takes no empty lists
        time.sleep(seconds)
    else:
        select.select([], [], [], seconds)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


loaded = ""
"""The world as this program has read it."""


def load() -> "dict[str, Any]":
    global loaded
    loaded = read(WORLD)
    world: dict[str, Any] = eval(loaded)
    return world


def save(world: "dict[str, Any]") -> None:
    """Write what this program has changed; what others changed meanwhile stays."""
    global loaded
    lock = f"{WORLD}.lock"
    for _ in range(500):  # five seconds: one that was killed inside leaves its lock
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except OSError:
            sleep(0.01)
    try:
        before, now = eval(loaded), eval(read(WORLD))
        mine = {key: value for key, value in world.items() if value != before.get(key)}
        world.update(now | mine)
        loaded = repr(world)
        new = f"{WORLD}.{os.getpid()}"
        write(new, loaded)
        os.replace(new, WORLD)
    finally:
        if os.path.exists(lock):
            os.remove(lock)


def say(target: str, kind: str, *data: str) -> None:
    words = [
        word.replace(",", "%!(VAGRANT_COMMA)").replace("\n", "\\n").replace("\r", "\\r")
        for word in data
    ]
    print(",".join([str(int(time.time())), target, kind, *words]), flush=True)


def fail(kind: str, reason: str, *, readable: bool = True) -> "NoReturn":
    if readable:
        say("", "ui", "error", reason)
        say("", "error-exit", f"Vagrant::Errors::{kind}", reason)
    else:
        print(reason, file=sys.stderr)
    sys.exit(1)


NOT_READY = """The provider for this Vagrant-managed machine is reporting that it
is not yet ready for SSH. Depending on your provider this can carry
different meanings."""


class Vagrant:
    """One run of `vagrant`."""

    def __init__(self, words: list[str]) -> None:
        self.world = load()
        self.dot = os.environ["VAGRANT_DOTFILE_PATH"]
        self.readable = "--machine-readable" in words
        self.words = [word for word in words if word != "--machine-readable"]
        file = f"{os.environ['VAGRANT_CWD']}/Vagrantfile"
        _, *defined = (read(file) if os.path.exists(file) else "").split("config.vm.define '")
        self.names = [one.partition("'")[0] for one in defined]

    def run(self) -> None:
        verb = self.words[0]
        if verb in ("status", "up", "halt", "destroy", "snapshot", "ssh-config") and not self.names:
            fail("NoEnvironmentError", "A Vagrant environment is required to run this\ncommand.")
        if (reason := self.world["fail"].get(verb)) is not None:
            if verb == "up":
                self.say_on_console(self.words[1])
            fail("VMBootError", reason, readable=self.readable)
        getattr(self, verb.replace("-", "_"))(self.words[1:])
        save(self.world)

    def machine(self, name: str) -> "dict[str, Any] | None":
        found: dict[str, Any] | None = self.world["machines"].get(f"labctl-x-{name}")
        return found

    def id_file(self, name: str, provider: str) -> str:
        return f"{self.dot}/machines/{name}/{provider}/id"

    def status(self, words: list[str]) -> None:
        for name in self.names:
            say(name, "metadata", "provider", os.environ["VAGRANT_DEFAULT_PROVIDER"])
        for name in self.names:
            machine = self.machine(name)
            say(name, "provider-name", os.environ["VAGRANT_DEFAULT_PROVIDER"])
            say(name, "state", machine["state"] if machine else "not_created")
            say(name, "state-human-long", "It is so. To stop it, you can\nrun `vagrant halt`.")
        say("", "ui", "info", "Current machine states:\n\none, two")

    def up(self, words: list[str]) -> None:
        provider = words[words.index("--provider") + 1]
        assert "--no-provision" in words
        names = words[: words.index("--provider")]
        if self.world["held"]:
            self.world["held"] -= 1
            save(self.world)
            fail("MachineActionLockedError", "An action 'up' was attempted on the machine")
        box = os.environ.get("LABCTL_BOX", "")
        for name in names:
            say(name, "ui", "info", f"Bringing machine '{name}' up with '{provider}' provider...")
            full = f"labctl-x-{name}"
            if f"{full}.img" in self.world["volumes"] and full not in self.world["machines"]:
                fail("DomainVolumeExists", "Volume for domain is already created.")
            made = self.world["machines"].setdefault(full, {"state": "running", "box": box})
            made["state"] = "running"
            self.say_on_console(name)
            if provider == "libvirt":
                self.world["volumes"] = sorted({*self.world["volumes"], f"{full}.img"})
            file = self.id_file(name, provider)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            write(file, f"id-of-{name}")
            save(self.world)
            say(name, "ui", "output", f"==> {name}: Machine booted, and ready!")
            if (lasts := self.world["slow"].get(name)) is not None:
                sleep(lasts)

    def say_on_console(self, name: str) -> None:
        """As VirtualBox does: the file is emptied at each boot."""
        if (words := self.world.get("consoles", {}).get(name)) is not None:
            write(f"{os.environ['VAGRANT_CWD']}/../logs/{name}/console.log", words)

    def ssh_config(self, words: list[str]) -> None:
        machine = self.machine(words[0])
        if machine is None or machine["state"] != "running":
            fail("SSHNotReady", NOT_READY, readable=self.readable)
        port = self.world["ports"].get(words[0], 2222)
        print(f"Host {words[0]}\n  HostName 127.0.0.1\n  User vagrant\n  Port {port}")
        print('  IdentityFile "/home/a b/key"\n')

    def halt(self, words: list[str]) -> None:
        assert words[1:] == ["--force"]
        self.world["machines"][f"labctl-x-{words[0]}"]["state"] = "poweroff"

    def destroy(self, words: list[str]) -> None:
        assert words == ["--force"]
        for name in self.names:
            self.world["machines"].pop(f"labctl-x-{name}", None)
            self.world["volumes"] = [
                one for one in self.world["volumes"] if one != f"labctl-x-{name}.img"
            ]
            for provider in ("libvirt", "virtualbox"):
                if os.path.exists(file := self.id_file(name, provider)):
                    os.unlink(file)
            say(name, "ui", "info", f"==> {name}: Destroying VM and associated drives...")

    def box(self, words: list[str]) -> None:
        if words[0] == "list":
            for name, provider, version in self.world["boxes"]:
                for kind, value in (("name", name), ("provider", provider), ("version", version)):
                    say("", f"box-{kind}", value)
            if not self.world["boxes"]:
                say(
                    "", "ui", "warn", "There are no installed boxes! Use `vagrant box add`, please."
                )
            return
        if words[0] == "remove":
            assert words[2:] == ["--all", "--force"]
            self.world["boxes"] = [one for one in self.world["boxes"] if one[0] != words[1]]
            return
        assert words[0] == "add"
        if words[1] == "--name":  # a file that is in no catalogue
            assert os.path.isfile(words[-1])
            self.world["boxes"].append([words[2], words[words.index("--provider") + 1], "0"])
            return
        if words[1].endswith(".json"):
            self.world["boxes"].append(self.from_catalogue(words))
            return
        version = words[words.index("--box-version") + 1] if "--box-version" in words else "9"
        self.world["boxes"].append([words[1], words[words.index("--provider") + 1], version])

    def from_catalogue(self, words: list[str]) -> list[str]:
        import hashlib
        import json

        document = json.loads(read(words[1]))
        (version,) = document["versions"]
        (box,) = version["providers"]
        assert box["name"] == words[words.index("--provider") + 1]
        # As Vagrant: a name without a scheme is a file of the directory it was started in, whatever
        # VAGRANT_CWD says.
        path = box["url"].removeprefix("file:///" if sys.platform == "win32" else "file://")
        with open(path, "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == box["checksum"]
        return [document["name"], box["name"], version["version"]]

    def snapshot(self, words: list[str]) -> None:
        verb, name, *rest = words
        machine = self.machine(name)
        if machine is None:
            say("", "ui", "warn", f"Machine '{name}' has not been created yet, and... Skipping...")
            return
        shots = machine.setdefault("snapshots", [])
        if verb == "list":
            if not shots:
                say(name, "ui", "output", f"==> {name}: No snapshots have been taken yet!")
                say(name, "ui", "detail", f"    {name}: You can take a snapshot using `vagrant")
            for shot in shots:
                say(name, "ui", "detail", shot)
        elif verb == "save":
            assert rest[0] not in shots, "the snapshot exists"
            if not self.world["forgets_snapshots"]:
                shots.append(rest[0])
        elif verb == "delete":
            shots.remove(rest[0])
        elif verb == "restore":
            assert rest[0] in shots
            assert rest[1:] == ["--no-start", "--no-provision"]
            machine["restored"] = rest[0]


def virsh(words: list[str]) -> None:
    assert words[:3] == ["--quiet", "-c", "qemu:///system"]
    world, words = load(), words[3:]
    if world["fail"].get("virsh"):
        print(f"error: {world['fail']['virsh']}", file=sys.stderr)
        sys.exit(1)
    networks = world["networks"]
    match words:
        case ["net-list", *rest]:
            print("\n".join(n for n, one in networks.items() if "--all" in rest or one["running"]))
        case ["net-define", "/dev/stdin"]:
            xml = sys.stdin.read()
            name = xml.partition("<name>")[2].partition("</name>")[0]
            assert name not in networks
            networks[name] = {"running": False, "xml": xml}
        case ["net-start", name]:
            assert not networks[name]["running"]
            networks[name]["running"] = True
        case ["net-destroy", name]:
            if not networks[name]["running"]:
                sys.exit(1)
            networks[name]["running"] = False
        case ["net-undefine", name]:
            del networks[name]
        case ["destroy", name]:
            world["machines"][name]["state"] = "shutoff"
        case ["list", "--all", "--name"]:
            print("\n".join(world["machines"]))
        case ["vol-list", "default"]:
            print("".join(f" {name}   /var/lib/{name}\n" for name in world["volumes"]))
        case ["domblklist", _, "--details"]:
            print(" Type   Device   Target   Source\n------------------------------")
            for number, file in enumerate(world["disks"]):
                print(f" file   disk     vd{'ab'[number]}      {file}")
        case ["vol-dumpxml", file]:
            base = world["bases"].get(file)
            inner = f"<backingStore>\n <path>{base}</path></backingStore>" if base else ""
            print(f"<volume>{inner}</volume>")
        case ["vol-download", "--sparse", file, target]:
            write(target, file)
        case ["vol-delete", "--pool", "default", name]:
            world["volumes"].remove(name)
        case _:
            raise AssertionError(words)
    save(world)


def qemu_img(words: "list[str]") -> None:
    """Files that tell what they were made of."""
    match words:
        case ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base, file]:
            write(file, f"{read(file)} on {read(base)}")
        case ["convert", "-f", format, "-O", "qcow2", *_, source, target]:
            text = read(source) if format == "qcow2" else os.path.basename(source)
            write(target, f"all of {text}")
        case _:
            raise AssertionError(words)


def vboxmanage(words: list[str]) -> None:
    world = load()
    if world["fail"].get(f"VBoxManage {words[0]}"):
        print(f"VBoxManage: error: {world['fail'][f'VBoxManage {words[0]}']}", file=sys.stderr)
        sys.exit(1)
    match words:
        case ["list", "vms"]:
            import uuid

            sleep(world.get("hangs", 0))
            for name in world["machines"]:
                print(f'"{name}" {{{uuid.uuid5(uuid.NAMESPACE_DNS, name)}}}')
        case ["list", "systemproperties"]:
            print(f"Default machine folder:          {world['machine_folder']}")
        case ["showvminfo", _, "--machinereadable"]:
            print(world["machine_facts"])
        case ["clonemedium", "disk", source, target, "--format", "VMDK", "--variant", "Stream"]:
            assert not os.path.exists(target)
            write(target, f'# ddb.uuid.image = "{UUID}"\nthe whole of {source}')
        case ["closemedium", "disk", _]:
            pass
        case _:
            raise AssertionError(words)


UUID = "5f0e1c2d-3b4a-4958-8776-655443322110"


def main() -> None:
    program, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    with open(f"{HERE}/calls", "a", encoding="utf-8") as calls:
        calls.write(f"{program} {' '.join(words)}\n")
    if program == "vagrant":
        Vagrant(words).run()
    elif program == "virsh":
        virsh(words)
    elif program == "qemu-img":
        qemu_img(words)
    else:
        vboxmanage(words)


if __name__ == "__main__":
    main()
