"""`labctl ssh INSTANCE`: which way leads in now, and what is run for it."""

import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.access.instance import InstanceLocation
from labctl.actions.instance_login import InstanceLogin, Way, choose, find_login, login_argv
from labctl.errors import EXIT_USAGE, LabError
from tests.unit.fakes import FakeGuest, topology

LOCATION = InstanceLocation(
    "vm_1", "compute-01", "instance-00000001", "7be16941", "net-1",
    "172.16.100.10", "fa:16:3e:84:8b:a2", "10.0.2.210", "lab",
)  # fmt: skip
KEY = "/root/.ssh/id_ed25519"


class FakeLab:
    """Two nodes, and one server in Nova."""

    def __init__(self, text: str = "", **server: Any) -> None:
        self.topology = topology("name: ovn-tutorial\n" + text)
        self.guests = {node.name: FakeGuest(node.name) for node in self.topology.nodes}
        self.controller = self.guests["network-controller"]
        self.controller.files[KEY] = b"PRIVATE"
        self.compute = self.guests["compute-01"].on("^rm -f /run/labctl-")
        self.provider = SimpleNamespace(
            timeout_factor=1, running=lambda node: True, ssh_argv=lambda node: ["ssh", node.name]
        )
        floating = server.pop("floating", "10.0.2.210")
        address = server.pop("address", "172.16.100.10")
        given = {"name": "vm_1", "status": "ACTIVE", "compute_host": "compute-01", "id": "s1",
                 "instance_name": "instance-00000001", "key_name": "lab", **server}  # fmt: skip
        fixed = [{"ip_address": address}] if address else []
        port = SimpleNamespace(id="p1", network_id="net-1", mac_address="m", fixed_ips=fixed)
        ips = [SimpleNamespace(floating_ip_address=floating)] if floating else []
        self._cloud = SimpleNamespace(
            compute=SimpleNamespace(servers=lambda: [SimpleNamespace(**given)]),
            network=SimpleNamespace(ports=lambda device_id: [port], ips=lambda port_id: ips),
        )

    def require_up(self) -> None: ...

    def require_created(self) -> None: ...

    def cloud(self) -> Any:
        return self._cloud

    def guest(self, name: str) -> FakeGuest:
        return self.guests[name]

    def node(self, name: str) -> Any:
        return self.topology.node(name)

    def reached(self, *, floating: bool = False, namespace: bool = False) -> "FakeLab":
        self.controller.on("^ssh .*cirros@10.0.2.210 true", exit=0 if floating else 255)
        self.compute.on("ovnmeta-net-1 ssh .*cirros@172.16.100.10 true",
                        exit=0 if namespace else 255)  # fmt: skip
        return self


def find(lab: FakeLab, name: str = "vm_1", *, console: bool = False) -> InstanceLogin:
    return find_login(cast(Any, lab), name, console=console)


def argv(
    lab: FakeLab, way: Way, command: tuple[str, ...] = (), *, terminal: bool = True
) -> list[str]:
    return login_argv(cast(Any, lab), InstanceLogin(LOCATION, way), command, terminal=terminal)


# -- the way ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reached", "way"),
    [
        ({"floating": True, "namespace": True}, "floating IP"),
        ({"floating": True}, "floating IP"),
        ({"namespace": True}, "metadata namespace"),
        ({}, "console"),
    ],
)
def test_ssh_is_taken_where_it_lets_us_in(reached: dict[str, bool], way: str) -> None:
    lab = FakeLab().reached(**reached)
    login = find(lab)
    assert login.way == way
    assert bool(login.reason) == (way == "console")
    assert lab.compute.ran[-1].command.startswith("rm -f /run/labctl-instance-00000001-")


def test_why_it_is_the_console() -> None:
    none: frozenset[Way] = frozenset()
    assert "neither at 10.0.2.210 nor at 172.16.100.10" in choose(LOCATION, none).reason
    assert "no floating IP" in find(FakeLab(floating=None).reached()).reason
    without = find(FakeLab(floating=None, address=""))
    assert (without.way, without.reason) == ("console", "vm_1 has no address")
    other = find(FakeLab(key_name=None))
    assert (other.way, other.reason) == ("console", "vm_1 was made without the keypair lab")


def test_the_console_when_it_is_asked_for() -> None:
    lab = FakeLab()
    assert find(lab, console=True) == InstanceLogin(find(lab, console=True).location, "console")
    assert lab.controller.ran == lab.compute.ran == []


@pytest.mark.parametrize("text", ["", "stack: ovn\n"])
def test_a_name_that_nothing_has(text: str) -> None:
    with pytest.raises(LabError, match="no node and no instance 'vm-l'") as caught:
        find(FakeLab(text), "vm-l")
    assert caught.value.code == EXIT_USAGE
    assert "vm_1" in str(caught.value.hint) or text
    with pytest.raises(LabError) as caught:
        find(FakeLab(text), "compute-l")
    assert "compute-01" in str(caught.value.hint)


# -- what is run -----------------------------------------------------------------------------------
def test_by_the_floating_ip_from_the_controller() -> None:
    words = argv(FakeLab(), "floating IP")
    assert words[:3] == ["ssh", "-t", "network-controller"]
    assert shlex.split(words[3])[-2:] == ["-t", "cirros@10.0.2.210"]


def test_the_words_of_a_command_arrive_as_they_are(tmp_path: Path) -> None:
    command = ("printf", "%s.", "a  b", "$HOME", "it's")
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor last; do :; done; exec sh -c "$last"\n')
    (tmp_path / "ssh").chmod(0o755)
    for terminal in (True, False):
        script = argv(FakeLab(), "floating IP", command, terminal=terminal)[-1]
        path = f"{tmp_path}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, env={"PATH": path}
        )
        assert done.stdout == "a  b.$HOME.it's."


def test_the_key_is_lent_to_the_compute_node_for_the_login(tmp_path: Path) -> None:
    lab = FakeLab()
    words = argv(lab, "metadata namespace")
    assert words[:3] == ["ssh", "-t", "compute-01"]
    ((key, content),) = lab.compute.files.items()
    assert (content, lab.compute.modes[key]) == (b"PRIVATE", 0o600)
    # The same script, with a file of ours for the key and a login that fails.
    lent = tmp_path / "key"
    lent.write_bytes(content)
    ip = tmp_path / "ip"
    ip.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit 7\n')
    ip.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    bash = shutil.which("bash") or "bash"
    done = subprocess.run([bash, "-c", words[3].replace(key, str(lent))], check=False, env=env)
    assert (done.returncode, lent.exists()) == (7, False)
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("netns exec ovnmeta-net-1 ssh ")
    assert asked.endswith(f"-i {lent} -t cirros@172.16.100.10\n")


def test_the_console_needs_a_terminal_and_nobody_else_there() -> None:
    lab = FakeLab()
    with pytest.raises(LabError, match="needs a terminal") as caught:
        argv(lab, "console", terminal=False)
    assert caught.value.code == EXIT_USAGE
    lab.compute.on("ttyconsole.*--in-use", "yes")
    with pytest.raises(LabError, match="open in another window"):
        argv(lab, "console")
    lab.compute.on("ttyconsole.*--in-use", "no")
    assert "virsh --quiet console instance-00000001" in argv(lab, "console")[-1]
