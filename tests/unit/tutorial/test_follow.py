"""How tests/tutorial runs a tutorial's commands and compares what they show."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.spec.load import load_spec
from labctl.topology import build_topology
from tests.tutorial.__main__ import NODES
from tests.tutorial.follow import STEPS, Followed, Shell, Step, judge, load_steps, table

STEP = Step("Part", "node", "true")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    started = Shell(["bash"], tmp_path)
    yield started
    started.close()


def test_the_steps_are_whole() -> None:
    steps = load_steps(STEPS.read_text(encoding="utf-8"))
    assert len([step for step in steps if not step.ours]) > 100
    assert {step.at for step in steps} == {*NODES[:2], "a", "b", "c"}
    for step in steps:
        for pattern in (*step.shows, *step.hides):
            re.compile(pattern)
        assert not (step.ours and step.differs), f"differs from what? {step.run}"
        assert not set(step.keeps) - set(re.findall(r"\b([A-Z_0-9]+)=", step.run)), step.run


def test_its_lab_has_the_tutorials_names() -> None:
    spec = load_spec(STEPS.with_name("lab.yaml"))
    topology = build_topology(spec)
    assert tuple(node.name for node in topology.nodes) == NODES
    assert str(topology.pool.start) == "172.24.4.8"


def test_a_step_may_be_only_its_command() -> None:
    text = "[{part: One, at: n, steps: [date, {run: id, at: m, shows: uid, exit: null}]}]"
    assert load_steps(text) == [
        Step("One", "n", "date"),
        Step("One", "m", "id", shows=("uid",), exit=None),
    ]


@pytest.mark.parametrize(
    ("change", "output", "code", "wrong"),
    [
        ({"shows": ("^b$",)}, "a\nb\n", 0, ()),
        ({"shows": ("^b$",)}, "ab\n", 0, ("does not show ^b$",)),
        ({"hides": ("b",)}, "ab\n", 0, ("shows b",)),
        ({}, "", 1, ("exits 1, not 0",)),
        ({"exit": 1}, "", 0, ("exits 0, not 1",)),
        ({"exit": None}, "", 7, ()),
        ({"timeout": 5, "exit": None}, "", None, ("did not end within 5 s",)),
    ],
)
def test_it_is_compared(
    change: dict[str, object], output: str, code: int | None, wrong: tuple[str, ...]
) -> None:
    assert judge(replace(STEP, **change), output, code) == wrong  # type: ignore[arg-type]


def test_a_shell_keeps_what_a_command_leaves(shell: Shell) -> None:
    assert shell.run("A='b  c'\nf() { echo \"$A\"; }", 20) == ("", 0)
    assert shell.run("f; echo to stderr >&2; cat; false", 20) == ("b  c\nto stderr\n", 1)


def test_a_command_that_cannot_be_read_is_only_that(shell: Shell) -> None:
    output, code = shell.run("echo 'never closed", 20)
    # (bash says why in the user's language)
    assert (code not in (0, None), output.startswith("bash: ")) == (True, True)
    assert shell.run("echo next", 20) == ("next\n", 0)


def test_after_one_that_does_not_end_the_shell_is_new(shell: Shell) -> None:
    assert shell.run("A=1; echo begun; sleep 30", 1) == ("begun\n", None)
    assert shell.run("echo ${A-none}", 20) == ("none\n", 0)
    assert shell.run("exit 3", 20) == ("", None)
    assert shell.run("echo again", 20) == ("again\n", 0)


def test_the_table_counts_the_tutorials_own() -> None:
    other = replace(STEP, part="Other")
    results = [
        Followed(STEP, "", 0, 1, ()),
        Followed(replace(STEP, differs="age"), "", 0, 1, ()),
        Followed(replace(STEP, ours=True), "", 0, 1, ()),
        Followed(other, "", 1, 1, ("exits 1, not 0",)),
    ]
    assert table(results).splitlines()[2:] == [
        "| Part | 2 | 1 | 1 | 0 |",
        "| Other | 1 | 0 | 0 | 1 |",
    ]
