"""A class made, mended, reset and destroyed, on an engine that only pretends."""

from pathlib import Path

import pytest

from labctl.classroom.engine import Machine
from labctl.classroom.load import parse_class
from labctl.classroom.work import ClassWork
from labctl.errors import LabError
from tests.unit.classroom.fake_engine import FakeEngine


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def work(engine: FakeEngine, directory: Path, learners: int = 30) -> ClassWork:
    text = f"name: day\nlearners: {learners}\nparallel: 4\n"
    spec = parse_class(text.encode(), "class.yaml")
    return ClassWork(spec, engine, directory, lambda _: None, sleep=lambda _: None)


def learners(engine: FakeEngine) -> list[str]:
    return sorted(machine.learner for machine in engine.there.values())


def names(number: int) -> list[str]:
    return [f"learner-{count:02}" for count in range(1, number + 1)]


def test_every_learner_has_a_machine_with_an_address_and_no_more_at_once_than_was_said(
    directory: Path,
) -> None:
    engine = FakeEngine()
    outcome = work(engine, directory).create()
    assert not outcome.failed
    assert learners(engine) == names(30)
    assert sorted(machine.learner for machine in outcome.machines) == names(30)
    assert len(set(engine.addresses.values())) == 30
    assert 1 < engine.most_at_once <= 4


def test_who_fails_stops_nobody_and_the_next_create_makes_only_what_is_missing(
    directory: Path,
) -> None:
    engine = FakeEngine(refuse={"learner-03"}, break_={"learner-17"})
    outcome = work(engine, directory).create()
    assert outcome.failed == {
        "learner-03": "the cloud answered 403: no",
        "learner-17": "No valid host was found",
    }
    assert len(outcome.machines) == 28
    first = {id for id, machine in engine.there.items() if machine.state == "running"}
    engine.refuse, engine.break_ = set(), set()
    outcome = work(engine, directory).create()
    assert not outcome.failed
    assert learners(engine) == names(30)
    assert first < engine.there.keys()


@pytest.mark.parametrize(
    "verb", ["require_room", "prepare", "image", "machines", "launch", "address"]
)
def test_a_create_that_was_killed_anywhere_is_gone_on_with(directory: Path, verb: str) -> None:
    engine = FakeEngine()
    seen: list[str] = []

    def kill(now: str) -> None:
        seen.append(now)
        if now == verb and seen.count(verb) == (
            3 if verb in ("machines", "launch", "address") else 1
        ):
            raise KeyboardInterrupt

    engine.kill = kill
    with pytest.raises(KeyboardInterrupt):
        work(engine, directory).create()
    engine.kill = lambda _: None
    assert not work(engine, directory).create().failed
    assert learners(engine) == names(30)
    assert work(engine, directory).destroy().failed == {}
    assert (engine.there, engine.shared) == ({}, set())


def test_two_machines_of_a_learner_become_one(directory: Path) -> None:
    engine = FakeEngine()
    engine.there = {id: Machine(id, "learner-01", "running") for id in ("a", "b")}
    assert not work(engine, directory, 2).create().failed
    assert learners(engine) == names(2)


def test_a_quota_that_is_too_small_is_told_before_anything_is_made(directory: Path) -> None:
    engine = FakeEngine(quota=10)
    with pytest.raises(LabError, match="10 is too small for 30 more"):
        work(engine, directory).create()
    assert (engine.there, engine.shared) == ({}, set())


def test_reset_replaces_the_machine_of_those_who_are_named(directory: Path) -> None:
    engine = FakeEngine()
    work(engine, directory, 3).create()
    before = {machine.learner: id for id, machine in engine.there.items()}
    outcome = work(engine, directory, 3).reset(["learner-02"])
    after = {machine.learner: id for id, machine in engine.there.items()}
    assert [machine.learner for machine in outcome.machines] == ["learner-02"]
    assert {name for name in after if after[name] != before[name]} == {"learner-02"}


def test_a_machine_that_stays_keeps_what_it_stands_on(directory: Path) -> None:
    engine = FakeEngine()
    work(engine, directory, 3).create()
    engine.stuck = {"learner-02"}
    late = work(engine, directory, 3)
    clock = iter(range(0, 10**9, 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labctl.classroom.work.time.monotonic", lambda: next(clock))
        assert list(late.destroy().failed) == ["learner-02"]
    assert engine.shared == {"image", "network"}
    engine.stuck = set()
    assert not work(engine, directory, 3).destroy().failed
    assert (engine.there, engine.shared) == ({}, set())


def test_each_learner_has_a_key_of_their_own_that_only_the_teachers_key_gives(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine, elsewhere = FakeEngine(), FakeEngine()
    work(engine, directory, 3).create()
    work(elsewhere, tmp_path_factory.mktemp("other"), 3).create()
    lines = [*engine.authorized.values(), *elsewhere.authorized.values()]
    assert len({line.split()[1] for line in lines}) == len(lines) == 6
    assert {line.split(maxsplit=2)[2] for line in lines} == {
        f"labctl-class=day labctl-learner={name}" for name in names(3)
    }
    again = FakeEngine()
    work(again, directory, 3).create()
    assert again.authorized == engine.authorized
    assert (directory / ".labctl-class/day/teacher.key").stat().st_mode & 0o777 == 0o600
