"""What the tests gave, compared with what is known of them (known.yaml)."""

from collections.abc import Mapping, Sequence

import yaml

from tests.multinode.suite import SCRIPTS, Result

KERNEL = "kernel"
USER_SPACE = "user space"


def known_failures(datapath: str) -> dict[int, str]:
    """{number of a test: why it does not pass}, with OVS's datapath in the kernel or user space."""
    known = yaml.safe_load((SCRIPTS / "known.yaml").read_text(encoding="utf-8"))
    return dict(known[datapath] or {})


def surprises(results: Sequence[Result], known: Mapping[int, str]) -> list[str]:
    """A sentence for each test that ended otherwise than is known."""
    return [
        f"{result.number} ({result.name}) {result.outcome}"
        + (f" at {result.where}" if result.where else "")
        + (f", although it is known for: {known[result.number]}" if result.number in known else "")
        for result in results
        if (result.outcome == "passed") == (result.number in known)
    ]


def table(results: Sequence[Result], known: Mapping[int, str]) -> str:
    """The results as a table of Markdown, with the reasons that are known."""
    rows = [
        f"| {result.number} | {result.name} | {result.outcome} "
        f"| {known.get(result.number, result.where if result.outcome != 'passed' else '')} |"
        for result in results
    ]
    return "\n".join(["| test | | | why |", "|---|---|---|---|", *rows])
