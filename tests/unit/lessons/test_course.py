"""The course: its file, what is next, and the note of what was done."""

import json
import os
import stat
from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.i18n import set_language
from labctl.lessons.course import (
    Course,
    built_in_course,
    describe,
    finished_lessons,
    next_lesson,
    parse_course,
    state_of,
    state_text,
)
from labctl.lessons.done import Done, done_file, note_done, read_done
from labctl.lessons.load import available, load_lesson
from labctl.lessons.progress import Position
from tests.documents import expect_document
from tests.unit.conftest import GROUP, USER
from tests.unit.fakes import topology

OVN = topology("name: x\nstack: ovn\n")


def passed(*ids: str, lab: Position | None = None, upto: int | None = None) -> Position:
    """After the first `upto` checkpoints of these lessons, or all of them."""
    position = lab or Position()
    for id in ids:
        lesson = load_lesson(id)
        position = position.entered(lesson, id, practice=False)
        for checkpoint in lesson.checkpoints[:upto]:
            position = position.passing(lesson, checkpoint)
    return position


# -- the file --------------------------------------------------------------------------------------
def test_every_built_in_lesson_is_in_the_course_once() -> None:
    ids = built_in_course().ids
    assert sorted(ids) == available(), "labctl/course.yaml has the lessons in order"


def test_a_lesson_comes_after_those_that_it_needs() -> None:
    ids = built_in_course().ids
    late = [
        (id, need)
        for id in ids
        for need in load_lesson(id).needs
        if ids.index(need) > ids.index(id)
    ]
    assert late == []


def test_the_course_is_in_both_languages() -> None:
    course = built_in_course()
    for text in (course.title, *(group.title for group in course.groups)):
        assert text.en.strip()
        assert text.zh_tw.strip()


@pytest.mark.parametrize(
    ("lessons", "said"),
    [
        ("[floating-ip, no-such-day]", "there is no lesson no-such-day"),
        ("[floating-ip, floating-ip]", "more than once: floating-ip"),
        ("[]", "too_short"),
        ("[{id: floating-ip, minuts: 3}]", "minuts"),
        ("[{id: floating-ip, minutes: 0}]", "greater_than_equal"),
    ],
)
def test_a_course_that_is_wrong_is_refused(lessons: str, said: str) -> None:
    text = f"title: x\ngroups:\n  - {{title: y, lessons: {lessons}}}\n"
    with pytest.raises(ValueError, match=said):
        parse_course(text.encode(), "course.yaml")


def course(*lessons: str) -> Course:
    text = "title: x\ngroups:\n  - title: y\n    lessons: [" + ", ".join(lessons) + "]\n"
    return parse_course(text.encode(), "course.yaml")


# -- what is next ----------------------------------------------------------------------------------
def test_next_is_the_first_that_is_not_done_and_runs_in_this_lab() -> None:
    both = course("ovn-snat-dnat", "external-network-snat", "floating-ip")
    openstack = topology()
    assert next_lesson(both, OVN, Position(), ()) == "ovn-snat-dnat"
    assert next_lesson(both, openstack, Position(), ()) == "external-network-snat"
    assert next_lesson(both, openstack, Position(), ["external-network-snat"]) == "floating-ip"
    assert next_lesson(both, OVN, passed("ovn-snat-dnat"), ()) is None
    half = passed("ovn-snat-dnat", upto=2)
    assert next_lesson(both, OVN, half, ()) == "ovn-snat-dnat"


def test_a_lesson_is_finished_only_with_its_last_checkpoint() -> None:
    assert finished_lessons(passed("ovn-snat-dnat", upto=-1)) == {}
    assert list(finished_lessons(passed("ovn-snat-dnat"))) == ["ovn-snat-dnat"]


def test_the_document_says_what_is_done_begun_and_not_for_this_lab() -> None:
    both = course("ovn-snat-dnat", "external-network-snat", "{id: floating-ip, minutes: 30}")
    position = passed("external-network-snat", upto=2)
    done = {"ovn-snat-dnat": Done(86_400.0 * 365, "ovn-lab")}
    report = expect_document("course", describe(both, topology(), position, done))
    (group,) = report["groups"]
    first, second, third = group["lessons"]
    assert (first["done"]["lab"], first["runs_here"]) == ("ovn-lab", False)
    assert first["lacking"] == ["stack: ovn"]
    assert (second["passed"], second["begun"], second["done"]) == (2, True, None)
    assert (third["begun"], third["minutes"], third["runs_here"]) == (False, 30, True)
    assert (report["done"], report["lessons"], report["next"]) == (1, 3, "external-network-snat")
    assert [state_of(lesson) for lesson in group["lessons"]] == ["done", "begun", "open"]
    texts = [state_text(lesson) for lesson in group["lessons"]]
    assert texts[0].startswith("done on 197")
    assert texts[1] == f"at checkpoint 3 of {second['checkpoints']}"


def test_without_a_lab_the_course_is_shown_as_well() -> None:
    report = expect_document("course", describe(built_in_course(), None, Position(), {}))
    assert (report["lab"], report["next"], report["done"]) == (None, None, 0)
    lessons = [lesson for group in report["groups"] for lesson in group["lessons"]]
    assert {lesson["runs_here"] for lesson in lessons} == {None}


def test_the_course_is_told_in_chinese() -> None:
    set_language("zh-TW")
    report = describe(built_in_course(), None, Position(), {})
    assert report["groups"][0]["title"] == "只有 OVN"


# -- what was done ---------------------------------------------------------------------------------
@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The note of a user whose home directory is empty."""
    monkeypatch.delenv("LABCTL_COURSE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".local" / "state" / "labctl" / "course.json"


def test_what_was_done_is_kept_in_the_home_directory(note: Path) -> None:
    assert done_file() == note
    assert read_done() == {}
    note_done({"floating-ip": Done(1.5, "a")})
    note_done({"ovn-snat-dnat": Done(2.5, "b")})
    assert read_done() == {"floating-ip": Done(1.5, "a"), "ovn-snat-dnat": Done(2.5, "b")}


def test_another_file_may_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_COURSE", str(tmp_path / "mine.json"))
    note_done({"floating-ip": Done(1.5, "a")})
    assert json.loads((tmp_path / "mine.json").read_text("utf-8")) == {
        "lessons": {"floating-ip": {"at": 1.5, "lab": "a"}}
    }


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"lessons": 3}', '{"lessons": {"x": {"at": NaN, "lab": "a"}}}',
                '{"lessons": {"x": {"at": "a"}}}', "[" * 100_000],
)  # fmt: skip
def test_a_note_that_is_none_of_ours_is_named(note: Path, content: str) -> None:
    note.parent.mkdir(parents=True)
    note.write_text(content, encoding="utf-8")
    with pytest.raises(LabError, match=r"course\.json does not hold") as raised:
        read_done()
    assert "delete it" in raised.value.hint


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root has callers")
def test_under_sudo_the_note_is_the_callers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    monkeypatch.delenv("LABCTL_COURSE", raising=False)
    monkeypatch.setenv("SUDO_UID", str(USER))
    monkeypatch.setenv("SUDO_GID", str(GROUP))
    entry = pwd.struct_passwd(("someone", "x", USER, GROUP, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    note_done({"floating-ip": Done(1.5, "a")})
    path = home / ".local" / "state" / "labctl" / "course.json"
    assert {each.stat().st_uid for each in (path, path.parent, home / ".local")} == {USER}
    assert stat.S_ISREG(path.stat().st_mode)
    assert read_done() == {"floating-ip": Done(1.5, "a")}
