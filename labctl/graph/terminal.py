"""Renders a graph for a terminal: boxes below each other, lines between them at the right. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from labctl.graph.layout import heading, tunnels_word
from labctl.graph.machines import INTEGRATION, OUTSIDE, short_name, state_word
from labctl.graph.model import Graph, Host, Interface, LogicalPort, Router, Switch
from labctl.graph.shapes import clean, shorten
from labctl.i18n import tr, tr_list
from labctl.terminal.text import Line, Span, Style, cell_width, wrap

_LANE = 2
"""Width in cells of a vertical line at the right."""
_LANES = 8
"""The most vertical lines beside each other; a connection without one is not drawn."""
_MIN_WIDTH = 44
"""Cells; a narrower terminal wraps the lines."""
_TUNNELS_SHOWN = 3
"""More tunnels of a bridge than this are only counted."""


@dataclass
class _Row:
    """One line of a drawing, without the vertical lines at its right."""

    spans: list[Span]
    frame: str = "body"
    """body, top or bottom of a box; free: outside of boxes."""
    connection: str = ""
    """Name of the connection that this row belongs to; rows with the same name are connected."""

    def __post_init__(self) -> None:
        # Clean before anything is measured, but keep the spaces that align columns.
        self.spans = [
            span if span.text.isprintable() else Span(clean(span.text), span.style)
            for span in self.spans
        ]


@dataclass
class _Sheet:
    """All rows of a drawing."""

    rows: list[_Row] = field(default_factory=list)

    def free(self, text: str = "", style: Style = "plain") -> None:
        """A line outside of boxes."""
        self.rows.append(_Row([Span(text, style)], "free"))

    def box(self, title: Sequence[Span], body: Sequence[_Row]) -> None:
        """A box. Its rows are never wrapped."""
        self.rows += [_Row(list(title), "top"), *body, _Row([], "bottom")]


def drawing(graph: Graph, width: int) -> list[Line]:
    """The graph in at most `width` cells, in the current language."""
    width = max(width, _MIN_WIDTH)
    title = shorten(clean(graph.lab), 30) + tr(": ") + heading(graph)
    lines: list[Line] = [*wrap([Span(title, "bold")], width), ()]
    if graph.switches or graph.routers:
        lines.append((Span(tr("Logical network (OVN)"), "bold"),))
        lines += _put(_logical(graph), width)
        lines.append(())
    lines.append((Span(tr("Nodes and networks"), "bold"),))
    lines += _put(_machines(graph), width)
    for note in graph.notes:
        lines += [(), *wrap([Span(clean(note), "dim")], width)]
    return lines


# -- what is drawn -------------------------------------------------------------------------------
def _logical(graph: Graph) -> _Sheet:
    """Inner switches, routers, and switches with a localnet port, in this order."""
    sheet = _Sheet()
    links = _links(graph)
    for switch in (switch for switch in graph.switches if not switch.localnet):
        _switch(sheet, switch, links)
    for router in graph.routers:
        _router(sheet, router, links)
    for switch in (switch for switch in graph.switches if switch.localnet):
        _switch(sheet, switch, links)
    return sheet


def _links(graph: Graph) -> dict[tuple[str, str], str]:
    """By (switch or router, port): name of the connection that the port has."""
    names: dict[tuple[str, str], str] = {}
    for router in graph.routers:
        for switch in graph.switches:
            router_ports = [port for port in router.ports if port.peer == switch.name]
            switch_ports = [port for port in switch.ports if port.peer == router.name]
            for router_port, switch_port in zip(router_ports, switch_ports, strict=False):
                name = f"{router.name}\n{router_port.name}"
                names[router.name, router_port.name] = name
                names[switch.name, switch_port.name] = name
    return names


def _switch(sheet: _Sheet, switch: Switch, links: dict[tuple[str, str], str]) -> None:
    title = [Span(clean(switch.label), "bold"), Span(f" {tr('logical switch')}", "dim")]
    if switch.cidrs:
        title.append(Span(f" {clean(tr_list(switch.cidrs))}"))
    ports = sorted(switch.ports, key=lambda port: port.kind in ("router", "gateway"))
    if switch.localnet:  # the router's port first, the localnet port last
        ports.reverse()
    body = _ports(ports, switch.name, links)
    if switch.floating:
        words = tr("floating IPs without a port")
        body.append(_Row([Span(words + tr(": "), "dim"), Span(clean(tr_list(switch.floating)))]))
    sheet.box(title, body)


def _router(sheet: _Sheet, router: Router, links: dict[tuple[str, str], str]) -> None:
    title = [Span(clean(router.label), "bold"), Span(f" {tr('logical router')}", "dim")]
    body = _ports(router.ports, router.name, links)
    body += [
        _Row([Span(f"{rule.type:13} {clean(rule.external)} ⇄ {clean(rule.logical)}", "code")])
        for rule in router.nat
    ]
    body += [
        _Row([Span(f"{tr('route')} {clean(to)} → {clean(via)}", "dim")])
        for to, via in router.routes
    ]
    sheet.box(title, body)


def _ports(
    ports: Sequence[LogicalPort], owner: str, links: dict[tuple[str, str], str]
) -> list[_Row]:
    rows = []
    names = [_port_name(port) for port in ports]
    addresses = [shorten(clean(tr_list(port.addresses)), 36) for port in ports]
    name_width = max(map(cell_width, names), default=0)
    address_width = max(map(cell_width, addresses), default=0)
    for port, name, address in zip(ports, names, addresses, strict=True):
        spans = [Span(_fill(name, name_width)), Span(f"  {_fill(address, address_width)}", "code")]
        if port.host:
            spans.append(Span(f"  @ {clean(port.host)}", "dim"))
        rows.append(_Row(spans, connection=links.get((owner, port.name), "")))
    return rows


def _port_name(port: LogicalPort) -> str:
    label = clean(port.label)
    if port.kind == "localnet" and label != port.kind:
        label = f"localnet {label}"
    return shorten(label, 28)


def _fill(text: str, width: int) -> str:
    return text + " " * (width - cell_width(text))


def _machines(graph: Graph) -> _Sheet:
    sheet = _Sheet()
    private = next((segment for segment in graph.segments if segment.kind == "private"), None)
    internet = next((segment for segment in graph.segments if segment.kind == "internet"), None)
    if private is not None:
        title = [Span(f"{tr('private network')} {private.cidr}", "bold")]
        tunnels = tunnels_word(graph.tunnels, graph.hosts)
        body = [_Row([Span(clean(tunnels), "dim")])] if tunnels else []
        sheet.box(title, body or [_Row([Span("")])])
        sheet.rows[-2].connection = "private"
    for host in graph.hosts:
        nat = next(
            (s for s in graph.segments if s.kind == "nat" and host.place(OUTSIDE) in s.members),
            None,
        )
        outside = f"NAT {nat.cidr}" if nat is not None else ""
        if host.is_client:
            outside = tr("Internet")
        if internet is not None and host.place(OUTSIDE) in internet.members:
            outside += f" → {tr('Internet')}"
        places = private.members if private is not None else ()
        on_private = {
            interface.name for interface in host.interfaces if host.place(interface.name) in places
        }
        sheet.box(_host_title(host), list(_host(host, outside, on_private)))
    return sheet


def _host_title(host: Host) -> list[Span]:
    title = [Span(clean(host.name), "bold"), Span(f" {tr_list(host.roles)}", "dim")]
    word = state_word(host)
    if word:
        title.append(Span(f" {word}", "ok" if host.state == "running" else "bad"))
    if host.chassis:
        title.append(Span(f" · chassis {shorten(clean(host.chassis), 26)}", "dim"))
    return title


def _host(host: Host, outside: str, private: set[str]) -> Iterator[_Row]:
    """The rows of a node: interfaces bridge by bridge, instances, eth0 last.

    `outside` says where eth0 leads to, `private` has the interfaces on the private network.
    """
    taps = {vm.interface for vm in host.vms}
    nics = [
        interface
        for interface in host.interfaces
        if interface.kind == "nic" and interface.name != OUTSIDE
    ]
    for nic in nics:
        yield _Row(
            [Span(_fill(shorten(nic.name, 10), 8)), *_nic(nic)],
            connection="private" if nic.name in private else "",
        )
        yield from _bridge(host, nic.bridge, taps) if nic.bridge != INTEGRATION else ()
    if any(bridge.name == INTEGRATION for bridge in host.bridges):
        yield from _bridge(host, INTEGRATION, taps)
    for number, vm in enumerate(host.vms):
        last = number == len(host.vms) - 1
        spans = [Span("  └ " if last else "  ├ ", "dim"), Span(shorten(clean(vm.name), 24), "ok")]
        spans.append(Span(f"  {clean(vm.address)}", "code"))
        if vm.floating:
            spans.append(Span(f" ⇄ {clean(vm.floating)}", "code"))
        if vm.interface:
            spans.append(Span(f"  {shorten(clean(vm.interface), 20)}", "dim"))
        if vm.status not in ("", "ACTIVE"):
            spans.append(Span(f"  {clean(vm.status)}", "bad"))
        yield _Row(spans)
    eth0 = host.interface(OUTSIDE)
    bridges = {INTEGRATION, *(nic.bridge for nic in nics)}
    done = {*bridges, eth0.bridge if eth0 is not None else ""}
    for bridge in (bridge.name for bridge in host.bridges if bridge.name not in done):
        yield from _bridge(host, bridge, taps)
    if eth0 is not None:
        if eth0.bridge and eth0.bridge not in bridges:
            yield from _bridge(host, eth0.bridge, taps)
        spans = [Span(_fill(OUTSIDE, 8)), *_nic(eth0)]
        yield _Row([*spans, Span(f"  → {clean(outside)}", "dim")] if outside else spans)


def _nic(nic: Interface) -> list[Span]:
    spans = [Span(clean(nic.address), "code")] if nic.address else []
    if nic.bridge:
        spans.append(Span(tr("in {bridge}", bridge=clean(nic.bridge)), "dim"))
    return spans


def _bridge(host: Host, name: str, taps: set[str]) -> Iterator[_Row]:
    """The row of a bridge, with its ports except NICs and tap devices; none without the bridge."""
    bridge = next((bridge for bridge in host.bridges if bridge.name == name), None)
    if bridge is None:
        return
    own = host.interface(name)
    words = [own.address] if own is not None and own.address else []
    spans = [Span(_fill(shorten(clean(name), 14), 8), "bold")]
    spans += [Span(clean(word), "code") for word in words]
    ports = [
        interface
        for interface in host.interfaces
        if interface.bridge == name and interface.name not in (*taps, name)
    ]
    # OVN's own, of which there may be many; somebody's own tunnels are shown one by one.
    tunnels = [i for i in ports if i.kind == "tunnel" and i.bridge == INTEGRATION]
    details = [bridge.physical_network] if bridge.physical_network else []
    if len(tunnels) > _TUNNELS_SHOWN:
        details.append(f"{len(tunnels)} × Geneve")
        ports = [interface for interface in ports if interface not in tunnels]
    details += [
        f"{short_name(host, interface)} {interface.use}".rstrip()
        for interface in ports
        if interface.kind != "nic"
    ]
    details = [shorten(clean(detail), 26) for detail in details]
    rest = f"{'  ' if words else ''}{tr_list(details)}"
    yield _Row([*spans, Span(rest, "dim")] if details else spans)


# -- how it is drawn -----------------------------------------------------------------------------
def _put(sheet: _Sheet, width: int) -> list[Line]:
    """The rows, framed to one width, with the lines that connect them at the right."""
    ends: dict[str, list[int]] = {}
    for number, row in enumerate(sheet.rows):
        if row.connection:
            ends.setdefault(row.connection, []).append(number)
    lanes = _lanes({name: (rows[0], rows[-1]) for name, rows in ends.items() if len(rows) > 1})
    count = max(lanes.values(), default=-1) + 1
    room = width - _LANE * count
    need = max((_width(row) for row in sheet.rows), default=0)
    inner = min(room, max(need, _MIN_WIDTH - _LANE * count))
    return [
        (*_frame(row, inner, joined=row.connection in lanes),
         *_right(number, row, lanes, ends, count))
        for number, row in enumerate(sheet.rows)
    ]  # fmt: skip


def _width(row: _Row) -> int:
    return sum(cell_width(span.text) for span in row.spans) + (6 if row.frame == "top" else 4)


def _lanes(spans: dict[str, tuple[int, int]]) -> dict[str, int]:
    """By connection: the lane of its line. Short lines are nearest to the boxes; none overlap."""
    taken: list[list[tuple[int, int]]] = []
    lanes: dict[str, int] = {}
    for name, (first, last) in sorted(spans.items(), key=lambda item: item[1][1] - item[1][0]):
        for number in range(_LANES):
            if number == len(taken):
                taken.append([])
            if all(last < start or first > end for start, end in taken[number]):
                taken[number].append((first, last))
                lanes[name] = number
                break
    return lanes


def _frame(row: _Row, width: int, *, joined: bool) -> list[Span]:
    match row.frame:
        case "top":
            spans = _fit(row.spans, width - 6)
            used = sum(cell_width(span.text) for span in spans)
            return [Span("╭─ ", "dim"), *spans, Span(" " + "─" * (width - used - 5) + "╮", "dim")]
        case "bottom":
            return [Span("╰" + "─" * (width - 2) + "╯", "dim")]
        case "free":
            return _fit(row.spans, width)
    spans = _fit(row.spans, width - 4)
    used = sum(cell_width(span.text) for span in spans)
    edge = "├" if joined else "│"
    return [Span("│ ", "dim"), *spans, Span(" " * (width - used - 3) + edge, "dim")]


def _fit(spans: Sequence[Span], width: int) -> list[Span]:
    """The spans, cut with an ellipsis to at most `width` cells."""
    fitting: list[Span] = []
    left = width
    for span in spans:
        if cell_width(span.text) <= left:
            fitting.append(span)
            left -= cell_width(span.text)
            continue
        if left > 0:
            kept = ""
            for letter in span.text:
                if cell_width(kept + letter) > left - 1:
                    break
                kept += letter
            fitting.append(Span(kept + "…", span.style))
        break
    return fitting


def _right(
    number: int, row: _Row, lanes: dict[str, int], ends: dict[str, list[int]], count: int
) -> list[Span]:
    """The lines at the right of a row: its own connection, and those that pass it."""
    active = {
        lane: name for name, lane in lanes.items() if ends[name][0] <= number <= ends[name][-1]
    }
    own_lane = lanes.get(row.connection, -1)
    drawn = ""
    for lane in range(count):
        before = "─" if lane <= own_lane else " "
        if lane == own_lane:
            rows = ends[row.connection]
            sign = "╮" if number == rows[0] else "╯" if number == rows[-1] else "┤"
        elif lane in active:
            sign = "┼" if lane < own_lane else "│"
        else:
            sign = "─" if lane < own_lane else " "
        drawn += before + sign
    return [Span(drawn.rstrip(), "dim")] if drawn.strip() else []
