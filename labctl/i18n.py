"""English and Traditional Chinese: the English sentence is the key of its translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

Language: TypeAlias = Literal["en", "zh-TW"]

_language: Language = "en"


def set_language(language: str) -> None:
    """Makes `tr` speak `language`. Raises ValueError for one labctl does not speak."""
    global _language
    for known in get_args(Language):
        if language == known:
            _language = known
            return
    raise ValueError(f"unknown language {language!r}; known: {', '.join(get_args(Language))}")


def current_language() -> Language:
    """The language `tr` speaks now."""
    return _language


def detect_language(env: Mapping[str, str]) -> Language:
    """The language these environment variables ask for.

    The first one set decides, as for any program, with LABCTL_LANG before them:
    LABCTL_LANG, LC_ALL, LC_MESSAGES, LANG. Simplified Chinese readers get English:
    Taiwan's terms are not theirs.
    """
    for name in ("LABCTL_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := env.get(name):
            wanted = value.replace("-", "_").lower()
            return "zh-TW" if wanted.startswith(("zh_tw", "zh_hk", "zh_hant")) else "en"
    return "en"


def asked_language(words: Sequence[str]) -> str:
    """What `--lang` says, before anything is parsed; "" if it is not there.

    `words` are those after the program's name. `--help` acts before any other option is looked at.
    """
    for number, word in enumerate(words):
        if word.startswith("--lang="):
            return word.removeprefix("--lang=")
        if word == "--lang":
            return next(iter(words[number + 1 :]), "")
        if not word.startswith("-"):
            break  # the verb; what follows is its own
    return ""


def tr(text: str, /, **params: Any) -> str:
    """`text`, an English `str.format` template, in the current language, filled with `params`.

    What has no translation stays English. Values are inserted as they are, braces included.
    Raises KeyError or IndexError if the English template names a parameter that is missing.
    """
    translated = _catalogue(_language).get(text) if _language != "en" else None
    if translated is not None:
        try:
            return translated.format(**params)
        except (KeyError, IndexError, ValueError):
            # A slip in the catalogue must not cost the user the message.
            pass
    return text.format(**params)


def catalogue_path(language: Language) -> Path:
    """The file that maps English templates to `language`."""
    return Path(__file__).parent / "locale" / f"{language}.yaml"


@cache
def _catalogue(language: Language) -> dict[str, str]:
    import yaml  # only a reader of translations pays for it

    # libyaml reads it in a tenth of the time, where PyYAML was built with it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with catalogue_path(language).open("rb") as stream:
            loaded = yaml.load(stream, Loader=loader)
    except (OSError, yaml.YAMLError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {key: value for key, value in loaded.items() if isinstance(value, str) and value}
