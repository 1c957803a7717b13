"""`labctl box get` and `labctl box add`: the box labctl/lab on any host, and without a registry.

`get` makes a lab of its own in the cache, boots one machine of Debian's cloud image in it, installs
there what every node needs (provision/image/cloud/make.sh), and packs the machine's disk as a box.
A killed one goes on where it was: the machine stays until the box is in Vagrant.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from labctl.actions.destroy import destroy
from labctl.actions.held import held
from labctl.assets import assets
from labctl.doctor.examine import examine
from labctl.doctor.judge import DoctorReport
from labctl.engine.events import Event
from labctl.engine.steps import Step, StepContext
from labctl.engine.wait import wait_until
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.images.add_box import FoundBox, Progress, find_box, for_vagrant
from labctl.images.baked import ImageCache, require_space
from labctl.images.box_file import (
    CATALOGUE,
    BuiltBox,
    box_name,
    catalogue,
    pack,
    root_uuid,
    sha256,
    text_files,
    version_of,
)
from labctl.images.cloud import architecture, check_beside, fetch
from labctl.images.cloud_box import Convert, make_cloud_box
from labctl.lab import Lab
from labctl.providers.registry import ProviderEntry, entries, find
from labctl.providers.vagrant.command import VagrantCommand
from labctl.providers.vagrant.provider import VagrantProvider
from labctl.provisioning.stages import REMOTE, Provisioner
from labctl.spec.fields import OWN_BOX
from labctl.spec.load import parse_spec
from labctl.state import LabState, as_json, cache_directory
from labctl.topology import build_topology
from labctl.user_files import directory_for_user, replacing_for_user, write_for_user

CLOUD = "labctl/cloud"
"""Vagrant's name for Debian's cloud image, while the box is made of it."""
_NODE = "labctl-lab"
RECIPE = ("packages", "image", "files", "10-packages.sh", "12-quiet.sh", "15-instance-image.sh",
          "17-schema.sh", "lib.sh")  # fmt: skip
_SPEC = """\
# Written by `labctl box get`, which makes the box labctl/lab in this directory and then deletes it.
name: box-maker
stack: ovn
provider: {provider}
box: {{name: {box}}}
nodes:
  {node}: {{roles: [controller, gateway], cpus: {cpus}, memory: 2048}}
  unused: {{roles: [compute], cpus: 1, memory: 512}}  # every lab has one; this one never boots
"""


def makers() -> dict[str, ProviderEntry]:
    """The providers whose box `labctl box get` can make, by name."""
    return {entry.name: entry for entry in entries() if entry.export_disk is not None}


def box_takers() -> list[str]:
    """The names of all providers that use boxes."""
    return [entry.name for entry in entries() if entry.box is not None]


def require_builder() -> None:
    """Ask the doctor whether `labctl box build` can work here. Needs no root.

    Raises LabError with all reasons if it cannot: it would notice them one after the other, and
    some after minutes.
    """
    (name,) = (entry.name for entry in entries() if entry.builds_boxes)
    _examine(name).raise_if_not_ok(box=True)


def provider_here() -> str:
    """The provider whose box `get` makes where none is named: the first that works on this host.

    If none does it is the first of all, and what is missing for that will be told.
    """
    return next((name for name in makers() if _examine(name).ok), next(iter(makers())))


def _examine(provider: str) -> DoctorReport:
    """What the doctor says of the lab that a box is made in, or one as small."""
    text = _SPEC.format(provider=provider, box=OWN_BOX, node=_NODE, cpus=1)
    return examine(
        build_topology(parse_spec(text.encode(), "lab.yaml")),
        LabState(cache_directory() / "box-none"),  # there is no such lab
        provider=provider,
        cache=cache_directory(roots=True),
        provision=assets() / "provision",
    )


def expected_time() -> str:
    """How long `get` takes, in words for the user."""
    return tr(
        "this takes a quarter of an hour to an hour, once on this machine: it downloads some"
        " 0.3 GB (Debian's cloud image) and 0.7 GB (packages)"
    )


class BoxMaker:
    """Makes the box labctl/lab of one provider from Debian's cloud image."""

    def __init__(
        self,
        provider: str,
        *,
        image: Path | None = None,
        output: Path | None = None,
        subscriber: Callable[[Event], None] | None = None,
    ) -> None:
        """`image` is a cloud image on this machine; without, today's is downloaded.

        The finished box and its catalogue are kept in `output`, if it is given.
        """
        entry = find(provider)
        if entry.box is None or entry.export_disk is None:
            raise LabError(
                tr("labctl box get makes no box for {provider}", provider=entry.title),
                hint=tr("on Linux `labctl box build` does; or add one that somebody made:"
                        " `labctl box add FILE`"),
                code=EXIT_USAGE,
            )  # fmt: skip
        self._entry = entry
        self._format = entry.box
        self._export = entry.export_disk
        self._from_vmdk = entry.from_vmdk
        self._image = image
        self._output = output
        self._architecture = architecture()
        self._provision = assets() / "provision"
        self._cache = cache_directory()
        self.directory = self._cache / "box-get"
        self.key = ImageCache(self._cache, self._provision).recipe_key(
            RECIPE, self._architecture, entry.name
        )
        self._subscriber = subscriber

    @cached_property
    def _lab(self) -> Lab:
        self.directory.mkdir(parents=True, exist_ok=True)
        lab = self._lab_with(cpus=2)
        assert isinstance(lab.provider, VagrantProvider)
        if lab.provider.emulated:
            # On a busy host one emulated CPU waits for the other, until the kernel calls that a
            # lockup and systemd gives up.
            lab = self._lab_with(cpus=1)
        return lab

    def _lab_with(self, cpus: int) -> Lab:
        spec = _SPEC.format(provider=self._entry.name, box=CLOUD, node=_NODE, cpus=cpus)
        file = self.directory / "lab.yaml"
        if not file.exists() or file.read_text(encoding="utf-8") != spec:
            file.write_text(spec, encoding="utf-8")
        lab = Lab(file, self._subscriber)
        # libvirt's machines are booted together.
        lab.topology = replace(lab.topology, nodes=(lab.topology.node(_NODE),))
        return lab

    @property
    def _vagrant(self) -> VagrantCommand:
        provider = self._lab.provider
        assert isinstance(provider, VagrantProvider)  # what has a box is Vagrant's
        return provider.vagrant

    # -- the whole -------------------------------------------------------------------------------
    def make(self) -> str:
        """Make the box and add it to Vagrant; returns its version. Raises LabError, StepFailed."""
        if self._image is not None and not self._image.is_file():
            raise LabError(tr("{path} is no file", path=self._image), code=EXIT_USAGE)
        if self._output is not None:
            directory_for_user(self._output)
        self._begin_anew_if_sealed()
        lab = self._lab
        lab.examination.raise_if_not_ok(box=True)
        with held(lab, "box get", new=True):
            lab.state.begin(lab.spec.name, lab.provider_name)
            lab.run(tr("make the box {name}", name=OWN_BOX), self._steps()).raise_if_failed()
        self._clean_up()
        return self._version

    def _begin_anew_if_sealed(self) -> None:
        """Delete a machine of an earlier run that is down or of another recipe.

        One that is down may have been sealed, which takes our key out of it: it lets nobody in.
        """
        lab = self._lab
        if not lab.state.usable:
            return
        node = lab.topology.node(_NODE)
        recipe = self.directory / "recipe"
        same = recipe.exists() and recipe.read_text(encoding="utf-8") == self.key
        if (same and lab.provider.running(node)) or self._disk.exists():
            return
        destroy(lab)
        del self.__dict__["_lab"]

    def _clean_up(self) -> None:
        """Delete the machine, the box it was made of, and the directory."""
        lab = self._lab
        root = self._vagrant
        with suppress(LabError):  # the box is there: what is left is waste, not a failure
            lab.provider.destroy(lambda text: None)
            lab.provider.purge(lambda text: None)
            root.root.mkdir(parents=True, exist_ok=True)
            root.run("box", "remove", CLOUD, "--all", "--force", timeout=300)
            destroy(lab)
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- the steps -------------------------------------------------------------------------------
    @cached_property
    def _version(self) -> str:
        """That of the box, the same for a run that goes on after it was interrupted."""
        file = self.directory / "version"
        if not file.exists():
            file.write_text(version_of(self.key, time.gmtime()), encoding="utf-8")
            (self.directory / "recipe").write_text(self.key, encoding="utf-8")
        return file.read_text(encoding="utf-8")

    @property
    def _disk(self) -> Path:
        return self.directory / self._format.disk

    @property
    def _file(self) -> Path:
        name = box_name(self._version, self._entry.name, self._architecture)
        return (self._output or self.directory) / name

    def _steps(self) -> list[Step]:
        lab = self._lab
        provisioner = Provisioner(
            lab.topology, lab.provider, lab.state, lab.state.secrets(), self._provision
        )
        log = lab.state.image_log

        def filled() -> bool:
            return self._disk.exists()

        def unless_filled(step: Step) -> Step:
            done = step.done
            return replace(step, done=lambda: filled() or (done is not None and done()))

        host = {step.id: step for step in provisioner.host_steps()}
        return [
            Step("image", tr("Debian's cloud image"), self._make_cloud_box, log=log,
                 done=lambda: filled() or lab.provider.prepared()),
            unless_filled(host["host-network"]),
            unless_filled(host[f"boot:{_NODE}"]),
            Step("fill", tr("packages, instance image, schemas"), self._fill,
                 needs=(f"boot:{_NODE}",), done=filled,
                 log=lab.state.stage_log(_NODE, "make")),
            Step("disk", tr("disk of the box"), self._export_disk, needs=("fill",), done=filled,
                 log=log),
            Step("box", tr("box for {provider}", provider=self._entry.name), self._pack,
                 needs=("disk",), log=log),
            Step("add", tr("into Vagrant"), self._add, needs=("box",), log=lab.state.vagrant_log),
        ]  # fmt: skip

    def _make_cloud_box(self, context: StepContext) -> None:
        require_space(self.directory, 8, tr("making a box"))
        image = self._image
        if image is None:
            image = fetch(
                self._architecture, self._cache / "downloads", context.progress, context.cancelled
            )
        elif not check_beside(image, context.cancelled):
            self._lab.note(
                "info", tr("{path}: not compared with a checksum, for there is none beside it",
                           path=image.name)
            )  # fmt: skip
        box = self.directory / "cloud.box"
        convert: Convert | None = None
        if (from_vmdk := self._from_vmdk) is not None:

            def convert(vmdk: Path, target: Path) -> None:
                from_vmdk(vmdk, target, self._lab.state.image_log, context.cancelled)

        try:
            with box.open("wb") as sink:
                make_cloud_box(
                    image, sink, box, self.directory,
                    format=self._format, files=self._files, architecture=self._architecture,
                    version=self._version, key=self.key, progress=context.progress,
                    cancelled=context.cancelled, convert=convert,
                )  # fmt: skip
            self._vagrant.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._vagrant.run(
                "box", "add", "--name", CLOUD, "--provider", self._entry.name, "--force", str(box),
                timeout=1800, cancel=context.cancelled,
            )  # fmt: skip
        finally:
            box.unlink(missing_ok=True)

    @property
    def _files(self) -> Path:
        return self._provision / "image" / "box" / "files"

    def _fill(self, context: StepContext) -> None:
        provider = self._lab.provider
        node = self._lab.topology.node(_NODE)
        log = self._lab.state.stage_log(_NODE, "make")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", newline="\n") as sink:

            def on_line(line: str, stream: str) -> None:
                sink.write(line + "\n")
                sink.flush()
                if line.strip():
                    context.progress(line.strip())

            # flock: an interrupted labctl leaves the script running; the next one waits for it.
            result = provider.guest(node).run(
                "exec 9>/run/labctl-make.lock && flock 9"
                f" && bash {REMOTE}/image/cloud/make.sh {self._version} 9>&-",
                timeout=7200, check=False, on_line=on_line, cancelled=context.cancelled,
            )  # fmt: skip
        if not result.ok:
            lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
            raise LabError(
                tr("{command} failed (exit {code}): {said}",
                   command="provision/image/cloud/make.sh", code=result.returncode,
                   said=" / ".join(lines[-3:])),
                hint=tr("read {log}, mend the cause (is there a network?), then run the command"
                        " again", log=log),
            )  # fmt: skip
        wait_until(
            tr("{node} powers off", node=node.name),
            lambda: not provider.running(node),
            deadline=120 * provider.timeout_factor,
            hint=tr("see {log}", log=log),
            interval=2,
            cancelled=context.cancelled,
        )

    def _export_disk(self, context: StepContext) -> None:
        state = self._lab.state
        machine = state.machine_id(_NODE, self._entry.name).read_text(encoding="utf-8").strip()
        partial = self._disk.with_name(f"partial-{self._disk.name}")
        partial.unlink(missing_ok=True)
        self._export(machine, partial, state.image_log, context.cancelled)
        partial.rename(self._disk)

    def _pack(self, context: StepContext) -> None:
        texts = text_files(
            self._format, self._files, version=self._version, key=self.key,
            disk_size=self._disk.stat().st_size, architecture=self._architecture,
            disk_uuid=_uuid_in(self._disk) or root_uuid(self.key),
        )  # fmt: skip
        context.progress(self._file.name)
        with replacing_for_user(self._file) as sink:
            pack(sink, self._file, texts, [self._disk], context.cancelled)
        if self._output is not None:
            built = self._built()
            text = as_json(catalogue(self._version, [built])) + "\n"
            write_for_user(self._output / CATALOGUE, text)

    def _built(self) -> BuiltBox:
        size = self._file.stat().st_size
        return BuiltBox(self._entry.name, self._file, size, sha256(self._file), self._architecture)

    def _add(self, context: StepContext) -> None:
        found = FoundBox(OWN_BOX, self._version, self._built(), checked=True)
        into_vagrant(found, self._vagrant, context.cancelled)


def _uuid_in(disk: Path) -> str:
    """The ID that a VMDK's descriptor gives to the disk, which VirtualBox compares; "" if none."""
    with disk.open("rb") as source:
        found = re.search(rb'ddb\.uuid\.image\s*=\s*"([0-9a-fA-F-]{36})"', source.read(1 << 16))
    return found[1].decode() if found else ""


# -- a box that somebody made ----------------------------------------------------------------------
def add(source: str, provider: str, progress: Progress) -> FoundBox:
    """Add a box or what a catalogue offers, by file or URL, to Vagrant; returns it.

    Raises LabError.
    """
    work = cache_directory() / "box-add"
    work.mkdir(parents=True, exist_ok=True)
    cancel = lambda: False  # noqa: E731
    found = find_box(source, provider, architecture(), work / "downloads", progress, cancel)
    into_vagrant(found, VagrantCommand(work, work / "add.log", {}), cancel)
    shutil.rmtree(work, ignore_errors=True)
    return found


def into_vagrant(found: FoundBox, vagrant: VagrantCommand, cancelled: Callable[[], bool]) -> None:
    """`vagrant box add` of a box, under its name and version. Raises LabError, Cancelled."""
    places = [found.box.file.parent, cache_directory() / "box-add"]
    places += [Path(tempfile.gettempdir())]
    if public := os.environ.get("PUBLIC"):  # C:\Users\Public, on Windows
        places.append(Path(public))
    with for_vagrant(found, places) as directory:
        vagrant.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A path in place of a name: Vagrant looks for the box in the catalogue beside it.
        VagrantCommand(directory, vagrant.log, {}).run(
            "box", "add", str(directory / CATALOGUE), "--provider", found.box.provider, "--force",
            timeout=1800, cancel=cancelled,
        )  # fmt: skip
