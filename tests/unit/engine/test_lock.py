"""A lock between processes: waited for, told who holds it, given up after its time."""

import os
import threading
from pathlib import Path
from typing import TextIO

import pytest

from labctl.engine.lock import hold_when_free
from labctl.engine.wait import WaitTimeout
from labctl.errors import Cancelled
from labctl.own_directory import open_text


def test_it_is_waited_for_and_then_held(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", list[str]()
    waiting, inside = threading.Event(), threading.Event()

    def second() -> None:
        with hold_when_free("", path, open_text, deadline=30, on_wait=waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with hold_when_free("", path, open_text, deadline=0, on_wait=inside.set):
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert not inside.is_set()  # there was nothing to wait for


def test_it_is_given_up_with_the_name_of_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_when_free("", path, open_text, deadline=0):
        with (
            pytest.raises(WaitTimeout, match="waited 0 s for: the lock is free") as caught,
            hold_when_free("the lock is free", path, open_text, deadline=0),
        ):
            pass
        assert caught.value.hint.startswith(f"process {os.getpid()} holds it: wait for it")
        with (
            pytest.raises(Cancelled),
            hold_when_free("", path, open_text, deadline=9, cancelled=lambda: True),
        ):
            pass


def test_a_file_that_is_deleted_meanwhile_is_made_anew(tmp_path: Path) -> None:
    path, opened = tmp_path / "lock", list[Path]()

    def open_and_lose(file: Path) -> TextIO:
        stream = open_text(file)
        if not opened:
            file.unlink()
        opened.append(file)
        return stream

    with hold_when_free("", path, open_and_lose, deadline=30):
        assert path.exists()
    assert opened == [path, path]
