"""Which step may start next, and how long the rest will take. Pure."""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from statistics import median
from typing import Protocol


class SchedulableStep(Protocol):
    """The attributes of a step that a plan uses."""

    @property
    def id(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def priority(self) -> int: ...


class Plan:
    """The graph of a run's steps, and the order in which steps that are ready should start.

    `estimates` are seconds by step id; a step that was never timed counts as the median of the
    others. Raises ValueError, which names every duplicate id, unknown need and cycle.
    """

    def __init__(
        self, steps: Sequence[SchedulableStep], estimates: Mapping[str, float | None], workers: int
    ) -> None:
        _validate(steps)
        self._needs = {step.id: step.needs for step in steps}
        self._workers = workers
        known = [seconds for seconds in estimates.values() if seconds is not None]
        self._is_timed = bool(known)
        guess = median(known) if known else 1.0
        self._seconds = {}
        for step in steps:
            seconds = estimates.get(step.id)
            self._seconds[step.id] = guess if seconds is None else seconds
        self._rank = self._ranks(steps)

    def ready(self, finished: AbstractSet[str], started: AbstractSet[str]) -> list[str]:
        """Ids not in `started` whose needs are all in `finished`, in the order to start them."""
        ready = [
            id for id, needs in self._needs.items() if id not in started and finished >= {*needs}
        ]
        return sorted(ready, key=self._rank.__getitem__)

    def remaining(self, finished: AbstractSet[str], running: Mapping[str, float]) -> float | None:
        """Seconds until the end of the run if each step takes its estimate: simulates the run.

        `running` maps ids to the seconds they have run so far. None if no step was ever timed.
        """
        if not self._is_timed:
            return None
        finished, started, now = set(finished), {*finished, *running}, 0.0
        ends = [(max(0.0, self._seconds[id] - spent), id) for id, spent in running.items()]
        heapq.heapify(ends)
        while True:
            for id in self.ready(finished, started)[: self._workers - len(ends)]:
                started.add(id)
                heapq.heappush(ends, (now + self._seconds[id], id))
            if not ends:
                return now
            now, ended_id = heapq.heappop(ends)
            finished.add(ended_id)

    def _ranks(self, steps: Sequence[SchedulableStep]) -> dict[str, tuple[int, float, int]]:
        """The sort key of each step: priority, then the longest path from its start to the end."""
        path_after = dict.fromkeys(self._needs, 0.0)
        for id in reversed(tuple(graphlib.TopologicalSorter(self._needs).static_order())):
            for need in self._needs[id]:
                path_after[need] = max(path_after[need], path_after[id] + self._seconds[id])
        # With one worker no order is faster than another: steps keep the order of the list.
        weight = 1.0 if self._workers > 1 else 0.0
        return {
            step.id: (
                -step.priority,
                -weight * (self._seconds[step.id] + path_after[step.id]),
                index,
            )
            for index, step in enumerate(steps)
        }


def _validate(steps: Sequence[SchedulableStep]) -> None:
    ids = [step.id for step in steps]
    problems = [f"duplicate step {id!r}" for id in dict.fromkeys(ids) if ids.count(id) > 1]
    problems += [
        f"step {step.id!r} needs unknown step {need!r}"
        for step in steps
        for need in step.needs
        if need not in ids
    ]
    try:
        graphlib.TopologicalSorter({step.id: step.needs for step in steps}).prepare()
    except graphlib.CycleError as error:
        # CycleError lists each step before the one that needs it. Reversed, `a -> b` means that a
        # needs b.
        problems.append("steps need each other: " + " -> ".join(reversed(error.args[1])))
    if problems:
        raise ValueError("; ".join(problems))
