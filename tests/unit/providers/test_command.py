"""What Vagrant says, read: lines as recorded from real Vagrants, and runs of a stand-in."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.errors import Cancelled, LabError
from labctl.providers.vagrant.command import OutputLine, VagrantCommand, failure, parse

RECORDED = yaml.safe_load(
    (Path(__file__).parents[2] / "golden" / "vagrant" / "lines.yaml").read_text(encoding="utf-8")
)


# -- lines -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["title"])
def test_recorded_lines(case: dict[str, Any]) -> None:
    said = [one for line in case["said"].splitlines() if (one := parse(line)) is not None]
    assert len(said) == case["lines"]
    assert failure(said) == case["failure"]
    if said:
        target, kind, *data = case["last"]
        assert said[-1] == OutputLine(target, kind, tuple(data))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1795421405",
        "1795421405,one",
        "warning: a, b, c",
        "x1795421405,one,state,running",
        ",,,",
    ],
)
def test_what_is_no_such_line(line: str) -> None:
    assert parse(line) is None


def test_the_ends_of_a_line() -> None:
    assert parse("1,one,state,running\r\n") == OutputLine("one", "state", ("running",))
    assert parse("1,,done") == OutputLine("", "done", ())
    assert parse("1,,ui,info,") == OutputLine("", "ui", ("info", ""))


def test_the_last_reason_counts() -> None:
    said = [
        OutputLine("", "error-exit", ("A", "first")),
        OutputLine("", "error-exit", ("B", "  the\n\nlast  ")),
        OutputLine("", "ui", ("info", "later")),
    ]
    assert failure(said) == "the last"
    assert failure([OutputLine("", "error-exit", ())]) == ""


# -- runs ------------------------------------------------------------------------------------------
@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VagrantCommand:
    """Vagrant in a directory of its own; the program is tmp_path/bin/vagrant."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lab").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("VAGRANT_DOTFILE_PATH", "/of/the/user")
    monkeypatch.setenv("VAGRANT_VAGRANTFILE", "Vagrantfile.of-the-user")
    return VagrantCommand(
        tmp_path / "lab", tmp_path / "logs" / "vagrant.log", {"LABCTL_BOX": "b x"}
    )


def program(tmp_path: Path, script: str) -> None:
    path = tmp_path / "bin" / "vagrant"
    path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_vagrant_is_not_there(command: VagrantCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError, match="'vagrant' is not installed") as error:
        command.run("up", timeout=9)
    assert "labctl doctor" in (error.value.hint or "")
    with pytest.raises(LabError, match="'vagrant' is not installed"), command.python():
        pass


def test_what_it_runs_with(command: VagrantCommand, tmp_path: Path) -> None:
    program(
        tmp_path,
        'echo "1,$VAGRANT_CWD,$VAGRANT_DOTFILE_PATH,$VAGRANT_VAGRANTFILE,$LABCTL_BOX,$*"',
    )
    told: list[OutputLine] = []
    said = command.run("up", "a b", timeout=30, on_output=told.append)
    root = str(tmp_path / "lab")
    words = ("Vagrantfile", "b x", "up a b --machine-readable")
    assert said == told == [OutputLine(root, f"{root}/.vagrant", words)]
    log = (tmp_path / "logs" / "vagrant.log").read_text(encoding="utf-8")
    assert "LABCTL_BOX=b x'" in log  # quoted: the line can be pasted into a shell
    assert "$ vagrant up 'a b' --machine-readable" in log


def test_its_own_reason_is_the_message(command: VagrantCommand, tmp_path: Path) -> None:
    program(tmp_path, "echo 1,,error-exit,V::E,no%!\\(VAGRANT_COMMA\\) never; echo bye; exit 3")
    with pytest.raises(LabError) as error:
        command.run("up", "one", timeout=30)
    assert error.value.message == "`vagrant up` failed: no, never"
    assert error.value.hint == f"see {tmp_path}/logs/vagrant.log"
    assert "bye" in (tmp_path / "logs" / "vagrant.log").read_text(encoding="utf-8")


def test_without_a_reason_its_last_words_are(command: VagrantCommand, tmp_path: Path) -> None:
    program(tmp_path, "echo 'Vagrant failed to initialize' >&2; echo oops >&2; exit 1")
    with pytest.raises(LabError) as error:
        command.run("up", "one", timeout=30)
    assert error.value.message == "vagrant failed (exit 1): Vagrant failed to initialize / oops"
    assert "vagrant.log" in (error.value.hint or "")


def test_it_takes_too_long(command: VagrantCommand, tmp_path: Path) -> None:
    program(tmp_path, "echo 1,,ui,info,working; exec sleep 100")
    with pytest.raises(LabError, match=r"^vagrant did not finish within"):
        command.run("up", timeout=0.5)


def test_cancelling_ends_it_with_all_its_children(command: VagrantCommand, tmp_path: Path) -> None:
    program(tmp_path, f"sleep 300 & echo $! >{tmp_path}/child; echo 1,,ui,info,working; wait")
    seen = threading.Event()
    with pytest.raises(Cancelled):
        command.run(
            "up", timeout=50, cancel=seen.is_set, on_output=lambda one: seen.set()
        )  # fmt: skip
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    until = time.monotonic() + 20
    while child.exists() and "State:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


HELD = {
    "one machine": "Vagrant::Errors::MachineActionLockedError,An action 'up' was attempted",
    "being read": "Vagrant::Errors::MachineLocked,Vagrant can't use the requested machine",
    "several machines": "Vagrant::Errors::BatchMultiError,An error occurred while executing"
    " multiple actions in parallel.\\nbut another process is already executing an action on the"
    " machine.",
}


@pytest.mark.parametrize("words", HELD.values(), ids=HELD.keys())
def test_another_vagrant_is_waited_for(
    command: VagrantCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """One that a killed labctl left goes on, and holds the machine until it ends."""
    monkeypatch.setattr("labctl.providers.vagrant.command._ASK_AGAIN", 0.05)
    program(
        tmp_path,
        f"[ -e {tmp_path}/over ] && echo 1,,ui,info,mine && exit\n"
        f'echo "1,,error-exit,{words}"; touch {tmp_path}/over; exit 1',
    )
    told: list[str] = []
    said = command.run("up", timeout=50, on_output=lambda one: told.append(one.data[-1]))
    assert said == [OutputLine("", "ui", ("info", "mine"))]
    assert any("another Vagrant is at work" in text for text in told)


def test_another_vagrant_is_not_waited_for_for_ever(
    command: VagrantCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.providers.vagrant.command._ASK_AGAIN", 0.05)
    program(tmp_path, "echo 1,,error-exit,Vagrant::Errors::MachineLocked,locked; exit 1")
    with pytest.raises(LabError, match=r"gets the machine.*locked") as error:
        command.run("halt", timeout=0.5)
    assert "end the other Vagrant" in (error.value.hint or "")


MOMENTARY = {
    "service": "VBoxManage: error: Most likely, the VirtualBox COM server is not running",
    "locked": "VBoxManage: error: The machine 'one' is already locked by a\\nsession (or being"
    " locked or unlocked)",
}


@pytest.mark.parametrize("words", MOMENTARY.values(), ids=MOMENTARY.keys())
def test_what_virtualbox_refused_for_a_moment_is_tried_again(
    command: VagrantCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr("labctl.providers.vagrant.command._ASK_AGAIN", 0.05)
    refuse = f"echo x >>{tmp_path}/tries; printf '%s\\n' \"1,,error-exit,V,{words}\"; exit 1"
    program(tmp_path, f"[ -e {tmp_path}/tries ] && echo 1,,ui,info,mine && exit\n{refuse}")
    assert command.run("up", timeout=50) == [OutputLine("", "ui", ("info", "mine"))]
    program(tmp_path, refuse)
    (tmp_path / "tries").unlink()
    with pytest.raises(LabError, match="`vagrant up` failed: ") as error:
        command.run("up", timeout=50)
    assert error.value.log == command.log
    assert (tmp_path / "tries").read_text(encoding="utf-8") == "x\n" * 3


# -- python-vagrant's traps ------------------------------------------------------------------------
def test_status_names_vagrants_reason(command: VagrantCommand, tmp_path: Path) -> None:
    program(tmp_path, "echo 1,,error-exit,V::NoEnvironmentError,no Vagrantfile; exit 1")
    why = "`vagrant status --machine-readable` failed: no Vagrantfile"
    with pytest.raises(LabError, match=why), command.python() as vagrant:
        vagrant.status()


def test_a_reason_on_stderr_is_told_too(command: VagrantCommand, tmp_path: Path) -> None:
    """`ssh-config` is run without --machine-readable."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "vagrant.log").write_text("an old complaint\n", encoding="utf-8")
    program(tmp_path, "printf 'it is not yet\\nready for SSH.\\n' >&2; exit 1")
    with pytest.raises(LabError) as error, command.python() as vagrant:
        vagrant.ssh_config(vm_name="one")
    assert error.value.message == ("`vagrant ssh-config one` failed: it is not yet ready for SSH.")
    program(tmp_path, "exit 7")
    with pytest.raises(LabError, match=r"failed: exit 7$"), command.python() as vagrant:
        vagrant.ssh_config(vm_name="one")


@pytest.mark.parametrize(
    "line",
    ["warning: no commas here", "1,,error-exit,V::E,a reason,of many,words"],
    ids=["a warning on stdout", "a line of more words than it knows"],
)
def test_lines_that_python_vagrant_stumbles_over(
    command: VagrantCommand, tmp_path: Path, line: str
) -> None:
    program(tmp_path, f"echo '{line}'")
    with (
        pytest.raises(LabError, match="cannot be read") as error,
        command.python() as vagrant,
    ):
        vagrant.status()
    assert "run `vagrant status` yourself" in (error.value.hint or "")


def test_the_users_environment_stays_but_for_ours(
    command: VagrantCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    program(
        tmp_path,
        'echo "1,$LABCTL_BOX,state,running"; echo "1,$HTTPS_PROXY,state,x"; pwd >&2',
    )
    with command.python() as vagrant:
        assert [one.name for one in vagrant.status()] == ["b x", "http://proxy"]
    assert str(tmp_path / "lab") in (tmp_path / "logs" / "vagrant.log").read_text(encoding="utf-8")
