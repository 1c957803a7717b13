"""Prepare text for a terminal: sanitize, mark up, measure, wrap. Pure functions.

Widths are terminal cells; a Chinese character takes two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

Style: TypeAlias = Literal["plain", "bold", "dim", "ok", "bad", "warn", "code", "prompt"]


class Span(NamedTuple):
    """Text in one style."""

    text: str
    style: Style = "plain"


Line: TypeAlias = tuple[Span, ...]

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, …
    r"|\x1b[ -/]*[0-~]?"  # every other escape
)
# Bidirectional overrides make a terminal show other text than there is.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
# Half of a UTF-16 surrogate pair cannot be encoded as UTF-8.
_UNENCODABLE = re.compile(r"[\ud800-\udfff]")
_NEWLINES = re.compile(r"\r+\n|\r|[\u2028\u2029]")


def sanitize(text: str, *, keep_tabs: bool = False) -> str:
    """`text` without anything that controls a terminal, except newlines.

    Needed because a guest can print anything. Escape sequences, control characters and
    bidirectional overrides are removed, tabs become spaces (unless `keep_tabs`), a carriage return
    becomes a newline.
    """
    text = _NEWLINES.sub("\n", _ESCAPES.sub("", text))
    text = text if keep_tabs else text.expandtabs(8)
    return _UNENCODABLE.sub("\N{REPLACEMENT CHARACTER}", _UNSAFE.sub("", text))


def one_line(text: str) -> str:
    """The last line of sanitized `text` that is not blank: what a progress bar shows last."""
    lines = [line.strip() for line in sanitize(text).split("\n")]
    return next((line for line in reversed(lines) if line), "")


def cell_width(text: str) -> int:
    """The number of terminal cells `text` takes."""
    if text.isascii():
        return len(text)
    # rich has the tables of wide characters. ASCII, which most text is, does without the import.
    from rich.cells import cell_len

    return cell_len(text)


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` padded with spaces to `width` cells; with `right` it is aligned to the right."""
    fill = " " * (width - cell_width(text))
    return fill + text if right else text + fill


def duration(seconds: float) -> str:
    """`12.3s`, `2m 05s` or `1h 02m`."""
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


_WIDE = "\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff01-\uff60"
# Chinese breaks between any two characters, but not before closing punctuation or after
# opening punctuation.
_CLOSING = "，。、；：！？）」』】》〉…"
_OPENING = "（「『【《〈"
# Full-width punctuation needs no space beside it, but YAML turns a line break into one.
_BESIDE_WIDE = re.compile(rf"(?<=[{_OPENING}{_CLOSING[:-1]}]) | (?=[{_OPENING}{_CLOSING[:-1]}])")
_PIECE = re.compile(
    rf"(?P<space>\s+)|(?P<wide>[{_OPENING}]*[{_WIDE}][{_CLOSING}]*)|(?P<word>[^\s{_WIDE}]+)"
)
_INLINE = re.compile(r"`(?P<code>[^`\n]+)`|\*\*(?P<bold>[^*\n]+)\*\*")
_BULLET = re.compile(r"\s{0,3}(?:(?P<dot>[-*])|(?P<number>\d{1,2}\.))\s+")


def paragraphs(text: str, width: int) -> list[Line]:
    """The lines of an explanation as lessons write them, wrapped to `width` cells.

    Blank lines separate paragraphs, `- ` and `1. ` begin items, and lines indented by four spaces
    stay as they are. Text may hold `` `code` `` and `**bold**`.
    """
    lines: list[Line] = []
    for block in re.split(r"\n[ \t]*\n", sanitize(text).strip("\n")):
        if lines:
            lines.append(())
        for lead, content in _items(block):
            if content is None:
                lines.append((Span(lead, "code"),))
                continue
            indent = cell_width(lead)
            content = _BESIDE_WIDE.sub("", content)
            for number, line in enumerate(wrap(_inline(content), width - indent)):
                lines.append(_merge([Span(lead if number == 0 else " " * indent), *line]))
    return lines


def _items(block: str) -> Iterator[tuple[str, str | None]]:
    """The parts of a block as (lead, text); verbatim lines as (line, None)."""
    lead, content = "", ""
    for line in block.split("\n"):
        bullet = _BULLET.match(line)
        verbatim = line.startswith("    ") and not lead
        if (bullet or verbatim) and content:
            yield lead, content
            lead, content = "", ""
        if verbatim:
            yield line, None
        elif bullet:
            lead = "• " if bullet["dot"] else f"{bullet['number']} "
            content = line[bullet.end() :].strip()
        else:
            content = _join(content, line.strip())
    if content:
        yield lead, content


def _join(left: str, right: str) -> str:
    wide = re.compile(f"[{_WIDE}]")
    # Chinese has no spaces: a line break between two such characters becomes nothing.
    glue = "" if not left or (wide.match(left[-1]) and wide.match(right[:1])) else " "
    return left + glue + right


def _inline(text: str) -> list[Span]:
    spans: list[Span] = []
    end = 0
    for match in _INLINE.finditer(text):
        spans.append(Span(text[end : match.start()]))
        style: Style = "code" if match["code"] else "bold"
        spans.append(Span(match["code"] or match["bold"], style))
        end = match.end()
    spans.append(Span(text[end:]))
    return [span for span in spans if span.text]


def wrap(spans: Sequence[Span], width: int) -> list[Line]:
    """`spans` broken into lines of at most `width` cells; only a single word may be longer."""
    lines: list[list[Span]] = [[]]
    used = 0
    for spaced, atom in _atoms(spans):
        length = sum(cell_width(span.text) for span in atom)
        gap = 1 if spaced and used else 0
        if used and used + gap + length > width:
            lines.append([])
            used = gap = 0
        if gap:
            lines[-1].append(
                Span(" ", atom[0].style if lines[-1][-1].style == atom[0].style else "plain")
            )
        lines[-1].extend(atom)
        used += gap + length
    return [_merge(line) for line in lines]


def fold(spans: Sequence[Span], width: int) -> list[Line]:
    """`spans` unchanged if they fit into `width` cells, else wrapped."""
    if sum(cell_width(span.text) for span in spans) <= width:
        return [tuple(spans)]
    return wrap(spans, width)


def hang(line: Line, width: int) -> list[Line]:
    """`line` broken at spaces to fit `width`; further lines are indented as wide as its lead.

    The lead is the first span of several (a mark, a label), with the spaces after it.
    """
    if sum(cell_width(span.text) for span in line) <= width:
        return [line]
    lead, rest = (line[0], line[1:]) if len(line) > 1 else (Span(""), line)
    body = rest[0].text.lstrip()
    lead = Span(lead.text + " " * (len(rest[0].text) - len(body)), lead.style)
    indent = cell_width(lead.text)
    # At least 20 cells: beside a long lead the text would become a column of single words.
    lines = wrap([Span(body, rest[0].style), *rest[1:]], max(width - indent, 20))
    return [
        (lead if number == 0 else Span(" " * indent), *line) for number, line in enumerate(lines)
    ]


def _atoms(spans: Sequence[Span]) -> Iterator[tuple[bool, list[Span]]]:
    """The unbreakable parts of `spans`, each with whether a space stands before it."""
    atom: list[Span] = []
    spaced = pending = breakable = False
    for text, style in spans:
        for match in _PIECE.finditer(text):
            piece = match[0]
            if match["space"]:
                pending = True
                continue
            is_closing = piece[0] in _CLOSING or piece[0] in ",.;:!?)]"
            # "`code`." must not be broken, although its parts differ in style.
            if atom and not pending and (is_closing or not (breakable or match["wide"])):
                atom.append(Span(piece, style))
            else:
                if atom:
                    yield spaced, atom
                atom, spaced = [Span(piece, style)], pending
            pending, breakable = False, bool(match["wide"]) and piece[-1] not in _OPENING
    if atom:
        yield spaced, atom


def _merge(line: Sequence[Span]) -> Line:
    """The line with neighbours of the same style joined, and empty spans removed."""
    merged: list[Span] = []
    for span in line:
        if not span.text:
            continue
        if merged and merged[-1].style == span.style:
            merged[-1] = Span(merged[-1].text + span.text, span.style)
        else:
            merged.append(span)
    return tuple(merged)
