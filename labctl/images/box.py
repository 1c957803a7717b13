"""`labctl box build`: the baked image as a Vagrant box, for libvirt and for VirtualBox.

It makes one more layer over the baked image (kernel, user vagrant, address by DHCP), a disk out of
all layers, and an archive around it for each provider. The tools that make the disk are in the
layer, so the host needs no other programs than for a lab of containers. Unfinished work is in the
cache as `boxes/*.partial`; the next build deletes it and keeps what was finished.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from labctl.engine.events import Event, EventBus, Note
from labctl.engine.steps import Step, StepContext, run_steps
from labctl.engine.timings import Timings
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.images.baked import (
    DIES_WITH_LABCTL,
    BakedImage,
    ImageCache,
    exclusive,
    make_cache,
    require_space,
)
from labctl.images.box_file import (
    CATALOGUE,
    BuiltBox,
    box_name,
    catalogue,
    other_versions,
    pack,
    root_uuid,
    sha256,
    text_files,
    version_of,
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

RECIPE = ("packages/box.list", "image/box")
DISK_SCRIPT = "box/disk.sh"
"""Makes the disks; in provision/image."""


class BoxSystem:
    """The baked image as a machine boots it: one more layer over it, in the cache."""

    def __init__(self, images: ImageCache, provision: Path) -> None:
        self._images = images
        self._provision = provision
        self.cache = images.root / "boxes"
        self.key = images.recipe_key(RECIPE, images.key, str(DISK_GIB))
        """Hash of everything the box is made from."""
        self.kind = f"{images.architecture.name}-{images.stack}"
        self.layer = self.cache / f"layer-{self.kind}-{self.key}"

    @property
    def log(self) -> Path:
        """The output of all tools."""
        return self.cache / "box.log"

    @property
    def version(self) -> str:
        """Day, time and recipe of the layer as three numbers, by which Vagrant sorts versions."""
        return (self.layer / "version").read_text(encoding="utf-8").strip()

    def exists(self) -> bool:
        """Whether the layer is made."""
        return (self.layer / "root").is_dir()

    @contextmanager
    def working(self, progress: Callable[[str], None]) -> Iterator[None]:
        """Have the cache, and hold the lock of all that makes disks in it.

        Raises LabError, also without root.
        """
        if not rights.is_root():
            raise LabError(tr("building a box needs root"), hint=tr("run the command with sudo"))
        make_cache(self.cache)
        self._images.protect()
        with exclusive(self.cache / "lock", progress):
            yield

    def image(self) -> BakedImage:
        """The baked image, after `make_image`. Raises LabError."""
        image = self._images.find()
        if image is None:
            raise LabError(
                tr("the baked image was deleted while the box was made"),
                hint=tr("run the same command again"),
            )
        return image

    def make_image(self, context: StepContext) -> None:
        """Have the baked image below."""
        self._images.build(log=self.log, progress=context.progress, cancel=context.cancelled)

    def make(self, context: StepContext) -> None:
        """Make the layer, which does not exist. Raises LabError, Cancelled."""
        require_space(self.cache, 1, tr("the layer of the box"))
        partial = self.cache / f"layer-{self.key}.partial"
        for name in ("root", "work", "merged", "out"):
            (partial / name).mkdir(parents=True)
        version = version_of(self.key, time.gmtime())
        self.run(context, partial, "box/system.sh", version, root_uuid(self.key), timeout=1800)
        for name in ("work", "merged", "out"):
            shutil.rmtree(partial / name)
        (partial / "version").write_text(version + "\n", encoding="utf-8")
        partial.rename(self.layer)

    def run(
        self,
        context: StepContext,
        area: Path,
        script: str,
        *arguments: str,
        timeout: float,
        above: Sequence[Path] = (),
    ) -> None:
        """Run a script of provision/image inside all layers; see enter.sh for `area`.

        `timeout` is in seconds of this machine's own programs; layers `above` this one are below
        the cache as all are. Raises LabError, Cancelled.
        """
        image = self.image()
        layers = [*above, *([self.layer / "root"] if self.exists() else []), *image.layers]
        root = self._images.root
        lower = ":".join(str(layer.relative_to(root)) for layer in layers)
        stream(
            # `env -C`: the mount options of overlayfs cannot quote a path, so the layers have paths
            # relative to the cache, which may have any name.
            [*DIES_WITH_LABCTL, "env", "-C", root,
             "bash", self._provision / "image" / "box" / "enter.sh",
             lower, area.relative_to(root), self._provision, script, *arguments],
            log=self.log,
            timeout=timeout * self._images.slowdown,
            cancel=context.cancelled,
            env=build_environment(),
            on_line=context.progress,
            hint=None if script == DISK_SCRIPT
            else tr("is there a network? the first box on a machine downloads a kernel from a"
                    " Debian mirror"),
        )  # fmt: skip


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
        self._system = BoxSystem(images, provision)
        self._cache = self._system.cache
        self.key = self._system.key
        """Hash of everything the box is made from."""
        self._disk = self._cache / f"disk-{self.key}.partial"

    # -- names -----------------------------------------------------------------------------------
    @property
    def log(self) -> Path:
        """The output of all tools."""
        return self._system.log

    @property
    def version(self) -> str:
        """Day, time and recipe of the layer as three numbers, by which Vagrant sorts versions."""
        return self._system.version

    def file(self, provider: str) -> Path:
        """The file of the box for a provider; it exists only when it is finished."""
        return self._output / box_name(self.version, provider, self._images.architecture.name)

    @property
    def catalogue(self) -> Path:
        """The file to give to `vagrant box add`."""
        return self._output / CATALOGUE

    def _box_exists(self, provider: str) -> bool:
        return self._system.exists() and self.file(provider).is_file()

    # -- building --------------------------------------------------------------------------------
    def build(self) -> list[BuiltBox]:
        """The boxes, built if they do not exist, with their catalogue.

        Needs root, and a Debian mirror the first time. Raises LabError, StepFailed, Cancelled.
        """
        timings = Timings(self._images.root / "timings.json", prefix="box/")
        with self._system.working(lambda message: self._bus.emit(Note("info", message))):
            directory_for_user(self._output)
            self._delete_leftovers()
            run_steps(
                self._steps(), bus=self._bus, timings=timings, workers=2, title=tr("make the box")
            ).raise_if_failed()
            # The second pattern is for those of labctl before it knew architectures.
            layer = self._system.layer
            names = (layer.name.replace(self.key, "*"), f"layer-{'[0-9a-f]' * len(self.key)}")
            older = [found for name in names for found in self._cache.glob(name)]
            for leftover in (self._disk, *older):
                if leftover != layer:  # of an older recipe: nothing uses it any more
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
            Step("image", tr("baked image"), self._system.make_image,
                 done=lambda: boxes_done() or self._images.find() is not None, log=self.log),
            Step("system", tr("kernel and first boot"), self._system.make, needs=("image",),
                 done=self._system.exists, log=self.log),
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

    def _make_disk(self, context: StepContext) -> None:
        require_space(self._cache, 5, tr("the disk of the box"))
        shutil.rmtree(self._disk, ignore_errors=True)
        for name in ("merged", "out"):
            (self._disk / name).mkdir(parents=True)
        arguments = ("raw", root_uuid(self.key), str(DISK_GIB))
        self._system.run(context, self._disk, DISK_SCRIPT, *arguments, timeout=1800)
        (self._disk / "out" / "done").touch()

    def _make_box(self, provider: str, context: StepContext) -> None:
        format = self._formats[provider]
        target = self.file(provider)
        require_space(self._output, 2, tr("a box"))
        self._system.run(context, self._disk, DISK_SCRIPT, format.kind, timeout=3600)
        disk = self._disk / "out" / format.disk
        context.progress(target.name)
        files = text_files(
            format,
            self._provision / "image" / "box" / "files",
            version=self.version,
            key=self.key,
            disk_size=disk.stat().st_size,
            architecture=self._images.architecture.name,
        )
        with replacing_for_user(target) as stream:
            pack(stream, target, files, [disk], context.cancelled)
        disk.unlink()

    # -- what was built --------------------------------------------------------------------------
    def _boxes(self) -> list[BuiltBox]:
        """All boxes of this version in the directory, also those of an earlier command."""
        return [
            BuiltBox(
                provider, file, file.stat().st_size, sha256(file), self._images.architecture.name
            )
            for provider in sorted(self._formats)
            if (file := self.file(provider)).is_file()
        ]

    def _make_catalogue(self, context: StepContext) -> None:
        boxes = self._boxes()
        others = other_versions(self.catalogue, self._images.architecture.name)
        text = json.dumps(catalogue(self.version, boxes, others), indent=1) + "\n"
        write_for_user(self.catalogue, text)

    def _read_catalogue(self) -> list[BuiltBox]:
        catalogue = json.loads(self.catalogue.read_text(encoding="utf-8"))
        boxes = []
        for entry in catalogue["versions"][0]["providers"]:
            file = self._output / entry["url"]
            boxes.append(
                BuiltBox(
                    entry["name"], file, file.stat().st_size, entry["checksum"],
                    entry["architecture"],
                )
            )  # fmt: skip
        return boxes
