"""The engine ssh: what it does on a machine, run by a real shell in a home of the test's own."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labctl.classroom.load import parse_class
from labctl.classroom.registry import find
from labctl.classroom.ssh.machines import SSHEngine
from labctl.classroom.work import ClassWork
from labctl.errors import LabError
from labctl.run import Completed

OTHERS = "ssh-ed25519 AAAAC3Nz somebody@elsewhere\nssh-ed25519 AAAA labctl-class=day-2\n"


@dataclass
class Machines:
    """Three machines, each a home directory; the command that SSH would carry is run there."""

    root: Path
    down: set[str] = field(default_factory=set)
    """Addresses that do not answer."""
    kill_after: str = ""
    """A machine where `take` stops at this command."""
    argv: list[Sequence[str]] = field(default_factory=list)

    def home(self, number: int) -> Path:
        path = self.root / f"192.0.2.{number}"
        path.mkdir(exist_ok=True)
        return path

    def run(self, argv: Sequence[str]) -> Completed:
        self.argv.append(argv)
        *_, place, command = argv
        address = place.rpartition("@")[2]
        if address in self.down:
            return Completed(255, "", f"ssh: connect to host {address} port 22: No route to host\n")
        home = self.home(int(address.rpartition(".")[2]))
        path = os.environ["PATH"]
        if self.kill_after:
            command = command.replace(self.kill_after, f"{self.kill_after}; exit 9", 1)
        done = subprocess.run(
            ["sh", "-c", f"echo Welcome to {address}; {command}"],
            env={"HOME": str(home), "PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Completed(done.returncode, done.stdout, done.stderr)

    def files(self, number: int) -> dict[str, tuple[str, int]]:
        """{path: (content, mode)} of all files, and of directories with content "/"."""
        home = self.home(number)
        return {
            str(path.relative_to(home)): (
                "/" if path.is_dir() else path.read_text(),
                path.stat().st_mode & 0o777,
            )
            for path in sorted(home.rglob("*"))
        }


Make = Callable[..., ClassWork]


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


@pytest.fixture
def work(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Make:
    laptop = tmp_path_factory.mktemp("laptop")

    def make(learners: str = "[amy, bob]", *, laptop: Path = laptop, rows: str = "") -> ClassWork:
        rows = rows or "{address: 192.0.2.1}, {address: 192.0.2.2}, {address: 192.0.2.3}"
        text = f"name: day\nengine: ssh\nlearners: {learners}\nssh: {{machines: [{rows}]}}\n"
        spec = parse_class(text.encode(), "class.yaml")
        engine = SSHEngine(spec, laptop, machines.run)
        return ClassWork(spec, engine, laptop, lambda _: None, sleep=lambda _: None)

    return make


def keys(machines: Machines, number: int) -> list[str]:
    """The comments of the keys that a machine lets in."""
    file = machines.home(number) / ".ssh/authorized_keys"
    return [line.split(maxsplit=2)[2] for line in file.read_text().splitlines()]


def test_a_machine_lets_its_learner_and_the_teacher_in(machines: Machines, work: Make) -> None:
    outcome = work().create()
    assert outcome.failed == {}
    assert [(m.learner, m.address) for m in outcome.machines] == [
        ("amy", "192.0.2.1"), ("bob", "192.0.2.2"),
    ]  # fmt: skip
    for number, learner in ((1, "amy"), (2, "bob")):
        assert keys(machines, number) == [
            "labctl-class=day", f"labctl-class=day labctl-learner={learner}",
        ]  # fmt: skip
        assert machines.files(number)[".ssh/authorized_keys"][1] == 0o600
    assert machines.files(3) == {}, "a spare machine is left alone"


def test_create_again_changes_nothing(machines: Machines, work: Make) -> None:
    work().create()
    before = machines.files(1)
    assert not work().create().failed
    assert machines.files(1) == before


@pytest.mark.parametrize("keys_before", [None, "", OTHERS, OTHERS.strip()])
def test_destroy_leaves_the_machine_as_it_was(
    machines: Machines, work: Make, keys_before: str | None
) -> None:
    home = machines.home(1)
    (home / "notes").write_text("mine")
    if keys_before is not None:
        (home / ".ssh").mkdir(mode=0o755)
        (home / ".ssh/authorized_keys").write_text(keys_before)
        (home / ".ssh/authorized_keys").chmod(0o640)
    before = machines.files(1)
    work().create()
    during = machines.files(1)[".ssh/authorized_keys"][0]
    assert keys_before is None or during.startswith(keys_before)
    assert len(during.splitlines()) == 2 + len((keys_before or "").splitlines())
    assert work().destroy().failed == {}
    after = machines.files(1)
    if keys_before == OTHERS.strip():  # a line without its end gets one
        before[".ssh/authorized_keys"] = (OTHERS, 0o640)
    assert after == before


def test_destroy_needs_no_key_of_the_class(
    machines: Machines, work: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work().create()
    assert work(laptop=tmp_path_factory.mktemp("another")).destroy().failed == {}
    assert machines.files(1) == machines.files(2) == {}


def test_another_laptops_key_is_not_mixed_in(
    machines: Machines, work: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work("[amy]").create()
    before = machines.files(1)
    with pytest.raises(LabError, match="another teacher's key"):
        work(laptop=tmp_path_factory.mktemp("another")).create()
    assert (machines.files(1), machines.files(2)) == (before, {})


def test_a_machine_that_is_down_stops_nobody_and_is_not_called_clean(
    machines: Machines, work: Make
) -> None:
    machines.down = {"192.0.2.2"}
    outcome = work().create()
    assert [machine.learner for machine in outcome.machines] == ["amy"]
    assert list(outcome.failed) == ["bob"]
    assert "No route to host" in outcome.failed["bob"]
    machines.down = set()
    assert not work().create().failed
    machines.down = {"192.0.2.2"}
    assert list(work().destroy().failed) == ["bob"]
    assert machines.files(1) == {}
    machines.down = set()
    assert work().destroy().failed == {}
    assert machines.files(2) == {}


@pytest.mark.parametrize(
    "command",
    [
        'mv "$label.new" "$label"',
        'mkdir -p "$HOME/.ssh"',
        'cp -p "$file" "$file.labctl-class"',
        "replace_keys",
    ],
)
def test_a_preparation_that_was_killed_is_done_again(
    machines: Machines, work: Make, command: str
) -> None:
    machines.kill_after = command
    assert set(work().create().failed) == {"amy", "bob"}
    machines.kill_after = ""
    assert not work().create().failed
    assert keys(machines, 1) == ["labctl-class=day", "labctl-class=day labctl-learner=amy"]
    assert work().destroy().failed == {}
    assert machines.files(1) == {}


def test_a_machine_is_not_taken_from_a_learner_by_a_change_of_the_list(
    machines: Machines, work: Make
) -> None:
    work().create()
    before = machines.files(1)
    outcome = work("[zoe, amy, bob]").create()
    assert "was given to amy" in outcome.failed["zoe"]
    assert "192.0.2.2 was given to bob" in outcome.failed["bob"]
    assert (machines.files(1), machines.files(3)) == (before, {})
    rows = "{address: 192.0.2.1, learner: amy}, {address: 192.0.2.2, learner: bob}"
    assert not work("[zoe, amy, bob]", rows=rows + ", {address: 192.0.2.3}").create().failed
    assert keys(machines, 3)[1] == "labctl-class=day labctl-learner=zoe"
    assert machines.files(1) == before


def test_ssh_asks_nothing_and_takes_no_option_from_class_yaml(
    machines: Machines, work: Make, tmp_path: Path
) -> None:
    (tmp_path / "own key").write_text("")
    rows = (
        f"{{address: 192.0.2.1, port: 2222, user: lab, key: {tmp_path / 'own key'}}},"
        " {address: 192.0.2.2}"
    )
    work(rows=rows).create()
    first = next(argv for argv in machines.argv if "lab@192.0.2.1" in argv)
    second = next(argv for argv in machines.argv if "debian@192.0.2.2" in argv)
    assert f'IdentityFile="{tmp_path / "own key"}"' in first
    assert first[first.index("-p") + 1] == "2222"
    assert second[0] == "ssh"
    assert "IdentitiesOnly=yes" not in second, "the user's own ssh decides"
    for argv in (first, second):
        assert "BatchMode=yes" in argv


def test_such_a_machine_has_no_console_and_is_not_replaced(work: Make) -> None:
    work().create()
    assert not find("ssh").makes_machines
    assert find("openstack").makes_machines
    with pytest.raises(LabError, match="console"):
        work().console_log("amy")


def test_the_end_of_the_class_is_on_the_machine(machines: Machines, work: Make) -> None:
    work().create()
    now = datetime(2027, 3, 5, tzinfo=UTC)
    assert work().end() is None
    before = machines.files(1)
    end, outcome = work().extend("2027-03-05T17:00+08:00", now)
    assert not outcome.failed
    assert work().end() == end
    work().extend("2h", now)
    assert work().end() == end + timedelta(hours=2)
    after = machines.files(1)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {".labctl-class/day"}
    assert not work().create().failed
    assert work().end() == end + timedelta(hours=2)
    assert work().destroy().failed == {}
    assert machines.files(1) == {}
