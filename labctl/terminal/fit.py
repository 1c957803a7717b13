"""Make commands, their output and tables fit the width of a terminal. Pure functions.

A terminal breaks long lines in the middle of a word, and makes wide tables unreadable. Here a long
command is continued with backslashes, so that a copy of it still runs; tables of the OpenStack
client get narrower columns; columns that programs align with spaces stay aligned.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from labctl.terminal.text import Line, Span, cell_width, pad, wrap

_BORDER = re.compile(r"\+(?:-+\+)+")
_NARROWEST = 6
"""Cells a column has at least: words in a narrower one could not be read."""
_HANG = 4
"""Cells by which a continued line is indented."""


# -- commands --------------------------------------------------------------------------------------
def fit_command(command: str, width: int, prompt_width: int, indent: int = 2) -> list[str]:
    """The lines of a shell command, broken between words with a backslash.

    The prompt takes `prompt_width` cells of the first line; a continuation begins after `indent`
    cells. Comments, here-documents and quoted text are not broken: a backslash has another
    meaning there.
    """
    if "<<" in command:
        return command.split("\n")
    lines = [""]
    used, quote, comment, position = prompt_width, "", False, 0
    while position < len(command):
        word, position, quote, comment = _word(command, position, quote, comment)
        if word == "\n":
            lines.append("")
            used = 0
            continue
        # A break takes two cells: a space and the backslash.
        last = position >= len(command) or command[position] == "\n"
        room = width if last else width - 2
        blank = word.startswith(" ") and not comment
        if blank and used > indent and used + cell_width(word) > room:
            lines[-1] += " \\"
            word = " " * indent + word.lstrip(" ")
            lines.append("")
            used = 0
        lines[-1] += word
        used += cell_width(word)
    return lines


def _word(command: str, position: int, quote: str, comment: bool) -> tuple[str, int, str, bool]:
    """The next word of a shell command, at `position`.

    Returns the word with the spaces before it, or a newline; the position of its end; the quote
    that is open there, or ""; and whether a comment has begun.
    """
    if command[position] == "\n":
        return "\n", position + 1, quote, False
    start = position
    while position < len(command) and command[position] == " " and not quote:
        position += 1
    if command[position : position + 1] == "#" and not quote:
        comment = True
    while position < len(command):
        letter = command[position]
        if letter == "\n" or (letter == " " and not quote):
            break
        if (
            letter == "\\"
            and quote != "'"
            and not comment
            and command[position + 1 : position + 2] != "\n"
        ):
            position += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"`" and not comment:
            quote = letter
        position += 1
    return command[start:position], min(position, len(command)), quote, comment


# -- output ----------------------------------------------------------------------------------------
def fit_output(text: str, width: int) -> list[str]:
    """The lines of a command's output; only a single word may be longer than `width`."""
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
    """A table drawn with +, - and |: its widest columns become narrower, their cells wrap."""
    border = next((line.rstrip() for line in table if _BORDER.fullmatch(line.rstrip())), "")
    naturals = [len(dashes) - 2 for dashes in border.strip("+").split("+")]
    room = width - 3 * len(naturals) - 1
    if not border or room < sum(min(width, _NARROWEST) for width in naturals):
        return _folded(table, width)
    widths = shares(naturals, room)
    lines: list[str] = []
    for line in table:
        if line.startswith("+"):
            lines.append("+" + "+".join("-" * (width + 2) for width in widths) + "+")
            continue
        cells = [
            _cell(cell, width) for cell, width in zip(_cells(line, naturals), widths, strict=True)
        ]
        for number in range(max(len(cell) for cell in cells)):
            row = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = (pad(cell, width) for cell, width in zip(row, widths, strict=True))
            lines.append("| " + " | ".join(padded) + " |")
    return lines


def shares(naturals: Sequence[int], room: int) -> list[int]:
    """Widths of columns that together take at most `room` cells.

    `naturals` are the widths they would like to have; the widest are reduced first.
    """
    widths = list(naturals)
    while (excess := sum(widths) - room) > 0:
        widest = max(widths)
        columns = [column for column, width in enumerate(widths) if width == widest]
        next_width = max((width for width in widths if width < widest), default=0)
        # -(-a // b) is a / b, rounded up.
        step = max(1, min(widest - next_width, -(-excess // len(columns))))
        for column in columns[: -(-excess // step)]:
            widths[column] -= step
    return widths


def _cells(row: str, widths: Sequence[int]) -> list[str]:
    """The cells of a row, cut by the widths of the columns: a cell may contain a | itself."""
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
    """The lines of a cell: broken at spaces, else after punctuation, else anywhere."""
    lines: list[str] = []
    rest = text
    while cell_width(rest) > width:
        most = _prefix(rest, width)
        end = rest.rfind(" ", 1, most + 1)
        if end < 0:
            marks = [rest.rfind(mark, 0, most) + 1 for mark in "-_:,/=."]
            end = max(marks) if max(marks) > width // 3 else most
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*lines, rest]


def _folded(lines: list[str], width: int) -> list[str]:
    """Lines broken at spaces; if all of them share a column, they are broken before it."""
    gutter = _gutter(lines, width)
    if gutter:
        folded: list[str] = []
        rests = fit_block([line[gutter:] for line in lines], max(width - _HANG, _NARROWEST))
        for line, more in zip(lines, rests, strict=True):
            folded.append(line[:gutter].rstrip())
            folded += [" " * _HANG + part for part in more if part.strip()]
        return folded
    return [part for line in lines for part in _hung(line, width)]


def fit_block(lines: list[str], width: int) -> list[list[str]]:
    """For each line, the lines of at most `width` cells that it becomes."""
    if all(cell_width(line) <= width for line in lines):
        return [[line.rstrip()] for line in lines]
    gutter = _gutter(lines, width)
    if not gutter:
        return [_hung(line, width) for line in lines]
    rest_of_lines = fit_block([line[gutter:] for line in lines], width)
    return [
        [line[:gutter].rstrip(), *rest] for line, rest in zip(lines, rest_of_lines, strict=True)
    ]


def _gutter(lines: Sequence[str], width: int) -> int:
    """Where the last column within `width` begins that all lines share; 0 if there is none."""
    if len(lines) < 2 or not all(line.isascii() for line in lines):
        return 0
    longest = max(len(line) for line in lines)
    for column in range(min(width, longest), _NARROWEST, -1):
        if all(not line[column - 2 : column].strip() for line in lines) and any(
            line[column : column + 1].strip() for line in lines
        ):
            return column
    return 0


def _hung(line: str, width: int) -> list[str]:
    """A line broken at spaces, the further lines indented by `_HANG` cells more."""
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
    return [" " * indent + head, *(hang + "".join(span.text for span in part) for part in more)]


# -- our own tables --------------------------------------------------------------------------------
def table(rows: Sequence[Sequence[Span]], width: int | None) -> Iterator[Line]:
    """Rows printed as a table; the first row holds the headings.

    If the table is wider than `width`, every row becomes a block: its mark and name (the first two
    cells), and a line with heading and value for each other cell.
    """
    heads, *body = rows
    widths = [max(cell_width(row[column].text) for row in rows) for column in range(len(heads))]
    if width is None or sum(widths) + 2 * (len(widths) - 1) <= width:
        for row in rows:
            yield tuple(_columns(row, widths))
        return
    label = max(cell_width(head.text) for head in heads[2:])
    for mark, name, *others in body:
        yield (Span(pad(mark.text, widths[0]) + "  ", mark.style), Span(name.text, "bold"))
        for head, cell in zip(heads[2:], others, strict=True):
            lead = " " * (widths[0] + 2) + pad(head.text, label) + "  "
            yield (Span(lead), cell)


def _columns(row: Sequence[Span], widths: Sequence[int]) -> Iterator[Span]:
    """The cells of a row padded to the widths, without trailing spaces."""
    last = max((column for column, cell in enumerate(row) if cell.text), default=-1)
    for column, (cell, width) in enumerate(zip(row[: last + 1], widths, strict=False)):
        yield cell
        if column < last:
            yield Span(" " * (width - cell_width(cell.text) + 2))
