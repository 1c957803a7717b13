"""The disk of a class's machines: the system of a box, labctl, the baked image, and a lab.

`actions/class_image.py` makes the lab that goes into it. Unfinished work is in the cache as
`boxes/machine-work`; the next build deletes it.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.assets import PACKAGE, assets
from labctl.engine.events import Event, EventBus, Note
from labctl.engine.steps import Step, StepContext, run_steps
from labctl.engine.timings import Timings
from labctl.i18n import tr
from labctl.images.baked import ImageCache, require_space
from labctl.images.box import DISK_SCRIPT, BoxSystem
from labctl.images.box_file import root_uuid
from labctl.images.debian import GLIBC, PYTHON
from labctl.run import stream
from labctl.user_files import replacing_for_user

MACHINE_GIB = 8
"""Size of the disk; cloud-init enlarges the file system to what the engine gives."""
PLACE = Path("/srv/lab")
"""Where the lab is in a machine."""
LOCK = "requirements.lock"


class MachineBuilder:
    """Builds one disk, in the format qcow2."""

    def __init__(
        self,
        images: ImageCache,
        provision: Path,
        output: Path,
        subscriber: Callable[[Event], None] | None = None,
    ) -> None:
        """`output` is the file; `subscriber` receives every event of the work (the console)."""
        self._images = images
        self._output = output
        self._system = BoxSystem(images, provision)
        self._bus = EventBus()
        if subscriber is not None:
            self._bus.subscribe(subscriber)
        self.work = self._system.cache / "machine-work"
        """A directory for what is made meanwhile."""
        self._area = self.work / "area"

    @property
    def lab(self) -> Path:
        """The directory to put the lab into, between `prepare` and `finish`."""
        return self._area / "in" / "lab"

    @contextmanager
    def working(self, clean_up: Callable[[], None]) -> Iterator[None]:
        """Hold the cache meanwhile. What is unfinished is deleted before and after.

        `clean_up` ends what may still use it. Raises LabError, also without root.
        """
        with self._system.working(lambda message: self._bus.emit(Note("info", message))):
            try:
                clean_up()
                shutil.rmtree(self.work, ignore_errors=True)
                yield
            finally:
                clean_up()
                shutil.rmtree(self.work, ignore_errors=True)

    def prepare(self) -> None:
        """Have the system and labctl's libraries. Raises LabError, StepFailed, Cancelled."""
        for name in ("root", "work", "merged", "out", "in/site"):
            (self._area / name).mkdir(parents=True)
        system, log = self._system, self._system.log
        self._run(tr("make the system"), [
            Step("image", tr("baked image"), system.make_image,
                 done=lambda: self._images.find() is not None, log=log),
            Step("system", tr("kernel and first boot"), system.make, needs=("image",),
                 done=system.exists, log=log),
            Step("python", tr("labctl and its libraries"), self._fetch_libraries, log=log),
        ])  # fmt: skip

    def finish(self) -> Path:
        """Make the disk, with the lab that is in `lab`. Raises LabError, StepFailed, Cancelled."""
        log = self._system.log
        self._run(tr("make the image"), [
            Step("machine", tr("labctl, its lab, and the first boot"), self._make_layer, log=log),
            Step("disk", tr("disk of the machine"), self._make_disk, needs=("machine",), log=log),
            Step("file", tr("image"), self._write, needs=("disk",), log=log),
        ])  # fmt: skip
        return self._output

    def _run(self, title: str, steps: list[Step]) -> None:
        timings = Timings(self._images.root / "timings.json", prefix="machine/")
        run_steps(steps, bus=self._bus, timings=timings, workers=2, title=title).raise_if_failed()

    # -- steps -----------------------------------------------------------------------------------
    def _fetch_libraries(self, context: StepContext) -> None:
        """labctl as it runs here, and its libraries in the versions that it is tested with."""
        site = self._area / "in" / "site"
        stream(
            [*pip_install(self._images.architecture.machine), "--target", site,
             "--requirement", assets() / LOCK],
            log=self._system.log, timeout=900, cancel=context.cancelled, env=None,
            on_line=context.progress,
            hint=tr("is there a network, and has the Python of labctl a pip? {command} tells",
                    command=f"{sys.executable} -m pip --version"),
        )  # fmt: skip
        ours = site / PACKAGE.name
        shutil.copytree(PACKAGE, ours, ignore=shutil.ignore_patterns("__pycache__", "_assets"))
        for name in ("provision", "lab.yaml", "Vagrantfile.j2", LOCK):
            source, target = assets() / name, ours / "_assets" / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def _layers(self) -> list[Path]:
        """The directories of the cache that are the baked image."""
        return [layer.parent for layer in self._system.image().layers]

    def _make_layer(self, context: StepContext) -> None:
        names = [layer.name for layer in self._layers()]
        self._system.run(context, self._area, "machine/machine.sh", *names, timeout=1800)

    def _make_disk(self, context: StepContext) -> None:
        require_space(self._system.cache, 5, tr("the disk of the machine"))
        disk = self.work / "disk"
        for name in ("merged", "out"):
            (disk / name).mkdir(parents=True)
        (disk / "more").write_text(
            "".join(f"{layer.name} var/cache/labctl/{layer.name}\n" for layer in self._layers()),
            encoding="utf-8",
        )
        above = [self._area / "root"]
        uuid = root_uuid(self._system.key)
        for words in (("raw", uuid, str(MACHINE_GIB)), ("qcow2",)):
            self._system.run(context, disk, DISK_SCRIPT, *words, timeout=3600, above=above)

    def _write(self, context: StepContext) -> None:
        context.progress(self._output.name)
        made = self.work / "disk" / "out" / "box.img"
        with made.open("rb") as source, replacing_for_user(self._output) as sink:
            shutil.copyfileobj(source, sink, 1 << 20)


def pip_install(machine: str) -> list[str]:
    """argv of a pip that takes wheels for the Python in the image; `machine` as uname says it.

    It is the pip of labctl's own Python, and so the user's settings of indexes and proxies count.
    """
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)]
    platforms = [word for name in (*names, f"manylinux2014_{machine}")
                 for word in ("--platform", name)]  # fmt: skip
    return [
        sys.executable, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--only-binary", ":all:", "--implementation", "cp",
        "--python-version", PYTHON, "--no-compile", *platforms,
    ]  # fmt: skip
