#!/usr/bin/env python3
"""The figures of docs/performance.md: `sudo .venv/bin/python scripts/measure.py [--cold]`.

Makes the lab of the repository's lab.yaml in a temporary directory, replays the day, halts, starts,
destroys, creates again. --cold uses an empty cache, so the image is built as well. Prints Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def labctl(directory: Path, *words: str) -> float:
    """Seconds of one command."""
    began = time.monotonic()
    command = [sys.executable, "-m", "labctl", *words]
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


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
    cold = parser.parse_args().cold
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="labctl-measure-") as scratch:
        directory = Path(scratch) / "lab"
        directory.mkdir()
        (directory / "lab.yaml").write_text((REPOSITORY / "lab.yaml").read_text())
        if cold:
            os.environ["LABCTL_CACHE"] = str(Path(scratch) / "cache")
        rows = [("`labctl --help`, best of five", help_seconds())]
        try:
            rows.append(
                (f"`create`, {'nothing' if cold else 'image'} cached", labctl(directory, "create"))
            )
            longest = stages(directory)
            rows.append(("`replay floating-ip`", labctl(directory, "replay", "floating-ip")))
            rows.append(("`replay floating-ip` again", labctl(directory, "replay", "floating-ip")))
            used = memory(directory)
            rows.append(("`halt`", labctl(directory, "halt")))
            rows.append(("`up`", labctl(directory, "up")))
            gone = labctl(directory, "destroy")
            rows.append(("`destroy`", gone))
            again = labctl(directory, "create")
            rows.append(("`destroy` and `create` again", gone + again))
        finally:
            labctl(directory, "destroy")
    print("| what | seconds |\n|---|---|")
    for what, seconds in rows:
        print(f"| {what} | {seconds:.1f} |")
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
