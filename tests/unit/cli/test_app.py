"""The command line without a lab: exit codes, messages, no traceback."""

import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.cli import app
from labctl.errors import EXIT_USAGE
from labctl.spec.load import load_spec
from tests.documents import expect_document, expect_said_by
from tests.scripts import load_script


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> "Run":
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_NO_SUDO", "1")
    monkeypatch.setenv("LABCTL_LANG", "en")
    return Run(monkeypatch, capsys)


class Run:
    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of `labctl WORDS`."""
        self._patch.setattr(sys, "argv", ["labctl", *words])
        code = app.main()
        out, err = self._capsys.readouterr()
        return code, out, err


def test_init_writes_a_lab_that_is_valid(run: Run) -> None:
    code, out, _ = run("init", "my-lab")
    assert (code, "lab.yaml is written" in out) == (0, True)
    assert load_spec(Path("lab.yaml")).name == "my-lab"
    first = Path("lab.yaml").read_text().splitlines()[0]
    assert Path(first.partition("$schema=")[2]).is_file()
    assert run("validate")[0] == 0


@pytest.mark.parametrize(
    "value",
    ["abc", "-1", "0", "1.5", "inf", "nan", "1e9", "9" * 5000, "٣"],
    ids=lambda value: ascii(value[:5]),
)
@pytest.mark.parametrize("verb", ["create", "status"])
@pytest.mark.parametrize("provider", ["virtualbox", "nspawn"])
def test_a_timeout_factor_that_is_none_is_refused_before_anything_is_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, provider: str, verb: str, value: str
) -> None:
    Path("lab.yaml").write_text(f"name: x\nprovider: {provider}\n")
    monkeypatch.setenv("LABCTL_PATIENCE", value)
    code, out, err = run(verb)
    assert (code, out) == (2, "")
    assert "LABCTL_PATIENCE is" in err
    assert "a whole number from 1 to 100" in " ".join(err.split())
    assert "Traceback" not in err
    assert [path.name for path in Path().iterdir()] == ["lab.yaml"]


def test_init_overwrites_nothing(run: Run) -> None:
    Path("lab.yaml").write_text("name: mine\n")
    code, _, err = run("init")
    assert (code, "exists already" in err) == (2, True)
    assert Path("lab.yaml").read_text() == "name: mine\n"


def test_init_refuses_a_name_that_is_none(run: Run) -> None:
    code, _, err = run("init", "Not A Name")
    assert (code, "not a lab's name" in err) == (2, True)
    assert not Path("lab.yaml").exists()


def test_validate_says_everything_at_once(run: Run) -> None:
    Path("lab.yaml").write_text("name: x\nnat: {subnet: 10.0.2.0/33}\ncolour: red\n")
    code, out, err = run("validate")
    assert code == 2
    assert out == ""
    lines = err.strip().splitlines()
    assert [line.split(": ")[0] for line in lines] == ["lab.yaml:2", "lab.yaml:3"]


def test_validate_for_programs(run: Run) -> None:
    Path("lab.yaml").write_text("name: x\ncolour: red\n")
    code, out, _ = run("validate", "--json")
    (problem,) = expect_document("validate", json.loads(out))["problems"]
    assert (code, problem["line"], problem["path"]) == (2, 2, "colour")
    Path("lab.yaml").write_text("name: x\n")
    code, out, _ = run("validate", "--json")
    assert code == 0
    assert expect_document("validate", json.loads(out)) == {"valid": True, "problems": []}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["validate", "-f", "no.yaml"], 2, "no.yaml"),
        (["status", "-f", "no.yaml"], 2, "no.yaml"),
        (["frobnicate"], 2, "No such command"),
        (["replay"], 2, "Missing argument"),
        (["--lang", "de", "lessons"], 2, "zh-TW"),
    ],
)
def test_wrong_use_is_told(run: Run, words: list[str], code: int, said: str) -> None:
    got, out, err = run(*words)
    assert got == code
    assert said in out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("words", [[], ["snapshot"], ["--lang", "LANGUAGE"]])
@pytest.mark.parametrize(
    ("language", "begins"), [("en", "Usage: labctl"), ("zh-TW", "用法：labctl")]
)
def test_without_a_verb_the_help_is_shown_and_no_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, language: str, begins: str, words: list[str]
) -> None:
    monkeypatch.setenv("LABCTL_LANG", language)
    words = [word.replace("LANGUAGE", language) for word in words]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.strip() == run(*words, "--help")[1].strip()
    assert err.strip().startswith(begins)


@pytest.mark.parametrize("verb", ["halt", "up", "logs"])
def test_verbs_that_need_a_lab_say_so(run: Run, verb: str) -> None:
    Path("lab.yaml").write_text("name: x\n")
    code, _, err = run(verb)
    assert code == 1
    assert "labctl create" in err


def test_destroy_without_a_lab_is_fine(run: Run) -> None:
    Path("lab.yaml").write_text("name: x\n")
    assert run("destroy")[0] == 0


class Terminal(io.StringIO):
    """Somebody at a terminal, who types what it holds."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "options", "code"),
    [("n\n", [], 1), ("", [], 130), ("y\n", [], 0), ("", ["--yes"], 0)],
)
def test_destroy_asks_before_snapshots_of_ones_own_go(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, options: list[str], code: int
) -> None:
    Path("lab.yaml").write_text("name: x\n")
    monkeypatch.setattr("labctl.actions.destroy.snapshots_of_the_user", lambda lab: ["mine"])
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    done, out, err = run("destroy", *options)
    assert done == code, err
    assert ("snapshots mine?" in out) is (not options)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run("destroy")[0] == 0, "a script is not asked"


def test_a_provider_that_is_not_there_is_not_ignored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lab.yaml").write_text("name: x\nprovider: virtualbox\n")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("LABCTL_PROVIDER", "nspawn")  # of an `auto` before: not meant here
    code, _, err = run("create")
    assert code == 1
    assert "VirtualBox" in err
    assert "labctl doctor" in err
    assert not Path(".labctl").exists()


def test_lessons_in_both_languages(run: Run) -> None:
    assert "through an address of its own" in run("lessons")[1]
    assert "從 Internet 連線到 instance" in run("--lang", "zh-TW", "lessons")[1]


def test_the_course_is_shown_before_there_is_a_lab(run: Run) -> None:
    code, said, _ = run("course")
    assert (code, "floating-ip" in said, "there is no lab.yaml here" in said) == (0, True, True)
    code, _, said = run("course", "-f", "other.yaml")
    assert (code, "other.yaml: there is no such file" in said) == (EXIT_USAGE, True)
    run("init", "my-lab")
    code, said, _ = run("course", "--json")
    course = expect_said_by(("course",), json.loads(said))
    assert (code, course["lab"]) == (0, "my-lab")
    assert course["next"] is not None


def test_our_own_defects_leave_a_report_and_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("labctl.lessons.load.available", broken)
    code, out, err = run("lessons")
    assert code == 1
    assert "Traceback" not in out + err
    log = next(word for word in err.split() if "labctl-crash-" in word)
    assert "ZeroDivisionError: on purpose" in Path(log).read_text()
    Path(log).unlink()


def test_a_full_disk_is_no_defect_of_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/lab/.labctl/events.jsonl")

    monkeypatch.setattr("labctl.lessons.load.available", full)
    code, _, err = run("lessons")
    assert code == 1
    assert "the disk is full: /lab/.labctl/events.jsonl" in err
    assert "labctl-crash-" not in err


def test_help_is_instant() -> None:
    """As SPECIFICATION.md promises: against importing typer alone, on the same machine."""
    figures = load_script("figures")
    promise = figures.promises(figures.SPECIFICATION.read_text("utf-8"))["start"]
    figure = figures.start()
    assert figure.against > 0.01  # typer was imported
    assert not figures.exceeded(figure, promise), figure


def test_help_loads_nothing_slow() -> None:
    code = "import sys, labctl.cli.app; print(*[m for m in ('rich', 'openstack', 'paramiko', 'pydantic', 'scapy', 'yaml') if m in sys.modules])"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: x\n")
    command = f"{sys.executable} -m labctl validate -f {tmp_path}/lab.yaml | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_ctrl_c_tells_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labctl.lessons.load.available", interrupted)
    code, _, err = run("lessons")
    assert (code, "the same command goes on" in err) == (130, True)
