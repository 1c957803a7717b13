"""A lab, from end to end: what each verb of the command line does, in the order it does it."""

import json
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.access.cloud import OneLogin
from labctl.access.guest import Guest
from labctl.assets import assets
from labctl.engine.events import (
    Event,
    EventBus,
    Note,
    PlannedStep,
    RunStarted,
    StepProgress,
    StepStarted,
)
from labctl.engine.steps import RunResult, Step, StepContext, run_steps
from labctl.engine.timings import Timings
from labctl.errors import EXIT_USAGE, LabError
from labctl.gate import Gate
from labctl.i18n import tr
from labctl.images.baked import ImageCache
from labctl.lessons.load import load_lesson
from labctl.lessons.progress import read_position
from labctl.lessons.session import Classroom
from labctl.lessons.transcript import Scene, read_records, transcript
from labctl.providers import Provider
from labctl.providers.registry import FEATURES, make_provider
from labctl.provisioning.boot import halt_steps
from labctl.provisioning.seed import Yesterday
from labctl.provisioning.stages import Provisioner
from labctl.snapshots import BASE, Manifest, Row, SnapshotStore
from labctl.spec.load import LabSpec, load_spec
from labctl.state import LabState, write_atomic
from labctl.terminal.console import Console
from labctl.topology import Node, Topology, build_topology
from labctl.vault import Surroundings, Vault
from labctl.warm import Warm

if TYPE_CHECKING:
    from openstack.connection import Connection

    from labctl.doctor.judge import Report as Examination
    from labctl.status import Report
    from labctl.walks.walk import Walk

CREATE_WORKERS = 8
"""Stages mostly wait for services to start: more of them than cores keeps the cores busy."""


CHOSEN = "LABCTL_PROVIDER"
"""Environment variable: the provider that `auto` means, once that has been found out."""

KEPT_WALKS = 20


def cache_directory(*, roots: bool = False) -> Path:
    """Where baked images and timings are kept, for all labs of this machine; `roots`: root's."""
    if chosen := os.environ.get("LABCTL_CACHE"):
        return Path(chosen).expanduser().absolute()
    if roots or os.geteuid() == 0:
        return Path("/var/cache/labctl")
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "labctl"


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
        self.kept: list[str] = []
        """What `destroy` left for the next lab."""
        self._purge = False
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
        built = self.state.read_json(self.state.built_spec)
        return build_topology(
            self.spec if built is None else LabSpec.model_validate(built),
            shared_nat=FEATURES[self.provider_name].shared_nat,
        )

    @cached_property
    def provider_name(self) -> str:
        """The provider that made this lab, or else the one that would. Raises SpecError."""
        if self.state.exists:
            return self.state.identity().provider
        if self.spec.provider != "auto":
            return self.spec.provider
        return self.examination.choice.provider or "nspawn"

    @cached_property
    def examination(self) -> "Examination":
        """What keeps this host from making the lab, and which provider would. Raises SpecError."""
        if self.state.exists:
            return self.examine(self.state.identity().provider)
        # What was chosen before sudo still holds behind it, where the host looks different.
        chosen = os.environ.get(CHOSEN, "") if self.spec.provider == "auto" else ""
        return self.examine(chosen)

    @property
    def needs_root(self) -> bool:
        """Whether this lab's provider works only as root."""
        return FEATURES[self.provider_name].needs_root

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

    def vagrantfile(self) -> str:
        """The Vagrantfile that follows from lab.yaml. Raises SpecError."""
        from labctl.providers.vagrant.provider import file_for

        return file_for(build_topology(self.spec), self.state, assets() / "Vagrantfile.j2")

    def render(self) -> Path:
        """Write the Vagrantfile into the lab's state directory; where it is."""
        if self.state.built_spec.exists():
            # A lab's machines are found by this file: it must not begin to name others.
            self._refuse_other_topology()
        path = self.state.vagrant / "Vagrantfile"
        text = self.vagrantfile()
        self.state.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, text)
        return path

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
            self._clouds[thread] = self._connect()
        return self._clouds[thread]

    def _connect(self) -> "Connection":
        from labctl.access.cloud import connect

        password = self.state.secrets().admin
        return connect(self.topology, self.controller, password)

    @contextmanager
    def _changing(self, verb: str) -> Iterator[None]:
        with self.state.locked(verb):
            self.state.logs.mkdir(parents=True, exist_ok=True)
            with self.state.events.open("a") as sink:

                def record(event: Event) -> None:
                    sink.write(json.dumps({"at": time.time(), **event.to_json()}) + "\n")
                    sink.flush()

                unsubscribe = self.bus.subscribe(record)
                try:
                    if self.state.exists:
                        self.vault.settle(start=verb != "halt")
                    yield
                finally:
                    unsubscribe()

    # -- create ----------------------------------------------------------------------------------
    def create(self) -> RunResult:
        """Everything from nothing to the state in which the tutorial's day begins.

        Asks each stage what is really done and runs the rest, so it also resumes and repairs.
        Raises SpecError, LabError, StepFailed.
        """
        self.examination.raise_if_not()
        with self._changing("create"):
            self.state.begin(self.spec.name, self.provider_name)
            self._refuse_other_topology()
            topology = self.topology
            provisioner = self._provisioner()
            steps = [
                *provisioner.host_steps(),
                *provisioner.node_steps(),
                *Yesterday(self).steps(),
            ]
            result = self._run(tr("create {lab}", lab=topology.lab), steps)
            result.raise_if_failed()
            write_atomic(self.state.created, f"{time.time()}\n")
            self._keep_base()
        return result

    def _keep_base(self) -> None:
        """The first snapshot. Without it the lab is a lab all the same."""
        if SnapshotStore(self.state).exists(BASE):
            return
        live = self.provider.features.live_snapshots
        try:
            self.vault.save(BASE, files=live)
        except LabError as error:
            text = tr("no snapshot {name}: {why}", name=BASE, why=error.message)
            self.bus.emit(Note("warning", text))
            return
        if not live:
            # Halting and booting all machines would double the time of `create`.
            text = tr(
                "{name} is for a lab that runs; to keep all files: {command}",
                name=BASE,
                command="labctl snapshot save NAME",
            )
            self.bus.emit(Note("info", text))

    def _run(self, title: str, steps: list[Step], workers: int = CREATE_WORKERS) -> RunResult:
        timings = Timings(self.cache / "timings.json", prefix=f"{len(self.topology.nodes)}/")
        return run_steps(steps, bus=self.bus, timings=timings, workers=workers, title=title)

    def _refuse_other_topology(self) -> None:
        """A lab.yaml edited under a lab that exists: say so, instead of making half of both."""
        now = self.spec.model_dump_json(indent=1)
        built = self.state.built_spec
        if not built.exists():
            write_atomic(built, now)
        elif built.read_text() != now:
            raise LabError(
                tr(
                    "{file} describes another lab than the one that exists here",
                    file=self.file.name,
                ),
                hint=tr("`labctl destroy` first, or undo the edit"),
                code=EXIT_USAGE,
            )

    def _provisioner(self) -> Provisioner:
        return Provisioner(
            self.topology, self.provider, self.state, self.state.secrets(), assets() / "provision"
        )

    # -- running ---------------------------------------------------------------------------------
    def up(self) -> RunResult:
        """Start all nodes and wait until the lab works again, instances included."""
        with self._changing("up"):
            self._must_be_finished()
            steps = [*self._provisioner().host_steps(), *Yesterday(self).ready_steps()]
            result = self._run(tr("start {lab}", lab=self.topology.lab), steps)
            result.raise_if_failed()
        return result

    def halt(self) -> RunResult:
        """Shut all nodes down; what is on their disks stays."""
        with self._changing("halt"):
            self._must_exist()
            steps = halt_steps(self.provider, self.topology.nodes)
            result = self._run(tr("halt {lab}", lab=self.topology.lab), steps)
            result.raise_if_failed()
        return result

    def status(self) -> "Report":
        """What is there and how it is. Raises LabError only when lab.yaml is missing or wrong."""
        from labctl.status import collect

        return collect(self)

    def ssh_argv(self, name: str, command: Sequence[str] = ()) -> list[str]:
        """argv of an SSH client on a node; the words of `command` arrive there as they are."""
        self._must_exist()
        node = self.node(name)
        if not self.provider.running(node):
            raise LabError(
                tr("{name} is not running", name=name), hint=tr("start the lab: `labctl up`")
            )
        return [*self.provider.ssh_argv(node), *([shlex.join(command)] if command else [])]

    def log(self, name: str, unit: str, lines: int) -> str:
        """The last lines of a log: the image's, a stage's, or a service's on its node."""
        self._must_exist()
        if not name:
            return _tail(self.state.logs / "image.log", lines)
        node = self.node(name)
        directory = self.state.logs / node.name
        stages = {path.stem: path for path in sorted(directory.glob("*.log"))}
        if not unit:
            return "\n".join(f"labctl logs {name} {stage}" for stage in stages) + "\n"
        if unit in stages:
            return _tail(stages[unit], lines)
        script = (
            f"journalctl -q --no-pager -n {lines} -u {shlex.quote(unit)} 2>/dev/null;"
            f" for file in /var/log/*/{shlex.quote(unit)}*.log; do"
            f' [ -e "$file" ] && tail -n {lines} "$file"; done; true'
        )
        return self.guest(name).run(script).stdout

    # -- lessons ---------------------------------------------------------------------------------
    @contextmanager
    def classroom(
        self, verb: str, console: Console, lesson: str = "", labctl: str = "labctl"
    ) -> Iterator[Classroom]:
        """The lessons on this lab, which is held for `verb` meanwhile.

        Raises LabError when the lab is not up, or is none for that `lesson`.
        """
        self._must_exist()
        if lesson:
            load_lesson(lesson).require(self.topology)
        with self._changing(verb):
            self._must_be_up()
            with_apis = self.topology.stack == "openstack"
            cloud = OneLogin(self._connect) if with_apis else self.cloud
            yield Classroom(
                self.topology,
                self.state,
                self.guest,
                cloud,
                console,
                lambda title, steps: self._run(title, steps, workers=1),
                labctl,
            )

    def transcript(self, name: str) -> str:
        """A lesson's last run as Markdown. Raises LabError when it was never run here."""
        self._must_exist()
        lesson = load_lesson(name)
        records = read_records(self.state, lesson)
        if not records:
            raise LabError(
                tr("lesson {id} was never run in this lab", id=lesson.id),
                hint=tr("run it first: {command}", command=f"labctl replay {name}"),
            )
        nodes = [node.name for node in self.topology.nodes]
        return transcript(lesson, records, Scene(self.topology.lab, nodes))

    # -- snapshots -------------------------------------------------------------------------------
    @cached_property
    def vault(self) -> Vault:
        """The snapshots of this lab; for whoever holds it."""
        return Vault(
            Surroundings(
                self.topology,
                self.state,
                self.provider,
                self.bus,
                self._run,
                lambda: [*self._provisioner().host_steps(), *Yesterday(self).ready_steps()],
                Gate(self).pass_,
                Warm(
                    self.topology,
                    self.provider.guest,
                    self.cloud,
                    assets() / "provision" / "warm",
                ),
                self._clouds.clear,
            )
        )

    def save(self, name: str, *, files: bool = True) -> Manifest:
        """Keep the whole lab under a name; `files`: so that it can be put back when it is down."""
        self._must_exist()
        with self._changing(f"snapshot save {name}"):
            return self.vault.save(name, files=files)

    def snapshots(self) -> list[Row]:
        """All snapshots, the oldest first."""
        self._must_exist()
        return SnapshotStore(self.state).rows()

    def restore(self, name: str, *, cold: bool = False) -> None:
        """Put the whole lab back into a snapshot, the lesson position too."""
        self._must_exist()
        with self._changing(f"snapshot restore {name}"):
            self.vault.restore(name, cold=cold)

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot."""
        self._must_exist()
        with self._changing(f"snapshot delete {name}"):
            self.vault.delete(name)

    def reset(
        self, to: str, console: Console, *, cold: bool = False, labctl: str = "labctl"
    ) -> None:
        """Into snapshot `to`; "": into `base` and to the beginning of the lesson at hand."""
        self._must_exist()
        position = read_position(self.state)
        with self._changing("reset"):
            self.vault.restore(to or BASE, cold=cold)
        if not to and position.current is not None:
            source = position.lessons[position.current].source
            with self.classroom(f"start {position.current}", console, source, labctl) as room:
                report = room.start(source, practice=position.practice)
                if report.failure is not None:
                    raise report.failure

    # -- looking ---------------------------------------------------------------------------------
    def walk(
        self, protocol: str, source: str, target: str, port: int | None, keep: Path | None
    ) -> "Walk":
        """Send one packet and follow it there and back; `keep` is a directory for the captures.

        An answer that does not come is in what is returned; LabError when nothing could be sent.
        """
        from labctl.walks.walker import Walker, checked

        kind = checked(protocol, port)
        self._must_be_up()
        title = tr("a packet from {source} to {target}", source=source, target=target)
        self.bus.emit(RunStarted("", (PlannedStep("walk", title),)))
        self.bus.emit(StepStarted("walk", title))
        walker = Walker(
            self.topology,
            self.guest,
            self.cloud,
            self.provider.far_side,
            lambda message: self.bus.emit(StepProgress("walk", message)),
        )
        walk = walker.walk(kind, source, target, port, keep=keep)
        self._remember(walk)
        return walk

    def _remember(self, walk: "Walk") -> None:
        """Keep the last walks: the report draws them."""
        write_atomic(self.state.walks / f"{walk.began * 1000:.0f}.json", as_json(walk.to_json()))
        for old in sorted(self.state.walks.glob("*.json"))[:-KEPT_WALKS]:
            old.unlink(missing_ok=True)

    def _must_exist(self) -> None:
        if not self.state.exists:
            raise LabError(tr("there is no lab here"), hint=tr("make it with `labctl create`"))

    def _must_be_finished(self) -> None:
        self._must_exist()
        if not self.state.created.exists():
            raise LabError(
                tr("this lab is not finished"), hint=tr("finish it with `labctl create`")
            )

    def _must_be_up(self) -> None:
        self._must_be_finished()
        down = [node.name for node in self.topology.nodes if not self.provider.running(node)]
        if down:
            raise LabError(
                tr("not running: {names}", names=", ".join(down)),
                hint=tr("start the lab: `labctl up`"),
            )

    # -- destroy ---------------------------------------------------------------------------------
    def destroy(self, *, purge: bool = False) -> bool:
        """Remove the lab and everything it has; False when there was none.

        Works on whatever an interrupted `create` left. With `purge` also what its provider keeps
        for the next lab; without, that is named in `kept`. Raises LabError naming what resists.
        """
        if not self.state.root.exists():
            if purge:
                self.provider.purge(lambda message: None)
            return False
        self._purge = purge
        with self.state.locked("destroy"):
            if self.state.exists:
                steps = [
                    Step("nodes", tr("nodes, networks, file systems"), self._remove_nodes),
                    Step("files", tr("files"), self._remove_files, needs=("nodes",)),
                ]
                title = tr("destroy {lab}", lab=self.state.identity().lab)
                run_steps(steps, bus=self.bus, title=title).raise_if_failed()
            else:
                self.state.remove()
        return True

    def _remove_nodes(self, context: StepContext) -> None:
        self.provider.destroy(context.progress)
        if left := self.provider.leftovers():
            raise LabError(
                tr("this could not be removed: {what}", what="; ".join(left)),
                hint=tr("end what uses it, then run `labctl destroy` again"),
            )
        if self._purge:
            self.provider.purge(context.progress)
        self.kept = self.provider.kept()

    def _remove_files(self, context: StepContext) -> None:
        self.state.remove()


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open(errors="replace") as stream:
            return "".join(deque(stream, lines))
    except FileNotFoundError:
        raise LabError(tr("there is no {file} yet", file=path.name)) from None


def as_json(data: Any) -> str:
    """JSON for programs: UTF-8, one document."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)
