"""The position in the lessons and the way from there: pure, so every case is data."""

import json
import re

import pytest

from labctl.errors import EXIT_USAGE, LabError
from labctl.lessons.load import parse_lesson
from labctl.lessons.model import Checkpoint, Lesson
from labctl.lessons.progress import (
    Position,
    checkpoint_number,
    current_checkpoint,
    expected_claims,
    first_open,
)
from labctl.lessons.route import plan_route, with_needs


def lesson(id: str, ids: str = "a b c d", needs: str = "[]", extra: str = "") -> Lesson:
    """A lesson with these checkpoints; `extra` is added to the claim of the first."""
    text = "id: {id}\ntitle: {w}\ngoal: {w}\ncheckpoints:\n".format(id=id, w="{en: x, zh-TW: 甲}")
    for name in ids.split():
        more = extra if name == ids.split()[0] else ""
        text += f"""  - id: {name}
    title: {{en: x, zh-TW: 甲}}
    explain: {{en: x, zh-TW: 甲}}
    run: []
    claims: [{{id: claim-{name}, text: {{en: x, zh-TW: 甲}}, probe: ovn.nat{more}}}]
"""
    made = parse_lesson(text.encode(), "x.yaml")
    return made.model_copy(update={"needs": [n for n in re.findall(r"[a-z-]+", needs) if n]})


def at(position: Position, one: Lesson, passed: str = "", attempted: str = "") -> Position:
    """With these checkpoints passed, and those begun besides."""
    position = position.with_source(one, one.id)
    for name in passed.split():
        position = position.passing(one, one.checkpoint(name))
    for name in attempted.split():
        position = position.attempting(one, one.checkpoint(name))
    return position


def shown(route: list[object]) -> str:
    """+x is run, -x is taken back; of another lesson with its name."""
    words = []
    for step in route:
        checkpoint: Checkpoint = step.checkpoint  # type: ignore[attr-defined]
        sign = "-" if step.direction == "undo" else "+"  # type: ignore[attr-defined]
        name = step.lesson.id  # type: ignore[attr-defined]
        words.append(sign + ("" if name == "here" else f"{name}/") + checkpoint.id)
    return " ".join(words)


HERE, OTHER, BASE = lesson("here"), lesson("other", "p q"), lesson("base", "m n")


@pytest.mark.parametrize(
    ("passed", "attempted", "number", "expected"),
    [
        ("", "", 0, ""),
        ("", "", 1, "+a"),
        ("", "", 4, "+a +b +c +d"),
        ("a b", "", 2, ""),  # there already
        ("a b", "", 4, "+c +d"),  # only what is missing
        ("a b c", "", 1, "-c -b"),  # the last first
        ("a b c d", "", 0, "-d -c -b -a"),
        ("a b", "c", 3, "-c +c"),  # begun and not passed: who knows what it did
        ("a b", "c", 4, "-c +c +d"),
        ("a b", "c", 2, "-c"),
        ("a b", "c", 1, "-c -b"),
        ("a c", "", 4, "-c +b +c +d"),  # what stands behind a gap stands on nothing
        ("", "b", 0, "-b"),
    ],
)
def test_the_route_within_a_lesson(passed: str, attempted: str, number: int, expected: str) -> None:
    position = at(Position(), HERE, passed, attempted)
    assert shown([*plan_route(position, HERE, number, [])]) == expected


@pytest.mark.parametrize(
    ("base", "other", "here", "number", "expected"),
    [
        # Another lesson is taken back first; what this one needs is run or stays.
        ("", "p q", "", 1, "-other/q -other/p +base/m +base/n +a"),
        ("m n", "p", "", 1, "-other/p +a"),
        ("m", "", "", 0, "+base/n"),
        ("m n", "", "a b", 1, "-b"),
        # What is begun anew below takes with it what stands above.
        ("m", "", "a b", 3, "-b -a +base/n +a +b +c"),
    ],
)
def test_the_way_from_one_lesson_to_another(
    base: str, other: str, here: str, number: int, expected: str
) -> None:
    position = Position()
    for one, passed in ((BASE, base), (OTHER, other), (HERE, here)):
        position = at(position, one, passed)
    if base == "m" and here:
        position = position.attempting(BASE, BASE.checkpoint("n"))
        expected = expected.replace("+base/n", "-base/n +base/n")
    route = plan_route(position, HERE, number, [BASE, OTHER], [BASE])
    assert shown([*route]) == expected


def test_lessons_are_taken_back_in_the_reverse_order_of_their_beginning() -> None:
    position = at(at(Position(), OTHER, "p"), BASE, "m")
    begun = [{"other": OTHER, "base": BASE}[id] for id in position.lessons]
    assert shown([*plan_route(position, HERE, 0, begun)]) == "-base/m -other/p"


def test_needs_come_once_and_in_order() -> None:
    known = {
        "top": lesson("top", needs="[left, right]"),
        "left": lesson("left", needs="[ground]"),
        "right": lesson("right", needs="[ground]"),
        "ground": lesson("ground"),
    }
    order = [one.id for one in with_needs(known["top"], known.__getitem__)]
    assert order == ["ground", "left", "right", "top"]


def test_lessons_that_need_each_other_are_told() -> None:
    known = {"a": lesson("a", needs="[b]"), "b": lesson("b", needs="[a]")}
    with pytest.raises(LabError, match="a → b → a") as error:
        with_needs(known["a"], known.__getitem__)
    assert error.value.code == EXIT_USAGE


# -- which checkpoint ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("passed", "attempted", "reached", "checked", "practised"),
    [
        ("", "", 0, 0, 0),
        ("", "a", 0, 0, 0),
        ("a", "", 1, 0, 1),  # walking: what was run last; practising: what is to be done
        ("a", "b", 1, 1, 1),
        ("a b c d", "", 4, 3, 3),
    ],
)
def test_the_checkpoint_at_hand(
    passed: str, attempted: str, reached: int, checked: int, practised: int
) -> None:
    progress = at(Position(), HERE, passed, attempted).progress(HERE)
    assert first_open(HERE, progress) == reached
    assert current_checkpoint(HERE, progress, practice=False) == checked
    assert current_checkpoint(HERE, progress, practice=True) == practised


def test_claims_stand_until_a_later_checkpoint_makes_them_untrue() -> None:
    one = lesson("here", extra=", until: c")

    def ids(upto: int, since: int = 0) -> list[str]:
        return [claim.id for _, claims in expected_claims(one, upto, since) for claim in claims]

    assert ids(0) == ["claim-a"]
    assert ids(1) == ["claim-a", "claim-b"]
    assert ids(2) == ["claim-b", "claim-c"]
    assert ids(3) == ["claim-b", "claim-c", "claim-d"]
    assert ids(3, 3) == ["claim-d"]


def test_a_checkpoint_that_does_not_exist() -> None:
    one = lesson("here", "network subnet")
    assert checkpoint_number(one, "subnet") == 1
    with pytest.raises(LabError, match="no checkpoint 'subnett'") as error:
        checkpoint_number(one, "subnett")
    assert (error.value.code, error.value.hint) == (EXIT_USAGE, "did you mean subnet?")
    with pytest.raises(LabError) as error:
        checkpoint_number(one, "zzzzzzz")
    assert "network, subnet" in error.value.hint


# -- the position ----------------------------------------------------------------------------------
def test_the_position_survives_its_file() -> None:
    position = at(Position(), HERE, "a b", "c").entered(HERE, "/x/here.yaml", practice=True)
    position = at(position, OTHER, "p")
    read = Position.from_json(json.loads(json.dumps(position.to_json())))
    assert read == position
    assert (read.current, read.practice) == ("here", True)
    assert read.lessons["here"].source == "/x/here.yaml"
    assert list(read.lessons) == ["here", "other"]


@pytest.mark.parametrize(
    "data",
    [{}, {"lessons": []}, {"lessons": {"x": {}}, "current": "x", "practice": 0}, {"test": 1}],
)
def test_a_file_of_another_kind_is_told(data: dict[str, object]) -> None:
    with pytest.raises(LabError, match="cannot be read"):
        Position.from_json(data)


def test_no_file_is_the_beginning() -> None:
    assert Position.from_json(None) == Position()


def test_a_lesson_that_is_gone_is_current_no_more() -> None:
    position = Position().entered(HERE, "here", practice=False)
    assert position.forgetting("here").current is None
    data = {"lessons": {}, "current": "here", "practice": False}
    assert Position.from_json(data).current is None


def test_taking_back_forgets_hints_and_what_was_passed() -> None:
    one = HERE.checkpoints[0].model_copy(update={"hints": [HERE.title, HERE.title]})
    position = at(Position(), HERE, "a")
    for given in (1, 2, 2):
        position = position.hinted(HERE, one)
        assert position.progress(HERE).hints == {"a": given}
    position = position.without(HERE, one)
    progress = position.progress(HERE)
    assert (progress.attempted, progress.passed, progress.hints) == ((), (), {})


def test_beginning_again_takes_the_pass_away() -> None:
    position = at(Position(), HERE, "a b").attempting(HERE, HERE.checkpoint("a"))
    assert position.progress(HERE).passed == ("b",)
    assert position.progress(HERE).attempted == ("a", "b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempted", "abc"),
        ("passed", [1]),
        ("hints", {"a": "many"}),
        ("source", None),
        ("total", 1e300),
        ("at", "now"),
    ],
)
def test_a_position_with_a_strange_field_is_told(field: str, value: object) -> None:
    whole = {"source": "x", "attempted": [], "passed": [], "hints": {}, "total": 0, "at": 0}
    data = {"current": None, "practice": False, "lessons": {"x": {**whole, field: value}}}
    with pytest.raises(LabError, match="the position in the lessons cannot be read"):
        Position.from_json(data)
