"""SSHGuest against a real OpenSSH server: on the loopback interface, with keys of its own."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labctl.access import ssh
from labctl.access.guest import GuestError, LateError, UnreachableError
from labctl.access.shell import Shell, open_output, open_shell
from labctl.access.ssh import SSHGuest
from labctl.errors import Cancelled
from labctl.providers import netns

MEGABYTE = 1 << 20


def make_key(path: Path) -> Path:
    key = Ed25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_suffix(".pub").write_bytes(public + b"\n")
    return path


class Server:
    """An sshd that lets root in with one key, perhaps in a network namespace of its own."""

    def __init__(self, directory: Path, sshd: str, namespace: str = "") -> None:
        self.directory = directory
        self._namespace = namespace
        self.host_key = make_key(directory / "host")
        self.key = make_key(directory / "id")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (directory / "config").write_text(
            f"""
            ListenAddress 127.0.0.1:{self.port}
            HostKey {self.host_key}
            AuthorizedKeysFile {self.key.with_suffix(".pub")}
            PidFile {directory}/pid
            PasswordAuthentication no
            PermitRootLogin prohibit-password
            UsePAM no
            StrictModes no
            MaxSessions 64
            SetEnv HOME={directory}
            """
        )
        into = ["ip", "netns", "exec", namespace] if namespace else []
        self._argv = [*into, sshd, "-D", "-e", "-f", str(directory / "config")]
        self._process: subprocess.Popen[bytes] | None = None
        self.dialled = 0

    def _open(self) -> socket.socket:
        if self._namespace:
            return netns.dial(self._namespace, "127.0.0.1", self.port, 5)
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._argv, stderr=log, start_new_session=True)
        for _ in range(500):
            try:
                self._open().close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError((self.directory / "log").read_text())

    def stop(self) -> None:
        """The server and every session of it, at once: as when a node loses its power."""
        if self._process is None:
            return
        found = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        children: dict[int, list[int]] = {}
        for line in found.stdout.splitlines():
            pid, parent = map(int, line.split())
            children.setdefault(parent, []).append(pid)
        victims = [self._process.pid]
        for pid in victims:
            victims += children.get(pid, [])
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def dial(self, host: str, port: int) -> socket.socket:
        """The way into the node: its port 22 is the server's."""
        assert (host, port) == ("127.0.0.1", 22)
        self.dialled += 1
        return self._open()

    def guest(self, *, key: Path | None = None, host_key: Path | None = None) -> SSHGuest:
        return SSHGuest("node-1", self.dial, key or self.key, host_key or self.host_key)


@pytest.fixture
def sshd(require: Callable[..., None]) -> str:
    require("sshd", "ps", "ip", root=True)
    found = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
    assert found is not None
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what a Debian sshd refuses to do without
    return found


@pytest.fixture
def server(tmp_path: Path, sshd: str) -> Iterator[Server]:
    made = Server(tmp_path, sshd)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def guest(server: Server) -> Iterator[SSHGuest]:
    made = server.guest()
    yield made
    made.close()


# -- a terminal ------------------------------------------------------------------------------------
def read_until(shell: Shell, text: bytes) -> bytes:
    printed = b""
    while text not in printed:
        data = shell.read()
        assert data, printed
        printed += data
    return printed


def test_a_shell_has_a_terminal_of_the_size_that_was_asked_for(guest: SSHGuest) -> None:
    shell = open_shell(guest, 93, 31)
    shell.write(b"stty size; echo $((40 + 2))-first\n")
    assert b"31 93" in read_until(shell, b"42-first")
    shell.resize(101, 37)
    shell.write(b"stty size; tty; echo $((40 + 2))-second\n")
    printed = read_until(shell, b"42-second")
    assert b"37 101" in printed
    assert b"/dev/pts/" in printed
    shell.close()
    assert shell.read() == b""


def test_what_is_read_as_it_comes_ends_with_its_connection(guest: SSHGuest) -> None:
    output = open_output(guest, "echo $$; while sleep 0.1; do echo more; done")
    process = int(read_until(output, b"more").split()[0])
    threads = [threading.Thread(target=output.close) for _ in range(2)]
    for thread in threads:
        thread.start()
    while output.read():
        pass
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# -- running ---------------------------------------------------------------------------------------
def test_exit_code_and_streams(guest: SSHGuest) -> None:
    result = guest.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert not result.ok
    assert 0 < result.seconds < 30
    assert guest.run("true").ok


@pytest.mark.parametrize("code", [0, 1, 2, 127, 255])
def test_every_exit_code_arrives(guest: SSHGuest, code: int) -> None:
    assert guest.run(f"exit {code}", check=False).returncode == code


def test_words_arrive_as_they_are_and_a_text_is_a_script(guest: SSHGuest) -> None:
    words = ["a b", "$(id)", "'", '"', "*", "", "x;y", "中", "\n"]
    assert guest.run(["printf", "<%s>", *words]).stdout == "".join(f"<{word}>" for word in words)
    script = """
    set -euo pipefail
    name='of bash'  # an array too:
    declare -a parts=(one two)
    [[ ${#parts[@]} = 2 ]] && echo "a script $name"
    """
    assert guest.run(script).stdout == "a script of bash\n"


def test_a_failure_is_said_with_the_last_words(guest: SSHGuest) -> None:
    with pytest.raises(GuestError) as error:
        guest.run("seq 9\necho gone wrong >&2\nexit 4")
    assert error.value.message == "node-1: `seq 9` failed (exit 4): 7 / 8 / 9"
    with pytest.raises(GuestError, match=r"`false` failed \(exit 1\): $"):
        guest.run(["false"])


def test_stdin_is_what_is_given_and_otherwise_empty(guest: SSHGuest) -> None:
    assert guest.run(["cat"], input=b"to you\n").stdout == "to you\n"
    assert guest.run(["cat"], timeout=10).stdout == ""


def test_lines_arrive_while_the_command_runs(guest: SSHGuest, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def on_line(line: str, stream: str) -> None:
        seen.append((line, stream))
        (tmp_path / f"go-{line}").touch()  # the command waits for it: nothing comes too late

    wait = f"until [ -e {tmp_path}/go-$1 ]; do sleep 0.01; done"
    result = guest.run(
        f"wait() {{ {wait}; }}; echo one; wait one; echo zwei >&2; wait zwei; printf drei",
        on_line=on_line,
        timeout=20,
    )
    assert seen == [("one", "stdout"), ("zwei", "stderr"), ("drei", "stdout")]
    assert (result.stdout, result.stderr) == ("one\ndrei", "zwei\n")


def test_a_character_that_is_split_between_packets_stays_whole(guest: SSHGuest) -> None:
    seen: list[str] = []
    script = r"printf '\344\270'; sleep 0.2; printf '\255\n\377\n'"
    result = guest.run(script, on_line=lambda line, stream: seen.append(line))
    assert seen == ["中", "\ufffd"]
    assert result.stdout == "中\n\ufffd\n"


def test_much_on_both_streams(guest: SSHGuest) -> None:
    counts = {"stdout": 0, "stderr": 0}

    def on_line(line: str, stream: str) -> None:
        counts[stream] += 1

    # More than a channel's window of either, in turns.
    line = "x" * 99
    script = f"for i in $(seq 40000); do echo {line}; echo {line} >&2; done"
    result = guest.run(script, on_line=on_line, timeout=120)
    assert len(result.stdout) == len(result.stderr) == 4_000_000
    assert counts == {"stdout": 40_000, "stderr": 40_000}


def test_much_in_both_directions_at_once(guest: SSHGuest) -> None:
    """A command that answers while it is fed: neither may wait for the other."""
    content = b"0123456789abcde\n" * (6 * MEGABYTE // 16)
    result = guest.run(["tee", "/dev/stderr"], input=content, timeout=120)
    assert result.stdout.encode() == content
    assert result.stderr.encode() == content


def test_a_command_that_does_not_read_what_it_is_fed(guest: SSHGuest) -> None:
    result = guest.run("exec <&-; exit 5", input=bytes(5 * MEGABYTE), check=False, timeout=30)
    assert result.returncode == 5
    result = guest.run("head -c 3; exit 6", input=bytes(5 * MEGABYTE), check=False, timeout=30)
    assert (result.returncode, result.stdout) == (6, "\0\0\0")


def test_a_command_that_takes_too_long(guest: SSHGuest) -> None:
    began = time.monotonic()
    with pytest.raises(GuestError, match="`sleep 60` did not finish within 0 s") as error:
        guest.run("# sleep 60\nmkdir -p /tmp\nsleep 60", timeout=0.3)
    assert "labctl ssh node-1" in error.value.hint
    assert time.monotonic() - began < 10
    assert guest.run("echo still there").stdout == "still there\n"


def test_a_process_in_the_background_is_not_waited_for(guest: SSHGuest, tmp_path: Path) -> None:
    # It holds standard error open, as in `server >log &`.
    done = guest.run(f"sleep 4; (sleep 20; echo late) >{tmp_path}/log & echo begun $!; exit 5",
                     check=False, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout.split()[0]) == (5, "begun")
    assert done.seconds < 18
    assert guest.run(f"kill -0 {done.stdout.split()[1]}; echo $?", timeout=30).stdout == "0\n"


def test_a_command_that_never_stops_talking_can_be_stopped(guest: SSHGuest) -> None:
    with pytest.raises(GuestError, match="did not finish"):
        guest.run(["yes"], timeout=0.5)
    seen: list[str] = []
    with pytest.raises(Cancelled):
        guest.run(
            ["yes"],
            timeout=30,
            on_line=lambda line, stream: seen.append(line),
            cancelled=lambda: len(seen) > 1000,
        )


def test_of_output_without_end_head_and_tail_are_kept(
    guest: SSHGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_MOST_KEPT", MEGABYTE)
    monkeypatch.setattr(ssh, "_LARGEST_FILE", MEGABYTE)
    with pytest.raises(LateError) as error:
        guest.run("echo first; exec yes", timeout=2)
    result = error.value.result
    assert result.stdout.startswith("first\ny\n")
    assert len(result.stdout) < 2 * MEGABYTE
    assert f"\n[… {result.left_out} bytes …]\n" in result.stdout
    done = guest.run("seq 1000000; head -c 3000000 /dev/zero >&2", timeout=60)
    assert done.stdout.startswith("1\n2\n")
    assert done.stdout.endswith("\n1000000\n")
    assert done.left_out > 4 * MEGABYTE
    pieces: list[str] = []
    guest.run("head -c 300000 /dev/zero", on_line=lambda line, _: pieces.append(line))
    assert sum(map(len, pieces)) == 300_000
    assert len(pieces) > 1
    with pytest.raises(GuestError, match="/dev/zero is too large to be read"):
        guest.get("/dev/zero")


def test_cancelling(guest: SSHGuest) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="`sleep 60` on node-1"):
        guest.run(["sleep", "60"], timeout=50, cancelled=cancel.is_set)
    assert time.monotonic() - began < 10
    assert guest.run(["true"]).ok


def test_a_command_that_is_killed_is_no_success(guest: SSHGuest) -> None:
    with pytest.raises(GuestError, match="was killed"):
        guest.run("kill -9 $$", check=False)


def test_many_commands_at_once_over_one_connection(server: Server, guest: SSHGuest) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = guest.run(f"sleep 0.1; echo {number}").stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {number: f"{number}\n" for number in range(20)}
    assert server.dialled == 1


# -- files -----------------------------------------------------------------------------------------
def test_binary_content_of_five_megabytes_there_and_back(guest: SSHGuest, tmp_path: Path) -> None:
    content = os.urandom(5 * MEGABYTE)
    path = f"{tmp_path}/new directory/it's a file"
    guest.put(content, path, 0o640)
    assert guest.get(path) == content
    assert Path(path).stat().st_mode & 0o7777 == 0o640
    seen = guest.run(["sha256sum", path]).stdout.split()[0]
    assert seen == hashlib.sha256(content).hexdigest()
    assert [one.name for one in Path(path).parent.iterdir()] == ["it's a file"]


def test_a_file_is_replaced_whole_or_not_at_all(guest: SSHGuest, tmp_path: Path) -> None:
    path = tmp_path / "file"
    guest.put(b"old", str(path))
    guest.put(b"", str(path), 0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"", 0o600)
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    with pytest.raises(GuestError):
        guest.put(b"new", str(path / "in the way" / "below"))
    assert (path / "in the way").read_bytes() == b""


def test_a_file_that_is_not_there(guest: SSHGuest, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"nothing cannot be read: .*No such file"):
        guest.get(f"{tmp_path}/nothing")
    with pytest.raises(GuestError, match=r"cannot be read: .*directory"):
        guest.get(str(tmp_path))


# -- connecting ------------------------------------------------------------------------------------
def test_a_server_with_another_host_key_is_refused(server: Server, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    guest = server.guest(host_key=other)
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(GuestError, match="unknown host key") as error:
            guest.run(["true"])
    assert error.value.hint
    log = (tmp_path / "log").read_text()
    assert "Accepted publickey" not in log  # it was not even told who we are
    assert settles(lambda: threading.active_count() <= before)  # nor is a connection left


def test_a_key_that_does_not_open_the_node(server: Server, tmp_path: Path) -> None:
    guest = server.guest(key=make_key(tmp_path / "other"))
    with pytest.raises(GuestError, match="node-1 cannot be reached by SSH: Authentication failed"):
        guest.run(["true"])
    missing = server.guest(key=tmp_path / "missing")
    with pytest.raises(GuestError, match=r"cannot be reached by SSH: .*No such file"):
        missing.run(["true"])


def test_nobody_listens(server: Server, guest: SSHGuest) -> None:
    server.stop()
    with pytest.raises(GuestError, match=r"cannot be reached by SSH: .*refused") as error:
        guest.run(["true"])
    assert "labctl up" in error.value.hint


def test_something_else_listens(server: Server) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        theirs.shutdown(socket.SHUT_WR)
        guest = SSHGuest("node-1", lambda host, port: ours, server.key, server.host_key)
        with pytest.raises(GuestError, match="cannot be reached by SSH"):
            guest.run(["true"])


def test_a_restarted_server_is_found_again(server: Server, guest: SSHGuest) -> None:
    assert guest.run("echo one").stdout == "one\n"
    server.stop()
    server.start()
    assert guest.run("echo two").stdout == "two\n"
    assert server.dialled == 2


def test_a_connection_that_only_seems_alive_is_made_anew(
    server: Server, guest: SSHGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.run(["true"])
    transport = living_transport()
    server.stop()
    assert settles(lambda: not transport.is_active())
    server.start()
    monkeypatch.setattr(transport, "is_active", lambda: True)
    assert guest.run("echo two").stdout == "two\n"
    server.stop()
    with pytest.raises(GuestError, match="cannot be reached by SSH"):
        guest.run(["true"])


def test_a_server_that_dies_meanwhile_is_said(server: Server, guest: SSHGuest) -> None:
    threading.Timer(0.5, server.stop).start()
    began = time.monotonic()
    with pytest.raises(GuestError, match="the connection broke while it ran"):
        guest.run(["sleep", "60"], timeout=50)
    assert time.monotonic() - began < 20


def test_closing_lets_go_and_the_next_call_connects_anew(server: Server, guest: SSHGuest) -> None:
    guest.run(["true"])
    guest.close()
    guest.close()
    assert guest.run(["true"]).ok
    assert server.dialled == 2


def test_dial_is_the_nodes_own(server: Server, guest: SSHGuest) -> None:
    with guest.dial("127.0.0.1", 22) as sock:
        assert sock.recv(8).startswith(b"SSH-2.0-")


def living_transport() -> paramiko.Transport:
    """The one SSH connection of this process that is up."""
    (transport,) = (
        thread
        for thread in threading.enumerate()
        if isinstance(thread, paramiko.Transport) and thread.is_active()
    )
    return transport


def settles(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


# -- silence ---------------------------------------------------------------------------------------
def test_a_node_that_hangs_is_given_up(
    tmp_path: Path, sshd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.access.ssh._ACK_TIMEOUT", 2)
    namespace = f"labctl-test-{os.getpid()}"
    netns.ensure(namespace)
    try:
        server = Server(tmp_path, sshd, namespace)
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        server.start()
        guest = server.guest()
        assert guest.run("true").ok
        # From now on nothing that is sent arrives, and nobody says so.
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "down"], check=True)
        began = time.monotonic()
        with pytest.raises(GuestError):
            guest.run("true", timeout=300)
        with pytest.raises(UnreachableError):
            guest.run("true", timeout=300)
        assert time.monotonic() - began < 60
        server.stop()
    finally:
        netns.kill(namespace)
        netns.delete(namespace)


def test_an_idle_connection_hardly_wakes_up_and_is_closed_at_once(server: Server) -> None:
    guest = server.guest()
    before = set(threading.enumerate())
    guest.run("true")
    (reader,) = set(threading.enumerate()) - before
    task = Path(f"/proc/self/task/{reader.native_id}/status")
    time.sleep(0.5)

    def wake_ups() -> int:
        line = next(line for line in task.read_text().splitlines() if line.startswith("voluntary"))
        return int(line.split()[1])

    first = wake_ups()
    time.sleep(1)
    assert wake_ups() - first <= 3
    assert guest.run("echo answered").stdout == "answered\n"
    began = time.monotonic()
    guest.close()
    assert time.monotonic() - began < 1
    reader.join(1)
    assert not reader.is_alive()
