"""A lab, from end to end: what each verb of the command line does, in the order it does it."""

import json
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.assets import assets
from labctl.console import Console
from labctl.errors import EXIT_USAGE, LabError
from labctl.events import Event, EventBus
from labctl.guest import Guest
from labctl.i18n import tr
from labctl.image import ImageCache
from labctl.lesson import Lesson, load_lesson
from labctl.providers import Provider
from labctl.providers.nspawn import NspawnProvider
from labctl.replay import CheckpointResult, Runner
from labctl.spec import LabSpec, load_spec
from labctl.stages import Provisioner
from labctl.state import LabState, write_atomic
from labctl.steps import RunResult, Step, StepContext, run_steps
from labctl.timings import Timings
from labctl.topology import Node, Topology, build_topology
from labctl.yesterday import Yesterday

if TYPE_CHECKING:
    from openstack.connection import Connection

    from labctl.status import Report

CREATE_WORKERS = 8
"""Stages mostly wait for services to start: more of them than cores keeps the cores busy."""


PROVIDERS = ("auto", "nspawn")

HALT_SECONDS = 30
"""How long a node may take to shut down before its power is cut."""


def cache_directory() -> Path:
    """Where baked images and timings are kept, for all labs of this machine."""
    if chosen := os.environ.get("LABCTL_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path("/var/cache/labctl")


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
        built = self.state.read_json(self.state.built_spec)
        return build_topology(self.spec if built is None else LabSpec.model_validate(built))

    @cached_property
    def images(self) -> ImageCache:
        """The cache of baked images."""
        return ImageCache(self.cache, assets() / "provision")

    @cached_property
    def provider(self) -> Provider:
        """What makes the nodes of this lab."""
        if os.geteuid() != 0:
            raise LabError("the nspawn provider needs root", hint="run the command with sudo")
        return NspawnProvider(self.topology, self.state, self.state.identity(), self.images)

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
                f"this lab has no node {name!r}", hint=f"its nodes are {names}", code=EXIT_USAGE
            ) from None

    @property
    def controller(self) -> Guest:
        """The handle on the controller."""
        return self.provider.guest(self.topology.controller)

    def cloud(self) -> "Connection":
        """openstacksdk as admin; one connection per thread, for requests is not thread-safe."""
        from labctl.cloud import connect

        thread = threading.get_ident()
        if thread not in self._clouds:
            password = self.state.secrets().admin
            self._clouds[thread] = connect(self.topology, self.controller, password)
        return self._clouds[thread]

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
                    yield
                finally:
                    unsubscribe()

    # -- create ----------------------------------------------------------------------------------
    def create(self) -> RunResult:
        """Everything from nothing to the state in which the tutorial's day begins.

        Asks each stage what is really done and runs the rest, so it also resumes and repairs.
        Raises SpecError, LabError, StepFailed.
        """
        if self.spec.provider not in PROVIDERS:
            raise LabError(
                f"{self.file.name}: provider {self.spec.provider} is not there yet in this version",
                hint="write `provider: nspawn` (containers on this machine), or leave it out",
                code=EXIT_USAGE,
            )
        with self._changing("create"):
            self.state.begin(self.spec.name, "nspawn")
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
        return result

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
                f"{self.file.name} describes another lab than the one that exists here",
                hint="`labctl destroy` first, or undo the edit",
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
            self._must_exist()
            steps = [*self._provisioner().host_steps(), *Yesterday(self).ready_steps()]
            result = self._run(tr("start {lab}", lab=self.topology.lab), steps)
            result.raise_if_failed()
        return result

    def halt(self) -> RunResult:
        """Shut all nodes down; what is on their disks stays."""
        with self._changing("halt"):
            self._must_exist()
            steps = [
                Step(
                    f"halt:{node.name}",
                    tr("shut down"),
                    lambda context, node=node: self.provider.stop(node, deadline=HALT_SECONDS),  # type: ignore[misc]
                    done=lambda node=node: not self.provider.running(node),  # type: ignore[misc]
                    node=node.name,
                )
                for node in self.topology.nodes
            ]
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
            raise LabError(f"{name} is not running", hint="start the lab: `labctl up`")
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
    def replay(self, name: str, console: Console) -> "Replay":
        """A lesson from its first checkpoint to its last, each claim proved.

        What an earlier run made is taken back first. What failed is in the answer; LabError is
        raised only when the lesson cannot begin.
        """
        lesson = load_lesson(name)
        with self._changing(f"replay {lesson.id}"):
            self._must_be_up()
            runner = Runner(lesson, self.topology, self.state, self.guest, self.cloud, console)
            result = self._run(str(lesson.title), runner.steps(), workers=1)
        return Replay(lesson, result, runner.results)

    def _must_exist(self) -> None:
        if not self.state.exists:
            raise LabError("there is no lab here", hint="make it with `labctl create`")

    def _must_be_up(self) -> None:
        self._must_exist()
        if not self.state.created.exists():
            raise LabError("this lab is not finished", hint="finish it with `labctl create`")
        down = [node.name for node in self.topology.nodes if not self.provider.running(node)]
        if down:
            raise LabError(f"not running: {', '.join(down)}", hint="start the lab: `labctl up`")

    # -- destroy ---------------------------------------------------------------------------------
    def destroy(self) -> bool:
        """Remove the lab and everything it has; False when there was none.

        Works on whatever an interrupted `create` left. Raises LabError naming what resists.
        """
        if not self.state.root.exists():
            return False
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
                "this could not be removed: " + "; ".join(left),
                hint="end what uses it, then run `labctl destroy` again",
            )

    def _remove_files(self, context: StepContext) -> None:
        self.state.remove()


@dataclass(frozen=True)
class Replay:
    """A lesson that was run."""

    lesson: Lesson
    result: RunResult
    checkpoints: Sequence[CheckpointResult]

    @property
    def failure(self) -> LabError | None:
        """Why the lesson did not come to its end, if it did not."""
        return self.result.failed[0] if self.result.failed else None

    def to_json(self) -> dict[str, Any]:
        """Every checkpoint and claim with its evidence."""
        return {
            "lesson": self.lesson.id,
            "ok": self.result.ok,
            "seconds": round(self.result.seconds, 3),
            "failure": None if self.failure is None else self.failure.message,
            "skipped": list(self.result.skipped),
            "checkpoints": [{"ok": one.ok, **asdict(one)} for one in self.checkpoints],
        }


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open(errors="replace") as stream:
            return "".join(deque(stream, lines))
    except FileNotFoundError:
        raise LabError(f"there is no {path.name} yet") from None


def as_json(data: Any) -> str:
    """JSON for programs: UTF-8, one document."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)
