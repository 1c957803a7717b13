"""What a probe saw for a claim, as data and as text."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.access.packets import SIGHTED, sighting
from labctl.i18n import tr


@dataclass
class ClaimResult:
    """One claim with its evidence; `--json` prints these names."""

    id: str
    text: str
    holds: bool
    probe: str
    expected: str
    seen: Rows
    seconds: float
    columns: tuple[str, ...] = ()
    """The columns of `seen` that the claim has conditions on."""
    instead: Rows = field(default_factory=list)
    """When no row matched the claim's `where`: the rows that the probe gave."""
    error: str = ""
    """Why the probe could not be asked; "" when it could."""
    waited: float = 0.0
    """The part of `seconds` before the last time the probe was asked: how long the lab took to make
    the claim true. The rest is how long labctl took to ask."""
    expected_count: int | None = None
    """How many rows `seen` must have; null: at least one."""
    wrong: list[list[str]] = field(default_factory=list)
    """For each row of `seen`, or of `instead` if there is none, the columns that do not fit."""
    delta: dict[str, list[float]] = field(default_factory=dict)
    """By column: its sum over `seen` before the commands ran, and after."""
    wrong_delta: list[str] = field(default_factory=list)
    """Columns of `delta` that have not grown as the claim wants."""

    @property
    def seen_text(self) -> str:
        """The evidence as lines."""
        return "\n".join(self.evidence)

    @property
    def evidence(self) -> list[str]:
        """The evidence for a person, a text for each row, with the claim's columns only.

        What does not fit is marked: a number of rows that is not the expected one, and in each row
        the columns that are not as the claim wants them. Rows that read the same are one text with
        their number. `seen` has all columns.
        """
        if self.error:
            return [self.error]
        if not self.seen:
            return [self._nothing()]
        number = [] if self.expected_count in (None, len(self.seen)) else [self._number()]
        number += [self._growth(column) for column in self.delta]
        return number + self._texts(self.seen, _MOST_FRAMES if self._has_frames else _MOST_ROWS)

    @property
    def _has_frames(self) -> bool:
        return self.probe == "wire.packets"

    def _nothing(self) -> str:
        """For no row at all; with the rows that come nearest, if the claim says which it wants."""
        wanted = self.expected_count if not self.holds else None
        if self.instead and self.columns:
            rows = " | ".join(self._texts(self.instead, _MOST_ROWS))
            if wanted is None:
                return tr("nothing of the kind; there is: {rows}", rows=rows)
            return tr("✗ nothing of the kind, {n} expected; there is: {rows}", n=wanted, rows=rows)
        if wanted is None:
            return tr("nothing")
        return tr("✗ nothing, {n} expected", n=wanted)

    def _number(self) -> str:
        n, expected = len(self.seen), self.expected_count
        return tr("✗ {n} of the kind, {expected} expected:", n=n, expected=expected)

    def _growth(self, column: str) -> str:
        first, last = self.delta[column]
        mark = "✗ " if column in self.wrong_delta else ""
        return f"{mark}{column} {last - first:+g} ({first:g} → {last:g})"

    def _texts(self, rows: Rows, limit: int) -> list[str]:
        """The texts of rows, those with a mark first."""
        wrong = self.wrong if len(self.wrong) == len(rows) else [[] for _ in rows]
        marked = sorted(zip(rows, wrong, strict=True), key=lambda pair: not pair[1])
        if not self.seen:  # the rows that there are instead: the nearest first
            marked.sort(key=lambda pair: len(pair[1]))
        return _limited((self._text(*pair) for pair in marked), len(rows), limit)

    def _text(self, row: Mapping[str, Any], wrong: Sequence[str]) -> str:
        if self._has_frames:
            # The text leaves out the frame's number and time, so equal frames are counted.
            more = [name for name in self.columns if name not in SIGHTED and name not in wrong]
            parts = [_cell(name, row.get(name)) for name in more]
            parts += ["✗ " + _cell(name, row.get(name)) for name in wrong]
            return "; ".join([sighting(row), *([", ".join(parts)] if parts else [])])
        columns = self.columns or tuple(name for name in row if row[name] not in (None, ""))
        marks = dict.fromkeys(wrong, "✗ ")
        return ", ".join(marks.get(name, "") + _cell(name, row.get(name)) for name in columns)


_MOST_ROWS = 3
_MOST_FRAMES = 8


def describe(rows: Rows, limit: int = _MOST_ROWS) -> str:
    """Rows in one line, for a person; equal rows once, with their number; at most `limit`."""
    if not rows:
        return tr("nothing")
    return " | ".join(_limited(map(_row_text, rows), len(rows), limit))


def _limited(texts: Iterable[str], count: int, limit: int) -> list[str]:
    counts = Counter(texts)
    shown = [_counted(text, n) for text, n in list(counts.items())[:limit]]
    more = [tr("… {count} rows in all", count=count)] if len(counts) > limit else []
    return shown + more


def _counted(text: str, n: int) -> str:
    return tr("{n} × {text}", n=n, text=text) if n > 1 else text


def _row_text(row: Mapping[str, Any]) -> str:
    return ", ".join(_cell(key, value) for key, value in row.items() if value not in (None, ""))


def _cell(column: str, value: Any) -> str:
    """A column with its value as a lesson would write it."""
    if isinstance(value, list | tuple):
        return f"{column}=[{', '.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return f"{column}={json.dumps(value)}"
    return f"{column}={value}" if value != "" else f'{column}=""'
