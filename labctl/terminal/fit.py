"""Commands, their output and tables, made to fit the width of a terminal. Pure.

A terminal breaks a long line in the middle of a word and a wide table into rags. Here a command is
continued with backslashes, so that what is copied still runs; tables of the OpenStack client are
drawn anew with narrower columns; columns that programs align with spaces stay aligned.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from labctl.terminal.text import Line, Span, cell_width, pad, wrap

_BORDER = re.compile(r"\+(?:-+\+)+")
_NARROWEST = 6
"""Cells of a table's column below which its words would be torn to pieces."""
_HANG = 4


# -- commands --------------------------------------------------------------------------------------
def fit_command(command: str, width: int, lead: int, hang: int = 2) -> list[str]:
    """The lines of a shell command, broken at blanks between words with a backslash.

    `lead` cells of the first line are taken by the prompt; a continuation begins after `hang`
    cells. Comments, here-documents and what is quoted stay as they are: a backslash would mean
    something else there.
    """
    if "<<" in command:
        return command.split("\n")
    lines = [""]
    used, quote, comment, at = lead, "", False, 0
    while at < len(command):
        word, at, quote, comment = _word(command, at, quote, comment)
        if word == "\n":
            lines.append("")
            used = 0
            continue
        # A break costs two cells: the blank before the backslash stays.
        last = at >= len(command) or command[at] == "\n"
        room = width if last else width - 2
        blank = word.startswith(" ") and not comment
        if blank and used > hang and used + cell_width(word) > room:
            lines[-1] += " \\"
            word = " " * hang + word.lstrip(" ")
            lines.append("")
            used = 0
        lines[-1] += word
        used += cell_width(word)
    return lines


def _word(command: str, at: int, quote: str, comment: bool) -> tuple[str, int, str, bool]:
    """The next word with the blanks before it, or a newline; where it ends, and what is open."""
    if command[at] == "\n":
        return "\n", at + 1, quote, False
    start = at
    while at < len(command) and command[at] == " " and not quote:
        at += 1
    if command[at : at + 1] == "#" and not quote:
        comment = True
    while at < len(command):
        letter = command[at]
        if letter == "\n" or (letter == " " and not quote):
            break
        if letter == "\\" and quote != "'" and not comment and command[at + 1 : at + 2] != "\n":
            at += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"`" and not comment:
            quote = letter
        at += 1
    return command[start:at], min(at, len(command)), quote, comment


# -- output ----------------------------------------------------------------------------------------
def fit_output(text: str, width: int) -> list[str]:
    """The lines of a command's output, none longer than `width` unless a single word is."""
    lines: list[str] = []
    for kind, block in groupby(text.split("\n"), _kind):
        group = list(block)
        if all(cell_width(line) <= width for line in group):
            lines += group
        elif kind == "table":
            lines += _narrowed(group, width)
        else:
            lines += _folded(group, width)
    return lines


def _kind(line: str) -> str:
    if line.startswith("|") or _BORDER.fullmatch(line.rstrip()):
        return "table"
    return "text" if line.strip() else ""


def _narrowed(table: list[str], width: int) -> list[str]:
    """A table of + - and | with its widest columns made narrower, their cells wrapped."""
    border = next((line.rstrip() for line in table if _BORDER.fullmatch(line.rstrip())), "")
    naturals = [len(dashes) - 2 for dashes in border.strip("+").split("+")]
    room = width - 3 * len(naturals) - 1
    if not border or room < sum(min(one, _NARROWEST) for one in naturals):
        return _folded(table, width)
    widths = shares(naturals, room)
    lines: list[str] = []
    for line in table:
        if line.startswith("+"):
            lines.append("+" + "+".join("-" * (one + 2) for one in widths) + "+")
            continue
        cells = [_cell(cell, one) for cell, one in zip(_cells(line, naturals), widths, strict=True)]
        for number in range(max(len(cell) for cell in cells)):
            row = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = (pad(cell, one) for cell, one in zip(row, widths, strict=True))
            lines.append("| " + " | ".join(padded) + " |")
    return lines


def shares(naturals: Sequence[int], room: int) -> list[int]:
    """Widths of columns that together take at most `room` cells; the widest give way first."""
    widths = list(naturals)
    while (over := sum(widths) - room) > 0:
        widest = max(widths)
        many = [number for number, one in enumerate(widths) if one == widest]
        next_one = max((one for one in widths if one < widest), default=0)
        step = max(1, min(widest - next_one, -(-over // len(many))))
        for number in many[: -(-over // step)]:
            widths[number] -= step
    return widths


def _cells(row: str, widths: Sequence[int]) -> list[str]:
    """The cells of a row, by their places: what stands in them may hold a | too."""
    cells: list[str] = []
    rest = row
    for width in widths:
        rest = rest[2:]  # "| "
        taken = _prefix(rest, width)
        cells.append(rest[:taken].rstrip())
        rest = rest[taken + 1 :]
    return cells


def _prefix(text: str, width: int) -> int:
    """How many characters of `text` fill `width` cells."""
    used = 0
    for number, letter in enumerate(text):
        used += cell_width(letter)
        if used > width:
            return number
    return len(text)


def _cell(text: str, width: int) -> list[str]:
    """Lines of a cell: broken at spaces, else after punctuation, else where they end."""
    lines: list[str] = []
    rest = text
    while cell_width(rest) > width:
        most = _prefix(rest, width)
        at = rest.rfind(" ", 1, most + 1)
        if at < 0:
            marks = [rest.rfind(mark, 0, most) + 1 for mark in "-_:,/=."]
            at = max(marks) if max(marks) > width // 3 else most
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return [*lines, rest]


def _folded(lines: list[str], width: int) -> list[str]:
    """Lines broken at blanks; where all have columns in common, at the same column."""
    gutter = _gutter(lines, width)
    if gutter:
        folded: list[str] = []
        rests = fit_block([line[gutter:] for line in lines], max(width - _HANG, _NARROWEST))
        for line, more in zip(lines, rests, strict=True):
            folded.append(line[:gutter].rstrip())
            folded += [" " * _HANG + one for one in more if one.strip()]
        return folded
    return [part for line in lines for part in _hung(line, width)]


def fit_block(lines: list[str], width: int) -> list[list[str]]:
    """What becomes of each line, when none may be longer than `width`."""
    if all(cell_width(line) <= width for line in lines):
        return [[line.rstrip()] for line in lines]
    gutter = _gutter(lines, width)
    if not gutter:
        return [_hung(line, width) for line in lines]
    rests = fit_block([line[gutter:] for line in lines], width)
    return [[line[:gutter].rstrip(), *rest] for line, rest in zip(lines, rests, strict=True)]


def _gutter(lines: Sequence[str], width: int) -> int:
    """Where the last column begins that all lines have in common and that is within `width`."""
    if len(lines) < 2 or not all(line.isascii() for line in lines):
        return 0
    longest = max(len(line) for line in lines)
    for at in range(min(width, longest), _NARROWEST, -1):
        if all(not line[at - 2 : at].strip() for line in lines) and any(
            line[at : at + 1].strip() for line in lines
        ):
            return at
    return 0


def _hung(line: str, width: int) -> list[str]:
    if cell_width(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip())
    hang = " " * min(indent + _HANG, max(width // 2, 1))
    words = [Span(line.strip())]
    first, *_ = wrap(words, max(width - indent, _NARROWEST))
    head = "".join(span.text for span in first)
    rest = line.strip()[len(head) :].lstrip()
    if not rest or not line.strip().startswith(head):
        return [line]
    more = wrap([Span(rest)], max(width - len(hang), _NARROWEST))
    return [" " * indent + head, *(hang + "".join(span.text for span in one) for one in more)]


# -- our own tables --------------------------------------------------------------------------------
def table(rows: Sequence[Sequence[Span]], width: int | None) -> Iterator[Line]:
    """Rows as columns, the first of them the headings.

    Where the columns have no room beside each other, every row becomes a block: what it is called,
    and a line for each other cell with its heading.
    """
    heads, *body = rows
    widths = [max(cell_width(row[at].text) for row in rows) for at in range(len(heads))]
    if width is None or sum(widths) + 2 * (len(widths) - 1) <= width:
        for row in rows:
            yield tuple(_columns(row, widths))
        return
    label = max(cell_width(one.text) for one in heads[2:])
    for mark, name, *others in body:
        yield (Span(pad(mark.text, widths[0]) + "  ", mark.style), Span(name.text, "bold"))
        for head, cell in zip(heads[2:], others, strict=True):
            lead = " " * (widths[0] + 2) + pad(head.text, label) + "  "
            yield (Span(lead), cell)


def _columns(row: Sequence[Span], widths: Sequence[int]) -> Iterator[Span]:
    last = max((at for at, one in enumerate(row) if one.text), default=-1)
    for at, (one, width) in enumerate(zip(row[: last + 1], widths, strict=False)):
        yield one
        if at < last:
            yield Span(" " * (width - cell_width(one.text) + 2))
