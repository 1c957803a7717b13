"""Into an instance by its serial console: a real shell on a real pty, and whatever disturbs it."""

import base64
import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.access.guest import Guest, GuestError
from labctl.access.instance import ConsoleInUseError, InstanceGuest, InstanceLocation, find_instance
from labctl.access.serialshell import (
    MAX_OUTPUT,
    LateError,
    NoShellError,
    SerialShell,
    is_in_use,
)
from labctl.errors import EXIT_USAGE, LabError
from tests.unit.fakes import FakeGuest, topology

SHELLS = [shell for shell in (["dash", "-i"], ["bash", "--norc", "-i"], ["busybox", "ash", "-i"])
          if shutil.which(shell[0])]  # fmt: skip


@contextlib.contextmanager
def line(argv: list[str]) -> Iterator[int]:
    """The master of a pty on which that program runs."""
    pid, fd = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.environ.update(PS1="$ ", HISTFILE="/dev/null", TERM="vt100")
        os.execvp(argv[0], argv)
    time.sleep(0.3)  # a shell that is not there yet dies of Ctrl-C
    try:
        yield fd
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


@pytest.fixture(params=SHELLS, ids=lambda argv: argv[0])
def shell(request: pytest.FixtureRequest) -> Iterator[SerialShell]:
    with line(request.param) as fd:
        yield SerialShell(fd)


def test_output_errors_and_exit_code(shell: SerialShell) -> None:
    assert shell.run("echo out; echo err >&2; exit 7", 10) == (7, b"out\n", b"err\n", (0, 0))
    assert shell.run("true", 10) == (0, b"", b"", (0, 0))


def test_whatever_bytes_go_through(shell: SerialShell) -> None:
    said = bytes(range(256)) * 20
    quoted = base64.b64encode(said).decode()
    assert shell.run(f"printf %s {quoted} | base64 -d", 10) == (0, said, b"", (0, 0))
    script = "printf %s '" + "é[x-done]$(no)`no`\\\n" * 50 + "'"
    assert shell.run(script, 10)[1].decode() == "é[x-done]$(no)`no`\\\n" * 50


def test_a_script_that_takes_too_long_is_interrupted(shell: SerialShell) -> None:
    began = time.monotonic()
    with pytest.raises(LateError):
        shell.run("echo begun; sleep 60", 1)
    assert time.monotonic() - began < 20
    assert shell.run("echo after", 10)[1] == b"after\n"


@pytest.mark.parametrize(
    "typed", [b"half a 'line", b"sleep 60\n", b"cat\nwords\n", b"cat <<end\nno end\n", b"\x00\xff"]
)
def test_whatever_was_left_on_the_line(typed: bytes) -> None:
    with line(SHELLS[0]) as fd:
        os.write(fd, typed)
        time.sleep(0.2)
        assert SerialShell(fd).run("echo here", 10)[1] == b"here\n"


def test_what_others_write_to_the_console_is_passed_over() -> None:
    """Kernel messages in the middle of everything, even of a marker."""
    noise = "(while sleep 0.03; do printf '\r\n[   12.3456] random: of the kernel\r\n'; done) &"
    with line(["sh", "-c", f"{noise} exec {SHELLS[0][0]} -i"]) as fd:
        for _ in range(3):
            code, out, _, _ = SerialShell(fd).run("seq 200; exit 3", 5)
            assert (code, out.split()[-1]) == (3, b"200")


def test_of_a_long_output_the_beginning_comes_and_the_rest_is_counted(shell: SerialShell) -> None:
    code, out, _, cut = shell.run(f"head -c {MAX_OUTPUT + 4321} /dev/zero; exit 3", 20)
    assert (code, len(out), cut) == (3, MAX_OUTPUT, (4321, 0))


def test_a_line_that_another_process_has_open_is_in_use() -> None:
    master, slave = pty.openpty()
    path = os.ttyname(slave)
    os.close(slave)
    try:
        assert not is_in_use(path)
        with path_held(path):
            assert is_in_use(path)
        assert not is_in_use(path)
    finally:
        os.close(master)


@contextlib.contextmanager
def path_held(path: str) -> Iterator[None]:
    """Another process has the line open, as libvirt's daemon has for `virsh console`."""
    script = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(flush=True)"
    argv = [sys.executable, "-c", f"{script}; sys.stdin.read()", path]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        yield
    finally:
        holder.communicate(b"", 20)


def test_a_login_prompt_is_no_shell() -> None:
    with (
        line(["sh", "-c", "trap '' INT QUIT; while :; do printf 'vm login: '; read x; done"]) as fd,
        pytest.raises(NoShellError, match="login"),
    ):
        SerialShell(fd).run("true", 5, shell_timeout=8)


def test_nobody_there() -> None:
    with (
        line(["sh", "-c", "trap '' INT QUIT; stty -echo; exec sleep 100"]) as fd,
        pytest.raises(NoShellError, match="does not answer"),
    ):
        SerialShell(fd).run("true", 5, shell_timeout=2)


def test_the_far_end_is_gone() -> None:
    with line(["true"]) as fd, pytest.raises(NoShellError, match="gone"):
        SerialShell(fd).run("true", 5, shell_timeout=2)


# -- the handle ------------------------------------------------------------------------------------
LOCATION = InstanceLocation(
    "vm_1", "compute-01", "instance-00000001", "7be16941-daf5-4d6a", "net",
    "172.16.100.10", "fa:16:3e:84:8b:a2", "10.0.2.210",
)  # fmt: skip


AGENT = "setpriv --pdeathsig TERM python3 -I -c"


def asked(compute: FakeGuest, program: str) -> list[dict[str, Any]]:
    """The requests to the programs that labctl runs on the compute node."""
    return [json.loads(ran.input or b"") for ran in compute.ran if program in ran.command]


def handle(
    location: InstanceLocation = LOCATION, *, agent: str = "", image: str = ""
) -> tuple[InstanceGuest, FakeGuest, FakeGuest]:
    """`agent`: what the program that asks the guest agent prints; "": there is no agent."""
    made = topology("name: ovn-tutorial\n" + image)
    guests = {node.name: FakeGuest(node.name) for node in made.nodes}
    one = InstanceGuest(location, made, lambda name: cast(Guest, guests[name]))
    no_port = json.dumps({"closed": "the instance has no port for a guest agent"})
    guests["compute-01"].on(AGENT, agent or no_port)
    return one, guests["compute-01"], guests["network-controller"]


def said(code: int = 0, out: bytes = b"", err: bytes = b"", cut: tuple[int, int] = (0, 0)) -> str:
    encoded = {"out": base64.b64encode(out).decode(), "err": base64.b64encode(err).decode()}
    return json.dumps({"code": code, **encoded, "cut": cut})


def test_by_the_guest_agent_the_console_is_left_alone() -> None:
    guest, compute, _ = handle(agent=said(0, b"hi\n", b"oh\n"))
    result = guest.run(["echo", "a b"])
    assert (result.stdout, result.stderr) == ("hi\n", "oh\n")
    assert guest.run_by_agent("true", 5) is not None
    (first, second) = asked(compute, AGENT)
    assert first == {"script": "echo 'a b'", "user": "cirros", "timeout": 60, "wait": 60}
    assert second["wait"] == 0
    assert len(compute.ran) == 2


def test_an_image_of_ones_own_is_not_waited_for() -> None:
    guest, compute, _ = handle(image="image: {source: ./cirros.img}\n")
    compute.on("virsh ttyconsole", said(0, b"hi\n"))
    assert guest.run("true").stdout == "hi\n"
    assert asked(compute, AGENT)[0]["wait"] == 0
    assert asked(compute, "ttyconsole")[0]["shell_timeout"] == 60


def test_the_console_gets_little_time_after_the_agent_was_waited_for() -> None:
    guest, compute, _ = handle(agent=json.dumps({"closed": "no guest agent answers"}))
    assert guest.run_by_agent("true", 5) is None
    compute.on("virsh ttyconsole", said())
    guest.run("true")
    assert [request["wait"] for request in asked(compute, AGENT)] == [0, 60]
    assert asked(compute, "ttyconsole")[0]["shell_timeout"] <= 10


def test_a_console_that_somebody_has_open_is_told_as_such() -> None:
    guest, compute, controller = handle()
    compute.on(
        "virsh ttyconsole", json.dumps({"no_shell": "the console is open in another window"})
    )
    controller.files["/root/.ssh/id_ed25519"] = b"KEY"
    compute.on("ovnmeta", exit=255, stderr="No route to host").on("rm -f")
    controller.on("ssh ", exit=255, stderr="Connection timed out")
    with pytest.raises(ConsoleInUseError, match="console: the console is open in another window"):
        guest.run("true")
    controller.on("ssh ", "by ssh\n")
    assert guest.run("true").stdout == "by ssh\n"


def test_a_command_is_not_run_again_after_the_agent_was_lost() -> None:
    guest, compute, _ = handle(agent=json.dumps({"lost": "agent is gone"}))
    with pytest.raises(GuestError, match="stopped while a command ran in it: agent is gone"):
        guest.run("poweroff")
    assert len(compute.ran) == 1


def test_what_was_cut_off_is_told() -> None:
    guest, _, _ = handle(agent=said(0, b"begin", cut=(1000, 0)))
    result = guest.run("yes")
    assert result.stdout == "begin\n[… 1000 bytes …]\n"
    assert result.left_out == 1000


def test_a_way_that_is_closed_later_leaves_the_others() -> None:
    guest, compute, _ = handle(agent=said(0, b"by agent\n"))
    assert guest.run("true").stdout == "by agent\n"
    compute.on(AGENT, json.dumps({"closed": "no guest agent answers"}))
    compute.on("virsh ttyconsole", said(0, b"by console\n"))
    assert guest.run("true").stdout == "by console\n"


def test_by_the_console() -> None:
    guest, compute, _ = handle()
    compute.on("virsh ttyconsole instance-00000001.*python3 -I -c", said(0, b"hi\n"))
    heard: list[tuple[str, str]] = []
    result = guest.run(["echo", "a b"], on_line=lambda *words: heard.append(words))
    assert result.stdout == "hi\n"
    assert heard == [("hi", "stdout")]
    assert asked(compute, "ttyconsole")[0]["script"] == "echo 'a b'"


def test_a_failure_is_the_commands_own() -> None:
    guest, compute, _ = handle()
    compute.on("virsh", said(3, b"", b"no route\n"))
    with pytest.raises(GuestError, match=r"vm_1: `ping x` failed \(exit 3\): no route"):
        guest.run("ping x")
    assert guest.run("ping x", check=False).returncode == 3
    compute.on("virsh", json.dumps({"late": "…"}))
    with pytest.raises(GuestError, match="did not finish within 5 s"):
        guest.run("sleep 9", timeout=5)


def test_a_console_that_asks_for_a_login_leaves_ssh() -> None:
    guest, compute, controller = handle()
    compute.on("virsh", json.dumps({"no_shell": "the console asks for a login"}))
    controller.files["/root/.ssh/id_ed25519"] = b"KEY"
    compute.on("ip netns exec ovnmeta-net ssh -i", exit=255, stderr="Connection timed out")
    compute.on("rm -f")
    controller.on("ssh .*cirros@10.0.2.210", "by ssh\n")
    assert guest.run("true").stdout == "by ssh\n"
    assert guest.run("true").stdout == "by ssh\n"
    # The way that led in is taken at once the next time, and the lent key is gone.
    assert len([ran for ran in compute.ran if "virsh" in ran.command]) == 1
    assert compute.ran[-1].command.startswith("rm -f")


def test_no_way_in_names_every_way() -> None:
    guest, compute, controller = handle(
        InstanceLocation("vm_1", "compute-01", "d", "p", "net", "172.16.100.10", "m", None)
    )
    compute.on("virsh", exit=1, stderr="error: failed to get domain 'd'")
    controller.files["/root/.ssh/id_ed25519"] = b"KEY"
    compute.on("ovnmeta", exit=255, stderr="No route to host")
    compute.on("rm -f")
    with pytest.raises(GuestError, match=r"failed to get domain.*No route to host.*no floating"):
        guest.run("true")


def test_files() -> None:
    guest, compute, _ = handle()
    compute.on("virsh", said(0, base64.b64encode(b"\x00\xff")))
    assert guest.get("/etc/x") == b"\x00\xff"
    guest.put(b"content", "/tmp/a b")
    script = json.loads(compute.ran[-1].input or b"")["script"]
    assert base64.b64encode(b"content").decode() in script
    with pytest.raises(OSError, match="opens no connections"):
        guest.dial("127.0.0.1", 22)


def server(**given: Any) -> Any:
    known = {"name": "vm_1", "status": "ACTIVE", "compute_host": "compute-01", "id": "s1",
             "instance_name": "instance-00000001", "key_name": "lab"}  # fmt: skip
    return SimpleNamespace(**{**known, **given})


def cloud(*servers: Any, ports: list[Any] | None = None) -> Any:
    port = SimpleNamespace(id="p1-long-identifier", network_id="n", mac_address="m",
                           fixed_ips=[{"ip_address": "172.16.100.10"}])  # fmt: skip
    found = [port] if ports is None else ports

    return SimpleNamespace(
        compute=SimpleNamespace(servers=lambda: list(servers)),
        network=SimpleNamespace(ports=lambda device_id: found, ips=lambda port_id: []),
    )


def test_where_an_instance_is() -> None:
    place = find_instance("vm_1", cloud(server()))
    assert (place.node, place.domain, place.floating) == ("compute-01", "instance-00000001", None)
    assert place.tap == "tapp1-long-ide"


@pytest.mark.parametrize(
    ("given", "match", "code"),
    [([], "no instance vm_1", EXIT_USAGE), ([server(name="other")], "no instance", EXIT_USAGE),
     ([server(status="SHUTOFF")], "not running: SHUTOFF", 1),
     ([server(compute_host=None)], "not running", 1)],
)  # fmt: skip
def test_an_instance_that_cannot_be_entered(given: list[Any], match: str, code: int) -> None:
    with pytest.raises(LabError, match=match) as caught:
        find_instance("vm_1", cloud(*given))
    assert caught.value.code == code
    with pytest.raises(LabError, match="no port"):
        find_instance("vm_1", cloud(server(), ports=[]))
