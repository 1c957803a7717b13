"""`labctl box build`: the baked image as a Vagrant box, for libvirt and for VirtualBox.

It makes one more layer over the baked image (kernel, user vagrant, address by DHCP), a disk out of
all layers, and an archive around it for each provider. The tools that make the disk are in the
layer, so the host needs no other programs than for a lab of containers. Unfinished work is in the
cache as `boxes/*.partial`; the next build deletes it and keeps what was finished.
"""

import hashlib
import io
import json
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import IO, Any, BinaryIO

from labctl.engine.events import Event, EventBus, Note
from labctl.engine.steps import Step, StepContext, run_steps
from labctl.engine.timings import Timings
from labctl.errors import Cancelled, LabError, cannot_write
from labctl.i18n import tr
from labctl.images.baked import (
    DIES_WITH_LABCTL,
    ImageCache,
    exclusive,
    make_cache,
    require_space,
)
from labctl.images.box_format import DISK_GIB, BoxFormat
from labctl.operating_system import rights
from labctl.run import build_environment, stream
from labctl.user_files import (
    delete_for_user,
    directory_for_user,
    replacing_for_user,
    write_for_user,
)

NAME = "labctl/lab"
"""The name of the box in Vagrant."""
CATALOGUE = "labctl-lab.json"
"""The file, in the directory of the boxes, that tells Vagrant their versions and checksums."""
RECIPE = ("packages/box.list", "image/box")


@dataclass(frozen=True)
class BuiltBox:
    """A finished box."""

    provider: str
    file: Path
    size: int
    """Bytes."""
    sha256: str


class BoxBuilder:
    """Builds the boxes of the current recipe into one directory."""

    def __init__(
        self,
        images: ImageCache,
        provision: Path,
        output: Path,
        formats: Iterable[BoxFormat],
        providers: Sequence[str],
        subscriber: Callable[[Event], None] | None = None,
    ) -> None:
        """`build` makes the boxes of `providers`; `formats` describes the boxes of all providers.

        `subscriber` receives every event of the work (the console).
        """
        self._images = images
        self._provision = provision
        self._output = output
        self._formats = {format.provider: format for format in formats}
        self._providers = tuple(providers)
        self._bus = EventBus()
        if subscriber is not None:
            self._bus.subscribe(subscriber)
        self._cache = images.root / "boxes"
        self.key = images.recipe_key(RECIPE, images.key, str(DISK_GIB))
        """Hash of everything the box is made from."""
        self._layer = self._cache / f"layer-{self.key}"
        self._disk = self._cache / f"disk-{self.key}.partial"

    # -- names -----------------------------------------------------------------------------------
    @property
    def log(self) -> Path:
        """The output of all tools."""
        return self._cache / "box.log"

    @property
    def version(self) -> str:
        """Day, time and recipe of the layer as three numbers, by which Vagrant sorts versions."""
        return (self._layer / "version").read_text().strip()

    def file(self, provider: str) -> Path:
        """The file of the box for a provider; it exists only when it is finished."""
        return self._output / f"labctl-lab-{self.version}-{provider}.box"

    @property
    def catalogue(self) -> Path:
        """The file to give to `vagrant box add`."""
        return self._output / CATALOGUE

    def _layer_exists(self) -> bool:
        return (self._layer / "root").is_dir()

    def _box_exists(self, provider: str) -> bool:
        return self._layer_exists() and self.file(provider).is_file()

    # -- building --------------------------------------------------------------------------------
    def build(self) -> list[BuiltBox]:
        """The boxes, built if they do not exist, with their catalogue.

        Needs root, and a Debian mirror the first time. Raises LabError, StepFailed, Cancelled.
        """
        if not rights.is_root():
            raise LabError(tr("building a box needs root"), hint=tr("run the command with sudo"))
        make_cache(self._cache)
        self._images.protect()
        directory_for_user(self._output)
        timings = Timings(self._images.root / "timings.json", prefix="box/")
        with exclusive(self._cache / "lock", lambda message: self._bus.emit(Note("info", message))):
            self._delete_leftovers()
            run_steps(
                self._steps(), bus=self._bus, timings=timings, workers=2, title=tr("make the box")
            ).raise_if_failed()
            for leftover in (self._disk, *self._cache.glob("layer-*")):
                if leftover != self._layer:  # of an older recipe: nothing uses it any more
                    shutil.rmtree(leftover, ignore_errors=True)
        return self._read_catalogue()

    def _delete_leftovers(self) -> None:
        """Delete what an interrupted build left, except the disk of the current recipe."""
        for leftover in self._cache.glob("*.partial"):
            if leftover != self._disk:
                shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self._output.glob(".labctl-lab-*.partial"):
            with suppress(OSError):
                delete_for_user(leftover)

    def _steps(self) -> list[Step]:
        def boxes_done() -> bool:
            return all(map(self._box_exists, self._providers))

        return [
            Step("image", tr("baked image"), self._make_image,
                 done=lambda: boxes_done() or self._images.find() is not None, log=self.log),
            Step("system", tr("kernel and first boot"), self._make_layer, needs=("image",),
                 done=self._layer_exists, log=self.log),
            Step("disk", tr("disk of the box"), self._make_disk, needs=("system",),
                 done=lambda: boxes_done() or (self._disk / "out" / "done").exists(),
                 log=self.log),
            *(
                Step(f"box-{provider}", tr("box for {provider}", provider=provider),
                     lambda context, provider=provider: self._make_box(provider, context),  # type: ignore[misc]
                     needs=("disk",), log=self.log,
                     done=lambda provider=provider: self._box_exists(provider))  # type: ignore[misc]
                for provider in self._providers
            ),
            Step("catalogue", tr("checksums and catalogue"), self._make_catalogue,
                 needs=tuple(f"box-{provider}" for provider in self._providers)),
        ]  # fmt: skip

    def _make_image(self, context: StepContext) -> None:
        self._images.build(log=self.log, progress=context.progress, cancel=context.cancelled)

    def _run_in_layers(
        self, context: StepContext, area: Path, script: str, *arguments: str, timeout: float
    ) -> None:
        image = self._images.find()
        if image is None:
            raise LabError(
                tr("the baked image was deleted while the box was made"),
                hint=tr("run the same command again"),
            )
        layers = list(image.layers)
        if self._layer_exists():
            layers.insert(0, self._layer / "root")
        root = self._images.root
        lower = ":".join(str(layer.relative_to(root)) for layer in layers)
        stream(
            # `env -C`: the mount options of overlayfs cannot quote a path, so the layers have paths
            # relative to the cache, which may have any name.
            [*DIES_WITH_LABCTL, "env", "-C", root,
             "bash", self._provision / "image" / "box" / "enter.sh",
             lower, area.relative_to(root), self._provision, script, *arguments],
            log=self.log,
            timeout=timeout,
            cancel=context.cancelled,
            env=build_environment(),
            on_line=context.progress,
            hint=tr("is there a network? the first box on a machine downloads a kernel from a"
                    " Debian mirror") if script == "system.sh" else None,
        )  # fmt: skip

    def _make_layer(self, context: StepContext) -> None:
        require_space(self._cache, 1, tr("the layer of the box"))
        partial = self._cache / f"layer-{self.key}.partial"
        for name in ("root", "work", "merged", "out"):
            (partial / name).mkdir(parents=True)
        version = version_of(self.key, time.gmtime())
        self._run_in_layers(
            context, partial, "system.sh", version, root_uuid(self.key), timeout=1800
        )
        for name in ("work", "merged", "out"):
            shutil.rmtree(partial / name)
        (partial / "version").write_text(version + "\n")
        partial.rename(self._layer)

    def _make_disk(self, context: StepContext) -> None:
        require_space(self._cache, 5, tr("the disk of the box"))
        shutil.rmtree(self._disk, ignore_errors=True)
        for name in ("merged", "out"):
            (self._disk / name).mkdir(parents=True)
        arguments = ("raw", root_uuid(self.key), str(DISK_GIB))
        self._run_in_layers(context, self._disk, "disk.sh", *arguments, timeout=1800)
        (self._disk / "out" / "done").touch()

    def _make_box(self, provider: str, context: StepContext) -> None:
        format = self._formats[provider]
        target = self.file(provider)
        require_space(self._output, 2, tr("a box"))
        self._run_in_layers(context, self._disk, "disk.sh", format.kind, timeout=3600)
        disk = self._disk / "out" / format.disk
        context.progress(target.name)
        files = self._text_files(format, disk.stat().st_size)
        with replacing_for_user(target) as stream:
            pack(stream, target, files, disk, context.cancelled)
        disk.unlink()

    def _text_files(self, format: BoxFormat, disk_size: int) -> dict[str, str]:
        source = self._provision / "image" / "box" / "files"
        metadata: dict[str, Any] = {
            "provider": format.provider, "architecture": "amd64",
            "labctl": {"version": self.version, "recipe": self.key},
            **format.metadata,
        }  # fmt: skip
        names = {
            "version": self.version,
            "mac": f"080027{self.key[:6].upper()}",
            "capacity": str(DISK_GIB * 2**30),
            "disk_size": str(disk_size),
            "disk_uuid": str(uuid.uuid5(uuid.UUID(root_uuid(self.key)), "virtualbox")),
        }

        def fill(name: str) -> str:
            return Template((source / name).read_text(encoding="utf-8")).substitute(names)

        files = {"metadata.json": json.dumps(metadata, indent=1) + "\n",
                 "Vagrantfile": fill(f"Vagrantfile.{format.provider}")}  # fmt: skip
        return files | {name: fill(name) for name in format.templates}

    # -- what was built --------------------------------------------------------------------------
    def _boxes(self) -> list[BuiltBox]:
        """All boxes of this version in the directory, also those of an earlier command."""
        return [
            BuiltBox(provider, file, file.stat().st_size, _sha256(file))
            for provider in sorted(self._formats)
            if (file := self.file(provider)).is_file()
        ]

    def _make_catalogue(self, context: StepContext) -> None:
        boxes = self._boxes()
        text = json.dumps(catalogue(self.version, boxes), indent=1) + "\n"
        write_for_user(self.catalogue, text)

    def _read_catalogue(self) -> list[BuiltBox]:
        catalogue = json.loads(self.catalogue.read_text(encoding="utf-8"))
        boxes = []
        for entry in catalogue["versions"][0]["providers"]:
            file = self._output / entry["url"]
            boxes.append(BuiltBox(entry["name"], file, file.stat().st_size, entry["checksum"]))
        return boxes


def version_of(key: str, now: time.struct_time) -> str:
    """The version of a box: 20261123.704.9831204 was made on 23 November 2026, 7:04 UTC.

    The last number is made from the recipe's hash: equal recipes have equal numbers.
    """
    minutes = now.tm_hour * 100 + now.tm_min
    return f"{now.tm_year}{now.tm_mon:02}{now.tm_mday:02}.{minutes}.{int(key[:6], 16)}"


def root_uuid(key: str) -> str:
    """The UUID of the root file system, made from the recipe's hash: builds are repeatable."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"labctl-box-{key}"))


def catalogue(version: str, boxes: Sequence[BuiltBox]) -> dict[str, Any]:
    """The content of the catalogue.

    The URLs are file names: without a scheme Vagrant looks for a file in its current directory.
    """
    return {
        "name": NAME,
        "description": "Debian 13 with OpenStack, OVN and the tools of labctl's lessons",
        "versions": [
            {
                "version": version,
                "providers": [
                    {
                        "name": box.provider, "url": box.file.name,
                        "checksum": box.sha256, "checksum_type": "sha256",
                        "architecture": "amd64", "default_architecture": True,
                    }
                    for box in boxes
                ],
            }
        ],
    }  # fmt: skip


def pack(
    stream: BinaryIO,
    target: Path,
    files: dict[str, str],
    disk: Path,
    cancelled: Callable[[], bool],
) -> None:
    """Write a box: an uncompressed tar, for the disk in it is compressed already.

    It goes to `stream`; `target` is for messages. The same files give the same bytes. Raises
    LabError, Cancelled.
    """
    try:
        with (
            tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive,
            disk.open("rb") as disk_content,
        ):
            for name, text in files.items():
                data = text.encode()
                archive.addfile(_member(name, len(data)), io.BytesIO(data))
            archive.addfile(
                _member(disk.name, disk.stat().st_size), _Interruptible(disk_content, cancelled)
            )
    except OSError as error:
        hint = tr("free some disk space, or choose another directory with --output")
        raise cannot_write(target, error, hint=hint) from error


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


class _Interruptible:
    """A file whose `read` raises Cancelled once the work was cancelled."""

    def __init__(self, file: IO[bytes], cancelled: Callable[[], bool]) -> None:
        self._file, self._cancelled = file, cancelled

    def read(self, size: int = -1) -> bytes:
        if self._cancelled():
            raise Cancelled("box")
        return self._file.read(size)


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
