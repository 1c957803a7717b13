"""Bytes of a YAML file -> plain data, the line of every value, and errors in the YAML itself.

Scalars stay text: YAML 1.1 would read ``52:54:00:12:34:56`` as a number in base 60, ``on`` as true
and ``010`` as 8. Pydantic's types parse the text later, and know what type is meant.

The data is built from the parser's events in one pass without recursion. So too deep nesting,
aliases and repeated keys are found while reading, each with its line, and no input can use up the
memory or the stack.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labctl.i18n import mark, tr
from labctl.operating_system import files
from labctl.spec.problems import KeyPath, Problem, SpecError, dotted, printable

LARGEST_FILE = 1 << 20
"""Bytes. A larger file is no lab.yaml and no lesson."""

# Far more than any lab.yaml or lesson has.
_DEEPEST = 16
_MOST_VALUES = 10_000
_NULLS = ("", "~", "null", "Null", "NULL")
# Everything but printable text. Excluded are also line breaks that editors do not count as such
# (U+2028, U+2029), and the invisible byte order mark.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
# What input methods and word processors write instead of the characters that YAML means.
_SPACES = "\u3000\xa0\u2000-\u200a\u202f\u205f"
_MEANT = {
    **dict.fromkeys("：︰﹕", ":"), **dict.fromkeys("，、", ","),
    **dict.fromkeys("“”„＂「」", '"'), **dict.fromkeys("‘’＇", "'"),
    "［": "[", "］": "]", "｛": "{", "｝": "}", "＃": "#", "－": "-",
}  # fmt: skip
_LOOK_ALIKE = re.compile(f"[{_SPACES}{''.join(_MEANT)}]")
_MISTYPED = re.compile(
    rf"^ *(?:- +)*(?:(?P<indent>[{_SPACES}])"
    rf"|[\w.-]+ *(?:(?P<colon>[：︰﹕])|:(?P<gap>[{_SPACES}])))"
)  # fmt: skip
_LINE_BREAK = re.compile("\r\n|[\r\n]")


@dataclass(frozen=True)
class YamlSource:
    """A file that could be read."""

    file: str
    data: Any
    """Text, lists, and dicts with text keys; ``null`` and a missing value are None."""
    lines: dict[KeyPath, int]
    """The line of the key (or list item) of every value in the data, counted from 1."""
    repeated: tuple[tuple[KeyPath, int], ...] = ()
    """Keys given twice, with the line of the second; the data holds the first value of each."""

    def line(self, path: KeyPath) -> int:
        """The line of the value; if it is not in the file, of the nearest mapping around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: KeyPath, message: str, fix: str = "") -> Problem:
        """A problem with the value at this path."""
        return Problem(self.file, self.line(path), dotted(path), message, fix)

    def given_twice(self) -> list[Problem]:
        """What to report of the keys given twice, in the language of now.

        A source may be kept and asked in another language than it was read in.
        """
        return [
            Problem(
                self.file,
                line,
                dotted(path),
                tr("is given twice, first on line {line}", line=self.lines[path]),
                tr("keep one of them"),
            )
            for path, line in self.repeated
        ]

    def texts(self) -> Iterator[tuple[KeyPath, str]]:
        """Every text in the data with its path."""
        return _texts(self.data, ())


def _texts(data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict | list):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _texts(item, (*path, key))


def mistyped(text: str) -> tuple[str, str] | None:
    """Message and fix for text that would be a key and its value but for one character."""
    if (found := _MISTYPED.match(text)) is None:
        return None
    return wrong_character(next(filter(None, found.groups())))


def wrong_character(character: str) -> tuple[str, str]:
    """Message and fix for a character that only looks like the one that YAML means."""
    meant = f"'{_MEANT[character]}'" if character in _MEANT else tr("a space")
    name = f"U+{ord(character):04X} {unicodedata.name(character)}"
    return (
        tr("{name} stands where YAML wants {meant}", name=name, meant=meant),
        tr("switch the input method off and type it anew"),
    )


def in_wrong_quotes(text: str) -> str | None:
    """The quote that YAML does not know as one, if the text stands in such quotes."""
    quotes = "“”„＂‘’＇"
    return text[0] if len(text) > 1 and text[0] in quotes and text[-1] in quotes else None


def read_yaml(content: bytes, file: str) -> YamlSource:
    """Read one YAML document. Raises SpecError with the one problem that makes it unreadable."""
    text = _decode(content, file)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax_problem(error, text, file)]) from None
    except (ValueError, OverflowError):
        # For "\UFFFFFFFF" and the like PyYAML lets the error of chr() through, without a line.
        line = next((n for n, text in _lines(text) if _NO_CHARACTER.search(text)), 1)
        raise SpecError([Problem(file, line, "", *_no_character())]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(file, 1, "", _not_yaml(error))]) from None
    if isinstance(builder.data, str) and (wrong := mistyped(builder.data)):
        raise SpecError([Problem(file, builder.began, "", *wrong)])
    return YamlSource(file, builder.data, builder.lines, tuple(builder.repeated))


def read_file(path: Path) -> bytes:
    """The bytes of a file that people write. Raises SpecError for what is no such file.

    A device or a pipe may have no end, and no beginning either, so only regular files are read.
    """
    file = str(path)
    try:
        # Without O_NONBLOCK, to open a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | files.NONBLOCK | files.CLOEXEC | files.BINARY)
        try:
            kind = os.fstat(handle).st_mode
            if stat.S_ISREG(kind):
                # One byte more than allowed is enough to know that a file is too large.
                with os.fdopen(handle, "rb", closefd=False) as stream:
                    return stream.read(LARGEST_FILE + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        fix = tr("labctl init writes one, -f names another")
        raise SpecError([Problem(file, 0, "", tr("there is no such file"), fix)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = tr("cannot be read: {reason}", reason=reason)
        raise SpecError([Problem(file, 0, "", message)]) from None
    if stat.S_ISDIR(kind):
        fix = tr("give the file: {path}", path=path / "lab.yaml")
        raise SpecError([Problem(file, 0, "", tr("is a directory"), fix)])
    message = tr("is a device or a pipe, and no file")
    raise SpecError([Problem(file, 0, "", message, tr("write its content to a file"))])


def _decode(content: bytes, file: str) -> str:
    if len(content) > LARGEST_FILE:
        message = tr("is larger than 1 MiB, which no lab.yaml and no lesson is")
        raise SpecError([Problem(file, 0, "", message, tr("give the right file"))])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        message = tr("is not UTF-8 text (byte {byte})", byte=f"0x{byte:02x}")
        raise SpecError([Problem(file, line, "", message, tr("save it as UTF-8"))]) from None
    if bad := _UNPRINTABLE.search(text):
        line = len(_LINE_BREAK.findall(text, 0, bad.start())) + 1
        message = tr("holds the control character {character}", character=f"U+{ord(bad[0]):04X}")
        raise SpecError([Problem(file, line, "", message, tr("remove it; is this a text file?"))])
    return text


@dataclass
class _Open:
    """A mapping or list whose end has not been read yet."""

    path: KeyPath
    into: dict[str, Any] | list[Any]
    key: str | None = None
    """The key that was read last and has no value yet."""
    ignored: bool = False
    """Whether this is the value of a repeated key, or inside such a value."""


class _Builder:
    """Builds the data from the events of the parser."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Any = None
        self.began = 1
        """The line on which the data begins."""
        self.lines: dict[KeyPath, int] = {}
        self.repeated: list[tuple[KeyPath, int]] = []
        self._open: list[_Open] = []
        self._documents = 0
        self._values = 0

    def add(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(
                    line, tr("a second document begins here"), tr("remove the --- line")
                )
        elif isinstance(event, yaml.AliasEvent):
            raise self._error(
                line,
                tr("refers to {alias}: aliases are not read", alias=f"*{printable(event.anchor)}"),
                tr("write the value out"),
            )
        elif isinstance(event, yaml.NodeEvent):
            self._add_value(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _add_value(self, event: yaml.NodeEvent, line: int) -> None:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise self._error(
                line, tr("there are more values than any lab has"), tr("is this a lab.yaml?")
            )
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(
                line, tr("the tag {tag} is not read", tag=printable(tag)), tr("remove it")
            )
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.into, dict) and parent.key is None:
            self._add_key(parent, event, line)
            return
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            # Only unquoted: a quoted "null" is text.
            plain_null = event.implicit[0] and event.value in _NULLS
            value = None if plain_null else self._text(event, line)
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        path, ignored = self._place(parent, value, line)
        if not isinstance(event, yaml.ScalarEvent):
            if len(self._open) == _DEEPEST:
                raise self._error(
                    line, tr("is nested too deeply"), tr("see the documented lab.yaml")
                )
            self._open.append(_Open(path, value, ignored=ignored))

    def _add_key(self, mapping: _Open, event: yaml.NodeEvent, line: int) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(
                line, tr("a list or mapping stands where a key should"), tr("use a word")
            )
        key = mapping.key = self._text(event, line)
        if event.implicit[0] and (wrong := _LOOK_ALIKE.search(key)):
            raise self._error(line, *wrong_character(wrong[0]))
        path = (*mapping.path, key)
        if mapping.ignored:
            return
        if key in mapping.into:
            self.repeated.append((path, line))
        else:
            self.lines[path] = line

    def _text(self, scalar: yaml.ScalarEvent, line: int) -> str:
        text: str = scalar.value
        if any("\ud800" <= c <= "\udfff" for c in text):
            # Half of a surrogate pair, written as an escape: it cannot be encoded.
            raise self._error(line, *_no_character())
        return text

    def _place(self, parent: _Open | None, value: Any, line: int) -> tuple[KeyPath, bool]:
        """Put a value into its parent. Returns its path, and whether its key was given before.

        The value of a repeated key is read, so that its errors are found, but not stored.
        """
        if parent is None:
            self.data, self.began = value, line
            return (), False
        if isinstance(parent.into, list):
            path: KeyPath = (*parent.path, len(parent.into))
            parent.into.append(value)
            if not parent.ignored:
                self.lines[path] = line
            return path, parent.ignored
        assert parent.key is not None
        path = (*parent.path, parent.key)
        repeated = parent.key in parent.into
        if not repeated:
            parent.into[parent.key] = value
        parent.key = None
        return path, parent.ignored or repeated

    def _error(self, line: int, message: str, fix: str) -> SpecError:
        return SpecError([Problem(self.file, line, "", message, fix)])


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    problem_mark, context_mark = error.problem_mark or error.context_mark, error.context_mark
    line = problem_mark.line + 1 if problem_mark else 1
    start_line = context_mark.line + 1 if context_mark else line
    for number, content in _lines(text, line):
        if number in (line, start_line) and "\t" in content[: len(content) - len(content.lstrip())]:
            message = tr("is indented with a tab, which YAML forbids")
            return Problem(file, number, "", message, tr("use spaces"))
    problem = error.problem or ""
    if any(phrase in problem for phrase in _STRUCTURE):
        for number, content in _lines(text, line):
            if start_line <= number <= line and (wrong := mistyped(content)):
                return Problem(file, number, "", *wrong)
    for phrase, message, fix in SYNTAX:
        if phrase in problem:
            # A bracket or quote that is never closed is reported where it was opened; PyYAML
            # notices at the end of the file.
            opened = phrase in _NEVER_CLOSED
            return Problem(file, start_line if opened else line, "", tr(message), tr(fix))
    return Problem(file, line, "", _not_yaml(problem))


def _not_yaml(reason: object) -> str:
    return tr("cannot be read as YAML: {said}", said=printable(reason))


def _no_character() -> tuple[str, str]:
    return (
        tr("an escape in double quotes stands for no character"),
        tr("write the character itself"),
    )


def _lines(text: str, last: int = -1) -> Iterator[tuple[int, str]]:
    return enumerate(_LINE_BREAK.split(text, maxsplit=max(last, 0)), 1)


_NO_CHARACTER = re.compile(r"\\U(?!000|0010)[0-9A-Fa-f]{8}")
_STRUCTURE = (
    "expected ':'", "mapping values are not", "expected <block end>", "expected ',' or",
)  # fmt: skip
_NEVER_CLOSED = ("expected ',' or", "unexpected end of stream")

# Part of PyYAML's message -> our message, and how to fix it; both for `tr`.
SYNTAX = (
    ("mapping values are not allowed",
     mark("there is a colon too many, or the indentation is wrong"),
     mark("put each key on its own line, and quote text that holds a colon and a space")),
    ("could not find expected ':'",
     mark("a key without a colon, or the indentation is wrong"),
     mark("write key: value")),
    ("expected <block end>",
     mark("the indentation does not match the lines above"),
     mark("begin keys of the same mapping in the same column")),
    ("expected ',' or",
     mark("a bracket that opens here is not closed, or a comma in it is missing"),
     mark("close every [ with ] and every {{ with }}")),
    ("unexpected end of stream",
     mark("a quote that opens here is not closed"),
     mark("close it")),
    ("found undefined alias",
     mark("refers to an alias that is not defined"),
     mark("write the value out")),
    ("'\\t' that cannot start",
     mark("a tab stands where a value should"),
     mark("use spaces")),
    ("cannot start any token",
     mark("this character cannot begin a value"),
     mark("put the value in quotes")),
    ("unknown escape character",
     mark("has an unknown escape in double quotes"),
     mark("use single quotes, where a backslash is a backslash")),
)  # fmt: skip
