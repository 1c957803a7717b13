"""The elements of a drawing: nested boxes, lines and texts, with integer coordinates. Pure.

A function that builds a box returns it at the origin; the caller moves it with `at`. The reader's
fonts are unknown, so widths of texts are upper bounds.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.terminal.text import cell_width, sanitize

Style: TypeAlias = Literal["title", "heading", "name", "mono", "small", "label"]
Point: TypeAlias = tuple[int, int]
Mark: TypeAlias = tuple[Literal["node", "bridge", "segment"], str]
"""(kind, name) of a box, which the report needs to draw a packet's path through it."""


@dataclass(frozen=True)
class Font:
    """A style of text, in pixels."""

    size: int
    cell: float
    """Greatest width of a terminal cell, which is half a Chinese character."""
    line: int
    """Pixels from one baseline to the next."""


FONTS: dict[Style, Font] = {
    "title": Font(17, 11.6, 24),
    "heading": Font(14, 9.4, 20),
    "name": Font(13, 8.0, 18),
    "mono": Font(12, 7.4, 16),
    "small": Font(11, 6.8, 15),
    "label": Font(11, 7.2, 15),
}
# Characters that XML 1.0 forbids, even escaped (section 2.2, Char).
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PROPORTIONAL: frozenset[Style] = frozenset({"title", "heading", "label"})
_WIDE = frozenset("MWmw@%")
"""Letters that are wider than a cell in proportional fonts."""
PAD = 8
GAP = 12
LONGEST = 34
"""The most cells of a name; in a longer one the middle is replaced by an ellipsis."""


@dataclass(frozen=True)
class Text:
    """One line of text; `x` is its left end, `y` its baseline."""

    x: int
    y: int
    text: str
    style: Style = "mono"

    @property
    def width(self) -> int:
        """An upper bound of its width, in pixels."""
        return measure(self.text, self.style)

    @property
    def top(self) -> int:
        """y of the upper edge of its letters."""
        return self.y - FONTS[self.style].size


@dataclass(frozen=True)
class Line:
    """A polyline of horizontal and vertical pieces."""

    points: tuple[Point, ...]
    kind: str


@dataclass(frozen=True)
class DrawnBox:
    """A rectangle with its content. All coordinates are absolute, also those of the content."""

    kind: str
    """CSS classes, e.g. `host running`; the first one says what it is."""
    w: int
    h: int
    x: int = 0
    y: int = 0
    texts: tuple[Text, ...] = ()
    children: tuple["DrawnBox", ...] = ()
    lines: tuple[Line, ...] = ()
    place: str = ""
    """Its place (see graph.model), for walks; empty: none."""
    logical: str = ""
    """Name of the logical switch or router that it shows; empty: none."""
    mark: Mark | None = None
    """The node, bridge or segment that it shows; None: none of them."""
    title: str = ""
    """A tooltip, with what does not fit into the box."""
    tone: int | None = None
    """Number of the colour of the node that it belongs to."""
    key: str = ""
    """Identifies it, to find the ends of lines: a place or a name, not cleaned for display."""

    @property
    def right(self) -> int:
        """Its right edge."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.y + self.h

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.x + self.w // 2, self.y + self.h // 2

    def moved(self, dx: int, dy: int) -> "DrawnBox":
        """A copy, shifted with all its content."""
        return replace(
            self,
            x=self.x + dx,
            y=self.y + dy,
            texts=tuple(replace(text, x=text.x + dx, y=text.y + dy) for text in self.texts),
            children=tuple(child.moved(dx, dy) for child in self.children),
            lines=tuple(moved(line, dx, dy) for line in self.lines),
        )

    def at(self, x: int, y: int) -> "DrawnBox":
        """A copy with its upper left corner at (x, y)."""
        return self.moved(x - self.x, y - self.y)

    def walk(self) -> Iterator["DrawnBox"]:
        """The box itself and all boxes in it, at any depth."""
        yield self
        for child in self.children:
            yield from child.walk()


def moved(line: Line, dx: int, dy: int) -> Line:
    """A copy of the line, shifted."""
    return replace(line, points=tuple((x + dx, y + dy) for x, y in line.points))


def clean(text: str) -> str:
    """A text from outside as one line, without characters unsafe in a terminal or in XML."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", " ".join(sanitize(text).split()))


def shown_place(host: str, interface: str) -> str:
    """A place for drawings. Each part is cleaned alone: an escape sequence in one may hide both."""
    return f"{clean(host)}/{clean(interface)}"


def measure(text: str, style: Style) -> int:
    """An upper bound of the width of a text, in pixels."""
    cells: float = cell_width(text)
    if style in _PROPORTIONAL:
        cells += 0.6 * sum(letter in _WIDE for letter in text)
    return int(cells * FONTS[style].cell) + 1


def shorten(text: str, cells: int = LONGEST) -> str:
    """The text, with an ellipsis instead of its middle if it is wider than `cells`."""
    if cell_width(text) <= cells:
        return text
    head, tail = "", ""
    room = cells - 1
    for letter in text:  # the beginning gets two thirds
        if cell_width(head + letter) > room * 2 // 3:
            break
        head += letter
    for letter in reversed(text):
        if cell_width(head + letter + tail) > room:
            break
        tail = letter + tail
    return f"{head}…{tail}"


def lines_of(
    entries: Sequence[tuple[str, Style]], x: int = PAD, y: int = PAD
) -> tuple[tuple[Text, ...], int, int]:
    """Texts below each other: (texts, width, y of their end), both with padding."""
    texts: list[Text] = []
    for text, style in entries:
        if not text:
            continue
        font = FONTS[style]
        y += font.line
        texts.append(Text(x, y - (font.line - font.size) // 2 - 1, text, style))
    width = max((text.x + text.width for text in texts), default=x) + PAD
    return tuple(texts), width, y + (PAD if texts else 0)


def label_box(
    kind: str, entries: Sequence[tuple[str, Style]], pad: int = 4, longest: int = LONGEST
) -> DrawnBox:
    """A box around lines of text, each shortened to `longest` cells."""
    fitting = [(shorten(clean(text), longest), style) for text, style in entries]
    texts, width, bottom = lines_of(fitting, x=PAD, y=pad)
    full = "\n".join(clean(text) for text, _ in entries if text)
    return DrawnBox(
        kind,
        width,
        bottom - PAD + pad if texts else 2 * pad,
        texts=texts,
        title=full if full != "\n".join(text for text, _ in fitting if text) else "",
    )


def in_rows(boxes: Sequence[DrawnBox], widest: int, gap: int = GAP) -> list[list[DrawnBox]]:
    """The boxes in rows of at most that width; a wider box has a row of its own."""
    rows: list[list[DrawnBox]] = []
    used = 0
    for box in boxes:
        if rows and used + gap + box.w <= widest:
            rows[-1].append(box)
            used += gap + box.w
        else:
            rows.append([box])
            used = box.w
    return rows


def flow(boxes: Sequence[DrawnBox], widest: int, x: int, y: int, gap: int = 6) -> list[DrawnBox]:
    """The boxes placed in rows, starting at (x, y)."""
    placed: list[DrawnBox] = []
    for row in in_rows(boxes, widest, gap):
        left = x
        for box in row:
            placed.append(box.at(left, y))
            left += box.w + gap
        y += max(box.h for box in row) + gap
    return placed


def extent(boxes: Sequence[DrawnBox]) -> Point:
    """(right edge, lower edge) of all boxes; (0, 0) without any."""
    return max((box.right for box in boxes), default=0), max(
        (box.bottom for box in boxes), default=0
    )
