#!/usr/bin/env python3
"""Records a walk in a real lab as a case of tests/golden/walk: what was captured and answered.

usage: sudo python scripts/record-walk.py LAB.YAML CASE ping|tcp|udp FROM TO [PORT] [-6]
Then LABCTL_UPDATE_GOLDEN=1 pytest tests/unit/walks/test_walk.py writes what is expected of it:
read it.
"""

import json
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from labctl.access.instance import find_instance
from labctl.lab import Lab
from labctl.walks import walker as walking

GOLDEN = Path(__file__).parents[1] / "tests/golden/walk"


class Listener:
    """A guest that remembers what was answered to what a walk asks."""

    def __init__(self, guest: Any, heard: dict[str, Any]) -> None:
        self._guest = guest
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guest, name)

    def run(self, command: Any, **options: Any) -> Any:
        """Run it, and keep the answer."""
        done = self._guest.run(command, **options)
        text = command if isinstance(command, str) else " ".join(command)
        if "ovn-appctl" in text:
            self._heard["settings"][self._guest.name] = done.stdout
        elif "Logical_Flow" in text:
            self._heard["drop"]["tables"] = done.stdout
        elif "ovs-ofctl dump-flows" in text:
            self._heard["drop"]["openflow"] = done.stdout
        elif "ovn-sbctl" in text:
            self._heard["tables"] = done.stdout
        elif text.startswith("ovn-trace"):
            direction = "reply" if "rpl" in text else "request"
            self._heard["traces"].setdefault(direction, []).append(done.stdout)
        elif "/sys/class/net/br-ex" in text:
            self._heard["bridges"][self._guest.name] = done.ok
        elif text.startswith(("ip -j -4 route", "ip -j -6 route")):
            self._heard["route"] = done.stdout
        elif "setpriv --pdeathsig" in text and "closed" not in json.loads(done.stdout):
            self._heard |= {"sender": done.stdout, "agent": True}
        elif "virsh ttyconsole" in text or " sh -c " in f" {text}":
            self._heard["sender"] = done.stdout
        elif "external_ids:iface-id=" in text:
            name = text.partition("external_ids:iface-id=")[2].strip("'")
            self._heard["interfaces"][name] = done.stdout
        return done


class Recorder(walking.Walker):
    """A walker that keeps the captures."""

    files: Any = None

    def _try(self, *arguments: Any) -> Any:
        attempts, joined, self.files = super()._try(*arguments)
        return attempts, joined, self.files


def openstack(lab: Lab, done: walking.Walk) -> dict[str, Any]:
    """What OpenStack says of the lab, if it has one."""
    if lab.topology.stack != "openstack":
        return {}
    cloud = lab.cloud()
    names = [one.name for one in (done.source, done.target) if one.kind == "instance"]
    return {
        "servers": {one.id: one.name for one in cloud.compute.servers()},
        "groups": {one.id: one.name for one in cloud.network.security_groups()},
        "ips": {one.floating_ip_address: one.fixed_ip_address for one in cloud.network.ips()},
        "instances": [asdict(find_instance(name, cloud)) for name in dict.fromkeys(names)],
    }


def main(lab_file: str, case: str, protocol: Any, source: str, target: str, *rest: str) -> None:
    """Walk once and write the case."""
    ipv6 = "-6" in rest
    port = [word for word in rest if word != "-6"]
    lab = Lab(Path(lab_file))
    heard: dict[str, Any] = {"traces": {}, "bridges": {}, "settings": {}, "drop": {}}
    heard["interfaces"] = {}
    guests: dict[str, Listener] = {}

    def guest(name: str) -> Any:
        return guests.setdefault(name, Listener(lab.guest(name), heard))

    number = int(port[0]) if port else None
    mark = random.randrange(64)
    walker = Recorder(lab.topology, guest, lab.cloud, lab.provider.host_end, marks=lambda: mark)
    done = walker.walk(protocol, source, target, number, ipv6=ipv6)
    directory = GOLDEN / case
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for point, content in walker.files.items():
        (directory / f"{point.node}.{point.interface}.pcap").write_bytes(content)
    for direction, texts in heard.pop("traces").items():
        for count, text in enumerate(texts, 1):
            (directory / f"ovn-trace.{direction}.{count}.txt").write_text(text)
    tables = heard.pop("tables").splitlines()
    # The file has the tables alone, in the order of logical_network.TABLES.
    (directory / "ovn.jsonl").write_text(
        "".join(f"{line.partition(' ')[2]}\n" for line in tables if " {" in line)
    )
    far = lab.provider.host_end(lab.topology.controller)
    recorded = {
        "asked": [protocol, source, target, number],
        "ipv6": ipv6,
        "mark": mark,
        "far": asdict(far) | {"namespace": "far"} if far is not None else None,
        "lab": lab.file.read_text(),
        **openstack(lab, done),
        **heard,
    }
    (directory / "case.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
