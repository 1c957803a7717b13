"""What a lab is: a lab.yaml, its state on disk, its nodes, its APIs.

What can be done to it is in actions/.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from labctl.access.guest import Guest
from labctl.assets import assets
from labctl.engine.events import Event, EventBus, Note, NoteLevel
from labctl.engine.steps import RunResult, Step, StepContext, run_steps
from labctl.engine.timings import Timings
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.images.baked import ImageCache
from labctl.providers import Provider
from labctl.providers.registry import ProviderEntry, auto_order, find, make_provider
from labctl.spec.load import LabSpec, load_built, load_spec
from labctl.state import LabState, cache_directory
from labctl.topology import Machine, Topology, build_topology

if TYPE_CHECKING:
    from keystoneauth1.identity.v3 import Password
    from openstack.connection import Connection

    from labctl.doctor.judge import DoctorReport

STEPS_AT_ONCE = 8
"""Steps that run at the same time. More than there are cores: they mostly wait for services."""

CHOSEN = "LABCTL_PROVIDER"
"""Environment variable: the provider that `auto` has chosen. labctl sets it before it restarts
itself with sudo, because the host may look different to root, who would choose another."""

T = TypeVar("T")
M = TypeVar("M", bound=Machine)


def each_node(nodes: Sequence[M], work: Callable[[M], T]) -> dict[str, T]:
    """Do `work` on all of these at the same time; returns its results by node name.

    If some fail, the first failure is raised after all have ended.
    """
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        return dict(zip((node.name for node in nodes), pool.map(work, nodes), strict=True))


class Lab:
    """One lab.yaml and the lab it describes."""

    def __init__(self, file: Path, subscriber: Callable[[Event], None] | None = None) -> None:
        """`subscriber` receives every event of the work, as the console does."""
        self.file = file.absolute()
        self.state = LabState(self.file.parent)
        self.bus = EventBus()
        if subscriber is not None:
            self.bus.subscribe(subscriber)
        self.cache = cache_directory()
        self._clouds: dict[int, Connection] = {}
        self._login: Password | None = None
        self._login_lock = threading.Lock()

    # -- the lab that the file describes ---------------------------------------------------------
    @cached_property
    def spec(self) -> LabSpec:
        """What lab.yaml says now, with defaults filled in. Raises SpecError."""
        return load_spec(self.file)

    @cached_property
    def topology(self) -> Topology:
        """The lab that exists here, or else the one that lab.yaml describes. Raises SpecError.

        A lab that exists is read from the copy of lab.yaml it was made from, so that it can be
        looked at, halted and destroyed after lab.yaml was edited or deleted.
        """
        shared_nat = self._entry.features.shared_nat
        spec = load_built(self.state.built_spec) if self.state.usable else None
        return build_topology(spec or self.spec, shared_nat=shared_nat)

    @cached_property
    def provider_name(self) -> str:
        """The provider that made this lab, or else the one that `create` would use.

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
    def examination(self) -> "DoctorReport":
        """Whether this host can make the lab, and with which provider. Raises SpecError."""
        if self.state.exists:
            return self.examine(self._made_by)
        # Chosen before labctl restarted itself with sudo: see CHOSEN.
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

    def examine(self, provider: str = "", *, thorough: bool = False) -> "DoctorReport":
        """Whether this host can make the lab of lab.yaml, and with which provider.

        `provider` replaces lab.yaml's. `thorough`: see doctor/examine.py. Needs no root.
        Raises SpecError.
        """
        from labctl.doctor.examine import examine

        return examine(
            build_topology(self.spec),
            self.state,
            provider=provider or self.spec.provider,
            cache=cache_directory(
                roots=True
            ),  # only root makes containers, so their image is in root's cache
            provision=assets() / "provision",
            thorough=thorough,
        )

    def guest(self, name: str) -> Guest:
        """The handle on a node or client, by its name. Raises LabError when there is none."""
        return self.provider.guest(self.node(name))

    def node(self, name: str) -> Machine:
        """A node or client by its name. Raises LabError when the lab has none of that name."""
        try:
            return self.topology.machine(name)
        except KeyError:
            names = tr_list(machine.name for machine in self.topology.machines)
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
        """openstacksdk as admin. Each thread has its own connection: `requests` is not thread-safe.

        Raises LabError when OpenStack's APIs do not answer.
        """
        thread = threading.get_ident()
        if thread not in self._clouds:
            self._clouds[thread] = self.connect()
        return self._clouds[thread]

    def connect(self) -> "Connection":
        """A new openstacksdk connection, as admin. Raises LabError when the APIs do not answer."""
        from labctl.access.cloud import connect, login

        with self._login_lock:
            if self._login is None:
                self._login = login(self.topology, self.state.secrets().admin)
            auth = self._login
        return connect(self.controller, auth)

    def one_connection(self) -> "Callable[[], Connection]":
        """What gives one connection for work that is done one thing after the other.

        It logs in at once, beside that work. Without OpenStack it raises LabError, as `cloud` does.
        """
        if self.topology.stack != "openstack":
            return self.cloud
        from labctl.access.cloud import SharedConnection

        return SharedConnection(self.connect)

    def log_in_ahead(self) -> None:
        """Load the OpenStack SDK and log in, in a thread: both take as long as a small restore.

        All threads' connections share that login. If it fails, they log in when they are used.
        """

        def log_in() -> None:
            with suppress(Exception):
                self.connect().session.get_token()

        if self.topology.stack == "openstack":
            threading.Thread(target=log_in, daemon=True).start()

    def forget_connections(self) -> None:
        """Make `cloud` connect anew: after a restore the old connections lead nowhere."""
        with self._login_lock:
            self._clouds.clear()
            self._login = None

    # -- what actions/ use to work on it ----------------------------------------------------------
    def run(self, title: str, steps: list[Step], workers: int = STEPS_AT_ONCE) -> RunResult:
        """Run steps under a title, at most `workers` at once; their events go to `bus`."""
        timings = Timings(self.cache / "timings.json", prefix=f"{len(self.topology.nodes)}/")
        return run_steps(steps, bus=self.bus, timings=timings, workers=workers, title=title)

    def note(self, level: NoteLevel, text: str) -> None:
        """Tell the user something about the work that is being done."""
        self.bus.emit(Note(level, text))

    def running(self) -> list[bool]:
        """Whether each machine runs, in the order of the topology."""
        return [self.provider.running(machine) for machine in self.topology.machines]

    def on_each_node(self, work: Callable[[Machine], T], context: StepContext) -> dict[str, T]:
        """As `each_node`, on all machines of the lab; each that is done is shown as progress."""

        def work_on(node: Machine) -> T:
            result = work(node)
            context.progress(node.name)
            return result

        return each_node(self.topology.machines, work_on)

    def require_created(self) -> None:
        """Raises LabError when there is no lab here, or one that is half destroyed."""
        if not self.state.exists:
            raise LabError(tr("there is no lab here"), hint=tr("make it with `labctl create`"))
        self.refuse_half_destroyed()

    def refuse_half_destroyed(self) -> None:
        """Raises LabError when `destroy` was begun here and did not come to its end."""
        if self.state.being_destroyed:
            raise LabError(
                tr("this lab is half destroyed: `destroy` was interrupted"),
                hint=tr("`labctl destroy` finishes it; so does `labctl create`, which then makes a"
                        " new lab"),
            )  # fmt: skip

    def require_finished(self) -> None:
        """Raises LabError when there is no lab here, or `create` has not finished it."""
        self.require_created()
        if not self.state.created.exists():
            raise LabError(
                tr("this lab is not finished"), hint=tr("finish it with `labctl create`")
            )

    def require_up(self) -> None:
        """Raises LabError unless all machines of a finished lab run."""
        self.require_finished()
        down = [node.name for node in self.topology.machines if not self.provider.running(node)]
        if down:
            raise LabError(
                tr("not running: {names}", names=tr_list(down)),
                hint=tr("start the lab: `labctl up`"),
            )
