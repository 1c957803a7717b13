"""Renders a drawing as one SVG element that loads nothing, in light and dark colours. Pure.

Colours are CSS custom properties of the element. They follow the reader's preference; a parent
with the class `theme-light` or `theme-dark` overrides it. The report draws paths of packets over
the picture and finds elements by attributes: `data-place`, `data-logical` (switches and routers),
`data-node`, `data-bridge` and `data-segment`.
"""

import re
from collections.abc import Iterator
from html import escape

from labctl.graph.layout import Drawing, heading, lay_out
from labctl.graph.model import Graph
from labctl.graph.shapes import FONTS, DrawnBox, Line, Text, clean
from labctl.i18n import current_language, tr, tr_list

_LIGHT = {
    "bg": "#ffffff", "ink": "#1b1f24", "soft": "#57606a", "edge": "#8c959f",
    "host": "#f6f8fa", "bridge": "#eaeef2", "port": "#ffffff", "vm": "#dafbe1",
    "switch": "#ddf4ff", "router": "#fff8c5", "net": "#eaeef2",
    "private": "#0969da", "nat": "#9a6700", "tunnel": "#8250df", "logical": "#0550ae",
    "bad": "#cf222e",
    "t0": "#0969da", "t1": "#1a7f37", "t2": "#bc4c00", "t3": "#8250df", "t4": "#bf3989",
    "t5": "#0a7c86", "t6": "#7d4e00", "t7": "#57606a",
}  # fmt: skip
_DARK = {
    "bg": "#0d1117", "ink": "#e6edf3", "soft": "#9da7b3", "edge": "#6e7681",
    "host": "#161b22", "bridge": "#21262d", "port": "#0d1117", "vm": "#12361f",
    "switch": "#0c2d4a", "router": "#3b2e00", "net": "#21262d",
    "private": "#58a6ff", "nat": "#d29922", "tunnel": "#bc8cff", "logical": "#79c0ff",
    "bad": "#ff7b72",
    "t0": "#58a6ff", "t1": "#3fb950", "t2": "#f0883e", "t3": "#bc8cff", "t4": "#f778ba",
    "t5": "#39c5cf", "t6": "#d29922", "t7": "#9da7b3",
}  # fmt: skip
TONES = sum(1 for name in _LIGHT if name[0] == "t" and name[1:].isdigit())
_RADIUS = {
    "host": 8,
    "vm": 6,
    "port": 4,
    "bridge": 6,
    "net": 6,
    "tube": 8,
    "switch": 6,
    "router": 6,
}
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
_SANS = "system-ui,'Segoe UI',Roboto,'Noto Sans','Noto Sans CJK TC','PingFang TC',sans-serif"


def svg(graph: Graph, *, prefix: str = "g") -> str:
    """The graph as an SVG element, in the current language.

    `prefix` begins every id and the class of the element, so that a page can hold several.
    Raises ValueError unless it consists of letters, digits and hyphens.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", prefix):
        raise ValueError(f"{prefix!r} is no prefix of an id")
    drawing = lay_out(graph)
    return "\n".join(_document(graph, drawing, prefix)) + "\n"


def _document(graph: Graph, drawing: Drawing, prefix: str) -> Iterator[str]:
    size = f"0 0 {drawing.width} {drawing.height}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="labctl-graph {prefix}" role="img"'
        f' lang="{current_language()}" viewBox="{size}" width="{drawing.width}"'
        f' height="{drawing.height}" aria-labelledby="{prefix}-title {prefix}-desc">'
    )
    title = clean(graph.lab) + tr(": ") + heading(graph)
    yield f'<title id="{prefix}-title">{xml(title)}</title>'
    yield f'<desc id="{prefix}-desc">{xml(describe(graph))}</desc>'
    yield f"<style>{_css(prefix)}</style>"
    yield f'<rect class="bg" width="{drawing.width}" height="{drawing.height}"/>'
    for box in drawing.boxes:
        yield from _box(box)
    yield from (_line(line) for line in drawing.lines)
    yield from (_text(text) for text in drawing.texts)
    yield "</svg>"


def describe(graph: Graph) -> str:
    """The picture in words, for screen readers."""
    parts = []
    for host in graph.hosts:
        roles = tr_list(host.roles)
        names = tr_list(vm.name for vm in host.vms)
        if names:
            parts.append(tr("{node} ({roles}) runs {names}.", node=host.name, roles=roles,
                            names=names))  # fmt: skip
        else:
            parts.append(tr("{node} ({roles}).", node=host.name, roles=roles))
    for router in graph.routers:
        peers = tr_list(port.label for port in router.ports)
        parts.append(tr("Router {name} joins {peers}.", name=router.label, peers=peers))
    return clean(" ".join(parts))


def xml(text: str) -> str:
    """Escape text for an element or an attribute. It must be cleaned before."""
    return escape(text, quote=True)


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--lc-{name}:{value};" for name, value in colours.items())


def _css(prefix: str) -> str:
    root = f"svg.{prefix}"
    light, dark = _variables(_LIGHT), _variables(_DARK)
    rules = [
        f"{root}{{{light}max-width:100%;height:auto}}",
        f"@media (prefers-color-scheme:dark){{{root}{{{dark}}}}}",
        f".theme-light {root},{root}.theme-light{{{light}}}",
        f".theme-dark {root},{root}.theme-dark{{{dark}}}",
    ]
    inner = [
        (".bg", "fill:var(--lc-bg)"),
        ("text", f"fill:var(--lc-ink);font-family:{_MONO};white-space:pre"),
        *((f".{style}", f"font-size:{font.size}px") for style, font in FONTS.items()),
        (".title,.heading,.label", f"font-family:{_SANS}"),
        (".title,.heading,.name", "font-weight:600"),
        (".small,.label", "fill:var(--lc-soft)"),
        (".b", "stroke:var(--lc-edge);stroke-width:1;fill:none"),
        (".host>.b", "fill:var(--lc-host);stroke-width:1.5"),
        (".planned>.b", "stroke-dasharray:6 4"),
        (".silent>.b,.down>.b", "stroke:var(--lc-bad);stroke-dasharray:6 4"),
        (".bridge>.b", "fill:var(--lc-bridge)"),
        (".port>.b", "fill:var(--lc-port)"),
        (".own>.b,.layer>.b,.lport>.b", "stroke:none"),
        (".tunnel>.b", "stroke:var(--lc-tunnel)"),
        (".tube>.b", "fill:var(--lc-bg);stroke-dasharray:5 3"),
        (".vm>.b", "fill:var(--lc-vm)"),
        (".idle>.b", "stroke:var(--lc-bad);stroke-dasharray:4 3"),
        (".switch>.b", "fill:var(--lc-switch)"),
        (".router>.b", "fill:var(--lc-router)"),
        (".lport.router>.b", "fill:none"),
        (".net>.b", "fill:var(--lc-net)"),
        (".private>.b", "stroke:var(--lc-private)"),
        (".nat>.b,.internet>.b", "stroke:var(--lc-nat)"),
        (".l", "fill:none;stroke:var(--lc-edge);stroke-width:1.5"),
        (".l-private", "stroke:var(--lc-private);stroke-width:2"),
        (".l-nat", "stroke:var(--lc-nat);stroke-width:2"),
        (".l-tunnel", "stroke:var(--lc-tunnel);stroke-dasharray:5 3"),
        (".l-logical", "stroke:var(--lc-logical)"),
        *((f".t{number}", f"fill:var(--lc-t{number})") for number in range(TONES)),
    ]
    rules += [
        ",".join(f"{root} {part}" for part in selector.split(",")) + f"{{{style}}}"
        for selector, style in inner
    ]
    return "".join(rules)


def _box(box: DrawnBox) -> Iterator[str]:
    marks = f' class="{box.kind}"'
    if box.place:
        marks += f' data-place="{xml(box.place)}"'
    if box.logical:
        marks += f' data-logical="{xml(box.logical)}"'
    if box.mark:
        attribute, name = box.mark
        marks += f' data-{attribute}="{xml(name)}"'
    yield f"<g{marks}>"
    if box.title:
        yield f"<title>{xml(box.title)}</title>"
    kind = box.kind.split()[0]
    if kind != "layer":
        radius = _RADIUS.get(kind, 0)
        yield (
            f'<rect class="b" x="{box.x}" y="{box.y}" width="{box.w}" height="{box.h}"'
            f' rx="{radius}"/>'
        )
    if box.tone is not None:
        yield _tone(box, kind)
    for child in box.children:
        yield from _box(child)
    yield from (_line(line) for line in box.lines)  # drawn over the boxes
    yield from (_text(text) for text in box.texts)
    yield "</g>"


def _tone(box: DrawnBox, kind: str) -> str:
    assert box.tone is not None
    colour = f"t{box.tone % TONES}"
    if kind == "host":
        return (
            f'<rect class="{colour}" x="{box.x}" y="{box.y + 8}" width="4" height="{box.h - 16}"/>'
        )
    return f'<circle class="{colour}" cx="{box.x + 6}" cy="{box.y + box.h // 2}" r="4"/>'


def _line(line: Line) -> str:
    points = " ".join(f"{x},{y}" for x, y in line.points)
    return f'<polyline class="l l-{line.kind}" points="{points}"/>'


def _text(text: Text) -> str:
    return f'<text class="{text.style}" x="{text.x}" y="{text.y}">{xml(text.text)}</text>'
