"""English and Traditional Chinese: the English sentence is the key of its translation.

`make messages` collects the sentences in locale/zh_TW/LC_MESSAGES/labctl.po and compiles them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

if TYPE_CHECKING:
    from gettext import NullTranslations

Language: TypeAlias = Literal["en", "zh-TW"]
_Text = TypeVar("_Text", bound=str)

_language: Language = "en"


def set_language(language: str) -> None:
    """Makes `tr` translate into `language`. Raises ValueError if it is not one of Language."""
    global _language
    for supported in get_args(Language):
        if language == supported:
            _language = supported
            return
    raise ValueError(f"unknown language {language!r}; known: {', '.join(get_args(Language))}")


def current_language() -> Language:
    """The language that `tr` translates into."""
    return _language


def detect_language(env: Mapping[str, str], desktop: str = "") -> Language:
    """The language these environment variables ask for, or else that of the user's desktop.

    The first one set decides, as for any program, with LABCTL_LANG before them:
    LABCTL_LANG, LC_ALL, LC_MESSAGES, LANG. A locale of Simplified Chinese gives English, because
    its readers use other technical terms than Taiwan's.
    """
    values = (env.get(name) for name in ("LABCTL_LANG", "LC_ALL", "LC_MESSAGES", "LANG"))
    wanted = (next(filter(None, values), desktop)).replace("-", "_").lower()
    return "zh-TW" if wanted.startswith(("zh_tw", "zh_hk", "zh_hant")) else "en"


def asked_language(words: Sequence[str]) -> str:
    """The value of `--lang`, found before the command line is parsed; "" if it is not given.

    `words` follow the program's name. Parsing is too late: `--help` prints before the parser gets
    to `--lang`.
    """
    for number, word in enumerate(words):
        if word.startswith("--lang="):
            return word.removeprefix("--lang=")
        if word == "--lang":
            return next(iter(words[number + 1 :]), "")
        if not word.startswith("-"):
            break  # the verb; the options after it belong to it
    return ""


def tr(text: str, /, **params: Any) -> str:
    """`text`, an English `str.format` template, in the current language, filled with `params`.

    What has no translation stays English. Values are inserted as they are, braces included.
    Raises KeyError or IndexError if the English template names a parameter that is missing.
    """
    # gettext translates the empty text to the header of the catalogue.
    translated = translations(_language).gettext(text) if text and _language != "en" else text
    return _filled(translated, text, params)


def tr_n(singular: str, plural: str, /, n: int, **params: Any) -> str:
    """The template that is right for the number `n`, as `tr` gives it; {n} may be in it."""
    english = singular if n == 1 else plural
    translated = english
    if _language != "en":
        translated = translations(_language).ngettext(singular, plural, n)
    return _filled(translated, english, {"n": n, **params})


def tr_list(items: Iterable[object]) -> str:
    """The items one after the other, as a sentence of the current language lists them."""
    return tr(", ").join(map(str, items))


def mark(text: _Text) -> _Text:
    """`text` as it is: a template kept in a table, which `tr` gets when it is shown.

    Tables are made before the language is known; `make messages` collects what is marked.
    """
    return text


def _filled(translated: str, english: str, params: Mapping[str, Any]) -> str:
    if translated != english:
        try:
            return translated.format(**params)
        except (KeyError, IndexError, ValueError):
            pass  # a wrong placeholder in the translation: show the message in English
    return english.format(**params)


def catalogue_path(language: Language) -> Path:
    """The compiled catalogue of `language`; its source, the .po file, is beside it."""
    locale = language.replace("-", "_")
    return Path(__file__).parent / "locale" / locale / "LC_MESSAGES" / "labctl.mo"


@cache
def translations(language: Language) -> NullTranslations:
    import gettext  # slow to import, and not needed for English

    try:
        with catalogue_path(language).open("rb") as stream:
            return gettext.GNUTranslations(stream)
    except OSError:  # missing, or not a catalogue: everything stays English
        return gettext.NullTranslations()
