"""The machines of a graph as boxes: a node with its interfaces, bridges and instances. Pure.

From top to bottom a node shows what a packet passes: eth1 with its bridge, br-int, and below that
the instances and the bridges on the way out, with eth0 last.
"""

from collections.abc import Mapping
from dataclasses import replace

from labctl.graph.model import Bridge, Host, Interface, Vm
from labctl.graph.shapes import (
    FONTS,
    GAP,
    PAD,
    Box,
    Line,
    Mark,
    Point,
    Style,
    clean,
    extent,
    flow,
    label_box,
    lines_of,
    shorten,
    shown_place,
)
from labctl.i18n import tr

INTEGRATION = "br-int"
"""The bridge that belongs to OVN."""
OUTSIDE, INSIDE = "eth0", "eth1"
_TUNNELS_SHOWN = 3
"""More tunnels of a node than this are drawn as one."""
_CHIPS_WIDE = 430
"""Pixels that the ports of a bridge may take beside each other."""
_RAIL = 14
"""Pixels left of a column of instances, for the line to br-int."""


def state_word(host: Host) -> str:
    """How a node is, for people; empty where there is nothing to say."""
    match host.state:
        case "running":
            return tr("running")
        case "silent":
            return tr("does not answer")
        case "down":
            return tr("not running")
    return ""


def host_box(host: Host, tone: int) -> Box:
    """A node with all that is in it, at the origin."""
    upper = _side(host, INSIDE)
    # On one bridge with eth1 it stands there, and no line can reach it.
    lower = [] if any(one.name == OUTSIDE for one in upper) else _side(host, OUTSIDE)
    taken = _drawn(host, upper, lower)
    middle = _integration(host, taken)
    below = _below(host, lower, taken)
    header, header_width, header_bottom = lines_of(_header(host))
    top = _group(host, upper, outside=False) if upper else None

    x = PAD
    right, bottom = header_width, header_bottom
    children: list[Box] = []
    if top is not None:
        # Beside the name, at the right: the line from the network comes down there.
        children.append(top.at(header_width + GAP, PAD))
        right, bottom = extent(children)
        bottom = max(bottom, header_bottom)
    y = bottom + (GAP if top is not None else 0)
    below_boxes, below_right, rails = below
    inner = max(
        right - PAD,
        middle.w if middle is not None else 0,
        below_right,
    )
    if top is not None:
        children[0] = top.at(x + inner - top.w, PAD)
    lines: list[Line] = []
    if middle is not None:
        middle = replace(middle, w=inner).at(x, y)
        children.append(middle)
        if top is not None:
            nearest = top.at(x + inner - top.w, PAD)
            lines.append(
                Line(((nearest.middle[0], nearest.bottom), (nearest.middle[0], y)), "tunnel")
            )
        y = middle.bottom + GAP
    bottom = y
    for box in below_boxes:
        children.append(box.moved(x, y))
        bottom = max(bottom, children[-1].bottom)
    if middle is not None:
        for rail in rails:
            lines.append(
                Line(
                    tuple(
                        (px + x, py + y if number else middle.bottom)
                        for number, (px, py) in enumerate(rail.points)
                    ),
                    rail.kind,
                )
            )
    if not below_boxes:
        bottom = max((one.bottom for one in children), default=header_bottom)
    bottom = max(bottom, header_bottom)
    return Box(
        f"host {host.state}",
        inner + 2 * PAD,
        bottom + PAD,
        texts=header,
        children=tuple(children),
        lines=tuple(lines),
        tone=tone,
        mark=("node", clean(host.name)),
    )


def nic_point(box: Box, host: Host, name: str) -> Point | None:
    """Where the line of a network meets an interface: its upper edge, or for eth0 its lower."""
    wanted = host.place(name)
    for one in box.walk():
        if one.key == wanted and "edge" in one.kind.split():
            return one.middle[0], one.bottom if name == OUTSIDE else one.y
    return None


# -- what is where -------------------------------------------------------------------------------
def _header(host: Host) -> list[tuple[str, Style]]:
    says = " · ".join(word for word in (", ".join(host.roles), state_word(host)) if word)
    return [
        (shorten(clean(host.name)), "name"),
        (shorten(clean(says), 40), "label"),
        (shorten(clean(f"chassis {host.chassis}"), 40) if host.chassis else "", "label"),
    ]


def _side(host: Host, name: str) -> list[Interface]:
    """A network interface with everything that is on the same bridge."""
    nic = host.interface(name)
    if nic is None:
        return []
    if not nic.bridge or nic.bridge == INTEGRATION:
        return [nic]
    mates = [one for one in host.interfaces if one.bridge == nic.bridge and one is not nic]
    return [nic, *mates]


def _drawn(host: Host, *sides: list[Interface]) -> set[str]:
    """Names of the interfaces that have their place already: at an edge, or with an instance."""
    names = {one.name for side in sides for one in side}
    return names | {vm.interface for vm in host.vms if vm.interface}


def _chip(host: Host, one: Interface, label: str = "") -> Box:
    """An interface as a box with its name and address."""
    entries: list[tuple[str, Style]] = [
        (label or one.name, "mono"),
        (one.address, "small"),
        (one.use, "label"),
    ]
    box = label_box(f"port {one.kind}", entries)
    facts = [one.name, one.address, one.mac, f"⇄ {one.peer}" if one.peer else ""]
    title = "\n".join(clean(fact) for fact in facts if fact)
    place = shown_place(host.name, one.name)
    return replace(box, place=place, title=title, key=host.place(one.name))


def short_name(host: Host, one: Interface) -> str:
    """What to call a port of a bridge: tunnels and patches by where they lead.

    Their names are made of UUIDs: patch-provnet-UUID-to-br-int.
    """
    if one.kind == "tunnel" and one.peer:
        return f"Geneve → {one.peer}"
    peer = host.interface(one.peer) if one.kind == "patch" else None
    return f"patch → {peer.bridge}" if peer is not None and peer.bridge else one.name


def _chips(host: Host, ports: list[Interface]) -> list[Box]:
    """The ports of a bridge; many tunnels as one."""
    tunnels = [one for one in ports if one.kind == "tunnel"]
    boxes = []
    if len(tunnels) > _TUNNELS_SHOWN:
        box = label_box("port tunnel", [(f"{len(tunnels)} × Geneve", "mono")])
        title = "\n".join(clean(f"{one.name} → {one.peer}") for one in tunnels)
        boxes.append(replace(box, title=title))
        ports = [one for one in ports if one.kind != "tunnel"]
    return [*boxes, *(_chip(host, one, short_name(host, one)) for one in ports)]


def _own(host: Host, bridge: str, network: str) -> Box:
    """The head of a bridge: the interface that is called like it."""
    own = host.interface(bridge)
    entries: list[tuple[str, Style]] = [(bridge, "name")]
    if own is not None and own.address:
        entries.append((own.address, "small"))
    if network:
        entries.append((network, "small"))
    box = label_box("own", entries, pad=2)
    if own is None:
        return box
    facts = [own.name, own.address, own.mac]
    title = "\n".join(clean(fact) for fact in facts if fact)
    place = shown_place(host.name, bridge)
    return replace(box, place=place, title=title, key=host.place(bridge))


def _marked(host: Host, bridge: str) -> Mark:
    return "bridge", shown_place(host.name, bridge)


def _bridge(host: Host, name: str) -> Bridge:
    return next((one for one in host.bridges if one.name == name), Bridge(name))


def _group(host: Host, side: list[Interface], *, outside: bool) -> Box:
    """A network interface, in its bridge if it has one; towards its network it stands first."""
    nic = _chip(host, side[0])
    nic = replace(nic, kind=f"{nic.kind} edge")
    if not side[0].bridge or side[0].bridge == INTEGRATION:
        return nic
    about = _bridge(host, side[0].bridge)
    own = _own(host, about.name, about.physical_network)
    rest = [one for one in side[1:] if one.name != about.name]
    chips = flow(_chips(host, rest), _CHIPS_WIDE, 0, 0) if rest else []
    others = Box("space", *extent(chips), children=tuple(chips))
    order = [own, others, nic] if outside else [nic, own, others]
    y = PAD
    parts: list[Box] = []
    for one in order:
        if one.h:
            parts.append(one.at(PAD, y))
            y += one.h + 6
    width, bottom = extent(parts)
    # A space is no box of its own: what is in it belongs to the bridge.
    children = tuple(
        inner for one in parts for inner in (one.children if one.kind == "space" else (one,))
    )
    return Box("bridge", width + PAD, bottom + PAD, children=children,
               mark=_marked(host, about.name))  # fmt: skip


def _integration(host: Host, taken: set[str]) -> Box | None:
    """br-int with those of its ports that stand nowhere else; None where there is none."""
    ports = [
        one
        for one in host.interfaces
        if one.bridge == INTEGRATION and one.name not in (*taken, INTEGRATION)
    ]
    if not ports and all(one.name != INTEGRATION for one in host.bridges):
        return None
    order = {"tunnel": 0, "patch": 1, "other": 2, "vif": 3}
    ports.sort(key=lambda one: order.get(one.kind, 4))
    own = _own(host, INTEGRATION, "").at(PAD, PAD)
    chips = flow(_chips(host, ports), _CHIPS_WIDE, own.right + 6, PAD)
    right, bottom = extent([own, *chips])
    return Box("bridge integration", right + PAD, bottom + PAD, children=(own, *chips),
               mark=_marked(host, INTEGRATION))  # fmt: skip


def _below(
    host: Host, lower: list[Interface], taken: set[str]
) -> tuple[list[Box], int, list[Line]]:
    """What stands below br-int: (boxes, right edge, lines up to br-int).

    The way out is at the left with eth0 at the very bottom; instances are at its right.
    """
    ways: list[Box] = []
    lines: list[Line] = []
    known = {*(one.bridge for one in lower), INTEGRATION, *_bridges_of(host, INSIDE)}
    others = [one.name for one in host.bridges if one.name not in known]
    others += sorted({one.bridge for one in host.interfaces if one.bridge} - known - {*others})
    for name in others:
        ports = [one for one in host.interfaces if one.bridge == name and one.name != name]
        own = _own(host, name, _bridge(host, name).physical_network).at(PAD, PAD)
        chips = flow(_chips(host, ports), _CHIPS_WIDE // 2, PAD, own.bottom + 6)
        right, bottom = extent([own, *chips])
        ways.append(Box("bridge", right + PAD, bottom + PAD, children=(own, *chips),
                        mark=_marked(host, name)))  # fmt: skip
    stray = [one for one in host.interfaces if not one.bridge and one.name not in taken]
    ways += [_chip(host, one) for one in stray]
    if lower:
        ways.append(_group(host, lower, outside=True))
    vms, vm_lines = _instances(host)
    put: list[Box] = []
    left, tallest = 0, max((one.bottom for one in vms), default=0)
    height = sum(one.h for one in ways) + GAP * max(0, len(ways) - 1)
    y = max(0, tallest - height)
    for number, box in enumerate(ways):
        put.append(box.at(0, y))
        # Only from the topmost is the way up free.
        if number == 0 and any(one.kind == "patch" for one in _members(host, box)):
            lines.append(Line(((box.w // 2, 0), (box.w // 2, y)), "patch"))
        y += box.h + GAP
        left = max(left, box.w)
    shift = left + GAP if left else 0
    put += [one.moved(shift, 0) for one in vms]
    lines += [Line(tuple((px + shift, py) for px, py in one.points), one.kind) for one in vm_lines]
    return put, extent(put)[0], lines


def _bridges_of(host: Host, name: str) -> set[str]:
    nic = host.interface(name)
    return {nic.bridge} if nic is not None and nic.bridge else set()


def _members(host: Host, box: Box) -> list[Interface]:
    places = {one.key for one in box.walk() if one.key}
    return [one for one in host.interfaces if host.place(one.name) in places]


def _instances(host: Host) -> tuple[list[Box], list[Line]]:
    """The instances in columns, each column with a line up to br-int at its left."""
    boxes = [_vm(host, vm) for vm in host.vms]
    if not boxes:
        return [], []
    columns = 1 if len(boxes) == 1 else 2 if len(boxes) <= 4 else 3 if len(boxes) <= 9 else 4
    put: list[Box] = []
    lines: list[Line] = []
    x = 0
    for column in range(columns):
        mine = boxes[column::columns]
        y = 0
        for box in mine:
            here = box.at(x + _RAIL, y)
            put.append(here)
            level = y + FONTS["mono"].line // 2 + 4
            lines.append(Line(((x + 4, 0), (x + 4, level), (here.x, level)), "vif"))
            y = here.bottom + GAP
        x = extent(put)[0] + GAP
    return put, lines


def _vm(host: Host, vm: Vm) -> Box:
    status = vm.status if vm.status not in ("", "ACTIVE") else ""
    entries: list[tuple[str, Style]] = [
        (shorten(clean(vm.name), 24), "name"),
        (clean(vm.address), "small"),
        (clean(f"⇄ {vm.floating}") if vm.floating else "", "small"),
        (shorten(clean(status), 24), "label"),
    ]
    interface = host.interface(vm.interface) if vm.interface else None
    plug = None
    if interface is not None:
        plug = replace(_chip(host, interface), kind="port vif").at(0, 0)
    texts, width, bottom = lines_of(entries, y=4)
    width = max(width, plug.w + 2 * PAD if plug is not None else 0)
    top = plug.h + 4 if plug is not None else 0
    return Box(
        "vm" if not status else "vm idle",
        width,
        bottom + top,
        texts=tuple(replace(one, y=one.y + top) for one in texts),
        children=(plug.at(PAD, 0),) if plug is not None else (),
        title=clean(" ".join(word for word in (vm.name, vm.port, vm.status) if word)),
    )


def tones(hosts: tuple[Host, ...]) -> Mapping[str, int]:
    """Number of the colour of each node."""
    return {host.name: number for number, host in enumerate(hosts)}
