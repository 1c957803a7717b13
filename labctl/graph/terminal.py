"""A graph for a terminal: boxes below each other, joined by lines at their right. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from labctl.graph.layout import heading, tunnels_word
from labctl.graph.machines import INTEGRATION, OUTSIDE, short_name, state_word
from labctl.graph.model import Graph, Host, Interface, LogicalPort, Router, Switch
from labctl.graph.shapes import clean, shorten
from labctl.i18n import tr
from labctl.terminal.text import Line, Span, Style, cell_width, wrap

_LANE = 2
"""Cells of a line at the right."""
_LANES = 8
"""At most; what has none is only named."""
_LEAST = 44
"""Cells; on less everything still is there, but lines are longer."""
_TUNNELS_SHOWN = 3


@dataclass
class _Row:
    """One line of a drawing, without what is at its right."""

    spans: list[Span]
    frame: str = "body"
    """body, top, bottom: of a box; free: of none."""
    hook: str = ""
    """Name of the line that ends here; empty: none."""

    def __post_init__(self) -> None:
        # Here, before anything is measured; spaces that align columns stay.
        self.spans = [
            one if one.text.isprintable() else Span(clean(one.text), one.style)
            for one in self.spans
        ]


@dataclass
class _Sheet:
    """Rows, and which of them lines join."""

    rows: list[_Row] = field(default_factory=list)

    def free(self, text: str = "", style: Style = "plain") -> None:
        """A line outside of all boxes."""
        self.rows.append(_Row([Span(text, style)], "free"))

    def box(self, title: Sequence[Span], body: Sequence[_Row]) -> None:
        """A box; no line may break in it."""
        self.rows += [_Row(list(title), "top"), *body, _Row([], "bottom")]


def drawing(graph: Graph, width: int) -> list[Line]:
    """The graph in at most `width` cells, in the current language."""
    width = max(width, _LEAST)
    said = f"{shorten(clean(graph.lab), 30)}: {heading(graph)}"
    lines: list[Line] = [*wrap([Span(said, "bold")], width), ()]
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
    """Inner switches, routers, and the switches that lead out, in this order."""
    sheet = _Sheet()
    links = _links(graph)
    for switch in (one for one in graph.switches if not one.localnet):
        _switch(sheet, switch, links)
    for router in graph.routers:
        _router(sheet, router, links)
    for switch in (one for one in graph.switches if one.localnet):
        _switch(sheet, switch, links)
    return sheet


def _links(graph: Graph) -> dict[tuple[str, str], str]:
    """Name of the line at a port, by its switch or router and its own name."""
    found: dict[tuple[str, str], str] = {}
    for router in graph.routers:
        for switch in graph.switches:
            here = [one for one in router.ports if one.peer == switch.name]
            there = [one for one in switch.ports if one.peer == router.name]
            for a, b in zip(here, there, strict=False):
                name = f"{router.name}\n{a.name}"
                found[router.name, a.name] = found[switch.name, b.name] = name
    return found


def _switch(sheet: _Sheet, switch: Switch, links: dict[tuple[str, str], str]) -> None:
    title = [Span(clean(switch.label), "bold"), Span(f" {tr('logical switch')}", "dim")]
    if switch.cidrs:
        title.append(Span(f" {clean(', '.join(switch.cidrs))}"))
    ports = sorted(switch.ports, key=lambda one: one.kind in ("router", "gateway"))
    if switch.localnet:  # what leads in stands first, what leads out last
        ports.reverse()
    sheet.box(title, _ports(ports, switch.name, links))


def _router(sheet: _Sheet, router: Router, links: dict[tuple[str, str], str]) -> None:
    title = [Span(clean(router.label), "bold"), Span(f" {tr('logical router')}", "dim")]
    body = _ports(router.ports, router.name, links)
    body += [
        _Row([Span(f"{one.type:13} {clean(one.external)} ⇄ {clean(one.logical)}", "code")])
        for one in router.nat
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
    names = [_port_name(one) for one in ports]
    addresses = [shorten(clean(", ".join(one.addresses)), 36) for one in ports]
    widest = max(map(cell_width, names), default=0)
    wide = max(map(cell_width, addresses), default=0)
    for port, name, address in zip(ports, names, addresses, strict=True):
        spans = [Span(_fill(name, widest)), Span(f"  {_fill(address, wide)}", "code")]
        if port.host:
            spans.append(Span(f"  @ {clean(port.host)}", "dim"))
        rows.append(_Row(spans, hook=links.get((owner, port.name), "")))
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
    private = next((one for one in graph.segments if one.kind == "private"), None)
    internet = next((one for one in graph.segments if one.kind == "internet"), None)
    if private is not None:
        title = [Span(f"{tr('private network')} {private.cidr}", "bold")]
        tunnels = tunnels_word(graph.tunnels, graph.hosts)
        body = [_Row([Span(clean(tunnels), "dim")])] if tunnels else []
        sheet.box(title, body or [_Row([Span("")])])
        sheet.rows[-2].hook = "private"
    for host in graph.hosts:
        nat = next(
            (s for s in graph.segments if s.kind == "nat" and host.place(OUTSIDE) in s.members),
            None,
        )
        way = f"NAT {nat.cidr}" if nat is not None else ""
        if internet is not None and host.place(OUTSIDE) in internet.members:
            way += f" → {tr('Internet')}"
        places = private.members if private is not None else ()
        on = {one.name for one in host.interfaces if host.place(one.name) in places}
        sheet.box(_host_title(host), list(_host(host, way, on)))
    return sheet


def _host_title(host: Host) -> list[Span]:
    title = [Span(clean(host.name), "bold"), Span(f" {', '.join(host.roles)}", "dim")]
    word = state_word(host)
    if word:
        title.append(Span(f" {word}", "ok" if host.state == "running" else "bad"))
    if host.chassis:
        title.append(Span(f" · chassis {shorten(clean(host.chassis), 26)}", "dim"))
    return title


def _host(host: Host, way: str, private: set[str]) -> Iterator[_Row]:
    """A row for every interface that is one to look at, bridge by bridge, eth0 last."""
    taps = {vm.interface for vm in host.vms}
    nics = [one for one in host.interfaces if one.kind == "nic" and one.name != OUTSIDE]
    for one in nics:
        yield _Row(
            [Span(_fill(shorten(one.name, 10), 8)), *_nic(one)],
            hook="private" if one.name in private else "",
        )
        yield from _bridge(host, one.bridge, taps) if one.bridge != INTEGRATION else ()
    if any(one.name == INTEGRATION for one in host.bridges):
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
    nic = host.interface(OUTSIDE)
    done = {INTEGRATION, *(one.bridge for one in nics), nic.bridge if nic is not None else ""}
    for bridge in (one.name for one in host.bridges if one.name not in done):
        yield from _bridge(host, bridge, taps)
    if nic is not None:
        if nic.bridge and nic.bridge not in (INTEGRATION, *(one.bridge for one in nics)):
            yield from _bridge(host, nic.bridge, taps)
        spans = [Span(_fill(OUTSIDE, 8)), *_nic(nic)]
        yield _Row([*spans, Span(f"  → {clean(way)}", "dim")] if way else spans)


def _nic(nic: Interface) -> list[Span]:
    spans = [Span(clean(nic.address), "code")] if nic.address else []
    if nic.bridge:
        spans.append(Span(tr("in {bridge}", bridge=clean(nic.bridge)), "dim"))
    return spans


def _bridge(host: Host, name: str, taps: set[str]) -> Iterator[_Row]:
    """A bridge with the ports that are neither a network interface nor an instance's."""
    about = next((one for one in host.bridges if one.name == name), None)
    if about is None:
        return
    own = host.interface(name)
    words = [own.address] if own is not None and own.address else []
    spans = [Span(_fill(shorten(clean(name), 14), 8), "bold")]
    spans += [Span(clean(word), "code") for word in words]
    ports = [one for one in host.interfaces if one.bridge == name and one.name not in (*taps, name)]
    tunnels = [one for one in ports if one.kind == "tunnel"]
    said = [about.physical_network] if about.physical_network else []
    if len(tunnels) > _TUNNELS_SHOWN:
        said.append(f"{len(tunnels)} × Geneve")
        ports = [one for one in ports if one.kind != "tunnel"]
    said += [f"{short_name(host, one)} {one.use}".rstrip() for one in ports if one.kind != "nic"]
    said = [shorten(clean(one), 26) for one in said]
    rest = f"{'  ' if words else ''}{', '.join(said)}"
    yield _Row([*spans, Span(rest, "dim")] if said else spans)


# -- how it is drawn -----------------------------------------------------------------------------
def _put(sheet: _Sheet, width: int) -> list[Line]:
    """The rows framed to one width, with the lines that join them at the right."""
    ends: dict[str, list[int]] = {}
    for number, row in enumerate(sheet.rows):
        if row.hook:
            ends.setdefault(row.hook, []).append(number)
    lanes = _lanes({name: (its[0], its[-1]) for name, its in ends.items() if len(its) > 1})
    count = max(lanes.values(), default=-1) + 1
    room = width - _LANE * count
    need = max((_width(row) for row in sheet.rows), default=0)
    inner = min(room, max(need, _LEAST - _LANE * count))
    return [
        (*_frame(row, inner, joined=row.hook in lanes),
         *_right(number, row, lanes, ends, count))
        for number, row in enumerate(sheet.rows)
    ]  # fmt: skip


def _width(row: _Row) -> int:
    return sum(cell_width(span.text) for span in row.spans) + (6 if row.frame == "top" else 4)


def _lanes(spans: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Number of the lane of each line: short ones inside, none on another."""
    taken: list[list[tuple[int, int]]] = []
    lanes: dict[str, int] = {}
    for name, (first, last) in sorted(spans.items(), key=lambda one: one[1][1] - one[1][0]):
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
    """The spans, cut off with an ellipsis where they do not fit."""
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
    """What is at the right of a row: its own line's end, and the lines that go past it."""
    active = {
        lane: name for name, lane in lanes.items() if ends[name][0] <= number <= ends[name][-1]
    }
    mine = lanes.get(row.hook, -1)
    drawn = ""
    for lane in range(count):
        before = "─" if lane <= mine else " "
        if lane == mine:
            its = ends[row.hook]
            sign = "╮" if number == its[0] else "╯" if number == its[-1] else "┤"
        elif lane in active:
            sign = "┼" if lane < mine else "│"
        else:
            sign = "─" if lane < mine else " "
        drawn += before + sign
    return [Span(drawn.rstrip(), "dim")] if drawn.strip() else []
