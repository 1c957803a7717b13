"""Snapshots on disk: names, manifests, which one is current, and the journal of what is under way.

A snapshot is of the whole lab. It is a directory in `.labctl/snapshots/`, complete once its
manifest is written, which is done last and names a proof for each part. Nothing here talks to a
node.

A lab is restored live, while it runs, or offline, by the files of its nodes. The command line and
the files under `.labctl/` call these warm and cold.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from labctl.errors import EXIT_USAGE, LabError, cannot_write
from labctl.i18n import tr, tr_list
from labctl.state import LabState, write_atomic

BASE = "base"
"""Made at the end of `create`: the state in which the tutorial's day begins."""
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_UNFINISHED = ".unfinished"
_REMOVED = ".removed"

Proof = Mapping[str, Any]
"""What shows that one part of a snapshot is there and unchanged, such as its size and checksum.

Only the module that made the part knows the keys.
"""
_IN_FILES = {"offline": "cold", "live": "warm", "method": "way"}
"""What keys and methods are called in the files, where that is another word than in the code."""
_IN_CODE = {word: name for name, word in _IN_FILES.items()}
_NO_UNKNOWN_KEYS = ConfigDict(extra="forbid")


def checked_name(name: str) -> str:
    """The name, if a snapshot may have it. Raises LabError (code 2)."""
    # It becomes the name of a directory, and of a VirtualBox snapshot.
    if not _NAME.fullmatch(name) or name.endswith((_UNFINISHED, _REMOVED)):
        raise LabError(
            tr("{name} cannot be the name of a snapshot", name=repr(name)),
            hint=tr("letters, digits, hyphens, underscores and dots; at most 60"),
            code=EXIT_USAGE,
        )
    return name


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds, with a proof for each part."""

    __pydantic_config__: ClassVar = _NO_UNKNOWN_KEYS

    name: str
    at: float
    """When it was made, in seconds since the epoch."""
    lab_id: str
    provider: str
    image: str
    """Key of the baked image that the nodes are made from; "" where there is none."""
    offline: Mapping[str, Proof]
    """{node: proof of its files}. Empty: this snapshot can be restored only live."""
    live: Mapping[str, Proof]
    """{node: proof of its state}. Empty: it can be restored only offline."""
    lesson: Mapping[str, Any] | None
    """The position in the lessons, as in lesson.json; None: no lesson was begun."""
    seconds: float = 0.0
    """How long saving it took."""
    revision: int = 0
    """How many times `labctl apply` had changed the lab by then."""

    def to_json(self) -> dict[str, Any]:
        """The manifest as its file holds it, with a checksum over everything else."""
        fields = {_IN_FILES.get(key, key): value for key, value in asdict(self).items()}
        data = {"format": _FORMAT, **fields}
        return {**data, "sha256": _digest(data)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Manifest":
        """The manifest in a file. Raises ValueError when the file was altered since."""
        rest = {key: value for key, value in data.items() if key != "sha256"}
        if data.get("sha256") != _digest(rest):
            raise ValueError(tr("its manifest was altered"))
        if rest.pop("format", None) != _FORMAT:
            raise ValueError(tr("another version of labctl made it"))
        try:
            fields = {_IN_CODE.get(key, key): value for key, value in rest.items()}
            manifest = TypeAdapter(cls).validate_python(fields)
        except (TypeError, ValidationError) as error:
            raise ValueError(tr("its manifest was altered")) from error
        parts = (*manifest.offline.values(), *manifest.live.values())
        if not (0 <= manifest.at < 1e11 and all(_is_size(part.get("size", 0)) for part in parts)):
            raise ValueError(tr("its manifest was altered"))
        return manifest

    @property
    def size(self) -> int:
        """Bytes on this machine's disk, as far as the proofs tell."""
        proofs = [*self.offline.values(), *self.live.values()]
        return sum(int(proof.get("size", 0)) for proof in proofs)

    def mismatch(self, *, lab_id: str, nodes: list[str], image: str, revision: int = 0) -> str:
        """Why this is no snapshot of the lab with these nodes and this image; "" when it is."""
        if self.lab_id != lab_id:
            return tr("it is of another lab")
        if self.revision != revision:
            return tr("it is of the lab before `labctl apply` changed it")
        for parts in (self.offline, self.live):
            if parts and sorted(parts) != sorted(nodes):
                return tr("it does not have all nodes")
        if self.offline and image and self.image != image:
            return tr("this lab's nodes were made from another version of the image")
        if not self.offline and not self.live:
            return tr("it is empty")
        return ""


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 60


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


# -- the journal ---------------------------------------------------------------------------------
Doing = Literal["save", "restore", "delete"]
Phase = Literal["preparing", "changing", "starting"]
Method = Literal["offline", "live"]
"""How a lab is restored."""


@dataclass(frozen=True)
class Journal:
    """The operation that is under way; its file is deleted when the operation ends.

    A labctl that holds the lab and finds this file knows that the operation was interrupted.
    """

    __pydantic_config__: ClassVar = _NO_UNKNOWN_KEYS

    doing: Doing
    name: str
    phase: Phase = "preparing"
    """`preparing`: the lab is unchanged. `changing`: some nodes may be restored and others not, so
    the restore must be finished. `starting`: all nodes have their files, and boot."""
    method: Method = "offline"
    was_up: bool = False
    """Whether the lab ran when this began."""

    def to_json(self) -> dict[str, Any]:
        """The journal as its file holds it."""
        fields = {_IN_FILES.get(key, key): value for key, value in asdict(self).items()}
        return {**fields, _IN_FILES["method"]: _IN_FILES[self.method]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Journal":
        """The journal in a file. Raises LabError when it cannot be read."""
        fields = {_IN_CODE.get(key, key): value for key, value in data.items()}
        try:
            if "method" in fields:
                fields["method"] = _IN_CODE.get(str(fields["method"]), fields["method"])
            journal = TypeAdapter(cls).validate_python(fields)
            checked_name(journal.name)  # the directory of that name is deleted
        except (TypeError, ValidationError, LabError) as error:
            raise LabError(tr("the journal of the snapshots cannot be read")) from error
        return journal


RecoveryAction = Literal["undo", "finish", "start"]


def recovery_action(journal: Journal) -> RecoveryAction:
    """What has to be done after an interrupted operation. Pure.

    A save is undone: its manifest was not written, or the journal would be gone. A restore that
    has changed nothing yet is undone as well. A delete is finished, and so is a restore that had
    begun to change the lab.
    """
    if journal.doing == "delete":
        return "finish"
    if journal.doing == "restore" and journal.phase != "preparing":
        return "start" if journal.phase == "starting" else "finish"
    return "undo"


# -- how to restore ------------------------------------------------------------------------------
def restore_methods(
    manifest: Manifest, running: Sequence[bool], *, offline: bool = False
) -> list[Method]:
    """The methods that can restore this snapshot now, the faster first. Pure.

    `running` has an item for each node: whether it runs. `offline`: leave out the live method.
    """
    methods: list[Method] = []
    if manifest.live and all(running) and not offline:
        methods.append("live")
    if manifest.offline:
        methods.append("offline")
    return methods


# -- on disk -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """One snapshot in the list, and in what `snapshot list --json` prints."""

    name: str
    at: float
    size: int
    """Bytes."""
    current: bool
    """The lab was last put into this state, or saved in it."""
    cold: bool
    """Whether it can be restored offline; `snapshot list --json` prints this name."""
    warm: bool
    """Whether it can be restored live; `snapshot list --json` prints this name."""
    lesson: str
    """LESSON n/m, or ""."""
    trouble: str = ""
    """Why it cannot be used; "" if nothing is known."""


class SnapshotStore:
    """The snapshots of one lab, below `.labctl/`."""

    def __init__(self, state: LabState) -> None:
        self._state = state

    @property
    def root(self) -> Path:
        """The directory that has a directory for each snapshot."""
        return self._state.snapshots

    def directory(self, name: str) -> Path:
        """Where a finished snapshot is."""
        return self.root / name

    def unfinished(self, name: str) -> Path:
        """Where the files of a snapshot are until `finish` has written its manifest."""
        return self.root / f"{name}{_UNFINISHED}"

    def begin(self, name: str) -> Path:
        """Make the empty directory that a snapshot is saved into. Raises LabError."""
        directory = self.unfinished(name)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise cannot_write(directory, error) from error
        return directory

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and make the snapshot visible, by one rename of its directory."""
        directory = self.unfinished(manifest.name)
        path = self._state.snapshot_manifest(directory)
        write_atomic(path, json.dumps(manifest.to_json(), indent=1) + "\n")
        directory.rename(self.directory(manifest.name))

    def exists(self, name: str) -> bool:
        """Whether there is a snapshot of that name, be it usable or not."""
        return self.directory(name).is_dir()

    def read(self, name: str) -> Manifest:
        """The manifest of a snapshot. Raises LabError when there is none, or it was altered."""
        checked_name(name)
        if not self.exists(name):
            names = tr_list(self.names()) or tr("none")
            raise LabError(
                tr("there is no snapshot {name}", name=name),
                hint=tr("the snapshots are: {names}", names=names),
                code=EXIT_USAGE,
            )
        try:
            text = self._state.snapshot_manifest(self.directory(name)).read_text(encoding="utf-8")
            manifest = Manifest.from_json(json.loads(text))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise damaged(name, _reason(error)) from error
        if manifest.name != name:
            raise damaged(name, tr("it was renamed"))
        return manifest

    def names(self) -> list[str]:
        """The names of all snapshots, the oldest first."""
        if not self.root.is_dir():
            return []
        directories = [
            path
            for path in self.root.iterdir()
            if path.is_dir() and not path.name.endswith((_UNFINISHED, _REMOVED))
        ]
        directories.sort(key=lambda path: (_modified(path), path.name))
        return [path.name for path in directories]

    def remove(self, name: str) -> None:
        """Hide the snapshot by one rename, then delete its files: half of one is never seen."""
        directory, removed = self.directory(name), self.root / f"{name}{_REMOVED}"
        shutil.rmtree(removed, ignore_errors=True)
        if directory.is_dir():
            directory.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        if self.current() == name:
            self._state.snapshot_current.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Delete the files that an interrupted save or delete left."""
        if self.root.is_dir():
            for path in self.root.iterdir():
                if path.name.endswith((_UNFINISHED, _REMOVED)):
                    shutil.rmtree(path, ignore_errors=True)

    def rows(self) -> list[Row]:
        """All snapshots for `snapshot list`, the oldest first; also those that cannot be used."""
        current = self.current()
        rows = []
        for name in self.names():
            try:
                rows.append(_row(self.read(name), current))
            except LabError as error:
                rows.append(Row(name, _modified(self.directory(name)), 0, name == current, False,
                                False, "", error.message))  # fmt: skip
        return rows

    # -- current -----------------------------------------------------------------------------------
    def current(self) -> str | None:
        """The snapshot that was last restored or saved; None before the first."""
        data = self._state.read_json(self._state.snapshot_current)
        return None if data is None else str(data.get("name", "")) or None

    def set_current(self, name: str) -> None:
        """Note that the lab was just restored to, or saved as, this snapshot."""
        self._state.write_json(self._state.snapshot_current, {"name": name, "at": time.time()})

    # -- journal ---------------------------------------------------------------------------------
    def journal(self) -> Journal | None:
        """The operation that was interrupted; None when none was. Raises LabError."""
        data = self._state.read_json(self._state.snapshot_journal)
        return None if data is None else Journal.from_json(data)

    def write_journal(self, journal: Journal) -> None:
        """Note on disk which operation is under way."""
        self._state.write_json(self._state.snapshot_journal, journal.to_json())

    def close_journal(self) -> None:
        """Delete the journal: the operation has ended."""
        self._state.snapshot_journal.unlink(missing_ok=True)


def damaged(name: str, why: str) -> LabError:
    """The error for a snapshot that cannot be used, found before the lab was changed."""
    return LabError(
        tr("snapshot {name} cannot be used: {why}", name=name, why=why),
        hint=tr("the lab was not touched; `labctl snapshot list` shows the others"),
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return tr("its manifest is missing")
    ours = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
    return str(error) if ours else tr("its manifest was altered")


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _row(manifest: Manifest, current: str | None) -> Row:
    return Row(
        name=manifest.name,
        at=manifest.at,
        size=manifest.size,
        current=manifest.name == current,
        cold=bool(manifest.offline),
        warm=bool(manifest.live),
        lesson=_position(manifest.lesson),
    )


def _position(lesson: Mapping[str, Any] | None) -> str:
    """Such as `floating-ip 2/5`, from the content of lesson.json; "" when no lesson was begun."""
    try:
        name = str((lesson or {})["current"])
        progress = (lesson or {})["lessons"][name]
        return f"{name} {len(progress['passed'])}/{progress['total']}"
    except (KeyError, TypeError):
        return ""  # whoever restores it is told that it cannot be read
