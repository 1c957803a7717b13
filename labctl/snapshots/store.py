"""Snapshots as they lie on disk: names, manifests, which is current, and the journal.

A snapshot is of the whole lab. It is a directory of `.labctl/snapshots/`; what makes it one is its
manifest, which is written last and names what proves each part. Nothing here reaches a node.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.state import LabState, write_atomic

BASE = "base"
"""Made at the end of `create`: the state in which the tutorial's day begins."""
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_UNFINISHED = ".unfinished"
_REMOVED = ".removed"

Proof = Mapping[str, Any]
"""What shows that one part is there and whole; whoever made the part knows how to read it."""


def checked_name(name: str) -> str:
    """The name, if a snapshot may have it. Raises LabError (code 2)."""
    # It becomes the name of a directory, and of a snapshot of VirtualBox.
    if not _NAME.fullmatch(name) or name.endswith((_UNFINISHED, _REMOVED)):
        raise LabError(
            tr("{name} cannot be the name of a snapshot", name=repr(name)),
            hint=tr("letters, digits, hyphens, underscores and dots; at most 60"),
            code=EXIT_USAGE,
        )
    return name


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds, and what proves that it is all there."""

    name: str
    at: float
    """When it was made, in seconds since the epoch."""
    lab_id: str
    provider: str
    image: str
    """Key of the baked image under the nodes; "" where there is none."""
    cold: Mapping[str, Proof]
    """By node: its files. Empty: the lab can be put back only while it runs."""
    warm: Mapping[str, Proof]
    """By node: what is put back while it runs. Empty: the lab was halted."""
    lesson: Mapping[str, Any] | None
    """The position in the lessons, as in lesson.json; None: no lesson was begun."""
    seconds: float = 0.0
    """How long it took to make."""

    def to_json(self) -> dict[str, Any]:
        """For the file, with a checksum over all of it."""
        data = {"format": _FORMAT, **asdict(self)}
        return {**data, "sha256": _digest(data)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Manifest":
        """What the file holds. Raises ValueError when it is not what was written."""
        rest = {key: value for key, value in data.items() if key != "sha256"}
        if data.get("sha256") != _digest(rest):
            raise ValueError(tr("its manifest was altered"))
        if rest.pop("format", None) != _FORMAT:
            raise ValueError(tr("another version of labctl made it"))
        try:
            manifest = TypeAdapter(cls).validate_python(rest)
        except ValidationError as error:
            raise ValueError(tr("its manifest was altered")) from error
        parts = (*manifest.cold.values(), *manifest.warm.values())
        if not (0 <= manifest.at < 1e11 and all(_is_size(part.get("size", 0)) for part in parts)):
            raise ValueError(tr("its manifest was altered"))
        return manifest

    @property
    def size(self) -> int:
        """Bytes on this machine's disk, as far as they are known."""
        proofs = [*self.cold.values(), *self.warm.values()]
        return sum(int(proof.get("size", 0)) for proof in proofs)

    def fits(self, *, lab_id: str, nodes: list[str], image: str) -> str:
        """ "", or why this snapshot is not one of the lab with these nodes."""
        if self.lab_id != lab_id:
            return tr("it is of another lab")
        for parts in (self.cold, self.warm):
            if parts and sorted(parts) != sorted(nodes):
                return tr("it does not have all nodes")
        if self.cold and image and self.image != image:
            return tr("it stands on another baked image")
        if not self.cold and not self.warm:
            return tr("it is empty")
        return ""


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 60


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


# -- the journal ---------------------------------------------------------------------------------
Doing = Literal["save", "restore", "delete"]
Phase = Literal["preparing", "changing", "starting"]


@dataclass(frozen=True)
class Journal:
    """What is under way; on disk as long as it is. A labctl that finds one finds it interrupted."""

    doing: Doing
    name: str
    phase: Phase = "preparing"
    """`preparing`: the lab is as it was. `changing`: only going on leads to a whole lab.
    `starting`: all files are back, the nodes boot."""
    way: Literal["cold", "warm"] = "cold"
    was_up: bool = False
    """Whether the lab ran when this began."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Journal":
        """What the file holds. Raises LabError for nonsense."""
        try:
            journal = TypeAdapter(cls).validate_python(data)
            checked_name(journal.name)  # the directory of that name is deleted
        except (ValidationError, LabError) as error:
            raise LabError(tr("the journal of the snapshots cannot be read")) from error
        return journal


RecoveryAction = Literal["undo", "finish", "start"]


def recovery_action(journal: Journal) -> RecoveryAction:
    """What an interrupted work needs. Pure.

    A save is undone: its manifest was not written, or the journal would be gone. So is a restore
    that has changed nothing yet. A delete is finished, and so is a restore that had begun.
    """
    if journal.doing == "delete":
        return "finish"
    if journal.doing == "restore" and journal.phase != "preparing":
        return "start" if journal.phase == "starting" else "finish"
    return "undo"


# -- which way -----------------------------------------------------------------------------------
Method = Literal["cold", "warm"]


def restore_methods(
    manifest: Manifest, running: Sequence[bool], *, cold: bool = False
) -> list[Method]:
    """The ways back to a snapshot that are open, the better first; `cold`: only that one. Pure.

    `running` tells of each node whether it runs.
    """
    found: list[Method] = []
    if manifest.warm and all(running) and not cold:
        found.append("warm")
    if manifest.cold:
        found.append("cold")
    return found


# -- on disk -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """One snapshot in the list."""

    name: str
    at: float
    size: int
    """Bytes."""
    current: bool
    """The lab was last put into this state, or saved in it."""
    cold: bool
    warm: bool
    lesson: str
    """LESSON n/m, or ""."""
    trouble: str = ""
    """Why it cannot be used; "" if nothing is known."""


class SnapshotStore:
    """The snapshots of one lab, below `.labctl/`."""

    def __init__(self, state: LabState) -> None:
        """Reads nothing yet."""
        self._state = state

    @property
    def root(self) -> Path:
        """One directory per snapshot."""
        return self._state.snapshots

    def directory(self, name: str) -> Path:
        """Where a finished snapshot is."""
        return self.root / name

    def unfinished(self, name: str) -> Path:
        """Where a snapshot is made, until its manifest is written."""
        return self.root / f"{name}{_UNFINISHED}"

    def begin(self, name: str) -> Path:
        """An empty directory for a snapshot to be made."""
        place = self.unfinished(name)
        shutil.rmtree(place, ignore_errors=True)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700)
        except OSError as error:
            raise LabError(
                tr("cannot write {path}: {error}", path=place, error=error.strerror)
            ) from error
        return place

    def finish(self, manifest: Manifest) -> None:
        """From now on the snapshot exists: its directory gets its name in one step."""
        place = self.unfinished(manifest.name)
        write_atomic(
            self._state.snapshot_manifest(place), json.dumps(manifest.to_json(), indent=1) + "\n"
        )
        place.rename(self.directory(manifest.name))

    def exists(self, name: str) -> bool:
        """Whether there is a snapshot of that name, whole or not."""
        return self.directory(name).is_dir()

    def read(self, name: str) -> Manifest:
        """A snapshot by its name. Raises LabError when there is none, or it was altered."""
        checked_name(name)
        if not self.exists(name):
            names = ", ".join(self.names()) or tr("none")
            raise LabError(
                tr("there is no snapshot {name}", name=name),
                hint=tr("the snapshots are: {names}", names=names),
                code=EXIT_USAGE,
            )
        try:
            text = self._state.snapshot_manifest(self.directory(name)).read_text(encoding="utf-8")
            manifest = Manifest.from_json(json.loads(text))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise damaged(name, _why(error)) from error
        if manifest.name != name:
            raise damaged(name, tr("it was renamed"))
        return manifest

    def names(self) -> list[str]:
        """Of all snapshots, the oldest first."""
        if not self.root.is_dir():
            return []
        found = [
            path
            for path in self.root.iterdir()
            if path.is_dir() and not path.name.endswith((_UNFINISHED, _REMOVED))
        ]
        return [path.name for path in sorted(found, key=lambda path: (_made(path), path.name))]

    def remove(self, name: str) -> None:
        """From now on the snapshot does not exist; then its files go."""
        place, gone = self.directory(name), self.root / f"{name}{_REMOVED}"
        shutil.rmtree(gone, ignore_errors=True)
        if place.is_dir():
            place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        if self.current() == name:
            self._state.snapshot_current.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what an interrupted save or delete left."""
        if self.root.is_dir():
            for path in self.root.iterdir():
                if path.name.endswith((_UNFINISHED, _REMOVED)):
                    shutil.rmtree(path, ignore_errors=True)

    def rows(self) -> list[Row]:
        """All snapshots as one would list them."""
        current = self.current()
        rows = []
        for name in self.names():
            try:
                rows.append(_row(self.read(name), current))
            except LabError as error:
                rows.append(Row(name, _made(self.directory(name)), 0, name == current, False,
                                False, "", error.message))  # fmt: skip
        return rows

    # -- current -----------------------------------------------------------------------------------
    def current(self) -> str | None:
        """The snapshot that the lab was last put back to, or saved as."""
        data = self._state.read_json(self._state.snapshot_current)
        return None if data is None else str(data.get("name", "")) or None

    def set_current(self, name: str) -> None:
        """Remember it."""
        self._state.write_json(self._state.snapshot_current, {"name": name, "at": time.time()})

    # -- journal ---------------------------------------------------------------------------------
    def journal(self) -> Journal | None:
        """What was interrupted, if anything was."""
        data = self._state.read_json(self._state.snapshot_journal)
        return None if data is None else Journal.from_json(data)

    def write_journal(self, journal: Journal) -> None:
        """Say what is under way."""
        self._state.write_json(self._state.snapshot_journal, asdict(journal))

    def close_journal(self) -> None:
        """Nothing is under way any more."""
        self._state.snapshot_journal.unlink(missing_ok=True)


def damaged(name: str, why: str) -> LabError:
    """A snapshot that cannot be used; nothing was touched."""
    return LabError(
        tr("snapshot {name} cannot be used: {why}", name=name, why=why),
        hint=tr("the lab was not touched; `labctl snapshot list` shows the others"),
    )


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return tr("its manifest is missing")
    ours = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
    return str(error) if ours else tr("its manifest was altered")


def _made(path: Path) -> float:
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
        cold=bool(manifest.cold),
        warm=bool(manifest.warm),
        lesson=_position(manifest.lesson),
    )


def _position(lesson: Mapping[str, Any] | None) -> str:
    """`floating-ip 2/5` of a lesson.json; "" where no lesson was begun."""
    try:
        name = str((lesson or {})["current"])
        mine = (lesson or {})["lessons"][name]
        return f"{name} {len(mine['passed'])}/{mine['total']}"
    except (KeyError, TypeError):
        return ""  # whoever puts it back is told that it cannot be read
