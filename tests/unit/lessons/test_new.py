"""`labctl lesson new`: what it writes is a lesson, which a shell can run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labctl.cli.app import app
from labctl.errors import EXIT_USAGE, LabError
from labctl.lessons.load import load_lesson
from labctl.lessons.new import new_lesson
from tests.unit.fakes import topology


def test_what_it_writes_is_a_lesson_for_any_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_LANG", "en")
    done = CliRunner().invoke(app, ["lesson", "new", "my-own"])
    assert done.exit_code == 0, done.output
    assert "replay my-own.yaml" in done.output
    lesson = load_lesson("my-own.yaml")
    assert lesson.id == "my-own"
    for lab in ("name: x\n", "name: x\nstack: ovn\n"):
        lesson.require(topology(lab))
    changing, looking = lesson.checkpoints
    assert changing.undo == "ovn-nbctl --if-exists ls-del my-own"
    assert looking.only_looks
    again = CliRunner().invoke(app, ["lesson", "new", "my-own"])
    assert isinstance(again.exception, LabError)
    assert again.exception.code == EXIT_USAGE
    assert "my-own.yaml is there already" in again.exception.message


@pytest.mark.parametrize("id", ["My", "a/b", "", "floating-ip", "課"])
def test_what_is_no_id_of_ones_own_is_refused(id: str) -> None:
    with pytest.raises(LabError) as error:
        new_lesson(id)
    assert error.value.code == EXIT_USAGE
