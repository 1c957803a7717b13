"""Shows a walk in a terminal: hops and changes at the left, the answer of ovn-trace beside them."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from labctl.access.packets import Frame
from labctl.i18n import tr, tr_n
from labctl.terminal.console import Console
from labctl.terminal.text import Line, Span, Style, cell_width, hang, sanitize
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
from labctl.walks.model import Change, Hop, PacketPath
from labctl.walks.walk import Walk

_SIDE_BY_SIDE = 110
"""From this width in cells on, hops and ovn-trace are shown side by side."""
_LONG_ADDRESSES = 56
"""Cells: what is longer has a line of its own. On 80 columns nothing else fits beside it."""
_MIN_WIDTH, _MAX_WIDTH = 40, 132


def show(walk: Walk, console: Console) -> None:
    """Print the whole walk, within the console's width."""
    port = f" {walk.port}" if walk.port is not None else ""
    source = f"{walk.source.name} ({walk.source.address})"
    console.heading(f"{walk.protocol}{port}: {source} → {target_label(walk)}")
    width = max(_MIN_WIDTH, min(console.width or 100, _MAX_WIDTH))
    for attempt in walk.attempts[:-1]:
        console.say(attempt.outcome)
    for path in (walk.request, walk.reply):
        if path is not None:
            console.write([(), (Span(title_of(path), "bold"),)])
            console.write(_side_by_side(_hops(path, walk), _explained(path, walk), width))
    reasons = list(_reasons(walk, width))
    if reasons:
        console.write([(), *reasons])
    notes = list(notes_on(walk))
    if notes:
        console.write([(), *(line for note in notes for line in hang((Span(note, "dim"),), width))])
    console.summary(walk.answered, verdict(walk))


def _reasons(walk: Walk, width: int) -> Iterator[Line]:
    for reason, fix in reasons_of(walk):
        yield from hang((Span("• ", "dim"), Span(sanitize(reason), "bad")), width)
        if fix:
            yield from hang((Span("  "), Span(sanitize(fix), "code")), width)


# -- hops ------------------------------------------------------------------------------------------
def _hops(path: PacketPath, walk: Walk) -> list[Line]:
    lines: list[Line] = []
    for number, hop in enumerate(path.hops, 1):
        lines += _hop(hop, number, walk)
    return lines


def _hop(hop: Hop, number: int, walk: Walk) -> Iterator[Line]:
    arrow = "→" if hop.direction == "out" else "←"
    yield (
        Span(f"{number:>2} {hop.offset * 1000:>8.3f} ms  ", "dim"),
        Span(place_name(hop.node), "bold"),
        Span(f"  {hop.interface} {arrow} "),
        Span(whereabouts(hop, walk), "dim"),
    )
    frame = hop.frame
    changed = {change.field for change in hop.changes}
    ends = (
        (with_port(frame.src, frame.source_port), {"src", "source_port"} & changed),
        (" → ", ()),
        (with_port(frame.dst, frame.destination_port), {"dst", "destination_port"} & changed),
    )
    rest = (
        (f"{name_of_ttl(frame)} ", ()),
        (str(frame.ttl), {"ttl"} & changed),
        (f"  vlan {frame.vlan}" if frame.vlan is not None else "", {"vlan"} & changed),
    )
    if sum(cell_width(text) for text, _ in ends) > _LONG_ADDRESSES:
        yield _line(*ends)
        yield _line(*rest)
    else:
        yield _line(*ends, ("  ", ()), *rest)
    if hop.encap is not None:
        for number, text in enumerate(tunnel_texts(hop.encap)):
            yield _line((text, ()), style="dim" if number else "plain")
    if not hop.changes and hop.encap is None:
        yield _line((_macs(frame, walk), ()), style="dim")
    yield from _changes(hop.changes, walk)
    if hop.copies:
        yield _line((tr_n("seen once more", "seen {n} times more", n=hop.copies), ()), style="dim")


_INDENT = " " * 6


def _line(*parts: tuple[str, object], style: Style = "plain") -> Line:
    """A line below a hop. A part is (text, whether it changed); changed parts are bold."""
    spans = [Span(text, "bold" if changed else style) for text, changed in parts if text]
    return (Span(_INDENT), *spans)


def _macs(frame: Frame, walk: Walk) -> str:
    return f"{mac_label(frame.src_mac, walk)} → {mac_label(frame.dst_mac, walk)}"


def _changes(changes: Sequence[Change], walk: Walk) -> Iterator[Line]:
    for change in changes:
        because = why_of(change)
        yield (
            Span(f"{_INDENT}• ", "dim"),
            Span(change_of(change, walk)),
            *((Span(f"  {because}", "code"),) if because else ()),
        )


# -- ovn-trace --------------------------------------------------------------------------------
def _explained(path: PacketPath, walk: Walk) -> list[Line]:
    traced = walk.traced.get(path.direction)
    if traced is None:
        return []
    if traced.trace is None:
        return [(Span("ovn-trace  ", "dim"), Span(traced.error, "dim"))]
    lines: list[Line] = [(Span("ovn-trace", "bold"),)]
    if traced.trace.assumed:
        text = tr("told that conntrack translates {what}", what=traced.trace.assumed)
        lines.append((Span(f"  {text}", "dim"),))
    for passed in datapaths_to_show(traced, walk):
        lines.append((Span("  "), Span(passed.label, "bold"), Span(f"  {passed.kind}", "dim")))
        for text, drops in passed.decisions:
            lines.append((Span("    "), Span(text, "bad" if drops else "plain")))
    return lines


# -- layout ------------------------------------------------------------------------------------
def _side_by_side(left: list[Line], right: list[Line], width: int) -> list[Line]:
    """Both blocks side by side if `width` allows it, else `right` below `left`."""
    if width < _SIDE_BY_SIDE or not right:
        below = [(Span(" " * 4), *line) for line in right]
        return [*_fitted(left, width), *_fitted(below, width)]
    column = width * 62 // 100
    lines: list[Line] = []
    both = zip_longest(_fitted(left, column - 2), _fitted(right, width - column), fillvalue=())
    for left_line, right_line in both:
        used = sum(cell_width(span.text) for span in left_line)
        gap = Span(" " * (column - used))
        lines.append((*left_line, gap, *right_line) if right_line else left_line)
    return lines


def _fitted(lines: Sequence[Line], width: int) -> list[Line]:
    clean = [tuple(Span(sanitize(text), style) for text, style in line) for line in lines]
    return [part for line in clean for part in hang(line, width)]
