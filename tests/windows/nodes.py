"""The nodes of a lab in the Windows of the tests: SSH servers on its loopback that only answer.

Each is one while the world says that its machine runs; what it is told to do, it says it has done.
Runs as a program, in the network namespace of that Windows: nodes.py WORLD LAB.YAML
"""

import contextlib
import io
import shlex
import socket
import sys
import tarfile
import threading
import time
from ast import literal_eval
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from labctl.provisioning.services import units_of
from labctl.topology import Node, Topology
from tests.unit.fakes import FakeGuest, healthy, topology

INSECURE_KEY = paramiko.RSAKey.generate(2048)


class World:
    """The file of the fake Vagrant."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def _read(self) -> dict[str, Any]:
        world: dict[str, Any] = literal_eval(self._file.read_text(encoding="utf-8"))
        return world

    def runs(self, node: str) -> bool:
        machine = self._read()["machines"].get(f"labctl-x-{node}")
        return machine is not None and machine["state"] == "running"

    def power_off(self, node: str) -> None:
        with self._lock:
            world = self._read()
            world["machines"][f"labctl-x-{node}"]["state"] = "poweroff"
            new = self._file.with_suffix(".node")
            new.write_text(repr(world), encoding="utf-8")
            new.rename(self._file)


def answers(node: Node, lab: Topology) -> FakeGuest:
    """What a healthy node says."""
    names = [each.name for each in lab.nodes]
    chassis = ",".join(f'["{name}",["uuid","u-{name}"]]' for name in names)
    encaps = ",".join(f'[["uuid","u-{name}"],"geneve","192.168.33.1"]' for name in names)
    return (
        FakeGuest(node.name)
        .on("")
        .on("labctl-warm", exit=1, stderr="a fake keeps no state")
        .on("labctl-warm.* silent ", '{"silent": []}')
        .on("--format=json", exit=1, stderr="a fake has no other tables")
        .on("list Chassis", f'{{"headings": ["hostname", "encaps"], "data": [{chassis}]}}')
        .on("list Encap", f'{{"headings": ["_uuid", "type", "ip"], "data": [{encaps}]}}')
        .on("is-active", "\n".join("active" for _ in units_of(node, lab.stack)))
        .on("^bash -c .*list-br", healthy(node, lab))
        .on("list NAT", '{"headings": ["external_ip"], "data": []}')
        .on("^ip -4 -o address show", "")
        .on("labctl-test-greeting", "你好，這裡是 " + node.name)
    )


def fault_of_archive(content: bytes) -> str:
    """What is wrong with files that came as a tar archive; "" if nothing."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        if wrong := [name for name in names if "\\" in name or name.startswith("/")]:
            return f"names of another system: {wrong}"
        for member in archive:
            extracted = archive.extractfile(member)
            if extracted is not None and b"\r\n" in extracted.read():
                return f"line ends of another system: {member.name}"
    return "" if names else "nothing in it"


class Server(paramiko.ServerInterface):
    """One connection to a node."""

    def __init__(self, node: "FakeNode") -> None:
        self._node = node
        self.user = ""

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = self._node.keys or [INSECURE_KEY.get_base64()]
        fits = key.get_base64() in known and (username == "vagrant" or self._node.keys)
        self.user = username
        return AUTH_SUCCESSFUL if fits else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(
            target=self._node.run, args=(channel, command.decode(), self.user), daemon=True
        ).start()
        return True

    def check_channel_pty_request(self, *arguments: Any) -> bool:
        return True


class FakeNode:
    """One machine: its keys stay when it is powered off."""

    def __init__(self, node: Node, lab: Topology, world: World, port: int) -> None:
        self.node = node
        self.keys: list[str] = []
        self._world = world
        self._lab = lab
        self._host_key = paramiko.RSAKey.generate(2048)
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._world.runs(self.node.name):
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self._host_key)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=Server(self))
            channels = []  # paramiko closes a channel that nobody holds
            while transport.is_active():
                channels.append(transport.accept(0.5))
                if not self._world.runs(self.node.name):
                    break
        transport.close()

    def run(self, channel: paramiko.Channel, command: str, user: str) -> None:
        time.sleep(0.1)  # the answer that a command was started goes out before its end
        with contextlib.suppress(OSError, EOFError):
            words = shlex.split(command)
            if words[:4] == ["sudo", "-n", "sh", "-s"]:
                channel.makefile("rb").read()
                self.keys = [words[5].split()[1]]
                channel.send_exit_status(0)
            else:
                self._answer(channel, words[-1] if words[:2] == ["exec", "bash"] else command)
        channel.close()

    def _answer(self, channel: paramiko.Channel, script: str) -> None:
        if "systemctl poweroff" in script:
            self._world.power_off(self.node.name)
            return
        if script.startswith("exec cat -- "):
            channel.sendall_stderr(b"no such file")
            channel.send_exit_status(1)
            return
        if "tar " in script and (fault := fault_of_archive(channel.makefile("rb").read())):
            channel.sendall_stderr(fault.encode())
            channel.send_exit_status(1)
            return
        done = answers(self.node, self._lab).run(script, check=False)
        threading.Thread(target=channel.makefile("rb").read, daemon=True).start()
        channel.sendall(done.stdout.encode())
        channel.sendall_stderr(done.stderr.encode())
        channel.send_exit_status(done.returncode)


def main() -> None:
    """Serve until our input ends."""
    world = World(Path(sys.argv[1]))
    lab = topology(Path(sys.argv[2]).read_text(encoding="utf-8"))
    INSECURE_KEY.write_private_key_file(sys.argv[3])
    for number, node in enumerate(lab.nodes):
        FakeNode(node, lab, world, 2201 + number)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
