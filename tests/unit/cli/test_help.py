"""`--help` and wrong use, in Traditional Chinese and in English."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from labctl.cli.app import app, main
from labctl.i18n import asked_language
from labctl.terminal.text import cell_width
from scripts import messages

CHINESE = re.compile("[\u4e00-\u9fff]")


def helps(command: Any) -> Iterator[str]:
    """Every text of ours that some `--help` shows."""
    yield command.help
    yield from (one.help for one in command.params if getattr(one, "help", None))
    for one in getattr(command, "commands", {}).values():
        yield from helps(one)


def paths(command: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield before
    for name, one in getattr(command, "commands", {}).items():
        yield from paths(one, (*before, name))


ALL = list(paths(typer.main.get_command(app)))


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["labctl", *words])
    code = main()
    out, err = capsys.readouterr()
    return code, out, err


def test_every_help_is_collected_for_translation() -> None:
    collected = messages.collected()
    texts = list(helps(typer.main.get_command(app)))
    assert len(texts) > 60
    assert [text for text in texts if collected.get(text) is None] == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "labctl")
def test_help_in_chinese(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = said(capsys, monkeypatch, "--lang", "zh-TW", *path, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("用法：")
    assert "選項：\n" in out
    for line in out.splitlines():
        assert cell_width(line) <= 80, line
    for words in ("Usage", "Options", "Commands", "Arguments", "Show this", "[default", "[requi"):
        assert words not in out
    english = said(capsys, monkeypatch, "--lang", "en", *path, "--help")[1]
    assert english.startswith("Usage: ")
    assert not CHINESE.search(english)
    # The same verbs and options, in the same order.
    assert re.findall(r" (--[a-z-]+)", out) == re.findall(r" (--[a-z-]+)", english)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("nonsense",), "沒有 nonsense 這個指令"),
        (("craete",), "沒有 craete 這個指令；是不是 create"),
        (("create", "--nonsense"), "沒有 --nonsense 這個選項"),
        (("create", "--qiet"), "是不是 --file, --quiet？"),
        (("ssh",), "缺少 NAME"),
        (("snapshot", "save"), "缺少 NAME"),
        (("logs", "--lines"), "--lines 需要一個值"),
        (("halt", "all"), "多餘的參數 all"),
        (("logs", "--lines", "x"), "--lines 的值不正確"),
    ],
)
def test_wrong_use_in_chinese(
    words: tuple[str, ...],
    what: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABCTL_LANG", "zh-TW")
    code, out, err = said(capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    assert what in err
    if words != ("logs", "--lines"):  # where click does not say whose option it is
        assert "用法：" in err
        assert "--help" in err


@pytest.mark.parametrize(
    ("words", "language"),
    [
        (["--lang", "zh-TW", "--help"], "zh-TW"),
        (["--lang=en", "create"], "en"),
        (["--version", "--lang", "en"], "en"),
        (["ssh", "a", "--", "x", "--lang", "en"], ""),
        (["--lang"], ""),
        ([], ""),
    ],
)
def test_the_language_is_known_before_anything_is_parsed(words: list[str], language: str) -> None:
    assert asked_language(words) == language


def test_a_language_nobody_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    code, _, err = said(capsys, monkeypatch, "--lang", "fr", "--help")
    assert code == 2
    assert "choose en or zh-TW" in err
