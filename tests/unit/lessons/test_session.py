"""Walking through lessons with commands that really run and claims on scripted sights."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.access.capture import Captured, Tap
from labctl.access.packets import exchange, frames
from labctl.engine.steps import RunResult, Step
from labctl.errors import EXIT_CLAIM, EXIT_USAGE, LabError
from labctl.i18n import set_language
from labctl.lessons import runner
from labctl.lessons.commands import VARIABLES
from labctl.lessons.course import built_in_course, next_lesson
from labctl.lessons.model import PROBES, Lesson, Text
from labctl.lessons.progress import Position
from labctl.lessons.results import CheckpointResult, LessonOutcome
from labctl.lessons.templates import fill
from labctl.lessons.transcript import Scene, abbreviated, fenced, read_records, transcript
from tests.documents import expect_document
from tests.unit.fakes import FakeGuest
from tests.unit.golden import GOLDEN
from tests.unit.lessons.bench import COMPUTE, CONTROLLER, Bench, lesson

DAY = """
  - id: net
    title: {en: The network, zh-TW: 網路}
    explain: {en: A network is made., zh-TW: 建立網路。}
    task: {en: "Make the network {{ lab.external_network }}.", zh-TW: 建立它。}
    hints: [{en: Look at the help., zh-TW: 看說明。}, {en: It is `make`., zh-TW: 用 make。}]
    run: [echo net >>made]
    claims:
      - {id: has-net, text: {en: There is a net, zh-TW: 有網路}, probe: test.rows,
         where: {name: net}, within: 0}
      - {id: fresh, text: {en: Nothing else, zh-TW: 沒有別的}, probe: test.rows,
         where: {name: ip}, count: 0, within: 0, until: ip}
    undo: echo undo-net >>made
  - id: ip
    title: {en: The address, zh-TW: 位址}
    explain: {en: An address is asked for., zh-TW: 申請位址。}
    run: [echo ip >>made, "IP=from-the-command"]
    sets: {IP: "{{ fact.ip }}", OTHER: ""}
    claims:
      - {id: has-ip, text: {en: There is an address, zh-TW: 有位址}, probe: test.rows,
         where: {name: ip}, within: 0}
    undo: echo undo-ip >>made
  - id: look
    title: {en: Look, zh-TW: 看}
    explain: {en: Just look., zh-TW: 看看。}
    run: ['echo looked at $IP']
    claims: [{id: still, text: {en: Still there, zh-TW: 還在}, probe: test.rows, within: 0}]
"""
FACTS = "{ip: {probe: test.rows, where: {name: ip}, column: address}}"
NET, IP = {"name": "net"}, {"name": "ip", "address": "10.0.2.9"}


@pytest.fixture
def day() -> Lesson:
    return lesson(DAY, FACTS)


def sees(bench: Bench, *rows: dict[str, str]) -> None:
    bench.rows["rows"] = list(rows)


def made(bench: Bench) -> list[str]:
    return bench.text("made").split() if bench.has("made") else []


def printed(outcome: LessonOutcome) -> Any:
    """What programs read of it."""
    return expect_document("outcome", outcome.to_json())


def position(report: LessonOutcome) -> Any:
    return printed(report)["position"]


# -- walking ---------------------------------------------------------------------------------------
def test_a_day_step_by_step(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    started = room.start("test", practice=False)
    assert position(started) == {"lesson": "test", "practice": False, "passed": [], "next": "net"}
    assert made(bench) == [], "start runs nothing of the lesson"
    sees(bench, NET)
    report = room.next()
    assert (made(bench), report.failure) == (["net"], None)
    assert [claim.id for claim in report.checkpoints[0].claims] == ["has-net", "fresh"]
    assert "A network is made." in bench.page.text
    assert "next: labctl next" in bench.page.text
    sees(bench, NET, IP)
    assert position(room.next())["next"] == "look"
    # A new process, say after a reboot: everything is on disk.
    report = bench.classroom(day).next()
    assert position(report)["next"] is None
    assert report.checkpoints[0].commands[0].output == "looked at\n"  # no profile here reads IP
    assert "the lesson is done" in bench.page.text
    assert room.next().checkpoints == ()
    assert made(bench) == ["net", "ip"]


def test_without_a_lesson_the_command_to_type_is_said(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    for verb in (room.next, room.check, room.hint, room.solve):
        with pytest.raises(LabError, match="no lesson was begun") as error:
            verb()
        assert error.value.code == EXIT_USAGE
        assert "labctl start floating-ip" in error.value.hint


def test_a_step_that_failed_is_taken_back_and_tried_again(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    sees(bench)
    failed = room.next()
    assert failed.failure is not None
    assert printed(failed)["ok"] is False
    assert position(failed)["next"] == "net"
    sees(bench, NET)
    assert room.next().failure is None
    # The learner may have tried what comes later, too.
    assert made(bench) == ["net", "undo-ip", "undo-net", "net"]


def test_check_proves_what_was_run_last(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    sees(bench, NET)
    room.next()
    assert [one.id for one in room.check().checkpoints] == ["net"]
    sees(bench, NET, IP)
    room.next()
    ran = made(bench)
    every = room.check(every=True)
    # `fresh` was true until `ip` began: it is not asked any more.
    assert [c.id for one in every.checkpoints for c in one.claims] == ["has-net", "has-ip"]
    assert printed(every)["ok"] is True
    sees(bench, IP)  # the learner has deleted the network
    every = room.check(every=True)
    assert [c.id for one in every.checkpoints for c in one.claims if not c.holds] == ["has-net"]
    assert every.failure is not None
    assert every.failure.code == EXIT_CLAIM
    assert "1 of 2 claims does not hold" in every.failure.message
    assert position(every)["next"] == "look", "what was passed stays passed"
    assert made(bench) == ran, "check runs nothing"


def test_mended_by_hand_check_lets_pass(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    sees(bench)
    assert room.next().failure is not None
    sees(bench, NET)
    assert position(room.check())["next"] == "ip"


# -- practising ------------------------------------------------------------------------------------
def test_in_practice_the_learner_types(with_profile: Bench, day: Lesson) -> None:
    bench = with_profile
    sees(bench)
    room = bench.classroom(day)
    words = printed(room.start("test", practice=True))
    assert words["task"] == "Make the network ext_n2."
    assert words["checkpoint"] == "net"
    assert "echo net" not in bench.page.text, "the command is not given away"
    assert made(bench) == []
    missing = room.check()
    assert missing.failure is not None
    assert (missing.failure.code, position(missing)["next"]) == (EXIT_CLAIM, "net")
    assert "✗ There is a net" in bench.page.text
    assert "expected" not in bench.page.text
    # The learner types it.
    sees(bench, NET)
    assert position(room.check())["next"] == "ip"
    assert printed(room.next())["task"].startswith(
        "Do what it takes to make all of this true:\n\n- There is an"
    )
    sees(bench, NET, IP)
    assert position(room.check())["next"] == "look"
    assert made(bench) == []
    # The variable that the command would have set, for what follows and for every login.
    login = bench.node.run('. /etc/profile.d/labctl.sh; printf %s "$IP"')
    assert login.stdout == "10.0.2.9"
    assert room.solve().checkpoints[0].commands[0].output == "looked at 10.0.2.9\n"
    other = bench.guests[COMPUTE]
    assert isinstance(other, FakeGuest)
    assert b"10.0.2.9" in other.files[VARIABLES], "on every node"


def test_in_practice_what_is_only_to_be_seen_is_said_to_be_so(bench: Bench, day: Lesson) -> None:
    sees(bench, NET, IP)
    room = bench.classroom(day)
    task = printed(room.start("test", practice=True))
    assert (task["checkpoint"], task["only_looks"]) == ("net", False)
    assert "nothing to change here" not in bench.page.text
    sees(bench, NET)
    passed = room.check()
    assert (position(passed)["next"], passed.words) == ("ip", {}), "it was done, not only seen"
    sees(bench, NET, IP)
    room.check()
    task = printed(room.next())
    assert (task["checkpoint"], task["only_looks"]) == ("look", True)
    assert "nothing to change here" in " ".join(bench.page.text.split())
    assert "echo looked" not in bench.page.text, "the command is not given away"
    passed = room.check()
    assert printed(passed)["commands"] == ["echo looked at $IP"]
    assert printed(passed)["only_looks"] is True
    assert position(passed)["next"] is None
    assert "There was nothing to change." in bench.page.text
    assert "network-controller# echo looked at $IP" in bench.page.text
    again = room.check()
    assert again.words == {}, "it was passed already"


def test_who_only_follows_is_not_told_that_there_was_nothing_to_do(
    bench: Bench, day: Lesson
) -> None:
    sees(bench, NET, IP)
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.goto("look")
    assert room.check().words == {}
    assert "nothing to do but look" not in bench.page.text


def test_solve_begins_on_clear_ground(bench: Bench, day: Lesson) -> None:
    sees(bench, NET)
    room = bench.classroom(day)
    room.start("test", practice=True)
    report = room.solve()
    # The learner may have done half of it, and something of what comes later.
    assert made(bench) == ["undo-ip", "undo-net", "net"]
    assert report.undone == ["test/net"]
    assert position(report) == {
        "lesson": "test", "practice": True, "passed": ["net"], "next": "ip",
    }  # fmt: skip


def test_hints_come_one_after_another(bench: Bench, day: Lesson) -> None:
    sees(bench)
    room = bench.classroom(day)
    room.start("test", practice=True)
    hints = [printed(bench.classroom(day).hint()) for _ in range(3)]
    assert [(one["hint"], one["number"]) for one in hints] == [
        ("Look at the help.", 1), ("It is `make`.", 2), ("It is `make`.", 2),
    ]  # fmt: skip
    assert bench.page.text.count("labctl solve") == 2, "after the last one"
    sees(bench, NET)
    room.check()
    assert printed(room.hint())["hint"] is None


# -- going -----------------------------------------------------------------------------------------
def test_goto_runs_what_is_missing_and_takes_back_what_is_too_much(
    bench: Bench,
    day: Lesson,
) -> None:
    # Both claims of `net` hold: what is there does not depend on what is run here.
    what = day.model_copy(update={"checkpoints": [
        one.model_copy(update={"claims": [one.claims[0].model_copy(update={"where": {}})]})
        for one in day.checkpoints
    ]})  # fmt: skip
    room = bench.classroom(what)
    report = room.goto("test/look")
    assert (made(bench), position(report)["next"]) == (["net", "ip"], "look")
    assert room.goto("look").result is None, "there already"
    report = room.goto("ip")
    assert (made(bench), position(report)["next"]) == (["net", "ip", "undo-ip"], "ip")
    report = room.goto("test")
    assert made(bench)[-1] == "undo-net"
    assert report.undone == ["test/net"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("test/nett", "no checkpoint 'nett'"),
        ("tets/net", "no lesson 'tets'"),
        ("nonsense", "no lesson 'nonsense'"),
    ],
)
def test_a_target_that_does_not_exist(
    bench: Bench,
    day: Lesson,
    target: str,
    message: str,
) -> None:
    with pytest.raises(LabError, match=message) as error:
        bench.classroom(day).goto(target)
    assert error.value.code == EXIT_USAGE


def test_another_lesson_is_taken_back_first(bench: Bench, day: Lesson) -> None:
    other = day.model_copy(update={"id": "other"})
    sees(bench, NET)
    room = bench.classroom(day, other)
    room.start("test", practice=False)
    room.next()
    report = room.start("other", practice=False)
    assert report.undone == ["test/net"]
    assert list(bench.position()["lessons"]) == ["other"]
    assert position(report)["lesson"] == "other"


def test_what_a_lesson_needs_is_run_and_stays(bench: Bench, day: Lesson) -> None:
    base = lesson("""
  - id: base
    WORDS
    run: [echo base >>made]
    claims: [HOLDS]
    undo: echo undo-base >>made
""").model_copy(update={"id": "base"})
    room = bench.classroom(base, day.model_copy(update={"needs": ["base"]}))
    sees(bench, NET)
    room.start("test", practice=False)
    room.next()
    assert made(bench) == ["base", "net"]
    room.start("test", practice=False)
    assert made(bench) == ["base", "net", "undo-net"]
    room.replay("base")
    assert made(bench)[3:] == ["undo-base", "base"]


def test_a_lesson_whose_file_is_gone_holds_nobody_up(bench: Bench, day: Lesson) -> None:
    sees(bench, NET)
    room = bench.classroom(day, day.model_copy(update={"id": "gone"}))
    room.start("gone", practice=False)
    room.next()
    del bench.lessons[str(Path("gone").absolute())]
    report = room.start("test", practice=False)
    assert report.failure is None
    assert "lesson gone cannot be taken back" in bench.page.text


def test_variables_go_with_their_checkpoint(with_profile: Bench, day: Lesson) -> None:
    bench = with_profile
    sees(bench, NET)
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    sees(bench, NET, IP)
    room.next()
    login = '. /etc/profile.d/labctl.sh; printf %s "${IP-unset}"'
    assert bench.node.run(login).stdout == "from-the-command"
    room.goto("net")
    assert bench.node.run(login).stdout == "unset"


# -- transcripts -----------------------------------------------------------------------------------
def test_a_transcript_has_everything_of_the_last_run(bench: Bench, day: Lesson) -> None:
    sees(bench, NET)
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    text = transcript(day, read_records(bench.state, day), Scene("my-lab", ["n1", "n2"]))
    assert text.startswith("# Test\n\nx\n\n*Recorded on 20")
    assert "in the lab my-lab (n1, n2), by labctl.*" in text
    assert "## 1. The network\n\nA network is made.\n\n```console\n" in text
    assert "network-controller# echo net >>made\n```" in text
    assert "- ✓ There is a net\n  - `name=net`" in text
    assert "## 2. The address\n\n*Not run yet.*" in text
    set_language("zh-TW")
    text = transcript(day, read_records(bench.state, day), Scene("my-lab", ["n1"]))
    assert "## 1. 網路\n\n建立網路。" in text
    assert "- ✓ 有網路" in text
    assert "尚未執行" in text


def test_a_transcript_of_what_the_learner_typed_has_the_commands(
    bench: Bench,
    day: Lesson,
) -> None:
    sees(bench, NET)
    room = bench.classroom(day)
    room.start("test", practice=True)
    room.check()
    text = transcript(day, read_records(bench.state, day), Scene("my-lab", []))
    assert "```console\n$ echo net >>made\n```" in text


def test_a_task_set_anew_has_nothing_of_the_run_before(bench: Bench, day: Lesson) -> None:
    sees(bench, NET)
    room = bench.classroom(day)
    room.start("test", practice=True)
    room.check()
    assert "net" in read_records(bench.state, day)
    room.start("test", practice=True)
    assert "net" not in read_records(bench.state, day)


def test_a_record_keeps_the_values_of_its_run(bench: Bench, day: Lesson) -> None:
    told = day.model_copy(update={"checkpoints": [
        one.model_copy(update={"explain": one.explain.model_copy(
            update={"en": "It is {{ fact.ip }}.", "zh_tw": "是 {{ fact.ip }}。"})})
        for one in day.checkpoints
    ]})  # fmt: skip
    sees(bench, NET)
    room = bench.classroom(told)
    room.start("test", practice=False)
    room.next()
    sees(bench, NET, IP)
    room.next()
    sees(bench)
    records = read_records(bench.state, told)
    assert records["ip"]["explain"] == {"en": "It is 10.0.2.9.", "zh-TW": "是 10.0.2.9。"}
    json.dumps(records)


def test_what_is_published_is_abbreviated_and_cannot_break_out() -> None:
    uuid = "6a3ff0d1-5e4b-4cd1-a0d2-1b2c3d4e5f60"
    table = f"+----+\n| ID |\n+----+\n| {uuid} |\n+----+\nid: {uuid}"
    assert abbreviated(table) == (
        "+--------+\n| ID     |\n+--------+\n| 6a3ff0 |\n+--------+\nid: 6a3ff0"
    )
    assert fenced("a\n```\nb", "console") == "````console\na\n```\nb\n````"


def test_words_with_a_value_that_cannot_be_had(bench: Bench, day: Lesson) -> None:
    checker = bench.runner(day).checker
    assert checker.fill_text("It is {{ 1 / 0 }} there") == "It is … there"
    with pytest.raises(LabError):
        fill("It is {{ 1 / 0 }} there", {})


ONE = """
  - id: one
    WORDS
    run: [touch done]
    claims: [HOLDS]
    undo: rm -f done
"""


def test_a_lesson_is_taken_back_before_what_it_needs(bench: Bench) -> None:
    # It is entered first, and what it needs is begun first.
    base = lesson(ONE).model_copy(update={"id": "base"})
    above = lesson(ONE).model_copy(update={"id": "above", "needs": ["base"]})
    third = lesson(ONE).model_copy(update={"id": "third"})
    session = bench.classroom(base, above, third)
    assert session.replay("above").failure is None
    assert list(bench.position()["lessons"]) == ["base", "above"]
    assert session.replay("third").failure is None
    assert bench.ran() == ["undo:above/one", "undo:base/one", "one"]


def test_another_lesson_with_the_id_of_one_that_was_begun_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    first, second, moved = (tmp_path / name for name in ("first.yaml", "second.yaml", "moved.yaml"))
    first.touch()
    second.touch()
    what = lesson(ONE)
    session = bench.classroom(what)
    bench.lessons |= {str(path): what for path in (first, second, moved)}
    assert session.replay(str(first)).failure is None
    with pytest.raises(
        LabError, match=f"^the lesson {first} was begun, and its id is test, too$"
    ) as error:
        session.replay(str(second))
    assert error.value.hint == f"give {second} another id"
    assert bench.progress()["attempted"] == ["one"]
    first.rename(moved)
    assert session.replay(str(moved)).failure is None
    assert bench.ran() == ["undo:test/one", "one"]


def test_a_transcript_controls_no_terminal(bench: Bench) -> None:
    what = lesson(r"""
  - id: one
    title: {en: "T\e[2J", zh-TW: "題\e[2J"}
    explain: {en: "a\e]0;PWNED\a\e[2Jb\x9b31mc\u202Ed", zh-TW: 甲}
    run: ["printf '\\033]0;PWNED\\007\\033[2J\\302\\233'; echo '\e[1m' hi\tthere"]
    claims: [{id: c, text: {en: "so\e[5m", zh-TW: 甲}, probe: test.rows}]
""")
    bench.rows["rows"] = [{"name": "\x1b]0;PWNED\x07\x9b"}]
    assert bench.replay(what)[0].failure is None
    text = transcript(what, read_records(bench.state, what), Scene("my\x1b[1mlab", ["n\x07"]))
    assert [c for c in text if not (c.isprintable() or c in "\n\t")] == []
    assert "PWNED" not in text.replace("033]0;PWNED", "")  # but in the command, as one types it
    assert "abcd" in text
    assert "hi\tthere" in text


# -- at the end, and lost --------------------------------------------------------------------------
@pytest.mark.parametrize("practice", [True, False])
def test_after_the_end_hint_and_solve_say_where_to_go(
    bench: Bench, day: Lesson, practice: bool
) -> None:
    room = bench.classroom(day)
    sees(bench, NET, IP)
    room.replay("test")
    room.start("test", practice=practice)
    for ids in (NET,), (NET, IP), (NET, IP):
        sees(bench, *ids)
        assert room.solve().failure is None
    done = made(bench)
    for verb in (room.hint, room.solve, room.next):
        before = len(bench.page.text)
        outcome = verb()
        said = bench.page.text[before:]
        assert ("the lesson is done" in said, "next: labctl course" in said) == (True, True)
        assert "hint" not in said
        assert (outcome.failure, position(outcome)["next"]) == (None, None)
    assert made(bench) == done


def test_a_summary_of_what_was_taken_back_says_so(bench: Bench, day: Lesson) -> None:
    titles: list[str] = []
    run_steps = bench.engine

    def engine(title: str, steps: list[Step]) -> RunResult:
        titles.append(title)
        return run_steps(title, steps)

    bench.engine = engine  # type: ignore[method-assign]
    room = bench.classroom(day)
    sees(bench, NET)
    room.start("test", practice=False)
    room.next()
    room.start("test", practice=False)
    assert titles == ["Test", "take back what was begun"]
    room.next()
    room.replay("test")
    assert titles[2:] == ["Test", "Test (1 checkpoint taken back first)"]


def test_goto_names_what_can_be_meant(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    with pytest.raises(LabError, match="lesson test has no checkpoint 'nowhere'") as error:
        room.goto("nowhere")
    assert "its checkpoints are: net, ip, look" in error.value.hint
    for a_lesson in ("floating-ib", "mine.yaml"):
        with pytest.raises(LabError, match="there is no lesson"):
            room.goto(a_lesson)


def test_goto_finds_the_lesson_that_was_begun_from_a_file(
    bench: Bench, day: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    room = bench.classroom()
    bench.lessons[str(file)] = day
    sees(bench, NET)
    room.start(str(file), practice=False)
    room.next()
    monkeypatch.chdir("/")
    for target in ("test/net", "test"):
        room.goto(target)
        assert bench.progress()["passed"] == []
        assert bench.progress()["source"] == str(file)
        room.next()
        assert bench.progress()["passed"] == ["net"]


def test_check_says_at_once_that_it_works(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=False)
    sees(bench, NET)
    room.next()
    before = len(bench.page.text)
    shown: list[str] = []
    ask = bench.rows

    class Watching(dict[str, Any]):
        def get(self, name: str, default: object = None) -> Any:  # asked by the first probe
            shown.append(bench.page.text[before:])
            return ask.get(name, default)

    bench.rows = Watching(ask)
    room.check()
    assert "asking the lab about 2 claims" in shown[0]


# -- no dead end in practice -----------------------------------------------------------------------
AHEAD = """
  - id: ask
    WORDS
    run: [touch asked]
    claims:
      - {id: asked, text: {en: It is asked for, zh-TW: 已申請}, probe: test.rows,
         where: {name: ask}, within: 0}
      - {id: unused, text: {en: Nobody has it, zh-TW: 沒有人用}, probe: test.rows,
         where: {name: give}, count: 0, within: 0, until: give}
    undo: echo undo-ask >>made
  - id: give
    title: {en: Give it, zh-TW: 給出去}
    explain: {en: x, zh-TW: 甲}
    run: [touch given]
    claims:
      - {id: given, text: {en: Somebody has it, zh-TW: 有人用}, probe: test.rows,
         where: {name: give, to: vm_1}, within: 0}
      - {id: closed, text: {en: It is closed, zh-TW: 關著}, probe: test.rows,
         where: {name: open}, count: 0, within: 0, until: open}
    undo: echo undo-give >>made
  - id: open
    title: {en: Open it, zh-TW: 打開}
    explain: {en: x, zh-TW: 甲}
    run: [touch opened]
    claims:
      - {id: opened, text: {en: It is open, zh-TW: 開著}, probe: test.rows,
         where: {name: open}, within: 0}
    undo: echo undo-open >>made
"""
ASKED, GIVEN, OPENED = {"name": "ask"}, {"name": "give", "to": "vm_1"}, {"name": "open"}


def test_a_claim_that_a_later_step_has_overtaken_is_skipped_with_a_word(bench: Bench) -> None:
    room = bench.classroom(lesson(AHEAD))
    sees(bench)
    room.start("test", practice=True)
    # Given away to the wrong one: the next step is not done, and the claim is as untrue as before.
    sees(bench, ASKED, {"name": "give", "to": "vm_9"})
    wrong = room.check()
    assert wrong.failure is not None
    assert wrong.failure.code == EXIT_CLAIM
    # One step ahead, and the one after that, too.
    sees(bench, ASKED, GIVEN, OPENED)
    passed = room.check()
    assert (passed.failure, position(passed)["next"]) == (None, "give")
    assert [claim["id"] for claim in printed(passed)["checkpoints"][0]["claims"]] == ["asked"]
    assert "skipped, for “Give it” is done already: Nobody has it" in bench.page.text
    passed = room.check()
    assert (passed.failure, position(passed)["next"]) == (None, "open")
    assert "skipped, for “Open it” is done already: It is closed" in bench.page.text


def test_when_nothing_is_left_to_prove_the_step_is_passed(bench: Bench) -> None:
    what = lesson(AHEAD)
    first = what.checkpoints[0]
    only = first.model_copy(update={"claims": first.claims[1:]})
    room = bench.classroom(what.model_copy(update={"checkpoints": [only, *what.checkpoints[1:]]}))
    room.start("test", practice=True)
    sees(bench, ASKED, GIVEN)
    passed = room.check()
    assert (passed.failure, position(passed)["next"]) == (None, "give")
    assert "nothing of this step is left to prove" in bench.page.text


@pytest.mark.parametrize("verb", ["solve", "goto", "start", "replay"])
def test_what_a_learner_made_ahead_is_cleared_from_the_end(bench: Bench, verb: str) -> None:
    room = bench.classroom(lesson(AHEAD))
    sees(bench)
    room.start("test", practice=True)
    sees(bench, ASKED)
    assert room.check().failure is None  # typed ahead from here on: the next task is not set
    verbs: dict[str, Callable[[], LessonOutcome]] = {
        "solve": room.solve,
        "goto": lambda: room.goto("test/ask"),
        "start": lambda: room.start("test", practice=False),
        "replay": lambda: room.replay("test"),
    }
    again = verbs[verb]()
    cleared = ["undo-open", "undo-give", *(["undo-ask"] if verb != "solve" else [])]
    assert made(bench) == cleared
    assert again.undone == ([] if verb == "solve" else ["test/ask"])


def test_another_lesson_that_was_practised_is_cleared_too(bench: Bench) -> None:
    room = bench.classroom(lesson(AHEAD), lesson(ONE).model_copy(update={"id": "other"}))
    sees(bench)
    room.start("test", practice=True)
    room.start("other", practice=False)
    assert bench.ran() == ["clear:test/open", "clear:test/give", "undo:test/ask"]


@pytest.mark.parametrize("verb", ["solve", "goto", "start", "replay", "next", "check", "hint"])
def test_every_verb_that_cannot_go_on_names_the_last_resort(bench: Bench, verb: str) -> None:
    broken = AHEAD.replace("echo undo-ask >>made", "exit 4").replace("touch asked", "false")
    if verb == "next":
        broken = broken.replace("exit 4", "true")
    room = bench.classroom(lesson(broken))
    sees(bench)
    room.start("test", practice=verb != "next")
    if verb == "hint":
        room.hint()
        assert "to begin anew with a clean lab: labctl reset" in bench.page.text
        return
    verbs: dict[str, Callable[[], LessonOutcome]] = {
        "solve": room.solve,
        "goto": lambda: room.goto("test/give"),
        "start": lambda: room.start("test", practice=True),
        "replay": lambda: room.replay("test"),
        "next": room.next,
        "check": room.check,
    }
    outcome = verbs[verb]()
    assert outcome.failure is not None
    assert outcome.failure.hint.count("labctl reset") == 1


def test_check_shows_each_claim_as_it_is_proved(bench: Bench) -> None:
    claim = "{{id: c{0}, text: {{en: Claim {0}, zh-TW: 甲}}, probe: test.rows, with: {{n: '{0}'}}}}"
    claims = ", ".join(claim.format(n) for n in (1, 2, 3))
    what = lesson(f"""
  - id: one
    WORDS
    run: [touch done]
    claims: [{claims}]
    undo: rm -f done
""")
    room = bench.classroom(what)
    room.start("test", practice=True)
    shown: list[int] = []
    ask = bench.rows

    class Watching(dict[str, Any]):
        def get(self, name: str, default: object = None) -> Any:  # asked by every probe
            shown.append(bench.page.text.count("✓ Claim"))
            return ask.get(name, default)

    bench.rows = Watching(ask)
    assert room.check().failure is None
    assert shown == [0, 1, 2]


# -- the summary -----------------------------------------------------------------------------------
@pytest.fixture
def ending(day: Lesson) -> Lesson:
    """The day with a summary that uses a value of the lab."""
    summary = Text.model_validate({"en": "It is {{ fact.ip }}.", "zh-TW": "就是 {{ fact.ip }}。"})
    checkpoints = [*day.checkpoints[:2]]
    return day.model_copy(update={"summary": summary, "checkpoints": checkpoints})


def test_the_summary_comes_when_the_last_checkpoint_has_passed(
    bench: Bench, ending: Lesson
) -> None:
    room = bench.classroom(ending)
    room.start("test", practice=False)
    sees(bench, NET)
    assert "summary" not in printed(room.next())
    assert "It is" not in bench.page.text
    sees(bench, NET, IP)
    room.next()
    assert printed(room.next())["summary"] == "It is 10.0.2.9."
    assert "Summary\nIt is 10.0.2.9." in bench.page.text
    sees(bench)  # the address may be gone by the time somebody asks again
    assert printed(room.next())["summary"] == "It is 10.0.2.9."
    shown = transcript(ending, read_records(bench.state, ending), Scene("lab", []))
    assert shown.endswith("## Summary\n\nIt is 10.0.2.9.\n")
    set_language("zh-TW")
    assert printed(room.next())["summary"] == "就是 10.0.2.9。"


def test_a_replay_gives_the_summary_only_when_it_comes_to_its_end(
    bench: Bench, ending: Lesson
) -> None:
    only = ending.model_copy(update={"checkpoints": [ending.checkpoints[1]]})
    sees(bench, IP)
    assert printed(bench.replay(only)[0])["summary"] == "It is 10.0.2.9."
    sees(bench, NET)
    assert "summary" not in printed(bench.replay(only)[0])
    assert "Summary" not in transcript(only, read_records(bench.state, only), Scene("lab", []))


def test_in_practice_the_last_check_gives_the_summary(with_profile: Bench, ending: Lesson) -> None:
    room = with_profile.classroom(ending)
    room.start("test", practice=True)
    sees(with_profile, NET)
    assert "summary" not in printed(room.check())
    sees(with_profile, NET, IP)
    assert printed(room.check())["summary"] == "It is 10.0.2.9."


# -- what captures saw -----------------------------------------------------------------------------
def test_a_request_and_its_reply_are_shown_as_tcpdump_prints_them(
    bench: Bench, day: Lesson
) -> None:
    bench.node.stub("tcpdump", 'echo "$*: $(wc -c) bytes"')
    commands, result = bench.runner(day).commands, CheckpointResult("ping", "Ping")
    pcap = (GOLDEN / "pcap/ping-out.network-controller.eth1.pcap").read_bytes()
    commands.show_frames({Tap(CONTROLLER, "eth1", "udp port 6081"): pcap}, result)
    (shown,) = result.commands
    assert (shown.prompt, shown.command) == (
        "network-controller#", "tcpdump -vvneei eth1 'udp port 6081'",
    )  # fmt: skip
    assert shown.output == f"-vvneer -: {len(exchange(pcap))} bytes\n"
    assert len(frames(exchange(pcap), "", "")) == 2 < len(frames(pcap, "", ""))
    assert f"{shown.prompt} {shown.command}\n{shown.output.strip()}" in bench.page.text
    commands.show_frames({Tap(CONTROLLER, "vm/tap0", "icmp"): pcap}, result)
    assert result.commands.pop().command == "ip netns exec vm tcpdump -vvneei tap0 icmp"
    bench.node.stub("tcpdump", "exit 1")
    commands.show_frames({Tap(CONTROLLER, "eth1", "icmp"): pcap}, result)
    assert len(result.commands) == 1, "where tcpdump prints nothing, nothing is shown"


@pytest.mark.parametrize(
    ("probe", "capture", "runs"),
    [
        ("ovn.acl_log", "[{node: controller, interface: eth1, filter: icmp}]", 2),
        ("ovn.acl_log", "[]", 1),  # without captures its commands may change something
        ("test.rows", "[{node: controller, interface: eth1, filter: icmp}]", 1),
    ],
)
def test_check_runs_the_commands_again_for_what_is_soon_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, probe: str, capture: str, runs: int
) -> None:
    """What conntrack and the log of ACLs hold is gone when somebody asks some minutes later."""
    monkeypatch.setitem(PROBES, probe, bench.probe)
    captured = contextmanager(lambda *_: iter([Captured()]))
    monkeypatch.setattr(runner, "capturing", captured)
    arguments = "{from: controller}" if probe.startswith("ovn") else "{}"
    claim = f"{{id: c, text: It is so, probe: {probe}, with: {arguments}}}"
    day = lesson(
        f"""
  - id: look
    WORDS
    run: [echo ran >>made]
    capture: {capture}
    claims: [{claim}]
"""
    )
    room = bench.classroom(day)
    room.start("test", practice=False)
    room.next()
    assert made(bench) == ["ran"]
    room.check()
    assert made(bench) == ["ran"] * runs


# -- claims that cannot tell -----------------------------------------------------------------------
def test_a_task_whose_claims_hold_already_is_announced_as_such(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    room.start("test", practice=True)
    sees(bench, NET)
    assert printed(room.check())["ok"] is True
    bench.page.lines.clear()
    sees(bench, NET, IP)
    task = printed(room.next())
    assert (task["checkpoint"], task["held_before"]) == ("ip", True)
    assert "All of this holds already" in bench.page.text
    passed = printed(room.check())
    assert (passed["ok"], passed["held_before"]) == (True, True)
    assert passed["commands"] == ["echo ip >>made", "IP=from-the-command"]
    assert "it does not tell what you did" in bench.page.text
    assert made(bench) == [], "nobody did anything"


def test_a_task_that_was_still_to_be_done_is_passed_without_a_word(
    bench: Bench, day: Lesson
) -> None:
    sees(bench)
    room = bench.classroom(day)
    task = printed(room.start("test", practice=True))
    assert (task["checkpoint"], task["held_before"]) == ("net", False)
    sees(bench, NET)
    passed = printed(room.check())
    assert "held_before" not in passed
    assert "it does not tell what you did" not in bench.page.text


# -- going on in the course ------------------------------------------------------------------------
def test_without_a_name_start_goes_on_where_one_is(bench: Bench, day: Lesson) -> None:
    room = bench.classroom(day)
    sees(bench, NET)
    room.start("test", practice=False)
    room.next()
    before = made(bench)
    outcome = room.go_on((), practice=False)
    assert (outcome.lesson.id, position(outcome)["practice"], made(bench)) == (
        "test", False, before,
    )  # fmt: skip
    outcome = room.go_on((), practice=True)
    assert position(outcome)["practice"] is True
    assert outcome.words.get("task")


def test_without_a_name_start_begins_the_next_of_the_course(bench: Bench, day: Lesson) -> None:
    first = next_lesson(built_in_course(), bench.topology, Position(), ())
    assert first is not None
    room = bench.classroom(day)
    bench.lessons[first] = day
    outcome = room.go_on((), practice=False)
    assert (position(outcome)["lesson"], position(outcome)["next"]) == ("test", "net")
    with pytest.raises(LabError, match="every lesson of the course") as refused:
        room.go_on(built_in_course().ids, practice=False)
    assert refused.value.code == EXIT_USAGE
