"""Host commands: what they leave, how they are stopped, and what is said when they fail."""

import ast
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.errors import EXIT_FAILED, Cancelled, LabError
from labctl.run import run, run_bounded, spawn, stop_service, stream
from tests.processes import alive


def never() -> bool:
    return False


def gone(pid: int) -> bool:
    """Whether the process ends, soon."""
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def pid_in(file: Path) -> int:
    """The process ID that a command wrote into a file; waits for it."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if file.exists() and (text := file.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.01)
    raise AssertionError(f"nobody wrote {file}")


# -- run -------------------------------------------------------------------------------------------
def test_streams_and_exit_code_come_back_apart() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_words_arrive_as_they_are(tmp_path: Path) -> None:
    words = ["a b", "$(id)", "'", '"', "*", "", "ü\n"]
    script = "import sys; print(sys.argv[1:])"
    done = run([sys.executable, "-c", script, *words])
    assert ast.literal_eval(done.stdout) == words
    assert run(["cat", tmp_path / "missing"], check=False).returncode == 1  # a Path is a word too


def test_input_is_fed_and_without_it_there_is_none() -> None:
    assert run(["cat"], input="to you").stdout == "to you"
    assert run(["cat"]).stdout == ""


def test_what_the_user_types_is_not_for_the_command() -> None:
    ours, terminal = os.pipe()  # nobody ever writes: a command that reads it waits for ever
    saved = os.dup(0)
    os.dup2(ours, 0)
    try:
        assert run(["cat"], timeout=5).stdout == ""
    finally:
        os.dup2(saved, 0)
        for each in (ours, terminal, saved):
            os.close(each)


def test_directory_and_environment(tmp_path: Path) -> None:
    done = run(["/bin/sh", "-c", "pwd; echo $ONLY$HOME"], cwd=tmp_path, env={"ONLY": "this"})
    assert done.stdout == f"{tmp_path}\nthis\n"


def test_bytes_that_are_no_text_do_not_hurt() -> None:
    assert run(["printf", r"a\377b"]).stdout == "a�b"


def test_a_failure_carries_command_exit_code_and_last_words() -> None:
    with pytest.raises(LabError) as error:
        run(["sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i >&2; done; exit 7"], hint="do so")
    assert "sh -c 'for i" in error.value.message
    assert error.value.message.endswith("(exit 7): line 3 / line 4 / line 5 / line 6")
    assert (error.value.hint, error.value.code) == ("do so", EXIT_FAILED)


def test_a_command_that_is_silent_on_stderr_is_quoted_from_stdout() -> None:
    with pytest.raises(LabError, match="it is full"):
        run(["sh", "-c", "echo it is full; exit 1"])


def test_a_missing_command_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="'no-such-command' is not installed"):
        run(["no-such-command", "--help"])
    with pytest.raises(LabError, match="is not installed"):
        stream(["no-such-command"], log=tmp_path / "log", timeout=5, cancel=never)


def test_what_cannot_be_executed_is_an_error_too(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text("#!/bin/sh\n")
    with pytest.raises(LabError, match=r"cannot be run: .*Permission denied"):
        run([file])
    with pytest.raises(LabError, match=r"cannot be run: .*Permission denied"):
        stream([file], log=tmp_path / "log", timeout=5, cancel=never)


def test_a_missing_directory_is_not_a_missing_command(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"cannot be run: .*nowhere"):
        run(["true"], cwd=tmp_path / "nowhere")


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pytest.raises(LabError, match="did not finish within 0 s"):
        run(["sh", "-c", f"echo $$ >{file}; exec sleep 60"], timeout=0.3)
    assert gone(pid_in(file))


# -- stream ----------------------------------------------------------------------------------------
def test_lines_go_to_the_log_and_to_the_listener(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "new" / "log"
    command = ["sh", "-c", "echo one; echo; echo '  two  ' >&2; printf three"]
    stream(command, log=log, timeout=10, cancel=never, on_line=lines.append)
    assert lines == ["one", "two", "three"]
    first, rest = log.read_text().split("\n", 1)
    assert first.startswith("$ sh -c 'echo one;")
    assert rest == "one\n\n  two  \nthree"


def test_the_log_is_continued_not_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("first", "second"):
        stream(["echo", word], log=log, timeout=10, cancel=never)
    assert log.read_text() == "$ echo first\nfirst\n$ echo second\nsecond\n"


def test_lines_come_while_the_command_runs(tmp_path: Path) -> None:
    # The command waits for what its own line makes the listener do.
    go = tmp_path / "go"
    script = f"echo ready; until [ -e {go} ]; do sleep 0.01; done"
    stream(
        ["sh", "-c", script],
        log=tmp_path / "log",
        timeout=10,
        cancel=never,
        on_line=lambda line: go.touch(),
    )


def test_a_character_that_is_split_between_reads_stays_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    script = r"printf '\344\270'; sleep 0.1; printf '\255\377\n'"
    stream(
        ["bash", "-c", script],
        log=tmp_path / "log",
        timeout=10,
        cancel=never,
        on_line=lines.append,
    )
    assert lines == ["中�"]
    assert (tmp_path / "log").read_bytes().endswith("中".encode() + b"\xff\n")


def test_much_output_arrives_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    stream(["seq", "100000"], log=tmp_path / "log", timeout=30, cancel=never, on_line=lines.append)
    assert lines == [str(number) for number in range(1, 100001)]


def test_a_failing_stream_names_its_last_lines_and_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(LabError) as error:
        stream(
            ["sh", "-c", "seq 9; printf 'E: no mirror' >&2; exit 25"],
            log=log,
            timeout=10,
            cancel=never,
            hint="is there a network?",
        )
    assert error.value.message == "sh failed (exit 25): 7 / 8 / 9 / E: no mirror"
    assert (error.value.log, error.value.hint) == (log, "is there a network?")


def test_stdin_is_empty(tmp_path: Path) -> None:
    stream(["cat"], log=tmp_path / "log", timeout=10, cancel=never)


def test_the_command_is_waited_for_although_it_closed_its_output(tmp_path: Path) -> None:
    done = tmp_path / "done"
    script = f"exec >&- 2>&-; sleep 0.3; touch {done}; exit 4"
    with pytest.raises(LabError, match="exit 4"):
        stream(["sh", "-c", script], log=tmp_path / "log", timeout=10, cancel=never)
    assert done.exists()
    with pytest.raises(LabError, match="did not finish"):
        stream(
            ["sh", "-c", "exec >&- 2>&-; exec sleep 60"],
            log=tmp_path / "log",
            timeout=0.3,
            cancel=never,
        )


FAMILY = """
sleep 300 & echo $! >{dir}/child
sh -c 'trap "" TERM; echo $$ >{dir}/deaf; while :; do sleep 300; done' &
echo $$ >{dir}/parent
wait
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """The processes of FAMILY; whatever the test makes of them, none outlives it."""

    def pids() -> list[int]:
        return [pid_in(tmp_path / name) for name in ("child", "deaf", "parent")]

    yield pids
    for pid in pids():
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def all_started(directory: Path) -> bool:
    files = [directory / name for name in ("child", "deaf", "parent")]
    return all(file.exists() and file.read_text().endswith("\n") for file in files)


def test_a_timeout_ends_the_whole_family(
    tmp_path: Path, family: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.operating_system import processes

    monkeypatch.setattr(processes, "END_TIMEOUT", 0.3)
    with pytest.raises(LabError, match="sh did not finish within 1 s"):
        stream(
            ["sh", "-c", FAMILY.format(dir=tmp_path)],
            log=tmp_path / "log",
            timeout=1,
            cancel=never,
            hint="",
        )
    assert all(gone(pid) for pid in family())


def test_cancelling_ends_the_whole_family(
    tmp_path: Path, family: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.operating_system import processes

    monkeypatch.setattr(processes, "END_TIMEOUT", 0.3)
    with pytest.raises(Cancelled):
        stream(
            ["sh", "-c", FAMILY.format(dir=tmp_path)],
            log=tmp_path / "log",
            timeout=60,
            cancel=lambda: all_started(tmp_path),
        )
    assert all(gone(pid) for pid in family())


def test_a_command_may_end_in_peace(tmp_path: Path) -> None:
    cancel = threading.Event()
    script = f"trap 'sleep 0.2; echo tidy >{tmp_path}/tidy; exit' TERM; echo up; sleep 60 & wait"
    with pytest.raises(Cancelled):
        stream(
            ["bash", "-c", script],
            log=tmp_path / "log",
            timeout=60,
            cancel=cancel.is_set,
            on_line=lambda line: cancel.set(),
        )
    assert (tmp_path / "tidy").read_text() == "tidy\n"


def test_a_listener_that_fails_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def break_down(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="up"):
        stream(
            ["sh", "-c", f"echo $$ >{file}; echo up; exec sleep 60"],
            log=tmp_path / "log",
            timeout=60,
            cancel=never,
            on_line=break_down,
        )
    assert gone(pid_in(file))


# -- spawn -----------------------------------------------------------------------------------------
def test_a_spawned_command_lives_in_a_session_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    spawn(["sh", "-c", "echo $$; echo err >&2; pwd; exec sleep 60"], log=log, cwd=tmp_path)
    until = time.monotonic() + 5
    while len(log.read_text().splitlines()) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    number, *rest = log.read_text().splitlines()
    pid = int(number)
    try:
        assert rest == ["err", str(tmp_path)]
        assert os.getsid(pid) == pid
        parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
        assert int(parent) != os.getpid(), "it is nobody's child here"
    finally:
        os.kill(pid, signal.SIGKILL)


# -- spawn and stop_service where systemd runs the host -------------------------------------------
@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of systemd that only write down how they were called; the file they write to."""
    calls = tmp_path / "calls"
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("systemd-run", "systemctl"):
        script = bin_ / name
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name}" "$@" END >>{calls}\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr("labctl.run.SYSTEMD", tmp_path)
    return calls


def test_with_systemd_a_spawned_command_is_a_service(systemd: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    spawn(["sleep", "$HOME", "a b"], log=log, unit="labctl-x", properties=["Delegate=yes"])
    reset, start = systemd.read_text().split("END\n")[:2]
    assert reset.split() == ["systemctl", "reset-failed", "labctl-x.service"]
    words = start.splitlines()
    assert words[0] == "systemd-run"
    assert "--unit=labctl-x" in words
    assert f"--property=StandardOutput=append:{log}" in words
    assert "--property=Delegate=yes" in words
    # systemd would expand a variable; "$$" is how it is told not to.
    assert words[words.index("--") + 1 :] == ["sleep", "$$HOME", "a b"]


def test_a_service_that_cannot_start_is_told_with_a_hint(systemd: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "systemd-run").write_text("#!/bin/sh\necho no unit for you >&2\nexit 1\n")
    with pytest.raises(LabError, match="no unit for you") as caught:
        spawn(["true"], log=tmp_path / "log", unit="labctl-x")
    assert "systemctl status labctl-x" in caught.value.hint


def test_retiring_waits_for_the_unit(systemd: Path) -> None:
    stop_service("labctl-x")
    assert systemd.read_text().split() == ["systemctl", "stop", "labctl-x.service", "END"]


def test_of_a_stranger_only_so_much_is_read_and_only_for_so_long() -> None:
    began = time.monotonic()
    endless = run_bounded(["sh", "-c", "yes hello; yes hello >&2"], timeout=60, most=1000)
    assert endless.stdout == ("hello\n" * 200)[:1000]
    assert not endless.timed_out
    late = run_bounded(["sh", "-c", "echo begun; sleep 60"], timeout=0.5, most=1000)
    assert (late.stdout, late.timed_out) == ("begun\n", True)
    assert time.monotonic() - began < 20
    done = run_bounded(["sh", "-c", "cat; echo out; echo err >&2; exit 7"], timeout=60, most=1000)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    with pytest.raises(LabError, match="not installed"):
        run_bounded(["labctl-has-no-such-command"], timeout=1, most=1)
