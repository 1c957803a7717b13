"""Draws a node as a box with its interfaces, bridges and instances. Pure.

From top to bottom: eth1 with its bridge; br-int; at the left the external bridges with eth0 at the
bottom, and beside them the instances.
"""

from collections.abc import Mapping
from dataclasses import replace

from labctl.graph.model import Bridge, Host, Interface, Vm
from labctl.graph.shapes import (
    FONTS,
    GAP,
    PAD,
    DrawnBox,
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
from labctl.i18n import tr, tr_list

INTEGRATION = "br-int"
"""The integration bridge, which ovn-controller manages."""
OUTSIDE, INSIDE = "eth0", "eth1"
_TUNNELS_SHOWN = 3
"""More tunnels of a node than this are drawn as one box."""
_CHIPS_WIDE = 430
"""Width in pixels of a row of ports in a bridge."""
_RAIL = 14
"""Pixels at the left of a column of instances, for the line to br-int."""


def state_word(host: Host) -> str:
    """The state of a node, for people; empty if it is only planned."""
    match host.state:
        case "running":
            return tr("running")
        case "silent":
            return tr("does not answer")
        case "down":
            return tr("not running")
    return ""


def host_box(host: Host, tone: int) -> DrawnBox:
    """A node with everything in it, at the origin."""
    upper = _side(host, INSIDE)
    # An eth0 on the same bridge as eth1 is drawn there, and gets no line to its network.
    lower = [] if any(interface.name == OUTSIDE for interface in upper) else _side(host, OUTSIDE)
    taken = _drawn(host, upper, lower)
    middle = _integration(host, taken)
    below = _below(host, lower, taken)
    header, header_width, header_bottom = lines_of(_header(host))
    top = _group(host, upper, outside=False) if upper else None

    x = PAD
    right, bottom = header_width, header_bottom
    children: list[DrawnBox] = []
    if top is not None:
        # At the right of the name: the line from the private network comes down there.
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
        bottom = max((box.bottom for box in children), default=header_bottom)
    bottom = max(bottom, header_bottom)
    return DrawnBox(
        f"host {host.state}",
        inner + 2 * PAD,
        bottom + PAD,
        texts=header,
        children=tuple(children),
        lines=tuple(lines),
        tone=tone,
        mark=("node", clean(host.name)),
    )


def nic_point(box: DrawnBox, host: Host, name: str) -> Point | None:
    """Where the line of a network meets an interface: at its upper edge, for eth0 at its lower."""
    wanted = host.place(name)
    for inner in box.walk():
        if inner.key == wanted and "edge" in inner.kind.split():
            return inner.middle[0], inner.bottom if name == OUTSIDE else inner.y
    return None


# -- the parts of a node---------------------------------------------------------------------------
def _header(host: Host) -> list[tuple[str, Style]]:
    words = " · ".join(word for word in (tr_list(host.roles), state_word(host)) if word)
    return [
        (shorten(clean(host.name)), "name"),
        (shorten(clean(words), 40), "label"),
        (shorten(clean(f"chassis {host.chassis}"), 40) if host.chassis else "", "label"),
    ]


def _side(host: Host, name: str) -> list[Interface]:
    """eth0 or eth1, followed by all other ports of its bridge; empty without that interface."""
    nic = host.interface(name)
    if nic is None:
        return []
    if not nic.bridge or nic.bridge == INTEGRATION:
        return [nic]
    others = [
        interface
        for interface in host.interfaces
        if interface.bridge == nic.bridge and interface is not nic
    ]
    return [nic, *others]


def _drawn(host: Host, *sides: list[Interface]) -> set[str]:
    """Names of the interfaces that are drawn elsewhere: in `sides`, or at an instance."""
    names = {interface.name for side in sides for interface in side}
    return names | {vm.interface for vm in host.vms if vm.interface}


def _chip(host: Host, interface: Interface, label: str = "") -> DrawnBox:
    """The box of an interface, with its name and address."""
    entries: list[tuple[str, Style]] = [
        (label or interface.name, "mono"),
        (interface.address, "small"),
        (interface.use, "label"),
    ]
    box = label_box(f"port {interface.kind}", entries)
    facts = [
        interface.name,
        interface.address,
        interface.mac,
        f"⇄ {interface.peer}" if interface.peer else "",
    ]
    title = "\n".join(clean(fact) for fact in facts if fact)
    place = shown_place(host.name, interface.name)
    return replace(box, place=place, title=title, key=host.place(interface.name))


def short_name(host: Host, interface: Interface) -> str:
    """A name for people: a tunnel or patch port is named by where it leads.

    OVN's own names contain UUIDs, e.g. patch-provnet-UUID-to-br-int.
    """
    if interface.kind == "tunnel" and interface.peer:
        # OVN's tunnels are ports of br-int; any other is somebody's own, of whatever kind.
        return (
            f"{'Geneve' if interface.bridge == INTEGRATION else interface.name} → {interface.peer}"
        )
    peer = host.interface(interface.peer) if interface.kind == "patch" else None
    return f"patch → {peer.bridge}" if peer is not None and peer.bridge else interface.name


def _chips(host: Host, ports: list[Interface]) -> list[DrawnBox]:
    """The boxes of a bridge's ports; many tunnels share one box."""
    # OVN's own, of which there may be many; somebody's own tunnels are shown one by one.
    tunnels = [i for i in ports if i.kind == "tunnel" and i.bridge == INTEGRATION]
    boxes = []
    if len(tunnels) > _TUNNELS_SHOWN:
        box = label_box("port tunnel", [(f"{len(tunnels)} × Geneve", "mono")])
        title = "\n".join(clean(f"{tunnel.name} → {tunnel.peer}") for tunnel in tunnels)
        boxes.append(replace(box, title=title))
        ports = [interface for interface in ports if interface not in tunnels]
    return [*boxes, *(_chip(host, interface, short_name(host, interface)) for interface in ports)]


def _own(host: Host, bridge: str, network: str) -> DrawnBox:
    """The head of a bridge: its internal interface, which has the bridge's name."""
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
    return next((bridge for bridge in host.bridges if bridge.name == name), Bridge(name))


def _group(host: Host, side: list[Interface], *, outside: bool) -> DrawnBox:
    """The box of eth0 or eth1, inside its bridge if it has one.

    eth0 is drawn at the bottom of the bridge (`outside`), eth1 at the top: towards its network.
    """
    nic = _chip(host, side[0])
    nic = replace(nic, kind=f"{nic.kind} edge")
    if not side[0].bridge or side[0].bridge == INTEGRATION:
        return nic
    bridge = _bridge(host, side[0].bridge)
    own = _own(host, bridge.name, bridge.physical_network)
    rest = [interface for interface in side[1:] if interface.name != bridge.name]
    chips = flow(_chips(host, rest), _CHIPS_WIDE, 0, 0) if rest else []
    others = DrawnBox("space", *extent(chips), children=tuple(chips))
    order = [own, others, nic] if outside else [nic, own, others]
    y = PAD
    parts: list[DrawnBox] = []
    for part in order:
        if part.h:
            parts.append(part.at(PAD, y))
            y += part.h + 6
    width, bottom = extent(parts)
    # A "space" only groups boxes: its children become children of the bridge.
    children = tuple(
        child for part in parts for child in (part.children if part.kind == "space" else (part,))
    )
    return DrawnBox(
        "bridge", width + PAD, bottom + PAD, children=children, mark=_marked(host, bridge.name)
    )


def _integration(host: Host, taken: set[str]) -> DrawnBox | None:
    """br-int with those of its ports that are not drawn elsewhere; None if there is no br-int."""
    ports = [
        interface
        for interface in host.interfaces
        if interface.bridge == INTEGRATION and interface.name not in (*taken, INTEGRATION)
    ]
    if not ports and all(bridge.name != INTEGRATION for bridge in host.bridges):
        return None
    order = {"tunnel": 0, "patch": 1, "other": 2, "vif": 3}
    ports.sort(key=lambda interface: order.get(interface.kind, 4))
    own = _own(host, INTEGRATION, "").at(PAD, PAD)
    chips = flow(_chips(host, ports), _CHIPS_WIDE, own.right + 6, PAD)
    right, bottom = extent([own, *chips])
    return DrawnBox(
        "bridge integration",
        right + PAD,
        bottom + PAD,
        children=(own, *chips),
        mark=_marked(host, INTEGRATION),
    )


def _below(
    host: Host, lower: list[Interface], taken: set[str]
) -> tuple[list[DrawnBox], int, list[Line]]:
    """What is drawn below br-int: (boxes, right edge, lines up to br-int).

    The external bridges are at the left, with eth0 at the bottom; instances are at their right.
    """
    outward: list[DrawnBox] = []
    lines: list[Line] = []
    known = {*(interface.bridge for interface in lower), INTEGRATION, *_bridges_of(host, INSIDE)}
    others = [bridge.name for bridge in host.bridges if bridge.name not in known]
    others += sorted(
        {interface.bridge for interface in host.interfaces if interface.bridge} - known - {*others}
    )
    for name in others:
        ports = [
            interface
            for interface in host.interfaces
            if interface.bridge == name and interface.name != name
        ]
        own = _own(host, name, _bridge(host, name).physical_network).at(PAD, PAD)
        chips = flow(_chips(host, ports), _CHIPS_WIDE // 2, PAD, own.bottom + 6)
        right, bottom = extent([own, *chips])
        mark = _marked(host, name)
        box = DrawnBox("bridge", right + PAD, bottom + PAD, children=(own, *chips), mark=mark)
        outward.append(box)
    stray = [
        interface
        for interface in host.interfaces
        if not interface.bridge and interface.name not in taken
    ]
    outward += [_chip(host, interface) for interface in stray]
    if lower:
        outward.append(_group(host, lower, outside=True))
    vms, vm_lines = _instances(host)
    placed_boxes: list[DrawnBox] = []
    left, tallest = 0, max((box.bottom for box in vms), default=0)
    height = sum(box.h for box in outward) + GAP * max(0, len(outward) - 1)
    y = max(0, tallest - height)
    for number, box in enumerate(outward):
        placed_boxes.append(box.at(0, y))
        # Only the topmost box has free space up to br-int.
        if number == 0 and any(interface.kind == "patch" for interface in _members(host, box)):
            lines.append(Line(((box.w // 2, 0), (box.w // 2, y)), "patch"))
        y += box.h + GAP
        left = max(left, box.w)
    shift = left + GAP if left else 0
    placed_boxes += [box.moved(shift, 0) for box in vms]
    lines += [
        Line(tuple((px + shift, py) for px, py in line.points), line.kind) for line in vm_lines
    ]
    return placed_boxes, extent(placed_boxes)[0], lines


def _bridges_of(host: Host, name: str) -> set[str]:
    nic = host.interface(name)
    return {nic.bridge} if nic is not None and nic.bridge else set()


def _members(host: Host, box: DrawnBox) -> list[Interface]:
    places = {inner.key for inner in box.walk() if inner.key}
    return [interface for interface in host.interfaces if host.place(interface.name) in places]


def _instances(host: Host) -> tuple[list[DrawnBox], list[Line]]:
    """The instances in columns, with lines up to br-int at the left of each column."""
    boxes = [_vm(host, vm) for vm in host.vms]
    if not boxes:
        return [], []
    columns = 1 if len(boxes) == 1 else 2 if len(boxes) <= 4 else 3 if len(boxes) <= 9 else 4
    placed_boxes: list[DrawnBox] = []
    lines: list[Line] = []
    x = 0
    for column in range(columns):
        y = 0
        for box in boxes[column::columns]:
            placed = box.at(x + _RAIL, y)
            placed_boxes.append(placed)
            level = y + FONTS["mono"].line // 2 + 4
            lines.append(Line(((x + 4, 0), (x + 4, level), (placed.x, level)), "vif"))
            y = placed.bottom + GAP
        x = extent(placed_boxes)[0] + GAP
    return placed_boxes, lines


def _vm(host: Host, vm: Vm) -> DrawnBox:
    status = vm.status if vm.status not in ("", "ACTIVE") else ""
    entries: list[tuple[str, Style]] = [
        (shorten(clean(vm.name), 24), "name"),
        (clean(vm.address), "small"),
        (clean(f"⇄ {vm.floating}") if vm.floating else "", "small"),
        (shorten(clean(status), 24), "label"),
    ]
    interface = host.interface(vm.interface) if vm.interface else None
    plug = None  # its tap device, at the upper edge
    if interface is not None:
        plug = replace(_chip(host, interface), kind="port vif").at(0, 0)
    texts, width, bottom = lines_of(entries, y=4)
    width = max(width, plug.w + 2 * PAD if plug is not None else 0)
    top = plug.h + 4 if plug is not None else 0
    return DrawnBox(
        "vm" if not status else "vm idle",
        width,
        bottom + top,
        texts=tuple(replace(text, y=text.y + top) for text in texts),
        children=(plug.at(PAD, 0),) if plug is not None else (),
        title=clean(" ".join(word for word in (vm.name, vm.port, vm.status) if word)),
    )


def tones(hosts: tuple[Host, ...]) -> Mapping[str, int]:
    """By node: the number of its colour."""
    return {host.name: number for number, host in enumerate(hosts)}
