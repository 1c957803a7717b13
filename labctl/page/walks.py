"""A packet walk for the page: sent as `labctl walk` does, its hops as texts to be played."""

import threading
from collections.abc import Callable
from typing import Any

from labctl.access.packets import is_ipv6
from labctl.actions.walk import walk
from labctl.engine.events import Event, StepProgress
from labctl.errors import LabError
from labctl.graph.observed import live
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.page.work import Publish
from labctl.terminal.text import one_line
from labctl.walks.describe import (
    change_of,
    datapaths_to_show,
    mac_label,
    name_of_ttl,
    notes_on,
    place_name,
    reasons_of,
    target_label,
    title_of,
    tunnel_texts,
    verdict,
    whereabouts,
    why_of,
    with_port,
)
from labctl.walks.model import Hop, PacketPath
from labctl.walks.walk import Walk

INTERNET = "internet"


class Walks:
    """Sends one packet at a time."""

    def __init__(self, lab: Callable[[], Lab], publish: Publish) -> None:
        """`publish` is told what the walk does now, as the console is."""
        self._lab = lab
        self._publish = publish
        self._busy = threading.Lock()

    def ends(self) -> dict[str, list[str]]:
        """The names that a packet can be sent from, and to."""
        lab = self._lab()
        nodes = [machine.name for machine in lab.topology.machines]
        graph = live(lab)
        machines = [vm.name for host in graph.hosts for vm in host.vms]
        floating = [vm.floating for host in graph.hosts for vm in host.vms if vm.floating]
        ipv6 = [
            address
            for switch in graph.switches
            for port in switch.ports
            for address in port.addresses
            if port.kind in ("instance", "workload") and is_ipv6(address)
        ]
        sources = [one_line(name) for name in (*machines, *nodes)]
        return {
            "sources": sources,
            "targets": [INTERNET, "8.8.8.8", *sources, *map(one_line, [*floating, *ipv6])],
        }

    def send(self, protocol: str, source: str, target: str, port: int | None) -> dict[str, Any]:
        """Send a packet, and what became of it. Raises LabError."""
        if not self._busy.acquire(blocking=False):
            raise LabError(tr("another packet is on its way"), hint=tr("send yours after it"))
        lab = self._lab()
        unsubscribe = lab.bus.subscribe(self._tell)
        try:
            return walk_shown(walk(lab, protocol, source, target, port, None))
        finally:
            unsubscribe()
            self._busy.release()

    def _tell(self, event: Event) -> None:
        if isinstance(event, StepProgress):
            self._publish({"kind": "walk", "text": one_line(event.message)})


def walk_shown(walked: Walk) -> dict[str, Any]:
    """A walk as texts and places of the drawing."""
    paths = [walked.request, *([walked.reply] if walked.reply is not None else [])]
    name = target_label(walked)
    shown = {
        "title": f"{walked.protocol}: {walked.source.name} ({walked.source.address}) → {name}",
        "ok": walked.answered,
        "verdict": verdict(walked),
        "paths": [_path(path, walked) for path in paths],
        "reasons": [{"text": text, "fix": fix} for text, fix in reasons_of(walked)],
        "notes": list(notes_on(walked)),
        "command": walked.attempts[-1].command if walked.attempts else "",
    }
    return {key: _clean(value) for key, value in shown.items()}


def _clean(data: Any) -> Any:
    """Each text on one line, without control characters."""
    if isinstance(data, str):
        return one_line(data)
    if isinstance(data, dict):
        return {key: _clean(value) for key, value in data.items()}
    return [_clean(value) for value in data] if isinstance(data, list) else data


def _path(path: PacketPath, walked: Walk) -> dict[str, Any]:
    traced = walked.traced.get(path.direction)
    switches = []
    if traced is not None and traced.trace is not None:
        switches = [
            {
                "name": tr("{text} ({detail})", text=passed.label, detail=passed.kind),
                "logical": passed.datapath,
                "lines": [{"text": text, "bad": drops} for text, drops in passed.decisions],
            }
            for passed in datapaths_to_show(traced, walked)
        ]
    return {
        "title": title_of(path),
        "reply": path.direction == "reply",
        "hops": [_hop(hop, walked) for hop in path.hops],
        "trace": switches,
        "error": traced.error if traced is not None and traced.trace is None else "",
    }


def _hop(hop: Hop, walked: Walk) -> dict[str, Any]:
    frame = hop.frame
    changed = {change.field for change in hop.changes}

    headers = [
        {"name": "src", "value": with_port(frame.src, frame.source_port),
         "changed": bool({"src", "source_port"} & changed)},
        {"name": "dst", "value": with_port(frame.dst, frame.destination_port),
         "changed": bool({"dst", "destination_port"} & changed)},
        {"name": name_of_ttl(frame), "value": str(frame.ttl), "changed": "ttl" in changed},
        {"name": "src MAC", "value": mac_label(frame.src_mac, walked),
         "changed": "src_mac" in changed},
        {"name": "dst MAC", "value": mac_label(frame.dst_mac, walked),
         "changed": "dst_mac" in changed},
    ]  # fmt: skip
    return {
        "place": INTERNET if hop.node == INTERNET else f"{hop.node}/{hop.interface}",
        "node": place_name(hop.node),
        "interface": hop.interface,
        "where": whereabouts(hop, walked),
        "way": hop.direction,
        "ms": round(hop.offset * 1000, 3),
        "headers": headers,
        "tunnel": tunnel_texts(hop.encap) if hop.encap is not None else [],
        "changes": [
            {"text": change_of(change, walked), "why": why_of(change)} for change in hop.changes
        ],
    }
