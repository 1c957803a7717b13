"""The file of durations: shared, saved whole, and never a reason to stop."""

import json
from pathlib import Path

import pytest

from labctl.engine.timings import Timings


def test_prefixes_share_a_file_without_losing_each_others_times(tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    create, lesson = Timings(path, "create/"), Timings(path, "lesson/")
    create.record("a", 1.234)
    create.save()
    lesson.record("a", 2)
    assert lesson.estimate("a") == 2
    lesson.save()
    assert json.loads(path.read_text()) == {"create/a": 1.23, "lesson/a": 2}
    assert Timings(path, "create/").estimate("a") == 1.23
    assert Timings(path).estimate("a") is None
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"a": 1',
        b'{"a": "soon", "b": -1, "c": NaN, "d": true, "e": null, "f": 1e999}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_means_no_estimates(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "timings.json"
    path.write_bytes(content)
    timings = Timings(path)
    assert [timings.estimate(id) for id in "abcdef"] == [None] * 6
    timings.record("a", 3)
    timings.save()
    assert Timings(path).estimate("a") == 3
