"""The baked image: Debian 13 with every package of the lab, built once and kept in a cache.

It has two layers, each named by a hash of what it is made from: `packages` (mmdebstrap, takes
minutes and hundreds of megabytes) and `baked` (results that are the same for every lab, such as
database schemas). After a change to a bake script only `baked` is built again. Nothing in the
layers belongs to one lab.
"""

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from labctl.engine.lock import hold_when_free
from labctl.errors import LabError, cannot_write
from labctl.i18n import tr, tr_n
from labctl.images.debian import SUITE, unknown_key_fix
from labctl.images.emulator import require_emulator
from labctl.images.keys import archive_keys
from labctl.operating_system import closing, rights
from labctl.operating_system.architecture import Architecture, host_architecture
from labctl.own_directory import open_text, owner
from labctl.run import KILLED_WITH_LABCTL, build_environment, stream
from labctl.state import cache_directory

_RECIPE_VERSION = "3"
"""Part of the hash. Increase it when a change to this module changes the image."""
PACKAGES = ("packages/base.list", "packages/ovn-central.list", "packages/controller.list",
             "packages/compute.list", "packages/image.list", "files/debconf.seed",
             "image/before-packages.sh")  # fmt: skip
PACKAGES_OVN = ("packages/base.list", "packages/ovn-central.list", "files/debconf.seed",
                "image/before-packages.sh")  # fmt: skip
"""As PACKAGES, for `stack: ovn`."""
BAKED = ("lib.sh", "12-quiet.sh", "15-instance-image.sh", "17-schema.sh",
          "files/journald.conf", "image/bake.sh", "image/enter.sh", "image/instance")  # fmt: skip

LOCK_DEADLINE = 1800.0
"""Seconds to wait for another labctl that builds: an image takes minutes, on a slow network half an
hour."""

DIES_WITH_LABCTL = (*KILLED_WITH_LABCTL, "unshare", "--mount", "--propagation",
         "slave", "--pid", "--fork", "--kill-child", "--mount-proc")  # fmt: skip
"""Put before a command: it and all its descendants end with labctl, even after kill -9.

It runs in a mount and a PID namespace of its own. What is unmounted outside is unmounted in there,
too: with a private copy, unshare's default, the file systems of destroyed labs would stay in use.
"""


@dataclass(frozen=True)
class BakedImage:
    """A finished image."""

    key: str
    """Hash of what it is made from."""
    layers: tuple[Path, ...]
    """Directories for overlayfs, the top one first."""

    def file(self, path: str) -> Path:
        """The path on the host of a file in the image. Raises FileNotFoundError."""
        for layer in self.layers:
            if (layer / path).is_file():
                return layer / path
        raise FileNotFoundError(path)


class ImageCache:
    """All baked images of this machine, under one directory shared by its labs."""

    def __init__(
        self,
        root: Path,
        provision: Path,
        architecture: Architecture | None = None,
        stack: str = "openstack",
    ) -> None:
        """Images for machines of `architecture` (default: this host's) and labs of `stack`.

        Those for `ovn` have no OpenStack in them. They are for boxes: containers share one image.
        """
        self.root = root
        self.architecture = architecture or host_architecture()
        self._packages = PACKAGES if stack == "openstack" else PACKAGES_OVN
        self.stack = stack
        self._provision = provision

    def recipe_key(self, names: tuple[str, ...], *more: str) -> str:
        """Hash of files and directories below provision/, and of `more` that matters."""
        start = (_RECIPE_VERSION, SUITE, self.architecture.name, self.stack, *more)
        digest = hashlib.sha256("\0".join(start).encode())
        for name in names:
            top = self._provision / name
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.is_file():
                    name = path.relative_to(self._provision).as_posix()
                    digest.update(f"{name}\0".encode())
                    digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def packages_key(self) -> str:
        """Hash of everything the packages layer is made from."""
        return self.recipe_key(self._packages)

    @property
    def key(self) -> str:
        """Hash of everything the image is made from."""
        return self.recipe_key(BAKED, self.packages_key)

    def find(self, key: str | None = None) -> BakedImage | None:
        """The finished image with this key (default: of the current recipe), or None."""
        baked = self.root / f"baked-{key or self.key}"
        try:
            packages = (
                self.root / f"packages-{(baked / 'packages').read_text(encoding='utf-8').strip()}"
            )
        except OSError:
            return None
        if not (packages / "root").is_dir():
            return None
        return BakedImage(baked.name.removeprefix("baked-"), (baked / "root", packages / "root"))

    def protect(self) -> None:
        """Let nobody but root into the images: they hold setuid programs that nobody updates.

        The cache itself is closed if it is labctl's own; a directory that LABCTL_CACHE names may
        have other uses. Raises LabError for layers that somebody else made, for they are part of
        every node.
        """
        tops = [self.root] if self.root == cache_directory(roots=True, chosen="") else []
        for name in ("packages-*", "baked-*", "boxes", "templates"):
            tops += self.root.glob(name)
        for top in tops:
            user = owner(top)
            if user is None:
                continue
            if user != rights.user_id():
                raise LabError(
                    tr("{path} belongs to another user: {user}",
                       path=top, user=rights.login_name(user)),
                    hint=tr("delete it, or set LABCTL_CACHE to a directory of your own"),
                )  # fmt: skip
            with suppress(FileNotFoundError):  # another labctl has just removed what was unfinished
                closing.close_directory_to_others(top)

    def build(
        self,
        *,
        log: Path,
        progress: Callable[[str], None],
        cancel: Callable[[], bool],
    ) -> BakedImage:
        """The image of the current recipe, built if it does not exist.

        An unfinished build has a temporary name, and the next build deletes it. Needs root, and a
        Debian mirror if the packages are not in the cache. Raises LabError.
        """
        made = not self.root.exists()
        make_cache(self.root)
        if made:
            closing.close_directory_to_others(self.root)
        self.protect()
        # Of another recipe or architecture somebody may be baking one, for hours if it is emulated.
        if (image := self.find()) is not None:
            return image
        with exclusive(self.root / "lock", progress, cancel):
            if (image := self.find()) is not None:
                return image
            for leftover in self.root.glob("*.partial"):
                shutil.rmtree(leftover, ignore_errors=True)
            if self._foreign():
                require_emulator(self.architecture, self.root)
            packages = self.root / f"packages-{self.packages_key}"
            require_space(self.root, 1 if packages.is_dir() else 5, tr("the baked image"))
            if not packages.is_dir():
                self._install_packages(packages, log, progress, cancel)
            self._bake(packages, self.root / f"baked-{self.key}", log, progress, cancel)
            image = self.find()
            assert image is not None
            return image

    def _install_packages(
        self, target: Path, log: Path, progress: Callable[[str], None], cancel: Callable[[], bool]
    ) -> None:
        unknown_keys: list[str] = []
        report_progress = apt_progress(progress)

        def on_line(line: str) -> None:
            if _NO_KEY.search(line):
                unknown_keys.append(line)
            report_progress(line)

        try:
            with archive_keys(self._provision) as keys:
                self._bootstrap(target, keys, log, progress, on_line, cancel)
        except LabError as error:
            if unknown_keys:
                error.hint = unknown_key_fix()
            raise

    def _bootstrap(
        self,
        target: Path,
        keys: Path,
        log: Path,
        progress: Callable[[str], None],
        on_line: Callable[[str], None],
        cancel: Callable[[], bool],
    ) -> None:
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(mode=0o700)
        (partial / "root").mkdir()
        wanted = [
            package
            for name in self._packages
            if name.endswith(".list")
            for package in packages_in(
                (self._provision / name).read_text(encoding="utf-8"), self.architecture.name
            )
        ]
        hook = self._provision / "image" / "before-packages.sh"
        progress(
            tr("{n} packages and what they need, from Debian {suite}", n=len(wanted), suite=SUITE)
        )
        mirror = os.environ.get("LABCTL_MIRROR")
        if shutil.which("mmdebstrap") is None:
            raise LabError(
                tr("the command {command!r} is not installed", command="mmdebstrap"),
                hint=tr("install it; README.md, Requirements"),
            )
        stream(
            [
                # In a mount namespace of its own: mmdebstrap 1.5.7, Debian 13's, makes all mounts
                # of its namespace private, and leaves them so. On the host the two mounts that each
                # network namespace has below /run would become separate, and `ip netns delete`
                # would remove only one of them.
                *DIES_WITH_LABCTL, "--",
                "mmdebstrap", "--mode=root", "--variant=apt", "--skip=cleanup/apt/lists",
                f"--keyring={keys}",
                "--aptopt=APT::Install-Recommends \"false\"",
                "--aptopt=Acquire::Languages \"none\"",
                "--aptopt=Acquire::Check-Valid-Until \"false\"",
                "--dpkgopt=force-unsafe-io",
                # Names of hardware that nodes do not have; compiling them takes minutes, emulated.
                "--dpkgopt=path-exclude=/usr/lib/udev/hwdb.d/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                # Of OVN and Open vSwitch: what logical flows and OpenFlow mean is written there.
                "--dpkgopt=path-include=/usr/share/man/man[1578]/ov[ns]*",
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                f"--essential-hook=sh {_shell_word(hook)} \"$1\" {_shell_word(self._provision)}",
                f"--include={','.join(wanted)}", *self._foreign(),
                SUITE, str(partial / "root"), *([mirror] if mirror else []),
            ],
            log=log,
            timeout=3600 * self.slowdown,
            cancel=cancel,
            env=build_environment(),
            on_line=on_line,
            hint=tr("is there a network? the first lab on a machine downloads 400 MB from a Debian"
                    " mirror (LABCTL_MIRROR chooses another one)"),
        )  # fmt: skip
        partial.rename(target)

    @property
    def slowdown(self) -> int:
        """How many times as long programs of the image may take as the host's own."""
        return 10 if self._foreign() else 1

    def _foreign(self) -> list[str]:
        """What mmdebstrap must be told for another architecture than this host's.

        It looks for an emulator among the host's own settings of binfmt_misc, and those of another
        mount namespace work as well; require_emulator has tried one.
        """
        if self.architecture == host_architecture():
            return []
        return [f"--architectures={self.architecture.name}", "--skip=check/qemu"]

    def _bake(
        self,
        packages: Path,
        target: Path,
        log: Path,
        progress: Callable[[str], None],
        cancel: Callable[[], bool],
    ) -> None:
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(mode=0o700)
        for name in ("root", "work", "merged"):
            (partial / name).mkdir()
        progress(tr("instance image and database schemas"))
        script = self._provision / "image" / "enter.sh"
        stream(
            [*DIES_WITH_LABCTL, "bash", str(script),
             str(packages / "root"), str(partial), str(self._provision), self.stack],
            log=log,
            timeout=1800 * self.slowdown,
            cancel=cancel,
            env=build_environment(),
            on_line=progress,
        )  # fmt: skip
        shutil.rmtree(partial / "work")
        (partial / "merged").rmdir()
        (partial / "packages").write_text(
            packages.name.removeprefix("packages-") + "\n", encoding="utf-8"
        )
        partial.rename(target)


def packages_in(text: str, architecture: str) -> list[str]:
    """The packages that a list of provision/packages has for an architecture, by Debian's name.

    As `packages_of` in provision/lib.sh: one a line; `[amd64]` or `[arm64]` after it makes it for
    that alone.
    """
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [words[0] for words in lines if len(words) == 1 or words[1:] == [f"[{architecture}]"]]


def make_cache(directory: Path) -> None:
    """Make a directory of the cache, closed to others. Raises LabError where that fails."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(path: Path, error: OSError) -> LabError:
    hint = tr("set LABCTL_CACHE to a directory on a local file system such as ext4, xfs or btrfs")
    return cannot_write(path, error, hint=hint)


def open_lock(path: Path) -> TextIO:
    """Open the file of a lock of the cache. Raises OSError."""
    stream = open_text(path)
    rights.set_mode(stream.fileno(), 0o600)  # whoever may read it can hold it
    return stream


@contextmanager
def exclusive(
    lock: Path,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool] | None = None,
    deadline: float = LOCK_DEADLINE,
) -> Iterator[None]:
    """Hold a lock of the cache; reports to `progress` when it has to wait for another labctl.

    Raises WaitTimeout after `deadline` seconds, Cancelled, LabError.
    """

    with ExitStack() as held:
        try:
            held.enter_context(
                hold_when_free(
                    tr("the lock of the images is free: {path}", path=lock),
                    lock,
                    open_lock,
                    deadline=deadline,
                    on_wait=lambda: progress(
                        tr("another labctl builds the image; waiting for it to finish")
                    ),
                    cancelled=cancelled,
                )
            )
        except OSError as error:
            raise _unwritable(lock, error) from error
        yield


def require_space(directory: Path, gib: int, what: str) -> None:
    """Raise LabError unless `directory` has `gib` GiB free for `what`."""
    free = shutil.disk_usage(directory).free
    if free < gib * 2**30:
        raise LabError(
            tr("{path} has {free} GiB free; {what} needs {need} GiB",
               path=directory, free=f"{free / 2**30:.1f}", what=what, need=gib),
            hint=tr("free some space, or set LABCTL_CACHE to a directory on a larger disk"),
        )  # fmt: skip


def _shell_word(path: Path) -> str:
    """The path quoted for a shell: mmdebstrap runs its hooks with one."""
    return shlex.quote(str(path))


_NO_KEY = re.compile(r"NO_PUBKEY|Missing key [0-9A-F]{16}")
"""What apt says of a signature whose key it lacks: with gpgv, and with sqv (Debian 13)."""


def apt_progress(progress: Callable[[str], None]) -> Callable[[str], None]:
    """Returns a function that takes each line of mmdebstrap's log and reports a short progress.

    It counts the packages that are set up.
    """
    count = 0

    def on_line(line: str) -> None:
        nonlocal count
        if line.startswith("Setting up "):
            count += 1
            progress(
                tr_n("{n} package: {name}", "{n} packages: {name}", n=count, name=line.split()[2])
            )
        elif line.startswith("I: "):
            progress(line[3:])

    return on_line
