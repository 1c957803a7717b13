"""What a drawing is made of: boxes in boxes, lines and texts, with whole coordinates. Pure.

Every builder makes its box at the origin; whoever puts it somewhere moves it. Widths of texts are
upper bounds: a drawing is right in any font that is not wider than these.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.terminal.text import cell_width, sanitize

Style: TypeAlias = Literal["title", "heading", "name", "mono", "small", "label"]
Point: TypeAlias = tuple[int, int]
Mark: TypeAlias = tuple[Literal["node", "bridge", "segment"], str]
"""What a box is, and its name: a packet that is played over the picture goes through it."""


@dataclass(frozen=True)
class Font:
    """A style of text, in pixels."""

    size: int
    cell: float
    """The widest that a cell of a terminal is: half a Chinese character."""
    line: int
    """From one baseline to the next."""


FONTS: dict[Style, Font] = {
    "title": Font(17, 11.6, 24),
    "heading": Font(14, 9.4, 20),
    "name": Font(13, 8.0, 18),
    "mono": Font(12, 7.4, 16),
    "small": Font(11, 6.8, 15),
    "label": Font(11, 7.2, 15),
}
# What XML 1.0 cannot hold, not even escaped.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PROPORTIONAL: frozenset[Style] = frozenset({"title", "heading", "label"})
_WIDE = frozenset("MWmw@%")
"""Letters that proportional fonts make wider than a cell."""
PAD = 8
GAP = 12
LONGEST = 34
"""Cells that a name may take before its middle is left out."""


@dataclass(frozen=True)
class Text:
    """One line of text; `x` is its left end, `y` its baseline."""

    x: int
    y: int
    text: str
    style: Style = "mono"

    @property
    def width(self) -> int:
        """The most that it takes, in pixels."""
        return measure(self.text, self.style)

    @property
    def top(self) -> int:
        """Where the highest letters end."""
        return self.y - FONTS[self.style].size


@dataclass(frozen=True)
class Line:
    """Straight pieces from point to point, upright or level."""

    points: tuple[Point, ...]
    kind: str


@dataclass(frozen=True)
class Box:
    """A rectangle with what is in it. `x` and `y` are absolute, as those of all its parts."""

    kind: str
    """What it stands for; drawings choose its looks by it."""
    w: int
    h: int
    x: int = 0
    y: int = 0
    texts: tuple[Text, ...] = ()
    children: tuple["Box", ...] = ()
    lines: tuple[Line, ...] = ()
    place: str = ""
    """The place that it is, for walks; empty: none."""
    logical: str = ""
    """Name of the logical switch or router that it is; empty: none."""
    mark: Mark | None = None
    """The node, bridge or segment that it is; None: none of them."""
    title: str = ""
    """More than fits in; shown when pointed at."""
    tone: int | None = None
    """Number of the colour of the node that it belongs to."""
    key: str = ""
    """By which a line finds it: a place or a name as it came, which need not be fit to be shown."""

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

    def moved(self, dx: int, dy: int) -> "Box":
        """The same, elsewhere, with all its parts."""
        return replace(
            self,
            x=self.x + dx,
            y=self.y + dy,
            texts=tuple(replace(one, x=one.x + dx, y=one.y + dy) for one in self.texts),
            children=tuple(one.moved(dx, dy) for one in self.children),
            lines=tuple(moved(one, dx, dy) for one in self.lines),
        )

    def at(self, x: int, y: int) -> "Box":
        """The same with its upper left corner there."""
        return self.moved(x - self.x, y - self.y)

    def walk(self) -> Iterator["Box"]:
        """Itself and every box in it."""
        yield self
        for one in self.children:
            yield from one.walk()


def moved(line: Line, dx: int, dy: int) -> Line:
    """The same line, elsewhere."""
    return replace(line, points=tuple((x + dx, y + dy) for x, y in line.points))


def clean(text: str) -> str:
    """A text that others wrote, as one line that neither a terminal nor XML stumbles over."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", " ".join(sanitize(text).split()))


def shown_place(host: str, interface: str) -> str:
    """A place as drawings name it; cleaned part by part: an escape sequence could eat both."""
    return f"{clean(host)}/{clean(interface)}"


def measure(text: str, style: Style) -> int:
    """The most pixels that a text takes."""
    cells: float = cell_width(text)
    if style in _PROPORTIONAL:
        cells += 0.6 * sum(letter in _WIDE for letter in text)
    return int(cells * FONTS[style].cell) + 1


def shorten(text: str, cells: int = LONGEST) -> str:
    """The text, without its middle if it takes more cells."""
    if cell_width(text) <= cells:
        return text
    head, tail = "", ""
    room = cells - 1
    for letter in text:  # two thirds for the beginning
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
    """Texts below each other, with the width they take and where they end, padding included."""
    texts: list[Text] = []
    for text, style in entries:
        if not text:
            continue
        font = FONTS[style]
        y += font.line
        texts.append(Text(x, y - (font.line - font.size) // 2 - 1, text, style))
    width = max((one.x + one.width for one in texts), default=x) + PAD
    return tuple(texts), width, y + (PAD if texts else 0)


def label_box(
    kind: str, entries: Sequence[tuple[str, Style]], pad: int = 4, longest: int = LONGEST
) -> Box:
    """A box around lines of text, shortened where they have more cells than `longest`."""
    fitting = [(shorten(clean(text), longest), style) for text, style in entries]
    texts, width, bottom = lines_of(fitting, x=PAD, y=pad)
    full = "\n".join(clean(text) for text, _ in entries if text)
    return Box(
        kind,
        width,
        bottom - PAD + pad if texts else 2 * pad,
        texts=texts,
        title=full if full != "\n".join(text for text, _ in fitting if text) else "",
    )


def in_rows(boxes: Sequence[Box], widest: int, gap: int = GAP) -> list[list[Box]]:
    """The boxes in rows of at most that width; a wider one has a row for itself."""
    rows: list[list[Box]] = []
    used = 0
    for box in boxes:
        if rows and used + gap + box.w <= widest:
            rows[-1].append(box)
            used += gap + box.w
        else:
            rows.append([box])
            used = box.w
    return rows


def flow(boxes: Sequence[Box], widest: int, x: int, y: int, gap: int = 6) -> list[Box]:
    """The boxes put in rows, from a point on."""
    put: list[Box] = []
    for row in in_rows(boxes, widest, gap):
        left = x
        for box in row:
            put.append(box.at(left, y))
            left += box.w + gap
        y += max(box.h for box in row) + gap
    return put


def extent(boxes: Sequence[Box]) -> Point:
    """The right and lower edges of all of them; 0 where there are none."""
    return max((one.right for one in boxes), default=0), max(
        (one.bottom for one in boxes), default=0
    )
