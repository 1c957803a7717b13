"""What came of each test, whose fault it is, and the tables of docs/tests-of-others.md. Pure."""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import dropwhile
from typing import Any, Literal
from xml.etree import ElementTree

Outcome = Literal["passed", "failed", "skipped"]
NOBODY = "not looked into"
"""Whose fault it is where verdicts.toml does not say."""
REASON_LENGTH = 300
"""Characters."""
_OUTCOMES: dict[str, Outcome] = {"failure": "failed", "error": "failed", "skipped": "skipped"}
"""By JUnit's element."""
_UNFINISHED = "testtools.testresult.real._StringException"
_WHOLE_CLASS = re.compile(r"^(?:setUpClass|tearDownClass) \((?P<name>[\w.]+)\)")


@dataclass(frozen=True)
class Result:
    """One test."""

    test: str
    """Its full name, without its attributes."""
    outcome: Outcome
    seconds: float
    reason: str = ""
    """Why it was skipped, or the last line of its failure."""


def plain_name(test: str) -> str:
    """A test's name without [id-…,smoke]."""
    return test.partition("[")[0]


def read_junit(text: str, listed: Sequence[str] = ()) -> list[Result]:
    """The results in what subunit2junitxml writes, in its order. Raises ParseError.

    A class that is skipped or fails as a whole is one entry there; it counts as its tests, which
    are those of `listed`. A test that had not ended when Tempest was stopped is a failure without a
    message there, and no result here.
    """
    results: list[Result] = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = ".".join(filter(None, (case.get("classname"), case.get("name") or "")))
        result = _result(plain_name(name), case)
        if result.outcome == "failed" and result.reason in ("", _UNFINISHED):
            continue
        if match := _WHOLE_CLASS.match(name):
            # A class whose clean-up fails after its tests have passed is a failure of its own.
            tests = [
                test for test in map(plain_name, listed) if test.startswith(match["name"] + ".")
            ]
            done = {other.test for other in results}
            left = [test for test in tests if test not in done]
            results += [replace(result, test=test) for test in left] or [result]
        else:
            results.append(result)
    return results


def _result(name: str, case: ElementTree.Element) -> Result:
    seconds = float(case.get("time") or 0)
    for tag, outcome in _OUTCOMES.items():
        if (element := case.find(tag)) is not None:
            return Result(name, outcome, seconds, _reason(element.text or ""))
    return Result(name, "passed", seconds)


def _reason(text: str) -> str:
    """What a skip says, or the message of the last exception: of tracebacks the end says most."""
    _, traceback, end = text.rpartition("Traceback (most recent call last):\n")
    lines = end.splitlines()
    if traceback:
        lines = list(dropwhile(lambda line: line.startswith(" ") or not line, lines))
    return " ".join(" ".join(lines).split())[:REASON_LENGTH]


@dataclass(frozen=True)
class Verdict:
    """Whose fault it is that tests did not pass."""

    whose: str
    why: str
    reason: str = ""
    """Regular expression over Result.reason."""
    test: str = ""
    """Regular expression over Result.test."""

    def fits(self, result: Result) -> bool:
        """Whether this is about that test."""
        return bool(re.search(self.reason, result.reason) and re.search(self.test, result.test))


def read_verdicts(text: str) -> list[Verdict]:
    """The verdicts of verdicts.toml. Raises TOMLDecodeError, TypeError."""
    return [Verdict(**verdict) for verdict in tomllib.loads(text)["verdict"]]


def verdict_of(result: Result, verdicts: Sequence[Verdict]) -> Verdict:
    """The first one that fits."""
    for verdict in verdicts:
        if verdict.fits(result):
            return verdict
    return Verdict(NOBODY, result.reason)


def figures(
    results: Sequence[Result], verdicts: Sequence[Verdict], *, selected: int, minutes: float
) -> dict[str, Any]:
    """What is kept of a run: JSON for figures.json."""
    counts = Counter(result.outcome for result in results)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        if result.outcome != "passed":
            verdict = verdict_of(result, verdicts)
            key = (result.outcome, verdict.whose, verdict.why)
            groups.setdefault(key, []).append(result.test)
    return {
        "selected": selected,
        "passed": counts["passed"],
        "failed": counts["failed"],
        "skipped": counts["skipped"],
        "minutes": round(minutes, 1),
        "not_passed": [
            {"outcome": outcome, "whose": whose, "why": why, "tests": sorted(tests)}
            for (outcome, whose, why), tests in sorted(groups.items())
        ],
    }


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For a file with the result of each test."""
    return [asdict(result) for result in results]


def tables(kept: Mapping[str, Mapping[str, Any]], what: Mapping[str, str]) -> str:
    """Markdown: a row for each selection, then one for each reason that tests did not pass."""
    lines = [
        "| selection | tests | passed | failed | skipped | did not run | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in kept.items():
        left = run["selected"] - run["passed"] - run["failed"] - run["skipped"]
        cells = [f"`{name}`: {what[name]}", *(run[key] for key in ("selected", "passed", "failed"))]
        cells += [run["skipped"], left, run["minutes"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for outcome in ("failed", "skipped"):
        rows = _reasons(kept, outcome)
        if rows:
            lines += [
                "",
                f"### What {outcome}" if outcome == "failed" else "### What was skipped",
                "",
            ]
            lines += ["| whose fault | why | tests | such as |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _reasons(kept: Mapping[str, Mapping[str, Any]], outcome: str) -> list[str]:
    groups: dict[tuple[str, str], set[str]] = {}
    for run in kept.values():
        for group in run["not_passed"]:
            if group["outcome"] == outcome:
                groups.setdefault((group["whose"], group["why"]), set()).update(group["tests"])
    return [
        f"| {whose} | {_cell(why)} | {len(tests)} | {_example(tests)} |"
        for (whose, why), tests in sorted(groups.items())
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _example(tests: set[str]) -> str:
    """The last two parts of the first name, or all names if there are few."""
    names = sorted({".".join(test.split(".")[-2:]) for test in tests})
    return ", ".join(f"`{name}`" for name in names[: 3 if len(names) <= 3 else 1])
