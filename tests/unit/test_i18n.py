"""Two languages: which one is meant, and a catalogue that cannot break a message."""

import ast
import gettext
import subprocess
import sys
from pathlib import Path

import pytest

import labctl.i18n
from labctl.i18n import current_language, detect_language, mark, set_language, tr, tr_list, tr_n


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


def test_without_variables_the_desktop_decides() -> None:
    """Windows sets none: there `desktop` is the language of its windows."""
    assert detect_language({}, "zh_TW") == "zh-TW"
    assert detect_language({}, "zh_CN") == "en"
    assert detect_language({"LANG": "C.UTF-8"}, "zh_TW") == "en"
    assert detect_language({"LABCTL_LANG": "zh-TW"}, "en_US") == "zh-TW"


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
    class Slip(gettext.NullTranslations):
        def gettext(self, message: str) -> str:
            return "{m} 個失敗"

    monkeypatch.setattr(labctl.i18n, "translations", lambda _: Slip())
    set_language("zh-TW")
    assert tr("{n} failed", n=2) == "2 failed"


def test_without_a_catalogue_labctl_speaks_english(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(labctl.i18n, "catalogue_path", lambda _: tmp_path / "labctl.mo")
    set_language("zh-TW")
    for content in (None, b"no catalogue"):
        if content is not None:
            (tmp_path / "labctl.mo").write_bytes(content)
        labctl.i18n.translations.cache_clear()
        assert tr("{n} failed", n=2) == "2 failed"
        assert tr_n("{n} row", "{n} rows", n=1) == "1 row"
    labctl.i18n.translations.cache_clear()


def test_a_list_is_written_as_the_language_does() -> None:
    assert tr_list(["amd64", "arm64"]) == "amd64, arm64"
    set_language("zh-TW")
    assert tr_list(["amd64", "arm64"]) == "amd64、arm64"
    assert tr_list(number for number in (1,)) == "1"
    assert tr_list(()) == ""


NO_SENTENCE = {
    "cli/schemas.py",  # the title of a JSON Schema
    "i18n.py",
    "lessons/claims.py",  # what templates are filled with, and `key=value`
    "lessons/evidence.py",  # `column=value`, as a lesson would write it
    "lessons/matching.py",  # what claims compare
    "lessons/requirements.py",  # a line of lab.yaml
    "spec/fields.py",  # for pydantic, whose message is replaced
    "walks/causes.py",  # for `walk --json`; walks/describe.py makes the sentence
}
"""Files of labctl that join data with commas, the same in every language."""


def test_lists_in_messages_are_joined_by_tr_list() -> None:
    root = Path(labctl.i18n.__file__).parent
    joined = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Attribute) and call.attr == "join"
        and isinstance(call.value, ast.Constant)
        and call.value.value in (", ", "、")
    }  # fmt: skip
    assert joined == NO_SENTENCE


def test_the_empty_text_is_not_the_header_of_the_catalogue() -> None:
    set_language("zh-TW")
    assert tr("") == ""


@pytest.mark.parametrize(("n", "english"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_a_number_has_its_form(n: int, english: str) -> None:
    assert tr_n("{n} row", "{n} rows", n=n) == english
    set_language("zh-TW")
    assert tr_n("{n} row", "{n} rows", n=n) == f"{n} 筆"


def test_a_marked_text_stays_as_it_is() -> None:
    set_language("zh-TW")
    assert mark("failed") == "failed"
    assert tr(mark("failed")) == "失敗"


def test_english_is_read_without_gettext() -> None:
    script = "import sys, labctl.i18n as i; i.tr('failed'); print('gettext' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
