"""`make ovn-tutorial`: OVN's OpenStack tutorial in a lab that is made for it and destroyed.

Root. Exit status 0: every command showed what steps.yaml says, 1: one did not, 2: there is no lab.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

from labctl.state import cache_directory
from tests.tutorial.follow import STEPS, Followed, LabShells, follow, load_steps, table

NODES = ("network-controller", "compute-01", "compute-02")
_CREATE_SECONDS = 3600
_SETS = re.compile(r"\w+(=|\(\) )")
"""A command that sets a variable or makes a function of the shell."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tutorial", description=__doc__)
    parser.add_argument("--lab", type=Path, help="a directory with such a lab, which is left as is")
    parser.add_argument("--work", type=Path, help="where the lab and the results go")
    parser.add_argument(
        "--first",
        type=int,
        default=1,
        metavar="NUMBER",
        help="begin here; of the steps before, only what sets a variable is run",
    )
    options = parser.parse_args()
    work = (options.work or cache_directory(roots=True) / "test" / "tutorial").absolute()
    work.mkdir(parents=True, exist_ok=True)
    if options.lab:
        return _follow_all(options.lab.absolute(), work, options.first)
    lab = work / "lab"
    lab.mkdir(exist_ok=True)
    spec = STEPS.with_name("lab.yaml").read_text(encoding="utf-8")
    (lab / "lab.yaml").write_text(spec, encoding="utf-8")
    try:
        if _labctl(lab, "create") != 0:
            return 2
        return _follow_all(lab, work, options.first)
    finally:
        _labctl(lab, "destroy")


def _labctl(lab: Path, verb: str) -> int:
    words = [sys.executable, "-m", "labctl", "--lang", "en", verb]
    return subprocess.run(words, cwd=lab, timeout=_CREATE_SECONDS, check=False).returncode


def _follow_all(lab: Path, work: Path, first: int) -> int:
    steps = load_steps(STEPS.read_text(encoding="utf-8"))
    results: list[Followed] = []
    shells = LabShells(lab, NODES)
    try:
        with (work / "results.jsonl").open("w", encoding="utf-8") as log:
            for number, step in enumerate(steps, 1):
                if number < first and not _SETS.match(step.run):
                    continue
                result = follow(step, shells)
                results.append(result)
                log.write(json.dumps({"number": number, **dataclasses.asdict(result)}) + "\n")
                log.flush()
                _say(number, result)
    finally:
        shells.close()
    sys.stdout.write(f"\n{table(results)}\n\nresults, with all output: {work / 'results.jsonl'}\n")
    return 1 if any(result.wrong for result in results) else 0


def _say(number: int, result: Followed) -> None:
    kind = "WRONG" if result.wrong else "ours" if result.step.ours else "differs" \
        if result.step.differs else "as written"  # fmt: skip
    line = " ".join(result.step.run.split())[:100]
    sys.stdout.write(f"{number:3} {kind:10} {result.seconds:6.1f} s  {result.step.at}: {line}\n")
    for sentence in result.wrong:
        sys.stdout.write(f"      {sentence}\n")
    if result.wrong:
        sys.stdout.write("".join(f"      | {text}\n" for text in result.output.splitlines()[-12:]))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
