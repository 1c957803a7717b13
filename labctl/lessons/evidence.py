"""What was seen for a claim, as data and in words."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.access.packets import sighting
from labctl.i18n import tr


@dataclass
class ClaimResult:
    """One claim with its evidence."""

    id: str
    text: str
    holds: bool
    probe: str
    expected: str
    seen: Rows
    seconds: float
    columns: tuple[str, ...] = ()
    """Of `seen`: those the claim speaks of."""
    instead: Rows = field(default_factory=list)
    """When `seen` is empty although something was asked for: what the probe saw besides."""
    error: str = ""
    """Why nobody could look, if so."""
    waited: float = 0.0
    """Of `seconds`: until the look began that decided. The lab's time, and not labctl's."""

    @property
    def seen_text(self) -> str:
        """The evidence, a line for each row: what the claim speaks of (JSON has the rest)."""
        return "\n".join(self.evidence)

    @property
    def evidence(self) -> list[str]:
        """The evidence, a text for each thing that was seen."""
        if self.error:
            return [self.error]
        if self.probe == "wire.packets" and self.seen:
            # Alike but for their numbers and their time.
            alike = Counter(sighting(row) for row in self.seen)
            return [f"{n} × {text}" if n > 1 else text for text, n in alike.items()]
        if not self.seen and self.instead and self.columns:
            there = " | ".join(_described(self._spoken_of(self.instead)))
            return [tr("nothing of the kind; there is: {rows}", rows=there)]
        return _described(self._spoken_of(self.seen) if self.columns else self.seen)

    def _spoken_of(self, rows: Rows) -> Rows:
        return [{name: row.get(name) for name in self.columns} for row in rows]


def describe(rows: Rows, limit: int = 3) -> str:
    """Rows in one line, for a person; alike ones once, with their number."""
    return " | ".join(_described(rows, limit))


def _described(rows: Rows, limit: int = 3) -> list[str]:
    if not rows:
        return [tr("nothing")]
    alike = Counter(_one(row) for row in rows)
    shown = [f"{n} × {text}" if n > 1 else text for text, n in list(alike.items())[:limit]]
    more = [tr("… {count} rows in all", count=len(rows))] if len(alike) > limit else []
    return shown + more


def _one(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={_short(value)}" for key, value in row.items() if value not in (None, "")
    )


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
