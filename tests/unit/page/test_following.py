"""What pages are told of the lesson while it is changed."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from labctl.lab import Lab
from labctl.lessons.load import load_lesson
from labctl.lessons.progress import Position
from labctl.page import following
from labctl.page.following import Following
from labctl.page.lesson import lesson_shown
from labctl.page.snapshots import SNAPSHOT_VERBS
from labctl.page.work import Work
from labctl.state import Identity

LAB = "name: followed\nprovider: nspawn\nstack: ovn\n"


class Followed:
    """A lab without nodes, its pages, and what they are told."""

    def __init__(self, directory: Path) -> None:
        (directory / "lab.yaml").write_text(LAB, encoding="utf-8")
        self.lab = Lab(directory / "lab.yaml")
        self.lab.state.make_root()
        self.lab.state.identity_file.write_text(
            json.dumps(asdict(Identity("followed", "0123abcd", "nspawn", 1.0))), encoding="utf-8"
        )
        self.told: list[Mapping[str, Any]] = []
        self.work = Work(directory / "lab.yaml", self.told.append, "labctl", SNAPSHOT_VERBS)
        self.following = Following(lambda: self.lab, self.work, self.told.append)

    def be_in(self, lesson: str) -> None:
        """Be in a lesson, or with "" in none."""
        path = self.lab.state.lesson_position
        if not lesson:
            path.unlink()
            return
        position = Position().entered(load_lesson(lesson), lesson)
        path.write_text(json.dumps(position.to_json()), encoding="utf-8")

    def lessons(self) -> list[str]:
        """The lessons that the pages were told since the last time; "" is the choice of lessons."""
        self.following.look()
        shown = [(message["lesson"] or {"id": ""})["id"] for message in self.told
                 if message["kind"] == "lesson"]  # fmt: skip
        self.told.clear()
        return shown


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    monkeypatch.setenv("LABCTL_LANG", "en")
    return Followed(tmp_path)


def test_a_reset_shows_no_choice_of_lessons_in_between(followed: Followed) -> None:
    followed.be_in("ovn-snat-dnat")
    assert followed.lessons() == ["ovn-snat-dnat"]
    followed.work.verb = "reset"
    assert followed.lessons() == ["ovn-snat-dnat"], "its buttons are off meanwhile"
    followed.be_in("")
    assert followed.lessons() == []
    followed.be_in("ovn-snat-dnat")
    assert followed.lessons() == ["ovn-snat-dnat"]
    followed.work.verb = ""
    assert followed.lessons() == ["ovn-snat-dnat"]


def test_a_reset_of_another_labctl_neither_and_a_lesson_that_is_gone_is_told(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.be_in("ovn-snat-dnat")
    assert followed.lessons() == ["ovn-snat-dnat"]
    followed.be_in("")
    assert followed.lessons() == []
    followed.be_in("ovn-snat-dnat")
    assert followed.lessons() == ["ovn-snat-dnat"]
    monkeypatch.setattr(following, "SECONDS_WITHOUT", 0.05)
    followed.be_in("")
    assert followed.lessons() == []
    time.sleep(0.06)
    assert followed.lessons() == [""]


def test_a_lesson_says_what_this_lab_lacks_for_it(followed: Followed, tmp_path: Path) -> None:
    choices = lesson_shown(followed.lab)["choices"]
    assert [choice["id"] for choice in choices][:2] == ["ovn-logical-switch", "ovn-geneve"]
    assert {choice["id"]: choice["needs"] for choice in choices}["ovn-snat-dnat"] == ""
    other = "name: other\nprovider: nspawn\n"
    (tmp_path / "other").mkdir()
    file = tmp_path / "other/lab.yaml"
    file.write_text(other, encoding="utf-8")
    needs = {choice["id"]: choice["needs"] for choice in lesson_shown(Lab(file))["choices"]}
    assert needs["floating-ip"] == ""
    assert "distributed_floating_ip: true" in needs["distributed-floating-ip"]
