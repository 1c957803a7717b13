#!/usr/bin/env python3
"""The figures of docs/performance.md: `sudo .venv/bin/python scripts/measure.py [--cold]`.

Makes the lab of the repository's lab.yaml in a temporary directory, replays the day, halts, starts,
destroys, creates again. --cold uses an empty cache, so the image is built as well. --stepping only
replays and checks, --in DIRECTORY does that in a lab that is there. Prints Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


def labctl(directory: Path, *words: str) -> float:
    """Seconds of one command."""
    return told(directory, *words)[0]


def told(directory: Path, *words: str) -> tuple[float, str]:
    """Seconds of one command, and what it wrote to stdout."""
    began = time.monotonic()
    command = [sys.executable, "-m", "labctl", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=directory, check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode != 0:
        sys.exit(f"labctl {' '.join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return time.monotonic() - began, done.stdout


@dataclass(frozen=True)
class Account:
    """Where a replay or a check spent its time, in seconds."""

    total: float
    """Of the process, from its start to its end."""
    commands: float
    """The lesson's commands."""
    traffic: float
    """Pings and logins that claims are proved by."""
    waited: float
    """For claims that were not true yet: the lab's time."""

    @property
    def own(self) -> float:
        """The rest is labctl's: Python's start, captures, questions to APIs and databases, files.

        What it does while a command runs costs nobody time, and is not in here.
        """
        return self.total - self.commands - self.traffic - self.waited


def account(total: float, report: Mapping[str, Any]) -> Account:
    """The account of what `--json` reported."""
    claims = [one for checkpoint in report["checkpoints"] for one in checkpoint["claims"]]
    waits = sum(one["waited"] for one in claims)
    traffic = sum(
        one["seconds"] - one["waited"]
        for one in claims
        if one["probe"] in ("wire.ping", "wire.ssh")
    )
    commands = [one for checkpoint in report["checkpoints"] for one in checkpoint["commands"]]
    return Account(total, sum(one["seconds"] for one in commands), traffic, waits)


def stepping(directory: Path) -> list[str]:
    """Lines of Markdown: where a replay and a check of all that it proved spend their time."""
    labctl(directory, "reset", "--to", "base")  # what a replay takes back first is not its own
    replay, check = (
        account(seconds, json.loads(said))
        for seconds, said in (
            told(directory, "replay", "floating-ip", "--json"),
            told(directory, "check", "--all", "--json"),
        )
    )
    parts = {
        "the lesson's commands": (replay.commands, check.commands),
        "pings and logins of claims": (replay.traffic, check.traffic),
        "waiting for claims to come true": (replay.waited, check.waited),
        "labctl itself": (replay.own, check.own),
        "all": (replay.total, check.total),
    }
    without = check.total - check.commands - check.traffic
    load = " ".join(f"{one:.1f}" for one in os.getloadavg()[:2])
    return [
        "| seconds of | `replay floating-ip` | `check --all` |",
        "|---|---|---|",
        *(f"| {what} | {first:.1f} | {second:.1f} |" for what, (first, second) in parts.items()),
        "",
        f"labctl itself: {replay.own / replay.commands:.0%} of the commands' time.",
        f"`check --all` without the pings' own seconds: {without:.1f} s.",
        f"Load afterwards (1 min, 5 min): {load}.",
    ]


def stages(directory: Path) -> list[tuple[str, float]]:
    """(stage, seconds) of the last run, the longest first."""
    events = [
        json.loads(line)
        for line in (directory / ".labctl" / "events.jsonl").read_text().splitlines()
    ]
    start = max(i for i, event in enumerate(events) if event["event"] == "run_started")
    return sorted(
        (
            (event["id"], event["seconds"])
            for event in events[start:]
            if event["event"] == "step_finished" and event["outcome"] == "done"
        ),
        key=lambda pair: -pair[1],
    )


def memory(directory: Path) -> dict[str, float]:
    """{namespace: GB}: proportional set size of every process of the lab."""
    lab_id = json.loads((directory / ".labctl" / "lab.json").read_text())["lab_id"]
    found: dict[str, float] = {}
    for space in sorted(Path("/run/netns").glob(f"labctl-{lab_id}-*")):
        pids = subprocess.run(
            ["ip", "netns", "pids", space.name], capture_output=True, text=True, check=True
        ).stdout.split()
        total = 0
        for pid in pids:
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
        found[space.name.removeprefix(f"labctl-{lab_id}-")] = total / 1e6
    return found


def help_seconds() -> float:
    """The best of five runs of `labctl --help`."""
    return min(labctl(REPOSITORY, "--help") for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cold", action="store_true", help="start with an empty cache")
    parser.add_argument("--stepping", action="store_true", help="only replay and check")
    parser.add_argument("--in", dest="there", metavar="DIRECTORY", help="of a lab that is up")
    asked = parser.parse_args()
    if asked.there:
        print("\n".join(stepping(Path(asked.there))))
        return
    cold = asked.cold
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="labctl-measure-") as scratch:
        directory = Path(scratch) / "lab"
        directory.mkdir()
        (directory / "lab.yaml").write_text((REPOSITORY / "lab.yaml").read_text())
        if cold:
            os.environ["LABCTL_CACHE"] = str(Path(scratch) / "cache")
        rows = [("`labctl --help`, best of five", help_seconds())]
        try:
            labctl(directory, "destroy", "--purge")  # no template of an earlier lab
            rows.append(
                (f"`create`, {'nothing' if cold else 'image'} cached", labctl(directory, "create"))
            )
            longest = stages(directory)
            steps = stepping(directory)
            if asked.stepping:
                print("\n".join(steps))
                return
            rows.append(("`replay floating-ip` again", labctl(directory, "replay", "floating-ip")))
            used = memory(directory)
            rows.append(("`halt`", labctl(directory, "halt")))
            rows.append(("`up`", labctl(directory, "up")))
            gone = labctl(directory, "destroy")
            rows.append(("`destroy`", gone))
            again = labctl(directory, "create")
            rows.append(("`create` again, of the template", again))
            rows.append(("`destroy` and `create` again", gone + again))
        finally:
            labctl(directory, "destroy")
    print("| what | seconds |\n|---|---|")
    for what, seconds in rows:
        print(f"| {what} | {seconds:.1f} |")
    print("\n" + "\n".join(steps))
    print("\n| longest stages of the first `create` | seconds |\n|---|---|")
    for what, seconds in longest[:12]:
        print(f"| {what} | {seconds:.1f} |")
    print("\n| memory after the replays (PSS) | GB |\n|---|---|")
    for what, gigabytes in used.items():
        if gigabytes > 0.001:
            print(f"| {what} | {gigabytes:.2f} |")
    print(f"| all | {sum(used.values()):.2f} |")


if __name__ == "__main__":
    main()
