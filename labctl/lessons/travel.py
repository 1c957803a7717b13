"""Lessons that travel: fetched from a Git repository at one commit, and read before they run.

Nothing is checked out. Of the commit only the lesson's file and the parts that it names are read,
so that neither links nor hooks nor submodules of a stranger's repository come into play.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lessons.load import load_lesson
from labctl.lessons.model import Background, Checkpoint, Command, Fault, Lesson
from labctl.lessons.parts import named_parts
from labctl.operating_system.programs import find
from labctl.run import CommandTimeoutError, run
from labctl.spec.problems import SpecError
from labctl.spec.source import read_yaml
from labctl.terminal.text import one_line
from labctl.user_files import directory_for_user, new_for_user

LESSON_FILE = "lesson.yaml"
MOST_BYTES = 1 << 20
"""Of each file: a lesson is text that somebody wrote."""
MOST_FETCHED = 256 << 20
"""Bytes of one commit, or of its history, from a server that cannot leave out what is not asked
for. (Held on Linux, by prlimit.)"""
_SECONDS = 300
_ADDRESS = re.compile(
    r"""
    (?P<url> (?: https:// | ssh:// ) (?: [^/@\s]+ @ )? [A-Za-z0-9\[] [^\s@]*
           | file:/// [^\s@]+
           | [A-Za-z0-9_.]+ @ [A-Za-z0-9] [A-Za-z0-9.-]* : [^\s@:-] [^\s@:]* )
    @ (?P<commit> [0-9a-f]{40} | [0-9a-f]{64} )
    (?: : (?P<path> .+ ) )?
    """,
    re.VERBOSE,
)
_ANOTHER_REPOSITORY = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE",
}  # fmt: skip
"""Variables that say where a repository is; labctl may be called by a hook of one."""
_TOO_LARGE = re.compile("died of signal 25|File size limit exceeded|File too large")
"""What git says when its child met that limit: SIGXFSZ is 25 on Linux."""
_SETTINGS = {
    # No other transport: "ext::" would run a command.
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C.UTF-8",
}


# -- the address -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Address:
    """A lesson in a Git repository."""

    url: str
    commit: str
    """The whole name, in hexadecimal: a branch could be another lesson tomorrow."""
    directory: PurePosixPath
    """Where in the repository lesson.yaml is."""

    def __str__(self) -> str:
        """Without a password that the address may have."""
        url = re.sub(r"(?<=://)[^/@]+@", "", self.url)
        return f"{url}@{self.commit[:12]}"


def parse_address(text: str) -> Address:
    """The address URL@COMMIT or URL@COMMIT:DIRECTORY. Raises LabError."""
    hint = tr(
        "write URL@COMMIT, or URL@COMMIT:DIRECTORY: {example}",
        example="https://HOST/lessons.git@0123456789abcdef0123456789abcdef01234567:qos",
    )
    if (found := _ADDRESS.fullmatch(text)) is None:
        why = tr("not the address of a lesson in a Git repository")
        if re.search(r"@[^@/:]+(:.*)?$", text) and "://" in text:
            why = tr(
                "the commit must be given with all of its 40 digits;"
                " what a branch or a tag names may change"
            )
        raise LabError(f"{one_line(text)}" + tr(": ") + why, hint=hint, code=EXIT_USAGE)
    directory = PurePosixPath(found["path"] or ".")
    odd = re.search(r"[\x00-\x1f\x7f\\:]", str(directory))
    if directory.is_absolute() or ".." in directory.parts or odd:
        message = tr("{path} is no directory of a repository", path=repr(str(directory)))
        raise LabError(message, hint=hint, code=EXIT_USAGE)
    return Address(found["url"], found["commit"], directory)


# -- fetching --------------------------------------------------------------------------------------
class _Repository:
    """A bare repository of our own, with the one commit in it."""

    def __init__(self, place: Path, address: Address) -> None:
        self._place = place
        self._address = address

    def fetch(self) -> None:
        """Raises LabError when the commit cannot be had."""
        made = self._git("init", "--quiet", "--bare", "--template=", ".")
        named = made[1] or self._git("remote", "add", "--", "there", self._address.url)[1]
        # Without the files: git gets the few that are read below when they are.
        fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--filter=blob:none"]
        why = named or self._git(*fetch, "--depth=1", "there", self._address.commit)[1]
        if why and not named and not self._has_commit():
            # A server may refuse what is not the end of a branch. Then all branches are fetched.
            why = self._git(*fetch, "there", "+refs/heads/*:refs/heads/*")[1] or why
        if not self._has_commit():
            raise LabError(
                tr("{address} cannot be fetched: {why}", address=self._address,
                   why=why or tr("the repository has no such commit")),
                hint=tr("try it: {command}", command="git ls-remote URL"),
            )  # fmt: skip

    def _has_commit(self) -> bool:
        kind, why = self._git("cat-file", "-t", self._address.commit)
        return not why and kind.strip() == "commit"

    def text(self, path: PurePosixPath) -> str:
        """The content of a file. Raises LabError for what is no regular file, or too large."""
        listed, _ = self._git(
            "ls-tree", "-z", "-l", "--full-tree", self._address.commit, "--", str(path)
        )
        found = re.fullmatch(r"(\d{6}) (\w+) ([0-9a-f]+) +(\d+|-)\t([^\0]+)\0", listed)
        if found is None or found[5] != str(path):
            raise self._refusal(tr("there is no {file}", file=repr(str(path))))
        mode, kind, name, size = found.groups()[:4]
        if kind != "blob" or mode not in ("100644", "100755"):
            raise self._refusal(tr("{file} is no regular file", file=repr(str(path))))
        if int(size) > MOST_BYTES:
            raise self._refusal(
                tr("{file} is larger than {size} KiB", file=repr(str(path)), size=MOST_BYTES >> 10)
            )
        content, why = self._git("cat-file", "blob", name)
        if why:
            raise self._refusal(why)
        return content

    def _refusal(self, why: str) -> LabError:
        return LabError(
            f"{self._address}" + tr(": ") + why,
            hint=tr("a lesson is a directory with a {file}, and the parts that it names beside it",
                    file=LESSON_FILE),
        )  # fmt: skip

    def _git(self, *words: str) -> tuple[str, str]:
        """What git prints, and why it failed ("": it did not)."""
        # Git is asked for no more than MOST_FETCHED bytes by the system: it has no such setting.
        limit = ["prlimit", f"--fsize={MOST_FETCHED}"] if find("prlimit") else []
        try:
            done = run(
                [*limit, "git", "-c", "core.hooksPath=/dev/null", *words],
                check=False,
                timeout=_SECONDS,
                cwd=self._place,
                env={
                    **{name: value for name, value in os.environ.items()
                       if name not in _ANOTHER_REPOSITORY},
                    "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
                    **_SETTINGS,
                },
                hint=tr("install git"),
            )  # fmt: skip
        except CommandTimeoutError as slow:
            raise LabError(
                tr("{address} was not there within {seconds} s", address=self._address,
                   seconds=_SECONDS),
                hint=tr("try it: {command}", command="git ls-remote URL"),
            ) from slow  # fmt: skip
        if done.returncode == 0:
            return done.stdout, ""
        if _TOO_LARGE.search(done.stderr):
            return "", tr("it is larger than {size} MiB", size=MOST_FETCHED >> 20)
        last = done.stderr.strip().splitlines()[-1:] or [str(done.returncode)]
        return "", one_line(last[0])


def get_lesson(text: str, output: Path | None = None) -> tuple[Path, Lesson]:
    """Fetch a lesson into a new directory (by default named by its id), and read it.

    Raises LabError; SpecError with everything that is wrong with the lesson, and writes nothing
    then.
    """
    address = parse_address(text)
    with tempfile.TemporaryDirectory(prefix="labctl-lesson-") as scratch:
        place = Path(scratch)
        (place / "repository").mkdir()
        repository = _Repository(place / "repository", address)
        repository.fetch()
        fetched = place / "lesson"
        fetched.mkdir()
        contents = {LESSON_FILE: repository.text(address.directory / LESSON_FILE)}
        try:
            source = read_yaml(contents[LESSON_FILE].encode(), LESSON_FILE)
            for name in named_parts(source):
                if _is_beside(name) and name not in contents:
                    contents[name] = repository.text(address.directory / name)
            for name, content in contents.items():
                (fetched / name).parent.mkdir(parents=True, exist_ok=True)
                (fetched / name).write_text(content, encoding="utf-8", newline="\n")
            lesson = load_lesson(str(fetched))
        except SpecError as error:
            raise SpecError([
                replace(problem, file=f"{address}:{_below(problem.file, fetched)}")
                for problem in error.problems
            ]) from None  # fmt: skip
    target = output or Path(lesson.id)
    _write(target, contents)
    return target, load_lesson(str(target))


def _is_beside(name: str) -> bool:
    """Whether it is a file in the lesson's directory or below; others are told of by the reader."""
    path = PurePosixPath(name)
    return (
        bool(name)
        and not path.is_absolute()
        and not {"..", ".git"} & set(path.parts)
        and re.search(r"[\x00-\x1f\x7f\\:]", name) is None
    )


def _below(file: str, directory: Path) -> str:
    path = Path(file)
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else file


def _write(target: Path, contents: dict[str, str]) -> None:
    if target.exists() or target.is_symlink():
        raise LabError(
            tr("{file} is there already", file=target),
            hint=tr("delete it, or choose another directory with -o"),
            code=EXIT_USAGE,
        )
    directory_for_user(target)
    for name, content in contents.items():
        path = target
        for part in PurePosixPath(name).parts[:-1]:
            path /= part
            directory_for_user(path)
        new_for_user(target / name, content)


# -- what it will run ------------------------------------------------------------------------------
Kind = Literal["break", "background", "run", "undo", "capture", "fault"]


@dataclass(frozen=True)
class Action:
    """Something that a lesson does in the lab."""

    kind: Kind
    node: str
    """Where: as in the lesson, so that it may be a template; empty: OVN's northbound database."""
    text: str
    """The command; of a capture its interface and filter, of a fault what it changes or stops."""


def actions(lesson: Lesson) -> Iterator[tuple[Checkpoint | None, Sequence[Action]]]:
    """What each checkpoint does and where; at the end, with None, the faults of `labctl prove`."""
    for checkpoint in lesson.checkpoints:
        at = checkpoint.node
        yield checkpoint, [
            *_scripts("break", checkpoint.breaks, at),
            *_scripts("background", checkpoint.background, at),
            *_scripts("run", checkpoint.run, at),
            *(Action("capture", each.node, f"{each.interface} {each.filter}")
              for each in checkpoint.capture),
            *([Action("undo", at, checkpoint.undo)] if checkpoint.undo else []),
        ]  # fmt: skip
    if lesson.faults:
        yield None, [Action("fault", fault.node, _fault(fault)) for fault in lesson.faults]


def _scripts(
    kind: Kind, scripts: Sequence[Command] | Sequence[Background], node: str
) -> list[Action]:
    return [Action(kind, script.node or node, script.run) for script in scripts]


def _fault(fault: Fault) -> str:
    if fault.stop:
        return f"systemctl stop {fault.stop}"
    what = "delete" if fault.delete else f"set {dict(fault.change)}"
    return f"{fault.table} {dict(fault.where)}: {what}"
