#!/usr/bin/env python3
"""The tutorial's filter: UUIDs and long hexadecimal IDs keep their first six digits.

Tables of the `openstack` command are drawn anew, as narrow as what is left in them. Lines pass as
they come, tables as soon as they end.
"""

import re
import sys

UUID = re.compile(r"(?<![0-9a-f])([0-9a-f]{6})[0-9a-f]{2}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONG = re.compile(r"(?<![0-9a-f])([0-9a-f]{6})[0-9a-f]{26,58}(?![0-9a-f])")


def shorten(text: str) -> str:
    return LONG.sub(r"\1", UUID.sub(r"\1", text))


def redraw(table: list[str]) -> list[str]:
    """A table of +---+ and | cells | with its columns fitted again."""
    rows = [None if line.startswith("+") else line.strip("|").split("|") for line in table]
    cells = [[shorten(cell).strip() for cell in row] for row in rows if row is not None]
    if len({len(row) for row in cells}) != 1:
        return [shorten(line) for line in table]  # a cell holds a "|": leave the drawing alone
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    drawn = iter(cells)
    return [
        rule
        if row is None
        else "|" + "|".join(f" {c:<{w}} " for c, w in zip(next(drawn), widths, strict=True)) + "|"
        for row in rows
    ]


def main() -> None:
    table: list[str] = []
    for line in sys.stdin:
        line = line.rstrip("\n")
        if line.startswith(("+-", "|")):
            table.append(line)
            continue
        if table:
            print(*redraw(table), sep="\n")
            table = []
        print(shorten(line), flush=True)
    if table:
        print(*redraw(table), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
