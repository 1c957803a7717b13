"""The logical network of a graph as boxes: inner switches, routers, switches that lead out. Pure.

What is bound to a node has that node's colour and says its name: lines down to the machines would
cross everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labctl.graph.model import LogicalPort, Router, Switch
from labctl.graph.shapes import (
    FONTS,
    PAD,
    Box,
    Line,
    Style,
    Text,
    clean,
    extent,
    measure,
    shorten,
)
from labctl.i18n import tr

_LANE = 10
_GUTTER = 36
_ROW_GAP = 18
_DOT = 14
"""Pixels for the dot in the node's colour."""
_CELLS = (24, 26, 24)
"""Of a port's row: name, addresses, node."""


@dataclass(frozen=True)
class _Ends:
    """A link between a switch and a router, by the names of their ports."""

    switch: str
    switch_port: str
    router: str
    router_port: str


def logical_box(
    switches: Sequence[Switch], routers: Sequence[Router], tones: Mapping[str, int]
) -> Box | None:
    """All switches and routers with the links between them, at the origin; None without any."""
    inner = [one for one in switches if not one.localnet]
    outer = [one for one in switches if one.localnet]
    columns: list[list[Box]] = [
        [_switch(one, tones) for one in inner],
        [_router(one, tones) for one in routers],
        [_switch(one, tones) for one in outer],
    ]
    if not any(columns):
        return None
    links = _links(switches, routers)
    sides = [
        [one for one in links if one.switch in {switch.name for switch in inner}],
        [one for one in links if one.switch in {switch.name for switch in outer}],
    ]
    put: list[list[Box]] = []
    x = 0
    for number, column in enumerate(columns):
        y = 0
        here: list[Box] = []
        for box in column:
            here.append(box.at(x, y))
            y = here[-1].bottom + _ROW_GAP
        put.append(here)
        right = extent(here)[0] or x
        lanes = len(sides[number]) if number < 2 else 0
        x = right + (_GUTTER + _LANE * lanes if here and any(columns[number + 1 :]) else 0)
    lines = [
        *_wires(sides[0], put[0], put[1], switch_first=True),
        *_wires(sides[1], put[1], put[2], switch_first=False),
    ]
    boxes = [box for column in put for box in column]
    right, bottom = extent(boxes)
    return Box("layer", right, bottom, children=tuple(boxes), lines=tuple(lines))


def _links(switches: Sequence[Switch], routers: Sequence[Router]) -> list[_Ends]:
    """Which ports of switches and routers meet, in order where there are several."""
    links = []
    for router in routers:
        for switch in switches:
            here = [one for one in router.ports if one.peer == switch.name]
            there = [one for one in switch.ports if one.peer == router.name]
            links += [
                _Ends(switch.name, b.name, router.name, a.name)
                for a, b in zip(here, there, strict=False)
            ]
    return links


def _wires(
    links: Sequence[_Ends], left: Sequence[Box], right: Sequence[Box], *, switch_first: bool
) -> list[Line]:
    """The links between two columns, each with a lane of its own between them."""
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


def _row(boxes: Sequence[Box], owner: str, port: str) -> Box | None:
    for box in boxes:
        if box.key == owner:
            return next((one for one in box.children if one.key == port), None)
    return None


def _box_of(boxes: Sequence[Box], row: Box) -> Box:
    return next(box for box in boxes if row in box.children)


def _edge(boxes: Sequence[Box], row: Box) -> int:
    return _box_of(boxes, row).right


# -- the boxes -----------------------------------------------------------------------------------
def _switch(switch: Switch, tones: Mapping[str, int]) -> Box:
    about = ", ".join(switch.cidrs[:2])
    head: list[tuple[str, Style]] = [
        (shorten(clean(switch.label)), "name"),
        (tr("logical switch"), "label"),
        (shorten(clean(about), 44), "small"),
    ]
    if switch.localnet:
        words = tr("localnet: {network}", network=clean(switch.localnet))
        head.append((shorten(words, 44), "small"))
    # The way to the router first: its line then has the shortest way.
    ports = sorted(switch.ports, key=lambda one: one.kind not in ("router", "gateway"))
    return _table("switch", switch.name, head, ports, [], tones)


def _router(router: Router, tones: Mapping[str, int]) -> Box:
    head: list[tuple[str, Style]] = [
        (shorten(clean(router.label)), "name"),
        (tr("logical router"), "label"),
    ]
    tail: list[tuple[str, Style]] = []
    if router.nat:
        tail.append((tr("NAT"), "label"))
        tail += [
            (shorten(clean(f"{one.type} {one.external} ⇄ {one.logical}"), 64), "small")
            for one in router.nat
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
) -> Box:
    """A box with a head, a row for each port in aligned columns, and lines below them."""
    cells = [_cells(one) for one in ports]
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
    rows: list[Box] = []
    row_width = _DOT + sum(one + 8 for one in widths if one) + 4
    for port, row in zip(ports, cells, strict=True):
        rows.append(_port(port, row, widths, styles, row_width, tones).at(PAD, y))
        y = rows[-1].bottom + 2
    if rows and tail:
        y += 4
    for text, style in tail:
        y += FONTS[style].line
        texts.append(Text(PAD, y - 3, text, style))
    right = max((one.x + one.width for one in texts), default=0)
    right = max(right, PAD + row_width if rows else 0) + PAD
    rows = [replace(one, w=right - 2 * PAD) for one in rows]
    return Box(kind, right, y + PAD, texts=tuple(texts), children=tuple(rows),
               logical=clean(name), key=name)  # fmt: skip


def _cells(port: LogicalPort) -> tuple[str, str, str]:
    addresses = [clean(one) for one in port.addresses]
    shown = ", ".join(addresses[:1]) + (f" +{len(addresses) - 1}" if len(addresses) > 1 else "")
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
) -> Box:
    texts = []
    x = _DOT
    for text, column, style in zip(cells, widths, styles, strict=True):
        if text:
            texts.append(Text(x, 13, text, style))
        x += column + 8 if column else 0
    facts = [port.name, *port.addresses, port.mac]
    return Box(
        f"lport {port.kind}",
        width,
        18,
        texts=tuple(texts),
        title="\n".join(clean(one) for one in facts if one),
        tone=tones.get(port.host),
        key=port.name,
    )
