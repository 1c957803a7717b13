"""Probes of what the checkpoint's own commands did: how long they took, what their pings met, how
fast their transfers were."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from labctl.access.ovsdb import Rows
from labctl.probes.context import Probe, ProbeContext

_BLOCKS = re.compile(r"^PING (\S+)", re.MULTILINE)
_ANSWERS = re.compile(
    r"^(?:\[(?P<at>\d+\.\d+)\] )?\d+ bytes from .*?(?:icmp_seq|seq)=(?P<number>\d+)(?P<more>.*)$",
    re.MULTILINE,
)
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+)(?: packets)? received")
_INTERVAL = re.compile(r"(?:^|\s)-[a-zA-Z]*i\s*([0-9.]+)|--interval[= ]([0-9.]+)")


def commands(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """node, command, background, seconds, exit_code, output: a row for each command that ran.

    `seconds` are labctl's, from the start to the end; of a command in the background until it was
    ended. `node` is the name of a node or an instance.
    """
    return [dict(row) for row in context.commands]


def pings(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """node, to, background, sent, received, lost, longest_gap: a row for each ping that ran.

    Read from the output of ping, of iputils or busybox. `longest_gap` is the longest time in
    seconds between two answers, or from the first request to the first answer, or from the last
    answer to the last request; null if none was answered. With `ping -D` it is measured by the
    times that ping prints; else it is the numbers that are missing, times the interval of `-i`.
    """
    return [
        {"node": row["node"], "background": row["background"], **found}
        for row in context.commands
        for found in parse_pings(str(row["command"]), str(row["output"]))
    ]


def parse_pings(command: str, output: str) -> Iterator[dict[str, Any]]:
    """What each ping in the output met; `command` tells the interval."""
    starts = [match.start() for match in _BLOCKS.finditer(output)]
    intervals = [float(a or b) for a, b in _INTERVAL.findall(command) if _is_number(a or b)]
    for number, start in enumerate(starts):
        block = output[start : [*starts, len(output)][number + 1]]
        to = _BLOCKS.match(block)
        assert to is not None
        # Of several pings in one script each has its `-i`, or none has.
        interval = intervals[number] if len(intervals) == len(starts) else 1.0
        yield {"to": to[1], **_measure(block, interval)}


def _measure(block: str, interval: float) -> dict[str, Any]:
    answers = [
        (int(match["number"]), float(match["at"]) if match["at"] else None)
        for match in _ANSWERS.finditer(block)
        if "DUP!" not in match["more"]
    ]
    first = 0 if re.search(r"^(?:\[[0-9.]+\] )?\d+ bytes from .*? seq=", block, re.MULTILINE) else 1
    summary = _SUMMARY.search(block)
    received = int(summary[2]) if summary else len(answers)
    last = answers[-1][0] if answers else first - 1
    sent = int(summary[1]) if summary else last - first + 1
    gap: float | None = None
    if answers:
        gaps = [
            (answers[0][0] - first) * interval,
            (first + sent - 1 - last) * interval,
            *(
                b[1] - a[1] if a[1] is not None and b[1] is not None else (b[0] - a[0]) * interval
                for a, b in pairwise(answers)
            ),
        ]
        gap = round(max(gaps), 3)
    return {"sent": sent, "received": received, "lost": sent - received, "longest_gap": gap}


_COPIED = re.compile(r"^(\d+) bytes\b.*? copied, ([0-9.]+(?:e-?\d+)?) s", re.MULTILINE)
_SHORTEST = 1e-6
"""Seconds; what takes less is as good as at once, and has no rate."""


def transfers(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """node, command, background, bytes, seconds, rate, share: a row for each transfer that dd told.

    Read from the line `N bytes … copied, S s` that dd of coreutils or busybox prints. `rate` is in
    bytes a second; `share` is the rate as a part of the fastest one of these rows, 1 of that
    itself, so that a claim need not know how fast the machine is.
    """
    rows = [
        {
            "node": row["node"],
            "command": row["command"],
            "background": row["background"],
            "bytes": copied,
            "seconds": seconds,
            "rate": round(copied / seconds),
        }
        for row in context.commands
        for copied, seconds in parse_transfers(str(row["output"]))
    ]
    fastest = max((row["rate"] for row in rows), default=0)
    return [{**row, "share": round(row["rate"] / fastest, 4) if fastest else None} for row in rows]


def parse_transfers(output: str) -> list[tuple[int, float]]:
    """(bytes, seconds) of each transfer in the output of dd."""
    found = ((int(number), float(seconds)) for number, seconds in _COPIED.findall(output))
    return [(number, seconds) for number, seconds in found if seconds > _SHORTEST]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", text) is not None


PROBES: dict[str, Probe] = {
    "run.commands": commands,
    "run.pings": pings,
    "run.transfers": transfers,
}
