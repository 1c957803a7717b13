"""How long each step took, kept between runs; the source of estimates."""

from __future__ import annotations

import json
from pathlib import Path

from labctl.state import write_atomic


class Timings:
    """How long each step took the last time, in a JSON file; the source of estimates.

    Keys are `prefix` + step id, so that providers or lessons share a file. A missing or
    damaged file means "no estimates": they are a comfort, never a reason to stop.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        self._known = self._read()
        self._fresh: dict[str, float] = {}

    def estimate(self, step_id: str) -> float | None:
        """Seconds the step took the last time it really ran; None if it never did."""
        key = self._prefix + step_id
        return self._fresh.get(key, self._known.get(key))

    def record(self, step_id: str, seconds: float) -> None:
        """Keeps a duration for `save`."""
        self._fresh[self._prefix + step_id] = round(seconds, 2)

    def save(self) -> None:
        """Writes what was recorded, whole or not at all. Raises LabError."""
        if not self._fresh:
            return
        # Read again: another prefix may have been saved since.
        merged = {**self._read(), **self._fresh}
        write_atomic(self._path, json.dumps(merged, indent=1, sort_keys=True) + "\n")

    def _read(self) -> dict[str, float]:
        try:
            loaded = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(loaded, dict):
            return {}
        return {
            key: float(value)
            for key, value in loaded.items()
            # bool is an int; NaN and infinity, which Python's JSON reads, fail the comparison.
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6
        }
