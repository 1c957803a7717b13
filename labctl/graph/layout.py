"""Lays out a graph: the logical network at the top, the machines and their networks below. Pure.

Nodes are placed in rows. The private network is drawn above each row and the NAT network below each
node, so that no line crosses a node. Lines at the left connect the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labctl.graph.logic import logical_box
from labctl.graph.machines import INSIDE, OUTSIDE, host_box, nic_point, tones
from labctl.graph.model import INTERNET, Graph, Host, Segment, Tunnel
from labctl.graph.shapes import (
    GAP,
    PAD,
    DrawnBox,
    Line,
    Style,
    Text,
    clean,
    extent,
    in_rows,
    label_box,
    lines_of,
    shorten,
)
from labctl.i18n import tr, tr_list
from labctl.terminal.text import Span, wrap

MARGIN = 20
_WIDEST = 1240
"""Width of a row of nodes in pixels; a wider node has a row of its own."""
_MANY, _WIDEST_OF_MANY = 6, 1760
"""From so many nodes on, rows may be that wide: the picture would be very high otherwise."""
_LANES = 26
"""Pixels at the left for the lines that connect rows of nodes."""
_DROP = 22
"""Pixels between a network and the nodes on it."""


@dataclass(frozen=True)
class Drawing:
    """A graph with coordinates."""

    width: int
    height: int
    boxes: tuple[DrawnBox, ...]
    lines: tuple[Line, ...]
    """Lines between boxes; lines inside a box are in the box."""
    texts: tuple[Text, ...]


def lay_out(graph: Graph) -> Drawing:
    """The drawing of a graph, in the current language."""
    texts: list[Text] = []
    y = MARGIN
    headings: list[tuple[str, Style]] = [
        (shorten(clean(graph.lab), 60), "title"),
        (heading(graph), "label"),
    ]
    placed, _, y = lines_of(headings, MARGIN, y - PAD)
    texts += placed
    boxes: list[DrawnBox] = []
    colours = tones(graph.hosts)
    logical = logical_box(graph.switches, graph.routers, colours)
    if logical is not None:
        placed, _, y = lines_of([(tr("Logical network (OVN)"), "heading")], MARGIN, y)
        texts += placed
        boxes.append(logical.at(MARGIN, y))
        y = boxes[-1].bottom + 2 * GAP
    placed, _, y = lines_of([(tr("Nodes and networks"), "heading")], MARGIN, y)
    texts += placed
    machines = _machines(graph, colours).at(MARGIN, y)
    boxes.append(machines)
    y = machines.bottom + GAP
    width = max([*(box.right for box in boxes), *(text.x + text.width for text in texts), 480])
    placed, _, y = lines_of(_footer(graph, width - MARGIN), MARGIN, y)
    texts += placed
    width = max([width, *(text.x + text.width for text in texts)])
    return Drawing(width + MARGIN, y + MARGIN, tuple(boxes), (), tuple(texts))


def heading(graph: Graph) -> str:
    """One line that says whether the picture shows a running lab or a plan."""
    if graph.live:
        return tr("the lab as it is now")
    if any(host.state == "down" for host in graph.hosts):
        return tr("no node is running: the lab as lab.yaml describes it")
    return tr("what will be built, as lab.yaml describes it")


def tunnels_word(tunnels: Sequence[Tunnel], hosts: Sequence[Host]) -> str:
    """The number of tunnels, and the pairs of nodes without one, for people."""
    names = [host.name for host in hosts if not host.is_client]
    nodes = len(names)
    if not tunnels:
        return tr("no Geneve tunnels") if nodes > 1 else ""
    if len({frozenset(tunnel.hosts) for tunnel in tunnels}) == nodes * (nodes - 1) // 2:
        return tr("Geneve tunnels between all nodes: {n}", n=len(tunnels))
    connected = {frozenset(tunnel.hosts) for tunnel in tunnels}
    missing = [
        f"{a} – {b}"
        for number, a in enumerate(names)
        for b in names[number + 1 :]
        if frozenset((a, b)) not in connected
    ]
    shown = tr_list(missing[:3]) + (" …" if len(missing) > 3 else "")
    return tr("Geneve tunnels: {n}; none between {missing}", n=len(tunnels), missing=shown)


def _footer(graph: Graph, width: int) -> list[tuple[str, Style]]:
    notes = [clean(note) for note in graph.notes]
    if graph.switches or graph.routers:
        notes.insert(0, tr("A dot in a node's colour, and @, say where a port is bound."))
    cells = max(40, int(width / 7.2) - 2)
    wrapped = [line for note in notes for line in wrap([Span(note)], cells)]
    joined = ["".join(span.text for span in line) for line in wrapped]
    return [(shorten(text, cells), "label") for text in joined]


# -- machines and the networks between them ------------------------------------------------------
def _machines(graph: Graph, tone: Mapping[str, int]) -> DrawnBox:
    by_name = {host.name: host for host in graph.hosts}
    # Gateways first: the Internet is drawn below the first row.
    gateways = _gateways(graph)
    nodes = [host for host in graph.hosts if not host.is_client]
    order = sorted(nodes, key=lambda host: host.name not in gateways)
    nats = {
        member: segment
        for segment in graph.segments
        if segment.kind == "nat"
        for member in segment.members
    }
    shared = next((s for s in graph.segments if s.kind == "nat" and len(s.members) > 1), None)
    named_boxes = []
    for host in order:
        box = host_box(host, tone[host.name])
        nat = nats.get(host.place(OUTSIDE))
        if nat is not None and nat is not shared:  # as wide as its NAT network below it
            box = replace(box, w=max(box.w, _nat_box(nat).w))
        named_boxes.append((host.name, box))
    names = {id(box): name for name, box in named_boxes}
    widest = _WIDEST_OF_MANY if len(named_boxes) >= _MANY else _WIDEST
    rows = in_rows([box for _, box in named_boxes], widest, 2 * GAP)
    x = _LANES if len(rows) > 1 else 0
    width = max(sum(box.w for box in row) + 2 * GAP * (len(row) - 1) for row in rows) if rows else 0
    private = next((segment for segment in graph.segments if segment.kind == "private"), None)
    host_rows = _HostRows(x, width)
    for number, row in enumerate(rows):
        hosts = [by_name[names[id(box)]] for box in row]
        host_rows.add_row(
            list(zip(hosts, row, strict=True)),
            private,
            tunnels_word(graph.tunnels, graph.hosts) if number == 0 else "",
            {host.name: nats.get(host.place(OUTSIDE)) for host in hosts},
            shared,
            internet=number == 0 and any(segment.kind == "internet" for segment in graph.segments),
            gateways=gateways,
            clients=[
                (host, host_box(host, tone[host.name])) for host in graph.hosts if host.is_client
            ],
        )
    return host_rows.box()


def _gateways(graph: Graph) -> set[str]:
    internet = next((segment for segment in graph.segments if segment.kind == "internet"), None)
    members = internet.members if internet is not None else ()
    return {place.rpartition("/")[0] for place in members}


def _nat_box(nat: Segment) -> DrawnBox:
    entries: list[tuple[str, Style]] = [(f"NAT {nat.cidr}", "mono")]
    if nat.gateway:
        entries.append((tr("gateway {address}", address=nat.gateway), "small"))
    return replace(label_box("net nat", entries), mark=("segment", clean(nat.name)))


def _widened(bar: DrawnBox, width: int) -> DrawnBox:
    children = tuple(replace(child, w=width - 2 * PAD) for child in bar.children)
    return replace(bar, w=width, children=children)


class _HostRows:
    """Places rows of nodes with their networks, from the top down."""

    def __init__(self, x: int, width: int) -> None:
        self._x, self._width = x, width
        self._y = 0
        self._boxes: list[DrawnBox] = []
        self._lines: list[Line] = []
        self._buses: dict[str, list[int]] = {}
        """By kind of network: the y of its bar in each row."""

    def add_row(
        self,
        hosts: list[tuple[Host, DrawnBox]],
        private: Segment | None,
        tunnels: str,
        nats: dict[str, Segment | None],
        shared: Segment | None,
        *,
        internet: bool,
        gateways: set[str],
        clients: list[tuple[Host, DrawnBox]],
    ) -> None:
        """Place one row of nodes, with its networks above and below; `clients` behind the Internet
        if that is drawn here."""
        bus = self._private(private, tunnels) if private is not None else None
        placed: list[tuple[Host, DrawnBox]] = []
        x = self._x
        for host, box in hosts:
            placed.append((host, box.at(x, self._y)))
            x = placed[-1][1].right + 2 * GAP
        self._boxes += [box for _, box in placed]
        if bus is not None and private is not None:
            for host, box in placed:
                point = nic_point(box, host, INSIDE)
                if point is not None and host.place(INSIDE) in private.members:
                    self._lines.append(Line(((point[0], bus.bottom), point), "private"))
        self._y = extent([box for _, box in placed])[1] + _DROP
        ends = self._outside(placed, nats, shared, gateways)
        if internet:
            self._clients(self._internet(ends), clients)
        self._y += GAP

    def _private(self, segment: Segment, tunnels: str) -> DrawnBox:
        word = f"{tr('private network')} {segment.cidr}"
        bar = self._bar("net private", segment.name, word, tunnels)
        self._buses.setdefault("private", []).append(bar.middle[1])
        return bar

    def _bar(self, kind: str, name: str, word: str, tunnels: str = "") -> DrawnBox:
        """A network as a bar above or below a row; the tunnels are a box inside it."""
        texts, width, bottom = lines_of([(shorten(clean(word), 90), "mono")], y=4)
        self._width = max(self._width, width)
        tunnel_boxes: tuple[DrawnBox, ...] = ()
        if tunnels:
            label = label_box("tube tunnel", [(shorten(clean(tunnels), 90), "small")], longest=90)
            self._width = max(self._width, label.w + 2 * PAD)
            tunnel_boxes = (replace(label, w=self._width - 2 * PAD).at(PAD, bottom - 4),)
            bottom = tunnel_boxes[0].bottom + PAD
        box = DrawnBox(
            kind,
            self._width,
            bottom - 4 if not tunnels else bottom,
            texts=texts,
            children=tunnel_boxes,
            mark=("segment", clean(name)),
        ).at(self._x, self._y)
        self._boxes.append(box)
        self._y = box.bottom + _DROP
        return box

    def _outside(
        self,
        placed: list[tuple[Host, DrawnBox]],
        nats: dict[str, Segment | None],
        shared: Segment | None,
        gateways: set[str],
    ) -> list[tuple[int, int]]:
        """Place the NAT networks below a row; the points where lines to the Internet start."""
        ends = []
        if shared is not None:
            bar = self._bar("net nat", shared.name, f"NAT {shared.cidr}")
            self._buses.setdefault("nat", []).append(bar.middle[1])
            for host, box in placed:
                if (point := nic_point(box, host, OUTSIDE)) is not None:
                    self._lines.append(Line((point, (point[0], bar.y)), "nat"))
                    if host.name in gateways:
                        ends.append((point[0], bar.bottom))
            self._y = bar.bottom
            return ends[:1]
        top = self._y
        for host, box in placed:
            nat = nats.get(host.name)
            if nat is None:
                continue
            below = _nat_box(nat).at(box.x, top)
            self._boxes.append(below)
            self._y = max(self._y, below.bottom)
            if (point := nic_point(box, host, OUTSIDE)) is not None:
                self._lines.append(Line((point, (point[0], top)), "nat"))
            if host.name in gateways:
                ends.append((below.middle[0], below.bottom))
        return ends

    def _clients(self, internet: DrawnBox, clients: list[tuple[Host, DrawnBox]]) -> None:
        """Place the clients below the Internet, each with a line to it."""
        x, y = internet.x, internet.bottom + _DROP
        for _, box in clients:
            placed = box.at(x, y)
            middle = placed.middle[0]
            self._boxes.append(placed)
            if middle > internet.right:  # the line goes along between the two rows
                start, between = (internet.right - PAD, internet.bottom), y - _DROP // 2
                way = (start, (start[0], between), (middle, between), (middle, y))
                self._lines.append(Line(way, "nat"))
            else:
                self._lines.append(Line(((middle, internet.bottom), (middle, y)), "nat"))
            x = placed.right + 2 * GAP
            self._y = max(self._y, placed.bottom)

    def _internet(self, ends: list[tuple[int, int]]) -> DrawnBox:
        y = self._y + _DROP
        box = replace(label_box("net internet", [(tr("Internet"), "name")]), place=INTERNET)
        left = min((x for x, _ in ends), default=self._x + box.w // 2)
        right = max((x for x, _ in ends), default=left)
        box = replace(box, w=max(box.w, right - left + box.w))
        box = box.at(max(self._x, left - box.w // 2 if left == right else left - GAP), y)
        self._boxes.append(box)
        self._lines += [Line(((x, bottom), (x, y)), "nat") for x, bottom in ends]
        self._y = box.bottom
        return box

    def box(self) -> DrawnBox:
        """All rows as one box at the origin."""
        for number, (kind, levels) in enumerate(sorted(self._buses.items())):
            if len(levels) > 1:
                lane = 6 + 10 * number
                self._lines.append(Line(((lane, levels[0]), (lane, levels[-1])), kind))
                self._lines += [Line(((lane, y), (self._x, y)), kind) for y in levels]
        boxes = [
            _widened(box, self._width) if box.kind == "net private" else box for box in self._boxes
        ]
        right, bottom = extent(boxes)
        return DrawnBox("layer", right, bottom, children=tuple(boxes), lines=tuple(self._lines))
