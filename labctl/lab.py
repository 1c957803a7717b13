"""A lab, from end to end: what each verb of the command line does, in the order it does it."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from labctl.lesson import load_lesson
from labctl.providers import Provider
from labctl.providers.nspawn import NspawnProvider
from labctl.replay import Runner
from labctl.spec import LabSpec, load_spec
from labctl.stages import Provisioner, scripts_of
from labctl.state import LabState, write_atomic
from labctl.steps import RunResult, Step, StepContext, run_steps
from labctl.timings import Timings
from labctl.topology import Instance, Node, Topology, build_topology
from labctl.waiting import NotYet, wait_until

if TYPE_CHECKING:
    from openstack.connection import Connection

CREATE_WORKERS = 8
"""Stages mostly wait for services to start: more of them than cores keeps the cores busy."""


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
        self._clouds: dict[int, Connection] = {}

    # -- what follows from the file --------------------------------------------------------------
    @cached_property
    def spec(self) -> LabSpec:
        """What lab.yaml says, defaults filled in. Raises SpecError."""
        return load_spec(self.file)

    @cached_property
    def topology(self) -> Topology:
        """The lab as lab.yaml describes it. Raises SpecError."""
        return build_topology(self.spec)

    @cached_property
    def images(self) -> ImageCache:
        """The cache of baked images."""
        return ImageCache(cache_directory(), assets() / "provision")

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

    # -- create ------------------------------------------------------------------------------------
    def create(self) -> RunResult:
        """Everything from nothing to the state in which the tutorial's day begins.

        Asks each stage what is really done and runs the rest, so it also resumes and repairs.
        Raises SpecError, LabError, StepFailed.
        """
        topology = self.topology
        with self._changing("create"):
            self.state.begin(topology.lab, "nspawn")
            self._refuse_other_topology()
            provisioner = Provisioner(
                topology, self.provider, self.state, self.state.secrets(), assets() / "provision"
            )
            steps = provisioner.host_steps() + provisioner.node_steps() + self._yesterday_steps()
            result = self._run(tr("create {lab}", lab=topology.lab), steps)
            result.raise_if_failed()
            write_atomic(self.state.created, f"{time.time()}\n")
        return result

    def _run(
        self, title: str, steps: list[Step], workers: int = CREATE_WORKERS
    ) -> RunResult:
        timings = Timings(cache_directory() / "timings.json", prefix=f"{len(self.topology.nodes)}/")
        return run_steps(
            steps, bus=self.bus, timings=timings, workers=workers, title=title
        )

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

    def _yesterday_steps(self) -> list[Step]:
        from labctl import yesterday

        topology = self.topology
        here = topology.controller.name

        def step(
            name: str, title: str, work: Callable[[StepContext], None], *needs: str
        ) -> Step:
            return Step(name, title, work, needs=needs, node=here)

        def network(context: StepContext) -> None:
            yesterday.make_network(self.cloud(), topology)

        def access(context: StepContext) -> None:
            yesterday.make_access(self.cloud(), topology, self.controller)

        def image(context: StepContext) -> None:
            source = self._image_source(context)
            yesterday.make_image(self.cloud(), topology, source, context.progress)

        def computes(context: StepContext) -> None:
            wait_until(
                tr("every compute node is registered"),
                lambda: yesterday.compute_ready(self.cloud(), topology),
                deadline=240,
                hint="`labctl logs NODE nova-compute` tells what it waits for",
                transient=yesterday.API_ERRORS,
                interval=0.7,
                cancelled=context.cancelled,
            )

        def instance(chosen: Instance) -> Callable[[StepContext], None]:
            return lambda context: yesterday.make_instance(
                self.cloud(), topology, chosen, context.progress, context.cancelled
            )

        compute = [f"nova-compute:{node.name}" for node in topology.computes]
        metadata = [f"ovn-metadata:{node.name}" for node in topology.computes]
        chassis = [f"ovn-host:{node.name}" for node in topology.nodes]
        steps = [
            step("network", tr("tenant network and router"), network,
                 f"keystone:{here}", f"neutron:{here}"),
            step("access", tr("security group and keypair"), access,
                 f"keystone:{here}", f"neutron:{here}", f"nova:{here}", f"shell:{here}"),
            step("image-upload", tr("image and flavor"), image,
                 f"keystone:{here}", f"glance:{here}", f"nova:{here}", f"instance-image:{here}"),
            step("computes", tr("compute nodes registered"), computes,
                 f"keystone:{here}", f"nova:{here}", f"placement:{here}", *compute),
        ]  # fmt: skip
        made = tuple(one.id for one in steps)
        steps += [
            step(f"instance:{one.name}", tr("instance {name}", name=one.name), instance(one),
                 *made, *metadata, *chassis)
            for one in topology.instances
        ]  # fmt: skip
        return steps

    def _image_source(self, context: StepContext) -> Path:
        """The file to upload: of the baked image, beside lab.yaml, or downloaded once."""
        from labctl import yesterday

        source = self.topology.image.source
        if source == "builtin":
            found = self.provider.image_file(yesterday.BUILTIN_IMAGE)
            if found is None:
                raise LabError("the baked image holds no instance image", hint="labctl destroy")
            return found
        if source.startswith(("http://", "https://")):
            from labctl.download import download

            return download(source, cache_directory() / "downloads", context)
        path = (self.file.parent / source).resolve()
        if not path.is_file():
            raise LabError(f"image.source: there is no file {path}", code=EXIT_USAGE)
        return path

    # -- lessons -----------------------------------------------------------------------------------
    def replay(self, name: str, console: Console) -> tuple[RunResult, Runner]:
        """A lesson from its first checkpoint to its last, each claim proved.

        What an earlier run made is taken back first. Raises LabError, StepFailed when something
        breaks; a claim that fails is in the result.
        """
        lesson = load_lesson(name)
        with self._changing(f"replay {lesson.id}"):
            self._must_be_up()
            runner = Runner(
                lesson, self.topology, self.state, self.guest, self.cloud, console
            )
            steps = []
            if runner.attempted():
                steps.append(Step("take-back", tr("take back the last run"), runner.take_back))
            for checkpoint in lesson.checkpoints:
                steps.append(
                    Step(
                        checkpoint.id,
                        str(checkpoint.title),
                        lambda context, checkpoint=checkpoint: runner.run(checkpoint, context),  # type: ignore[misc]
                        needs=(steps[-1].id,) if steps else (),
                    )
                )
            result = self._run(str(lesson.title), steps, workers=1)
        return result, runner

    def _must_be_up(self) -> None:
        if not self.state.created.exists():
            raise LabError("there is no finished lab here", hint="make it with `labctl create`")
        down = [node.name for node in self.topology.nodes if not self.provider.running(node)]
        if down:
            raise LabError(f"not running: {', '.join(down)}", hint="start the lab: `labctl up`")

    # -- destroy -----------------------------------------------------------------------------------
    def destroy(self, progress: Callable[[str], None]) -> bool:
        """Remove the lab and everything it has; False when there was none."""
        if not self.state.root.exists():
            return False
        with self.state.locked("destroy"):
            if self.state.exists:
                self.provider.destroy(progress)
                if left := self.provider.leftovers():
                    raise LabError("this could not be removed: " + "; ".join(left))
            self.state.remove()
        return True


def as_json(data: Any) -> str:
    """JSON for programs: UTF-8, one document."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)


__all__ = ["Lab", "NotYet", "as_json", "cache_directory", "scripts_of"]
