"""What a probe saw for a claim, as data and as text."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.access.packets import sighting
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

    @property
    def seen_text(self) -> str:
        """The evidence as lines."""
        return "\n".join(self.evidence)

    @property
    def evidence(self) -> list[str]:
        """The evidence for a person, a text for each row, with the claim's columns only.

        Rows that read the same are one text with their number. `seen` has all columns.
        """
        if self.error:
            return [self.error]
        if self.probe == "wire.packets" and self.seen:
            # The text leaves out the frame's number and time, so equal frames are counted.
            counts = Counter(sighting(row) for row in self.seen)
            return [_counted(text, n) for text, n in counts.items()]
        if not self.seen and self.instead and self.columns:
            rows = " | ".join(_row_texts(self._claim_columns(self.instead)))
            return [tr("nothing of the kind; there is: {rows}", rows=rows)]
        return _row_texts(self._claim_columns(self.seen) if self.columns else self.seen)

    def _claim_columns(self, rows: Rows) -> Rows:
        return [{name: row.get(name) for name in self.columns} for row in rows]


def describe(rows: Rows, limit: int = 3) -> str:
    """Rows in one line, for a person; equal rows once, with their number; at most `limit`."""
    return " | ".join(_row_texts(rows, limit))


def _row_texts(rows: Rows, limit: int = 3) -> list[str]:
    if not rows:
        return [tr("nothing")]
    counts = Counter(_row_text(row) for row in rows)
    shown = [_counted(text, n) for text, n in list(counts.items())[:limit]]
    more = [tr("… {count} rows in all", count=len(rows))] if len(counts) > limit else []
    return shown + more


def _counted(text: str, n: int) -> str:
    return tr("{n} × {text}", n=n, text=text) if n > 1 else text


def _row_text(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={_short(value)}" for key, value in row.items() if value not in (None, "")
    )


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
