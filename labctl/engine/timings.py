"""How long each step took, stored in a file: estimates for the next run."""

from __future__ import annotations

import json
from pathlib import Path

from labctl.state import write_atomic


class Timings:
    """Seconds that each step took the last time, in a JSON file.

    Keys are `prefix` + step id, so that providers and lessons can share a file. A missing or
    damaged file means "no estimates", and is no error.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        self._known = self._read()
        self._fresh: dict[str, float] = {}

    def estimate(self, step_id: str) -> float | None:
        """Seconds the step took the last time it ran; None if it never did."""
        key = self._prefix + step_id
        return self._fresh.get(key, self._known.get(key))

    def record(self, step_id: str, seconds: float) -> None:
        """Remembers a duration until `save` writes it."""
        self._fresh[self._prefix + step_id] = round(seconds, 2)

    def save(self) -> None:
        """Writes what was recorded; a failure leaves the old file. Raises LabError."""
        if not self._fresh:
            return
        # Read the file again: another run may have saved its timings under another prefix.
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
            # bool is a subclass of int; the comparison excludes NaN and infinity, which Python's
            # JSON reads.
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6
        }
