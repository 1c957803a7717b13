"""Draws the logical network in three columns: inner switches, routers, external switches. Pure.

A port that is bound to a node shows the node's name and colour. Lines from ports down to machines
would cross everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labctl.graph.model import LogicalPort, Router, Switch
from labctl.graph.shapes import (
    FONTS,
    PAD,
    DrawnBox,
    Line,
    Style,
    Text,
    clean,
    extent,
    measure,
    shorten,
)
from labctl.i18n import tr, tr_list

_LANE = 10
"""Pixels between two lines of different links."""
_GUTTER = 36
"""Pixels between two columns, without lanes."""
_ROW_GAP = 18
"""Pixels between two boxes of a column."""
_DOT = 14
"""Pixels for the dot in the node's colour."""
_CELLS = (24, 26, 24)
"""The most cells of a port's columns: name, addresses, node."""


@dataclass(frozen=True)
class _Link:
    """A link between a switch and a router, by the names of their ports."""

    switch: str
    switch_port: str
    router: str
    router_port: str


def logical_box(
    switches: Sequence[Switch], routers: Sequence[Router], tones: Mapping[str, int]
) -> DrawnBox | None:
    """All switches and routers with the links between them, at the origin; None without any."""
    inner = [switch for switch in switches if not switch.localnet]
    outer = [switch for switch in switches if switch.localnet]
    columns: list[list[DrawnBox]] = [
        [_switch(switch, tones) for switch in inner],
        [_router(router, tones) for router in routers],
        [_switch(switch, tones) for switch in outer],
    ]
    if not any(columns):
        return None
    links = _links(switches, routers)
    sides = [
        [link for link in links if link.switch in {switch.name for switch in inner}],
        [link for link in links if link.switch in {switch.name for switch in outer}],
    ]
    placed: list[list[DrawnBox]] = []
    x = 0
    for number, column in enumerate(columns):
        y = 0
        in_column: list[DrawnBox] = []
        for box in column:
            in_column.append(box.at(x, y))
            y = in_column[-1].bottom + _ROW_GAP
        placed.append(in_column)
        right = extent(in_column)[0] or x
        lanes = len(sides[number]) if number < 2 else 0
        x = right + (_GUTTER + _LANE * lanes if in_column and any(columns[number + 1 :]) else 0)
    lines = [
        *_wires(sides[0], placed[0], placed[1], switch_first=True),
        *_wires(sides[1], placed[1], placed[2], switch_first=False),
    ]
    boxes = [box for column in placed for box in column]
    right, bottom = extent(boxes)
    return DrawnBox("layer", right, bottom, children=tuple(boxes), lines=tuple(lines))


def _links(switches: Sequence[Switch], routers: Sequence[Router]) -> list[_Link]:
    """The pairs of connected ports; several between the same two are paired in their order."""
    links = []
    for router in routers:
        for switch in switches:
            router_ports = [port for port in router.ports if port.peer == switch.name]
            switch_ports = [port for port in switch.ports if port.peer == router.name]
            links += [
                _Link(switch.name, switch_port.name, router.name, router_port.name)
                for router_port, switch_port in zip(router_ports, switch_ports, strict=False)
            ]
    return links


def _wires(
    links: Sequence[_Link],
    left: Sequence[DrawnBox],
    right: Sequence[DrawnBox],
    *,
    switch_first: bool,
) -> list[Line]:
    """The lines of the links between two columns, each in a lane of its own."""
    start = extent(left)[0] + _GUTTER // 2
    lines = []
    for number, link in enumerate(links):
        ends = [
            (link.switch, link.switch_port),
            (link.router, link.router_port),
        ]
        if not switch_first:
            ends.reverse()
        a, b = _row(left, *ends[0]), _row(right, *ends[1])
        if a is None or b is None:
            continue
        lane = start + _LANE * number
        points = (
            (_edge(left, a), a.middle[1]),
            (lane, a.middle[1]),
            (lane, b.middle[1]),
            (_box_of(right, b).x, b.middle[1]),
        )
        lines.append(Line(points, "logical"))
    return lines


def _row(boxes: Sequence[DrawnBox], owner: str, port: str) -> DrawnBox | None:
    for box in boxes:
        if box.key == owner:
            return next((child for child in box.children if child.key == port), None)
    return None


def _box_of(boxes: Sequence[DrawnBox], row: DrawnBox) -> DrawnBox:
    return next(box for box in boxes if row in box.children)


def _edge(boxes: Sequence[DrawnBox], row: DrawnBox) -> int:
    return _box_of(boxes, row).right


# -- the boxes -----------------------------------------------------------------------------------
def _switch(switch: Switch, tones: Mapping[str, int]) -> DrawnBox:
    cidrs = tr_list(switch.cidrs[:2])
    head: list[tuple[str, Style]] = [
        (shorten(clean(switch.label)), "name"),
        (tr("logical switch"), "label"),
        (shorten(clean(cidrs), 44), "small"),
    ]
    if switch.localnet:
        words = tr("localnet: {network}", network=clean(switch.localnet))
        head.append((shorten(words, 44), "small"))
    # The router's port first: that makes its line shortest.
    ports = sorted(switch.ports, key=lambda port: port.kind not in ("router", "gateway"))
    tail: list[tuple[str, Style]] = []
    if switch.floating:
        tail.append((tr("floating IPs without a port"), "label"))
        tail += [(clean(address), "small") for address in switch.floating]
    return _table("switch", switch.name, head, ports, tail, tones)


def _router(router: Router, tones: Mapping[str, int]) -> DrawnBox:
    head: list[tuple[str, Style]] = [
        (shorten(clean(router.label)), "name"),
        (tr("logical router"), "label"),
    ]
    tail: list[tuple[str, Style]] = []
    if router.nat:
        tail.append((tr("NAT"), "label"))
        tail += [
            (shorten(clean(f"{rule.type} {rule.external} ⇄ {rule.logical}"), 64), "small")
            for rule in router.nat
        ]
    if router.routes:
        tail.append((tr("routes"), "label"))
        tail += [(shorten(clean(f"{to} → {via}"), 64), "small") for to, via in router.routes]
    return _table("router", router.name, head, router.ports, tail, tones)


def _table(
    kind: str,
    name: str,
    head: Sequence[tuple[str, Style]],
    ports: Sequence[LogicalPort],
    tail: Sequence[tuple[str, Style]],
    tones: Mapping[str, int],
) -> DrawnBox:
    """A box with a head, a row for each port in aligned columns, and more lines below."""
    cells = [_cells(port) for port in ports]
    styles: tuple[Style, Style, Style] = ("mono", "small", "label")
    widths = [
        max((measure(row[column], styles[column]) for row in cells if row[column]), default=0)
        for column in range(3)
    ]
    texts: list[Text] = []
    y = 4
    for text, style in head:
        if text:
            y += FONTS[style].line
            texts.append(Text(PAD, y - 3, text, style))
    y += 6
    rows: list[DrawnBox] = []
    row_width = _DOT + sum(width + 8 for width in widths if width) + 4
    for port, row in zip(ports, cells, strict=True):
        rows.append(_port(port, row, widths, styles, row_width, tones).at(PAD, y))
        y = rows[-1].bottom + 2
    if rows and tail:
        y += 4
    for text, style in tail:
        y += FONTS[style].line
        texts.append(Text(PAD, y - 3, text, style))
    right = max((text.x + text.width for text in texts), default=0)
    right = max(right, PAD + row_width if rows else 0) + PAD
    rows = [replace(row, w=right - 2 * PAD) for row in rows]
    return DrawnBox(
        kind,
        right,
        y + PAD,
        texts=tuple(texts),
        children=tuple(rows),
        logical=clean(name),
        key=name,
    )


def _cells(port: LogicalPort) -> tuple[str, str, str]:
    addresses = [clean(address) for address in port.addresses]
    shown = "".join(addresses[:1]) + (f" +{len(addresses) - 1}" if len(addresses) > 1 else "")
    name = clean(port.label)
    if port.kind in ("localnet", "metadata"):
        name = f"{port.kind} {name}" if name != port.kind else name
    return (
        shorten(name, _CELLS[0]),
        shorten(shown, _CELLS[1]),
        shorten(clean(f"@ {port.host}"), _CELLS[2]) if port.host else "",
    )


def _port(
    port: LogicalPort,
    cells: tuple[str, str, str],
    widths: Sequence[int],
    styles: tuple[Style, Style, Style],
    width: int,
    tones: Mapping[str, int],
) -> DrawnBox:
    texts = []
    x = _DOT
    for text, column, style in zip(cells, widths, styles, strict=True):
        if text:
            texts.append(Text(x, 13, text, style))
        x += column + 8 if column else 0
    facts = [port.name, *port.addresses, port.mac]
    return DrawnBox(
        f"lport {port.kind}",
        width,
        18,
        texts=tuple(texts),
        title="\n".join(clean(fact) for fact in facts if fact),
        tone=tones.get(port.host),
        key=port.name,
    )
