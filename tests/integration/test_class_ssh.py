"""A class on machines that are there: real OpenSSH servers, real keys, labctl in each machine."""

import csv
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.access import keys
from labctl.lessons.load import load_lesson
from labctl.lessons.progress import Failing, Position, write_failing, write_position
from tests.integration.class_machines import TOOLS, Machine, Teacher, running

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]
LESSON = load_lesson("ovn-logical-switch")


@pytest.fixture
def directory(require: Callable[..., None]) -> Iterator[Path]:
    require(*TOOLS, root=True)
    with tempfile.TemporaryDirectory(prefix="labctl-class-", dir="/var/tmp") as made:
        yield Path(made)


@pytest.fixture
def key(directory: Path) -> Path:
    keys.ensure(directory / "key")
    return directory / "key"


@pytest.fixture
def machines(directory: Path, key: Path) -> Iterator[list[Machine]]:
    with running(directory, key, "amy", "bob") as made:
        yield made


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where a connection is taken and nothing is said."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield listening.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port where every connection is refused, as long as the test holds it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def teacher(directory: Path, key: Path) -> Teacher:
    return Teacher(directory / "laptop", key)


def log_in(teacher: Teacher, learner: str, key: str) -> "subprocess.CompletedProcess[str]":
    """What a learner types who has their card: the command of the table."""
    with (teacher.directory / "cards/cards.csv").open(encoding="utf-8", newline="") as table:
        (card,) = [row for row in csv.DictReader(table) if row["learner"] == learner]
    command = card["command"].replace(card["key"], key).split()
    options = ["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
               "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"]  # fmt: skip
    return subprocess.run(
        [command[0], *options, *command[1:], "cat", "bin/whose"],
        cwd=teacher.directory / "cards", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_day_with_two_machines_and_one_that_is_off(
    directory: Path, key: Path, machines: list[Machine], teacher: Teacher, closed: int
) -> None:
    amy, bob = machines
    for machine in machines:
        (machine.home / "bin/whose").write_text(machine.directory.name)
    before = [machine.files() for machine in machines]
    ports = {"amy": amy.port, "bob": bob.port}
    teacher.writes({**ports, "cat": closed}, ends="2099-03-05T17:00+08:00")

    done = teacher("create")
    assert done.returncode == 1
    assert "2 of 3 machines run" in done.stdout
    assert "cat: SSH: " in done.stdout + done.stderr
    assert teacher("cards").returncode == 0
    assert sorted(path.name for path in (teacher.directory / "cards").iterdir()) == [
        "amy.key", "bob.key", "cards.csv", "cards.html", "cat.key",
    ]  # fmt: skip
    for learner, other in (("amy", "bob"), ("bob", "amy")):
        entered = log_in(teacher, learner, f"{learner}.key")
        assert (entered.returncode, entered.stdout) == (0, learner), entered.stderr
        refused = log_in(teacher, learner, f"{other}.key")
        assert refused.returncode == 255
        assert "Permission denied" in refused.stderr
    helped = teacher("ssh", "bob", "--", "cat", "bin/whose")
    assert (helped.returncode, helped.stdout) == (0, "bob")
    assert teacher("reset", "amy").returncode == 2
    assert teacher("log", "amy").returncode == 2

    assert teacher("extend", "2h").returncode == 1, "one machine is off"
    report = teacher.json("status")
    assert report["ends"] == "2099-03-05T19:00:00+08:00"
    assert [(row["learner"], row["ssh"]) for row in report["learners"]] == [
        ("amy", True), ("bob", True), ("cat", False),
    ]  # fmt: skip

    # Another laptop has class.yaml and the owner's key, and nothing of the class.
    elsewhere = Teacher(directory / "elsewhere", key)
    elsewhere.writes({**ports, "cat": closed}, ends="2020-01-01T00:00Z")
    assert elsewhere.json("status")["ends"] == "2099-03-05T19:00:00+08:00"
    kept = elsewhere("destroy", "--ended", "--yes")
    assert (kept.returncode, "nothing is removed" in kept.stdout) == (0, True)
    assert "another teacher's key" in elsewhere("create").stderr
    gone = elsewhere("destroy", "--yes")
    assert gone.returncode == 1
    assert "cat: SSH: " in gone.stdout + gone.stderr
    # The owner's line had no end, and has one now.
    wanted = [{path: text + "\n" if "authorized_keys" in path else text
               for path, text in files.items()} for files in before]  # fmt: skip
    assert [machine.files() for machine in machines] == wanted
    elsewhere.writes(ports)
    done = elsewhere("destroy", "--yes")
    assert (done.returncode, "nothing of class day is left" in done.stdout) == (0, True)
    assert log_in(teacher, "amy", "amy.key").returncode == 255
    owner = log_in(teacher, "amy", str(key))
    assert (owner.returncode, owner.stdout) == (0, "amy"), "the owner gets in as before"


def test_another_host_key_than_before_is_not_believed(
    machines: list[Machine], teacher: Teacher
) -> None:
    amy, bob = machines
    teacher.writes({"amy": amy.port, "bob": bob.port})
    assert teacher("create").returncode == 0
    amy.stop()
    amy.start()
    assert teacher("ssh", "amy", "--", "true").returncode == 255
    rows = teacher.json("check", code=3)["learners"]
    assert [row["result"] for row in rows] == ["unreachable", "none"]
    assert "Host key verification failed" in rows[0]["reason"]
    done = teacher("destroy", "--yes")
    assert done.returncode == 1
    assert "Host key verification failed" in done.stdout + done.stderr


def test_who_is_where_by_the_files_of_real_labs(machines: list[Machine], teacher: Teacher) -> None:
    amy, bob = machines
    teacher.writes({"amy": amy.port, "bob": bob.port})
    assert teacher("create").returncode == 0
    lab = amy.lab()
    first, second = LESSON.checkpoints[:2]
    position = Position().entered(LESSON, LESSON.id, practice=True).passing(LESSON, first)
    mine = replace(position.lessons[LESSON.id], since=time.time() - 1000)
    write_position(lab.state, replace(position, lessons={LESSON.id: mine}))
    write_failing(lab.state, Failing(LESSON.id, second.id, time.time(), {"x": "It is bound"}))
    one, other = teacher.json("status")["learners"]
    assert one["silent"] == ""
    pace = one["pace"]
    assert (pace["lesson"], pace["checkpoint"], pace["passed"]) == (LESSON.id, second.id, 1)
    assert (pace["stuck"], pace["failing"]) == (True, ["It is bound"])
    assert 1000 <= pace["here"] < 1100
    assert other["pace"] is None
    assert other["silent"], "there is no lab, and not even its directory"
    assert not teacher.json("status", "--stuck", "30")["learners"][0]["pace"]["stuck"]
    shown = teacher("status").stdout
    assert "stuck: amy" in shown
    assert f"{LESSON.id}/{second.id} (1/{len(LESSON.checkpoints)})" in shown
    assert "did not hold: It is bound" in shown


def test_status_looks_again_and_again(machines: list[Machine], teacher: Teacher) -> None:
    amy, _ = machines
    teacher.writes({"amy": amy.port})
    assert teacher("create").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl", "class", "status", "--watch", "--every", "5", "--json"],
        cwd=teacher.directory, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        looks = [json.loads(process.stdout.readline())]
        amy.stop()
        looks.append(json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        process.communicate()
    assert [look["learners"][0]["ssh"] for look in looks] == [True, False]


def test_every_lab_is_graded_whatever_the_others_do(
    machines: list[Machine], teacher: Teacher, silent: int
) -> None:
    amy, bob = machines
    amy.lab()
    bob.lab()
    bob.labctl("#!/bin/sh\nexec sleep 600\n")
    teacher.writes({"amy": amy.port, "bob": bob.port, "cat": silent})
    teacher("create")
    began = time.monotonic()
    done = teacher("check", "--deadline", "20", "--csv", "grades.csv", "--xlsx", "grades.xlsx")
    assert done.returncode == 3
    assert time.monotonic() - began < 150, "10 minutes is what one machine wants"
    assert "0 of 3 learners are done" in done.stdout
    with (teacher.directory / "grades.csv").open(encoding="utf-8-sig", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["learner"], row["result"]) for row in rows] == [
        ("amy", "none"), ("bob", "unreachable"), ("cat", "unreachable"),
    ]  # fmt: skip
    assert rows[0]["reason"], "labctl there says why"
    assert rows[1]["reason"] == "it did not answer in time"
    assert rows[2]["reason"].startswith("SSH: ")
    assert (teacher.directory / "grades.xlsx").read_bytes().startswith(b"PK")
    assert [row["learner"] for row in teacher.json("check", "amy", code=3)["learners"]] == ["amy"]
