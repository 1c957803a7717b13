"""What a lab is: a lab.yaml, its state on disk, its nodes, its APIs.

What can be done to it is in actions/.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from labctl.access.guest import Guest
from labctl.assets import assets
from labctl.engine.events import Event, EventBus, Note, NoteLevel
from labctl.engine.steps import RunResult, Step, StepContext, run_steps
from labctl.engine.timings import Timings
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.images.baked import ImageCache
from labctl.providers import Provider
from labctl.providers.registry import ProviderEntry, auto_order, find, make_provider
from labctl.spec.load import LabSpec, load_built, load_spec
from labctl.state import LabState, cache_directory
from labctl.topology import Node, Topology, build_topology

if TYPE_CHECKING:
    from openstack.connection import Connection

    from labctl.doctor.judge import DoctorReport as Examination

STEPS_AT_ONCE = 8
"""Steps mostly wait for services to start: more of them than cores keeps the cores busy."""

CHOSEN = "LABCTL_PROVIDER"
"""Environment variable: the provider that `auto` means, once that has been found out."""

T = TypeVar("T")


def each_node(nodes: Sequence[Node], work: Callable[[Node], T]) -> dict[str, T]:
    """The same work on all these nodes at once, by node; the first failure after all have ended."""
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        return dict(zip((node.name for node in nodes), pool.map(work, nodes), strict=True))


class Lab:
    """One lab.yaml and the lab it describes."""

    def __init__(self, file: Path, subscriber: Callable[[Event], None] | None = None) -> None:
        """Reads nothing yet. `subscriber` receives every event of the work (the console)."""
        self.file = file.absolute()
        self.state = LabState(self.file.parent)
        self.bus = EventBus()
        if subscriber is not None:
            self.bus.subscribe(subscriber)
        self.cache = cache_directory()
        self._clouds: dict[int, Connection] = {}

    # -- what follows from the file --------------------------------------------------------------
    @cached_property
    def spec(self) -> LabSpec:
        """What lab.yaml says now, defaults filled in. Raises SpecError."""
        return load_spec(self.file)

    @cached_property
    def topology(self) -> Topology:
        """The lab that exists here, or else the one that lab.yaml describes. Raises SpecError.

        What was made stays what it was made from: a lab can be looked at, stopped and destroyed
        whatever has become of its lab.yaml.
        """
        shared_nat = self._entry.features.shared_nat
        spec = load_built(self.state.built_spec) if self.state.usable else None
        return build_topology(spec or self.spec, shared_nat=shared_nat)

    @cached_property
    def provider_name(self) -> str:
        """The provider that made this lab, or else the one that would.

        Raises SpecError; LabError when this version of labctl has no such provider.
        """
        if self.state.exists:
            return self._made_by
        if self.spec.provider != "auto":
            return self.spec.provider
        return self.examination.choice.provider or auto_order()[-1].name

    @property
    def _made_by(self) -> str:
        return find(self.state.made_by, self.state.identity_file).name

    @property
    def _entry(self) -> ProviderEntry:
        return find(self.provider_name)

    @cached_property
    def examination(self) -> "Examination":
        """What keeps this host from making the lab, and which provider would. Raises SpecError."""
        if self.state.exists:
            return self.examine(self._made_by)
        # What was chosen before sudo still holds behind it, where the host looks different.
        chosen = os.environ.get(CHOSEN, "") if self.spec.provider == "auto" else ""
        if chosen not in ("", "auto"):
            find(chosen, CHOSEN)
        return self.examine(chosen)

    @property
    def needs_root(self) -> bool:
        """Whether this lab's provider works only as root."""
        return self._entry.features.needs_root

    @cached_property
    def images(self) -> ImageCache:
        """The cache of baked images."""
        return ImageCache(self.cache, assets() / "provision")

    @cached_property
    def provider(self) -> Provider:
        """What makes the nodes of this lab."""
        return make_provider(
            self.provider_name,
            self.topology,
            self.state,
            self.images,
            assets() / "Vagrantfile.j2",
        )

    def examine(self, provider: str = "", *, thorough: bool = False) -> "Examination":
        """Whether this host can make the lab of lab.yaml, and by which provider.

        `provider` stands in for lab.yaml's. Needs no root. Raises SpecError.
        """
        from labctl.doctor.examine import examine

        return examine(
            build_topology(self.spec),
            self.state,
            provider=provider or self.spec.provider,
            cache=cache_directory(roots=True),  # containers are made by root
            provision=assets() / "provision",
            thorough=thorough,
        )

    def guest(self, name: str) -> Guest:
        """The handle on a node, by its name. Raises LabError when the lab has no such node."""
        return self.provider.guest(self.node(name))

    def node(self, name: str) -> Node:
        """A node by its name. Raises LabError when the lab has no such node."""
        try:
            return self.topology.node(name)
        except KeyError:
            names = ", ".join(node.name for node in self.topology.nodes)
            raise LabError(
                tr("this lab has no node '{name}'", name=name),
                hint=tr("its nodes are {names}", names=names),
                code=EXIT_USAGE,
            ) from None

    @property
    def controller(self) -> Guest:
        """The handle on the controller."""
        return self.provider.guest(self.topology.controller)

    def cloud(self) -> "Connection":
        """openstacksdk as admin; one connection per thread, for requests is not thread-safe."""
        thread = threading.get_ident()
        if thread not in self._clouds:
            self._clouds[thread] = self.connect()
        return self._clouds[thread]

    def connect(self) -> "Connection":
        """A new connection of openstacksdk, as admin. Raises LabError when nobody answers."""
        from labctl.access.cloud import connect

        password = self.state.secrets().admin
        return connect(self.topology, self.controller, password)

    def forget_connections(self) -> None:
        """Connect to OpenStack anew the next time: its node was replaced."""
        self._clouds.clear()

    # -- for whoever works on it ------------------------------------------------------------------
    def run(self, title: str, steps: list[Step], workers: int = STEPS_AT_ONCE) -> RunResult:
        """Run steps under a title, at most `workers` at once; their events go to `bus`."""
        timings = Timings(self.cache / "timings.json", prefix=f"{len(self.topology.nodes)}/")
        return run_steps(steps, bus=self.bus, timings=timings, workers=workers, title=title)

    def note(self, level: NoteLevel, text: str) -> None:
        """Tell people something about the work that is under way."""
        self.bus.emit(Note(level, text))

    def running(self) -> list[bool]:
        """Whether each node runs, in the order of the topology."""
        return [self.provider.running(node) for node in self.topology.nodes]

    def on_each_node(self, work: Callable[[Node], T], context: StepContext) -> dict[str, T]:
        """The same work on all nodes at once, by node; the first failure after all have ended."""

        def work_on(node: Node) -> T:
            result = work(node)
            context.progress(node.name)
            return result

        return each_node(self.topology.nodes, work_on)

    def require_created(self) -> None:
        """Raises LabError when there is no lab here."""
        if not self.state.exists:
            raise LabError(tr("there is no lab here"), hint=tr("make it with `labctl create`"))

    def require_finished(self) -> None:
        """Raises LabError when there is no lab here, or half of one."""
        self.require_created()
        if not self.state.created.exists():
            raise LabError(
                tr("this lab is not finished"), hint=tr("finish it with `labctl create`")
            )

    def require_up(self) -> None:
        """Raises LabError unless all nodes of a finished lab run."""
        self.require_finished()
        down = [node.name for node in self.topology.nodes if not self.provider.running(node)]
        if down:
            raise LabError(
                tr("not running: {names}", names=", ".join(down)),
                hint=tr("start the lab: `labctl up`"),
            )
