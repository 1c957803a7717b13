"""Templates in the cache: packed files of a new lab's nodes, of which `create` makes the next lab.

Each is a directory named by a hash of all that decides its content. This module knows files only;
what is in a template, and for which lab it will do, is in actions/template.py.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labctl.engine.lock import hold_when_free
from labctl.errors import cannot_write
from labctl.i18n import tr, tr_n
from labctl.images.baked import make_cache, open_lock, require_space
from labctl.operating_system import closing
from labctl.state import write_atomic

AT_MOST = 4
"""Templates that are kept: those that were used last."""
MAX_BYTES = 2**30
"""Of all templates. One of the tutorial's lab has 50 MB."""
_CONTENT = "template.json"
_PARTIAL = ".partial"
_LOCK_SECONDS = 120.0
"""A template is written or taken in a second; copied to another file system, in some more."""


class TemplateCache:
    """All templates of this machine, for its labs of containers. Only root can read them."""

    def __init__(self, cache: Path) -> None:
        """`cache` is the directory of the baked images."""
        self.root = cache / "templates"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other labctls from writing, using and removing templates meanwhile.

        Raises WaitTimeout, LabError.
        """
        make_cache(self.root.parent)
        make_cache(self.root)
        closing.close_directory_to_others(self.root)
        lock = self.root / "lock"
        with hold_when_free(
            tr("the lock of the templates is free: {path}", path=lock),
            lock,
            open_lock,
            deadline=_LOCK_SECONDS,
        ):
            yield

    def directory(self, key: str) -> Path:
        """Where the template of that key is, if it exists."""
        return self.root / key

    def content(self, key: str) -> str | None:
        """What was written into the template of that key beside its files; None: there is none."""
        try:
            return (self.directory(key) / _CONTENT).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def keep(self, key: str, files: Iterable[Path], content: str) -> None:
        """Make the template of that key, with these files under their own names; hold the lock.

        One that is there is replaced. It is seen only when it is whole: labctl may be killed at
        any moment. Raises LabError, also for a disk that is nearly full.
        """
        self._remove_leftovers()
        require_space(self.root, 1, tr("a template"))
        partial = self.root / f"{key}{_PARTIAL}"
        try:
            partial.mkdir(mode=0o700)
            for file in files:
                link_or_copy(file, partial / file.name)
            # Passwords of the lab it was made from.
            write_atomic(partial / _CONTENT, content, 0o600)
            self.remove(key)
            partial.rename(self.directory(key))
        except OSError as error:
            raise cannot_write(partial, error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._remove_oldest()

    def used(self, key: str) -> None:
        """Note that the template was used just now."""
        with suppress(OSError):
            os.utime(self.directory(key))

    def remove(self, key: str) -> None:
        """Delete the template of that key, if there is one; hold the lock."""
        removed = self.root / f"{key}.removed{_PARTIAL}"
        shutil.rmtree(removed, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.directory(key).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def remove_all(self) -> None:
        """Delete every template. Raises LabError."""
        if not self.root.is_dir():
            return
        with self.locked():
            self._remove_leftovers()
            for key in self.keys():
                self.remove(key)

    def keys(self) -> list[str]:
        """Keys of all templates, the one that was used last first."""
        try:
            found = [path for path in self.root.iterdir() if re.fullmatch("[0-9a-f]+", path.name)]
        except OSError:  # there is none, or it is root's
            return []
        found = [path for path in found if path.is_dir()]
        return [path.name for path in sorted(found, key=_modified, reverse=True)]

    def size(self, *keys: str) -> int:
        """Bytes of the files of these templates."""
        files = (file for key in keys for file in self.directory(key).glob("*"))
        return sum(file.stat().st_size for file in files)

    def in_words(self) -> list[str]:
        """What is kept for the next lab, for the user; [] for nothing."""
        keys = self.keys()
        if not keys:
            return []
        size = f"{self.size(*keys) / 1e6:.0f}"
        return [
            tr_n("{n} template of `create` ({size} MB)", "{n} templates of `create` ({size} MB)",
                 n=len(keys), size=size)
        ]  # fmt: skip

    def _remove_leftovers(self) -> None:
        for path in self.root.glob(f"*{_PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)

    def _remove_oldest(self) -> None:
        """Keep the disk from filling; the one used last stays, whatever its size."""
        keys = self.keys()
        while len(keys) > 1 and (len(keys) > AT_MOST or self.size(*keys) > MAX_BYTES):
            self.remove(keys.pop())


def link_or_copy(file: Path, target: Path) -> None:
    """The same file under another name, which costs no space; on another file system a copy."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _modified(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
