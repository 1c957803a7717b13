"""Two languages: which one is meant, and a catalogue that cannot break a message."""

import ast
import string
from pathlib import Path

import pytest
import yaml

import labctl.i18n
from labctl.i18n import catalogue_path, current_language, detect_language, set_language, tr

CATALOGUE = catalogue_path("zh-TW")
# What these say through tr is ours to translate; other modules may stay English.
TRANSLATED = ("terminal/page", "terminal/plain", "terminal/live", "engine/steps", "engine/wait")


def entries() -> list[tuple[object, object]]:
    """The catalogue's pairs as they stand in the file: loading would hide duplicates."""
    node = yaml.compose(CATALOGUE.read_text(encoding="utf-8"))
    assert isinstance(node, yaml.MappingNode)
    return [(key.value, value.value) for key, value in node.value]


def placeholders(template: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@pytest.mark.parametrize(
    ("env", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LANG": "zh_HK"}, "zh-TW"),
        ({"LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_TW.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LC_MESSAGES": "en_US.UTF-8", "LC_ALL": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LC_ALL": "", "LANG": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LABCTL_LANG": "en", "LC_ALL": "zh_TW.UTF-8"}, "en"),
        ({"LABCTL_LANG": "zh-TW", "LC_ALL": "en_US.UTF-8"}, "zh-TW"),
    ],
)
def test_the_environment_decides_in_posix_order(env: dict[str, str], language: str) -> None:
    assert detect_language(env) == language


def test_an_unknown_language_is_named_and_changes_nothing() -> None:
    set_language("zh-TW")
    with pytest.raises(ValueError, match=r"'de'.*en, zh-TW"):
        set_language("de")
    assert current_language() == "zh-TW"


def test_translates_and_falls_back_to_english() -> None:
    assert tr("{n} failed", n=2) == "2 failed"
    set_language("zh-TW")
    assert tr("{n} failed", n=2) == "2 個失敗"
    assert tr("no such {thing} in the catalogue", thing="key") == "no such key in the catalogue"


def test_values_are_not_formatted_again() -> None:
    set_language("zh-TW")
    assert tr("{title}: cannot tell whether it is done", title="{x} {0} %s").startswith(
        "{x} {0} %s："
    )
    assert tr("unknown {a}", a="{b}", b="no") == "unknown {b}"


def test_a_parameter_may_be_called_text() -> None:
    assert tr("<{text}>", text="hi") == "<hi>"


def test_a_slip_in_the_catalogue_costs_only_the_translation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labctl.i18n, "_catalogue", lambda _: {"{n} failed": "{m} 個失敗"})
    set_language("zh-TW")
    assert tr("{n} failed", n=2) == "2 failed"


def test_the_catalogue_has_each_template_once_and_translated() -> None:
    keys = [key for key, _ in entries()]
    assert len(keys) == len(set(keys)), "duplicate keys"
    assert all(isinstance(value, str) and value.strip() for _, value in entries())


@pytest.mark.parametrize(("english", "chinese"), entries())
def test_a_translation_has_the_placeholders_of_its_template(english: str, chinese: str) -> None:
    assert placeholders(chinese) == placeholders(english)


@pytest.mark.parametrize("module", TRANSLATED)
def test_every_phrase_of_the_console_is_in_the_catalogue(module: str) -> None:
    source = Path(labctl.i18n.__file__).parent / f"{module}.py"
    said = {
        call.args[0].value
        for call in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "tr"
        and isinstance(call.args[0], ast.Constant)
    }
    assert said, "this test looks at nothing"
    assert said <= {key for key, _ in entries()}
