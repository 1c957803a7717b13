"""Parts that lessons share: facts, claims and checkpoints by name, in files beside the lesson.

`use: NAME` is replaced by the part before anything else reads the lesson. Whatever is wrong with a
part is told at its line in its own file. Pure but for `read_parts`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.i18n import tr, tr_list
from labctl.spec.problems import KeyPath, Problem, SpecError, did_you_mean, dotted, quoted
from labctl.spec.source import YamlSource, read_file, read_yaml

KINDS = ("facts", "claims", "checkpoints")
"""What a file of parts may hold."""
MOST_FILES = 8
"""Files of parts that one lesson may name."""

PartFile = tuple[str, bytes]
"""(path, content)."""


@dataclass(frozen=True)
class WithParts(YamlSource):
    """A lesson with its parts put in; a problem is told in the file that has it."""

    places: Mapping[KeyPath, tuple[str, int]] = field(default_factory=dict)
    """(file, line) of the values that came from a file of parts."""

    def place(self, path: KeyPath) -> tuple[str, int]:
        """The file and the line of a value; if it is not there, of the nearest mapping around."""
        while path and path not in self.places and path not in self.lines:
            path = path[:-1]
        return self.places.get(path) or (self.file, self.lines.get(path, 1))

    def line(self, path: KeyPath) -> int:
        """The line of the value in its file."""
        return self.place(path)[1]

    def problem(self, path: KeyPath, message: str, fix: str = "") -> Problem:
        """A problem with the value at this path of the lesson."""
        return Problem(*self.place(path), dotted(path), message, fix)


def named_parts(source: YamlSource) -> list[str]:
    """The files that a lesson names under `parts`, as far as they are texts."""
    given = source.data.get("parts") if isinstance(source.data, dict) else None
    names = given if isinstance(given, list) else [given]
    return [name for name in names if isinstance(name, str)]


def read_parts(source: YamlSource) -> tuple[PartFile, ...]:
    """The files of parts of a lesson, which lie in its directory or below.

    Raises SpecError for one that is elsewhere, or that cannot be read, at its line in the lesson.
    """
    names = named_parts(source)
    home = Path(source.file).absolute().parent.resolve()
    problems: list[Problem] = []
    files: list[PartFile] = []
    for number, name in enumerate(names):
        path: KeyPath = ("parts", number)
        if number >= MOST_FILES:
            problems.append(source.problem(path, tr("more than {n} files", n=MOST_FILES)))
            break
        file = Path(source.file).parent / name
        try:
            inside = not Path(name).is_absolute() and file.resolve().is_relative_to(home)
        except (OSError, ValueError, RuntimeError):  # a null byte, a circle of links
            inside = False
        if not inside:
            message = tr("{file} is not in the lesson's directory", file=quoted(name))
            problems.append(source.problem(path, message, tr("put it beside the lesson")))
            continue
        try:
            files.append((str(file), read_file(file)))
        except SpecError as error:
            for problem in error.problems:
                text = tr("{file}: {message}", file=quoted(name), message=problem.message)
                fix = tr("put it beside the lesson")
                problems.append(source.problem(path, text, fix))
    if problems:
        raise SpecError(problems)
    return tuple(files)


@dataclass(frozen=True)
class _Part:
    source: YamlSource
    path: KeyPath

    @property
    def value(self) -> dict[str, Any]:
        value: Any = self.source.data
        for key in self.path:
            value = value[key]
        return dict(value)


def put_in(source: YamlSource, files: Sequence[PartFile]) -> tuple[YamlSource, list[Problem]]:
    """The lesson with its parts in the places that use them, and what is wrong with that."""
    if not isinstance(source.data, dict):
        return source, []
    problems: list[Problem] = []
    known: dict[str, dict[str, _Part]] = {kind: {} for kind in KINDS}
    for file, content in files:
        try:
            library = read_yaml(content, file)
        except SpecError as error:
            problems += error.problems
            continue
        problems += library.given_twice()
        problems += _collect(library, known)
    mixer = _Mixer(source, known, problems)
    merged = mixer.lesson()
    if not mixer.places and not problems:
        return source, []
    return WithParts(source.file, merged, source.lines, source.repeated, mixer.places), problems


def _collect(library: YamlSource, known: dict[str, dict[str, _Part]]) -> Iterator[Problem]:
    """Adds the parts of a file to those that are known; what is wrong with the file."""
    if not isinstance(library.data, dict):
        yield library.problem((), tr("must hold keys and values"))
        return
    for kind, parts in library.data.items():
        if kind not in KINDS:
            fix = tr("known are {names}", names=tr_list(KINDS))
            yield library.problem((kind,), tr("unknown key"), fix)
            continue
        if not isinstance(parts, dict):
            yield library.problem((kind,), tr("must hold parts by their names"))
            continue
        for name, part in parts.items():
            path = (kind, name)
            if not isinstance(part, dict):
                yield library.problem(path, tr("must hold keys and values"))
            elif name in known[kind]:
                other = known[kind][name].source
                message = tr("{file} has a part of this name, too", file=other.file)
                yield library.problem(path, message)
            else:
                known[kind][name] = _Part(library, path)


class _Mixer:
    def __init__(
        self, source: YamlSource, known: dict[str, dict[str, _Part]], problems: list[Problem]
    ) -> None:
        self._source = source
        self._known = known
        self._problems = problems
        self.places: dict[KeyPath, tuple[str, int]] = {}

    def lesson(self) -> Any:
        data = dict(self._source.data)
        facts = data.get("facts")
        if isinstance(facts, dict):
            data["facts"] = {
                name: self._mixed("facts", fact, ("facts", name)) for name, fact in facts.items()
            }
        checkpoints = data.get("checkpoints")
        if isinstance(checkpoints, list):
            data["checkpoints"] = [
                self._checkpoint(checkpoint, ("checkpoints", number))
                for number, checkpoint in enumerate(checkpoints)
            ]
        return data

    def _checkpoint(self, given: Any, path: KeyPath) -> Any:
        checkpoint = self._mixed("checkpoints", given, path)
        claims = checkpoint.get("claims") if isinstance(checkpoint, dict) else None
        if isinstance(claims, list):
            checkpoint = {
                **checkpoint,
                "claims": [
                    self._mixed("claims", claim, (*path, "claims", number))
                    for number, claim in enumerate(claims)
                ],
            }
        return checkpoint

    def _mixed(self, kind: str, given: Any, path: KeyPath) -> Any:
        """A part with the keys that the lesson gives beside `use`; other data as it is."""
        if not isinstance(given, dict) or "use" not in given:
            return given
        name, own = given["use"], {key: item for key, item in given.items() if key != "use"}
        parts = self._known[kind]
        if not isinstance(name, str) or name not in parts:
            meant = did_you_mean(str(name), parts)
            fix = tr("did you mean {meant}?", meant=meant) if meant else ""
            if not fix:
                names = tr_list(parts)
                fix = tr("known are {names}", names=names) if names else tr("there are none")
            message = tr("there is no part {name} in {kind}", name=quoted(name), kind=kind)
            self._problems.append(self._problem((*path, "use"), message, fix))
            return own
        part = parts[name]
        value = part.value
        if kind != "facts":
            value.setdefault("id", name)
        depth = len(part.path)
        below = {
            place: line for place, line in part.source.lines.items() if place[:depth] == part.path
        }
        for place, line in below.items():
            rest = place[depth:]
            if rest and rest[0] not in own:
                self.places[(*path, *rest)] = (part.source.file, line)
        if "id" not in own and (*part.path, "id") not in below:
            self.places[(*path, "id")] = (part.source.file, part.source.line(part.path))
        return {**value, **own}

    def _problem(self, path: KeyPath, message: str, fix: str) -> Problem:
        source = WithParts(
            self._source.file, self._source.data, self._source.lines, places=self.places
        )
        return source.problem(path, message, fix)
