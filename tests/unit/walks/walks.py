"""A lab that answers as a real one did while a walk was recorded: tests/golden/walk/CASE."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.access.capture import Tap
from labctl.access.instance import InstanceLocation
from labctl.errors import LabError
from labctl.providers import HostEnd
from labctl.topology import Topology
from labctl.walks import walker as walking
from labctl.walks.logical_network import TABLES
from labctl.walks.walk import Walk
from tests.unit.fakes import FakeGuest, topology
from tests.unit.golden import GOLDEN

WALKS = GOLDEN / "walk"
CASES = sorted(path.name for path in WALKS.iterdir() if path.is_dir())
NEVER_LEFT = {
    "address-on-node", "ipv6-nobody", "no-router", "other-segment", "port-disabled",
    "port-security",
}  # fmt: skip
"""Cases whose packet did not leave its sender: there is no hop to play."""
PLAYED = [case for case in CASES if case not in NEVER_LEFT]


def printed_tables(directory: Path) -> str:
    """The tables of a case with their names before them; ovn.jsonl has them in their order."""
    lines = (directory / "ovn.jsonl").read_text().splitlines()
    tables = [line for line in lines if line.startswith("{")]
    return "\n".join(f"{name} {table}" for (_, name, _), table in zip(TABLES, tables, strict=True))


@dataclass
class RecordedLab:
    """What was asked and answered in one case; `walk` does it again."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        self.case: dict[str, Any] = json.loads((self.directory / "case.json").read_text())
        self.topology: Topology = topology(self.case.get("lab", "name: ovn-tutorial\n"))
        self.guests = {node.name: FakeGuest(node.name) for node in self.topology.nodes}
        controller = self.guests["network-controller"]
        controller.on("ovn-sbctl", self.tables())
        states = {"request": "(--ct=new|arp.op|nd_ns)", "reply": "--ct=(est|rel),rpl"}
        for direction, state in states.items():
            files = sorted(self.directory.glob(f"ovn-trace.{direction}.*.txt"), reverse=True)
            for number, file in enumerate(files):
                controller.on(f"ovn-trace.*{state}", file.read_text(), once=number > 0)
        said = self.case["sender"]
        if said.startswith("{"):  # of an instance's console; older cases lack a key
            said = json.dumps({"cut": [0, 0], "seconds": 0.0, **json.loads(said)})
        for name, guest in self.guests.items():
            guest.on("/sys/class/net/br-ex", exit=0 if self.case["bridges"].get(name) else 1)
            guest.on("ip -j -[46] route", self.case.get("route", ""))
            guest.on("sh -c", said)
            guest.on("virsh ttyconsole", said)
            # Of cases from before instances had a guest agent its port is closed.
            closed = json.dumps({"closed": "no agent"})
            guest.on("setpriv --pdeathsig", said if self.case.get("agent") else closed)
            guest.on("ovs-vsctl", self.case.get("interface", ""))
            for workload, interface in self.case.get("interfaces", {}).items():
                guest.on(f"iface-id={workload}(?![\\w-])", interface)
            guest.on("ovn-appctl", self.case.get("settings", {}).get(name, ""))
            # Cases of before drops were looked up lack it.
            drop = self.case.get("drop", {})
            guest.on("Logical_Flow", drop.get("tables", ""))
            guest.on("ovs-ofctl dump-flows", drop.get("openflow", ""))

    def tables(self) -> str:
        """OVN's tables as a walk's script prints them."""
        return printed_tables(self.directory)

    def cloud(self) -> Any:
        """What of openstacksdk a walk asks."""
        case = self.case

        def named(names: dict[str, str]) -> list[Any]:
            return [SimpleNamespace(id=id, name=name) for id, name in names.items()]

        ips = [
            SimpleNamespace(floating_ip_address=floating, fixed_ip_address=fixed)
            for floating, fixed in case["ips"].items()
        ]
        return SimpleNamespace(
            compute=SimpleNamespace(servers=lambda: named(case["servers"])),
            network=SimpleNamespace(security_groups=lambda: named(case["groups"]), ips=lambda: ips),
        )

    def far(self, node: Any) -> HostEnd | None:
        """The far end of eth0 as it was."""
        return HostEnd(**self.case["far"]) if self.case["far"] else None

    def pcap(self, node: str, interface: str) -> bytes:
        """What was captured there."""
        file = self.directory / f"{node}.{interface}.pcap"
        return file.read_bytes() if file.exists() else b""

    @contextmanager
    def _recording(self, taps: Sequence[Tap], guest: Any) -> Iterator[dict[Tap, bytes]]:
        recorded: dict[Tap, bytes] = {}
        yield recorded
        recorded.update({tap: self.pcap(tap.node, tap.interface) for tap in taps})

    def _find(self, name: str, cloud: Any) -> InstanceLocation:
        for place in self.case.get("instances", []):
            if place["name"] == name:
                return InstanceLocation(**place)
        raise LabError(f"there is no instance {name}", hint="the instances are: vm_1", code=2)

    @contextmanager
    def _listening(self, far: HostEnd) -> Iterator[list[Any]]:
        yield []

    def walk(self, keep: Path | None = None) -> Walk:
        """Walk as it was recorded."""
        patch = self.monkeypatch.setattr
        patch(walking, "recording", self._recording)
        patch(walking, "listening", self._listening)
        device = self.case["far"]["device"] if self.case["far"] else "nat0"
        patch(walking, "pcap", lambda heard: self.pcap("internet", device))
        patch(walking, "find_instance", self._find)
        patch("labctl.walks.endpoints.find_instance", self._find)
        walker = walking.Walker(
            self.topology,
            lambda name: self.guests[name],
            self.cloud,
            self.far,
            marks=lambda: int(self.case["mark"]),
        )
        protocol, source, target, port = self.case["asked"]
        ipv6 = self.case.get("ipv6", False)
        return walker.walk(protocol, source, target, port, keep=keep, ipv6=ipv6)


def without_times(data: Any) -> Any:
    """JSON of a walk without what differs each time."""
    if isinstance(data, dict):
        return {
            key: without_times(value)
            for key, value in data.items()
            # What ovn-trace said in full is beside it, and test_walk_trace.py reads it.
            if key not in ("began", "seconds", "pipelines")
        }
    if isinstance(data, list | tuple):
        return [without_times(one) for one in data]
    return data


def shown(walk: Walk, width: int) -> str:
    """A walk as a terminal of that width shows it, without colours."""
    import io

    from labctl.terminal.plain import PlainConsole
    from labctl.walks.show import show

    stream = io.StringIO()
    show(walk, PlainConsole(stream, width=width))
    return re.sub(r"[ \t]+$", "", stream.getvalue(), flags=re.MULTILINE)
