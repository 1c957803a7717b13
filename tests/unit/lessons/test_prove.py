"""Proving a lesson whose checkpoints make files that its claims see and its faults remove."""

import json
from collections.abc import Callable

import pytest

from labctl.engine.events import EventBus
from labctl.engine.steps import run_steps
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import set_language
from labctl.lessons import prove
from labctl.lessons.faults import FaultKeeper
from labctl.lessons.load import parse_lesson
from labctl.lessons.model import PROBES, Lesson
from labctl.lessons.proof import Proof, certificate, read_proof
from labctl.lessons.prove import Prover
from labctl.spec.problems import SpecError
from tests.documents import expect_document
from tests.unit.lessons.bench import CONTROLLER, Bench

DAY = """
id: day
title: {en: A day, zh-TW: 一天}
goal: Make things.
checkpoints:
  - id: net
    title: {en: The network, zh-TW: 網路}
    explain: x
    run: [touch net]
    claims: [{id: has-net, text: A net, probe: test.rows, where: {name: net}, within: 0} MORE]
    undo: UNDO
  - id: ip
    title: The address
    explain: x
    run: [touch ip]
    claims: [{id: has-ip, text: An address, probe: test.rows, where: {name: ip}, within: 0}]
    undo: rm -f ip
  - id: look
    title: Look
    explain: x
    run: [ls]
    claims: [{id: both, text: Both, probe: test.rows, count: 2, within: 0}]
faults:
  - {id: lost, text: {en: The address is lost, zh-TW: 位址不見了}, node: controller, stop: ip,
     fails: [FAILS]}
"""
RIGHT = {"MORE": "", "UNDO": "rm -f net", "FAILS": "has-ip, both"}
# A service that is a file: a claim sees it, and stopping the service takes it away.
SYSTEMCTL = """
case $1 in
is-active) [ -e "$3" ] ;;
stop) rm "$2" ;;
start) touch "$2" ;;
esac
"""


@pytest.fixture
def files(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose probe sees the files that the commands have made."""

    def rows(context: object, arguments: object) -> list[dict[str, str]]:
        return [{"name": name} for name in ("net", "ip") if bench.has(name)]

    monkeypatch.setitem(PROBES, "test.rows", rows)
    monkeypatch.setattr(prove, "FAIL_SECONDS", 0.3)
    monkeypatch.setenv("LABCTL_LANG", "en")
    bench.node.stub("systemctl", SYSTEMCTL)
    bench.node.stub("ovn-nbctl", "true")
    return bench


def day(**changes: str) -> Lesson:
    text = DAY
    for name, value in {**RIGHT, **changes}.items():
        text = text.replace(name, value)
    return parse_lesson(text.encode(), "day.yaml")


def prover(bench: Bench, lesson: Lesson, *chosen: str, seconds: float = 60) -> Prover:
    def load(name: str) -> Lesson:
        return lesson

    where = prove.Bench(
        bench.topology, bench.state, bench.guests.__getitem__, bench.cloud, load=load
    )
    return Prover("day", where, chosen, seconds)


def proved(bench: Bench, lesson: Lesson, *chosen: str, seconds: float = 60) -> Proof:
    one = prover(bench, lesson, *chosen, seconds=seconds)
    proof = one.end(run_steps(one.steps(), bus=EventBus()))
    expect_document("proof", proof.to_json())
    return proof


def wrong(proof: Proof) -> list[tuple[str, str, str]]:
    return [(asked.subject, asked.phase, asked.claim) for asked in proof.wrong]


def test_every_claim_fails_before_holds_after_and_fails_again(files: Bench) -> None:
    proof = proved(files, day())
    assert (proof.ok, proof.whole, proof.error(), proof.never_failed) == (True, True, None, [])
    seen = [(a.subject, a.phase, a.claim, a.holds) for a in proof.asked]
    assert seen == [
        ("look", "before", "both", False),
        ("net", "before", "has-net", False),
        ("net", "after", "has-net", True),
        ("net", "undone", "has-net", False),
        ("net", "solved", "has-net", True),
        ("ip", "before", "has-ip", False),
        ("ip", "after", "has-ip", True),
        ("ip", "undone", "has-ip", False),
        ("ip", "solved", "has-ip", True),
        ("look", "after", "both", True),
        ("look", "solved", "both", True),
        ("lost", "fault", "has-net", True),
        ("lost", "fault", "has-ip", False),
        ("lost", "fault", "both", False),
        ("lost", "mended", "has-ip", True),
        ("lost", "mended", "both", True),
    ]
    assert files.has("ip"), "the fault is taken back"
    assert files.position()["practice"] is False
    assert files.progress("day")["passed"] == ["net", "ip", "look"]


def test_a_fault_about_what_is_not_known_yet_goes_by_its_id(files: Bench) -> None:
    text = DAY.replace("goal:", "facts: {ip: {probe: test.rows, column: name}}\ngoal:")
    for name, value in {**RIGHT, "The address is lost": '"{{ fact.ip }} is lost"'}.items():
        text = text.replace(name, value)
    titles = [step.title for step in prover(files, parse_lesson(text.encode(), "day.yaml")).steps()]
    assert titles[-1] == "fault: lost"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"MORE": ", {id: any, text: x, probe: test.rows, count: 0, where: {name: x}}"},
            [("net", "before", "any"), ("net", "undone", "any")],
        ),
        ({"UNDO": "true"}, [("net", "undone", "has-net")]),
        ({"FAILS": "has-ip"}, [("lost", "fault", "both")]),
        ({"FAILS": "has-ip, both, has-net"}, [("lost", "fault", "has-net")]),
    ],
)
def test_a_claim_that_is_not_as_it_must_be_is_named(
    files: Bench, changes: dict[str, str], found: list[tuple[str, str, str]]
) -> None:
    proof = proved(files, day(**changes))
    assert wrong(proof) == found
    error = proof.error()
    assert error is not None
    assert (error.code, proof.ok) == (EXIT_CLAIM, False)
    assert f"✗ {found[0][2]}" in certificate(proof)


def test_an_exception_with_its_reason_is_let_through(files: Bench) -> None:
    reason = "holds_before: It is never there."
    more = f", {{id: any, text: x, probe: test.rows, count: 0, where: {{name: x}}, {reason}}}"
    proof = proved(files, day(MORE=more))
    assert proof.ok
    assert proof.never_failed == ["any"]
    assert proof.cell("net", "before") == "✓ 1 (+1)"


def test_chosen_checkpoints_are_proved_and_the_others_run(files: Bench) -> None:
    proof = proved(files, day(), "ip")
    assert {asked.subject for asked in proof.asked} == {"ip"}
    assert (proof.ok, proof.whole) == (True, False)
    assert "proved in part" in certificate(proof)
    with pytest.raises(LabError, match="has no checkpoint") as error:
        proved(files, day(), "pi")
    assert error.value.code == EXIT_USAGE


def test_the_certificate_is_in_both_languages_and_of_this_text_of_the_lesson(
    files: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lesson") / "day.yaml"
    text = DAY
    for name, value in RIGHT.items():
        text = text.replace(name, value)
    path.write_text(text, encoding="utf-8")
    lesson = parse_lesson(path.read_bytes(), str(path))
    proved(files, lesson)
    proof = read_proof(files.state, lesson)
    assert proof is not None
    shown = certificate(proof)
    assert "| look | ✓ 1 | ✓ 1 | — | ✓ 1 |" in shown
    assert "| lost | ✓ 2 | ✓ 1 | ✓ 2 |" in shown
    assert "`lost`: The address is lost" in shown
    set_language("zh-TW")
    try:
        assert "位址不見了" in certificate(proof)
        assert "課程 day 已通過驗證" in certificate(proof)
    finally:
        set_language("en")
    path.write_text(text + "# changed\n", encoding="utf-8")
    assert read_proof(files.state, parse_lesson(path.read_bytes(), str(path))) is None


def test_a_deadline_ends_it_and_says_how_to_have_more_time(files: Bench) -> None:
    one = prover(files, day(), seconds=0)
    result = run_steps(one.steps(), bus=EventBus())
    assert "--deadline" in result.failed[0].hint
    assert "not finished within 0 s" in one.end(result).failure


def test_a_fault_of_a_killed_labctl_is_taken_back_by_the_next(files: Bench) -> None:
    lesson = day()
    (files.node.root / "ip").touch()
    guest: Callable[[str], object] = files.guests.__getitem__
    keeper = FaultKeeper(files.state, guest)  # type: ignore[arg-type]
    keeper.inject(lesson, lesson.faults[0], CONTROLLER, {})
    assert not files.has("ip")
    assert json.loads(files.state.fault.read_text())["fault"] == "lost"
    assert FaultKeeper(files.state, guest).take_back() == "lost"  # type: ignore[arg-type]
    assert files.has("ip")
    assert FaultKeeper(files.state, guest).take_back() == ""  # type: ignore[arg-type]


def test_after_the_end_no_fault_is_put_in_any_more(files: Bench) -> None:
    """The engine's thread may go on for a moment after Ctrl-C."""
    lesson = day()
    (files.node.root / "ip").touch()
    keeper = FaultKeeper(files.state, files.guests.__getitem__)
    keeper.close()
    keeper.inject(lesson, lesson.faults[0], CONTROLLER, {})
    assert files.has("ip")
    assert not files.state.fault.exists()


def test_a_fault_with_nothing_to_break_is_no_proof(files: Bench) -> None:
    lesson = day()
    with pytest.raises(LabError, match="ip does not run on network-controller"):
        FaultKeeper(files.state, files.guests.__getitem__).inject(
            lesson, lesson.faults[0], CONTROLLER, {}
        )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{id: a, text: x, table: NAT, fails: [has-ip]}", "one of set, delete and stop"),
        ("{id: a, text: x, delete: true, fails: [has-ip]}", "faults[0].table: is missing"),
        ("{id: a, text: x, stop: y, fails: [has-ip]}", "faults[0].node: is missing"),
        ("{id: a, text: x, table: NAT, delete: true, fails: [has-pi]}", "did you mean has-ip?"),
        ("{id: a, text: x, table: NAT, delete: true, after: net, fails: [has-ip]}",
         "no claim 'has-ip' is asked at this point"),
        ("{id: a, text: x, table: NAT, delete: true, after: ten, fails: [has-ip]}",
         "'ten' is not the id of a checkpoint"),
        ("{id: a, text: x, table: NAT, delete: true, where: {a: {is: b}}, fails: [has-ip]}",
         "unknown operator"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_fault_is_told_at_its_line(
    files: Bench, fault: str, said: str
) -> None:
    text = DAY[: DAY.index("faults:")]
    for name, value in RIGHT.items():
        text = text.replace(name, value)
    with pytest.raises(SpecError) as error:
        parse_lesson(f"{text}faults:\n  - {fault}\n".encode(), "day.yaml")
    (problem,) = error.value.problems
    assert said in f"{problem.path}: {problem.message} {problem.fix}"
    assert problem.line > 20
