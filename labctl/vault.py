"""Keeps snapshots of a lab and puts the lab back: save, restore, delete, and what a kill left.

What is decided is in snapshots.py; how a node's files are kept is the provider's; how a running lab
is put back is warm.py's. Here is the order, in which a kill at any moment leaves a way to go on.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from labctl.engine.events import EventBus, Note
from labctl.engine.steps import RunResult, Step, StepContext
from labctl.errors import EXIT_USAGE, Cancelled, LabError
from labctl.i18n import tr
from labctl.providers import Provider
from labctl.provisioning.boot import halt_steps
from labctl.snapshots import (
    Journal,
    Manifest,
    Proof,
    Row,
    SnapshotStore,
    Way,
    checked_name,
    damaged,
    remedy,
    ways,
)
from labctl.state import LabState
from labctl.topology import Node, Topology

T = TypeVar("T")


class WarmWay(Protocol):
    """Keeps and puts back the state of a lab that runs."""

    def save(self, name: str, known: Sequence[str], context: StepContext) -> Mapping[str, Proof]:
        """Keep it on the nodes; by node what proves it. `known`: what is not to be forgotten."""
        ...

    def trouble(self, name: str, proofs: Mapping[str, Proof]) -> str:
        """ "", or why what the nodes kept cannot be used. Changes nothing."""
        ...

    def restore(self, name: str, context: StepContext) -> None:
        """Put it back. Raises LabError when something does not come back."""
        ...

    def forget(self, name: str) -> None:
        """Remove it from the nodes that can be reached."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What of a lab the vault needs."""

    topology: Topology
    state: LabState
    provider: Provider
    bus: EventBus
    run: Callable[[str, list[Step]], RunResult]
    """Runs steps under a title."""
    up_steps: Callable[[], list[Step]]
    """What starts a lab that is down, and waits until it works."""
    gate: Callable[[StepContext], None]
    """Returns when the lab is whole. Raises LabError naming what is not."""
    warm: WarmWay | None
    """None: this lab cannot be put back while it runs."""
    forget: Callable[[], None]
    """Lets go of connections to nodes that were replaced."""


class Vault:
    """The snapshots of one lab that is held by this process."""

    def __init__(self, lab: Surroundings) -> None:
        """Touches nothing yet."""
        self._lab = lab
        self._store = SnapshotStore(lab.state)

    # -- save ------------------------------------------------------------------------------------
    def save(self, name: str, *, files: bool = True) -> Manifest:
        """Keep the whole lab under a name.

        Without `files` only what can be put back while the lab runs is kept. Raises LabError; the
        lab is as it was then, and so are older snapshots.
        """
        checked_name(name)
        if self._store.exists(name):
            raise LabError(
                tr("there is a snapshot {name} already", name=name),
                hint=tr("delete it first: {command}", command=f"labctl snapshot delete {name}"),
                code=EXIT_USAGE,
            )
        up = self._whole()
        began = time.time()
        self._store.begin(name)
        self._store.write_journal(Journal("save", name, was_up=up))
        found: dict[str, Mapping[str, Proof]] = {"warm": {}, "cold": {}}
        steps = self._save_steps(name, up, files, found)
        with self._undone_if_failed():
            result = self._lab.run(tr("save {name}", name=name), steps)
            result.raise_if_failed()
            identity = self._lab.state.identity()
            manifest = Manifest(
                name=name,
                at=began,
                lab_id=identity.lab_id,
                provider=identity.provider,
                image=identity.image,
                cold=found["cold"],
                warm=found["warm"],
                lesson=self._lab.state.read_json(self._lab.state.lesson_position),
                seconds=round(time.time() - began, 2),
            )
            if not (manifest.cold or manifest.warm):
                raise LabError(tr("nothing of this lab can be kept while it runs"))
            self._store.finish(manifest)
        self._store.set_current(name)
        self._store.close_journal()
        if up and files and not self._lab.provider.features.live_snapshots:
            self._start(tr("start {lab}", lab=self._lab.topology.lab))
        return manifest

    def _save_steps(
        self, name: str, up: bool, files: bool, found: dict[str, Mapping[str, Proof]]
    ) -> list[Step]:
        lab, steps = self._lab, []

        def running(context: StepContext) -> None:
            assert lab.warm is not None
            try:
                found["warm"] = lab.warm.save(name, [*self._store.names(), name], context)
            except LabError as error:
                if not files:
                    raise
                text = tr("only the files are kept: {why}", why=error.message)
                self._say("warning", text)

        def kept(context: StepContext) -> None:
            place = self._store.unfinished(name)
            save = lambda node: lab.provider.save_node(node, name, place)  # noqa: E731
            if up and lab.provider.features.live_snapshots:
                with lab.provider.standstill():
                    found["cold"] = self._each(save, context)
            else:
                found["cold"] = self._each(save, context)

        if up and lab.warm is not None:
            steps.append(Step("warm", tr("state of the running lab"), running))
        if files:
            needs = tuple(step.id for step in steps)
            if up and not lab.provider.features.live_snapshots:
                halts = halt_steps(self._lab.provider, self._lab.topology.nodes, needs)
                steps += halts
                needs = tuple(step.id for step in halts)
            steps.append(Step("files", tr("files of all nodes"), kept, needs))
        return steps

    @contextmanager
    def _undone_if_failed(self) -> Iterator[None]:
        """After a failure the lab is what it was before; what fails meanwhile is not hidden."""
        try:
            yield
        except BaseException:
            journal = self._store.journal()
            if journal is not None:
                self._undo(journal)
                self._restart(journal)
            raise

    # -- restore ---------------------------------------------------------------------------------
    def restore(self, name: str, *, cold: bool = False) -> Way:
        """Put the whole lab back; which way it went. `cold`: by its files, whatever runs.

        The lesson position is put back too. Raises LabError: before anything is touched if the
        snapshot is not whole on every node, afterwards if the lab does not become whole.
        """
        lab = self._lab
        manifest = self._store.read(name)
        identity = lab.state.identity()
        nodes = [node.name for node in lab.topology.nodes]
        if why := manifest.fits(lab_id=identity.lab_id, nodes=nodes, image=identity.image):
            raise damaged(name, why)
        running = [lab.provider.running(node) for node in lab.topology.nodes]
        open_ways = ways(manifest, running, cold=cold or lab.warm is None)
        if not open_ways:
            raise LabError(
                tr("snapshot {name} has no files: it is for a lab that runs", name=name),
                hint=tr("start the lab first: `labctl up`"),
            )
        if "warm" in open_ways:
            why = self._warm_failure(manifest)
            if not why:
                return "warm"
            if "cold" not in open_ways:
                raise LabError(tr("{name} could not be restored: {why}", name=name, why=why))
            self._say("warning", tr("not while it runs: {why}; taking the files", why=why))
        self._cold(manifest, was_up=any(running))
        return "cold"

    def _warm_failure(self, manifest: Manifest) -> str:
        """Try the warm way; "", or why it did not work. The lab may be anything then."""
        lab, name, warm = self._lab, manifest.name, self._lab.warm
        assert warm is not None
        touched = []

        def check(context: StepContext) -> None:
            if why := warm.trouble(name, manifest.warm):
                raise damaged(name, why)

        def back(context: StepContext) -> None:
            touched.append(self._store.write_journal(
                Journal("restore", name, "changing", "warm", was_up=True)
            ))  # fmt: skip
            warm.restore(name, context)
            self._put_position(manifest)

        steps = [
            Step("check", tr("the snapshot is whole"), check),
            Step("state", tr("state of the running lab"), back, ("check",)),
            Step("gate", tr("the lab is whole"), lab.gate, ("state",)),
        ]
        result = lab.run(tr("restore {name}", name=name), steps)
        if result.failed:
            return result.failed[0].message
        if not result.ok:
            raise Cancelled
        self._store.set_current(name)
        self._store.close_journal()
        return ""

    def _cold(self, manifest: Manifest, *, was_up: bool, resumed: Journal | None = None) -> None:
        lab, name = self._lab, manifest.name
        place = self._store.directory(name)
        before = resumed or Journal("restore", name, was_up=was_up)

        def check(context: StepContext) -> None:
            troubles = self._each(
                lambda node: lab.provider.node_trouble(node, name, place, manifest.cold[node.name]),
                context,
            )
            if why := "; ".join(one for one in troubles.values() if one):
                raise damaged(name, why)

        def stage(context: StepContext) -> None:
            if self._store.journal() is None:
                self._store.write_journal(before)
            self._each(lambda node: lab.provider.stage_node(node, name, place), context)
            self._store.write_journal(Journal("restore", name, "changing", "cold", before.was_up))

        def files(context: StepContext) -> None:
            self._each(lambda node: lab.provider.restore_node(node, name), context)
            self._put_position(manifest)
            self._store.set_current(name)
            journal = Journal("restore", name, "starting", "cold", before.was_up)
            self._store.write_journal(journal)
            for node in lab.topology.nodes:
                lab.provider.settle_node(node)
            lab.forget()

        steps = []
        if resumed is None or resumed.way == "warm":
            steps = [
                Step("check", tr("the snapshot is whole"), check),
                Step("stage", tr("files made ready"), stage, ("check",)),
            ]
        halts = halt_steps(
            self._lab.provider,
            self._lab.topology.nodes,
            tuple(step.id for step in steps[-1:]),
            deadline=0,
        )
        needs = tuple(step.id for step in halts)
        steps += [*halts, Step("files", tr("files of all nodes"), files, needs)]
        title = tr("restore {name}", name=name)
        # Once nodes are touched only going on helps; until then everything can be taken back.
        result = lab.run(title, steps)
        if not result.ok:
            journal = self._store.journal()
            if journal is not None and remedy(journal) == "undo":
                self._undo(journal)
            result.raise_if_failed()
        if before.was_up:
            self._start_restored()
        self._store.close_journal()

    def _start_restored(self) -> None:
        try:
            self._start(tr("start {lab}", lab=self._lab.topology.lab), gate=True)
        except LabError:
            self._store.close_journal()  # all files are back; `up` goes on from here
            raise

    def _start(self, title: str, *, gate: bool = False) -> None:
        """Boot the nodes and wait until the lab works."""
        steps = self._lab.up_steps()
        if gate:
            last = tuple(step.id for step in steps)
            steps = [*steps, Step("gate", tr("the lab is whole"), self._lab.gate, last)]
        self._lab.run(title, steps).raise_if_failed()

    def _put_position(self, manifest: Manifest) -> None:
        state = self._lab.state
        if manifest.lesson is None:
            state.lesson_position.unlink(missing_ok=True)
        else:
            state.write_json(state.lesson_position, manifest.lesson)

    # -- delete, list ------------------------------------------------------------------------------
    def delete(self, name: str) -> None:
        """Forget a snapshot. Raises LabError; what could not be deleted can be tried again."""
        checked_name(name)
        if not self._store.exists(name):
            self._store.read(name)  # says which there are
        self._store.write_journal(Journal("delete", name))
        try:
            self._delete(name)
        except BaseException:
            self._store.close_journal()  # nothing that has to be gone on with
            raise
        self._store.close_journal()

    def _delete(self, name: str) -> None:
        lab = self._lab
        for node in lab.topology.nodes:
            lab.provider.delete_node(node, name)
        self._store.remove(name)
        if lab.warm is not None and all(lab.provider.running(node) for node in lab.topology.nodes):
            lab.warm.forget(name)

    def rows(self) -> list[Row]:
        """All snapshots, the oldest first."""
        return self._store.rows()

    # -- after a kill ----------------------------------------------------------------------------
    def settle(self, *, start: bool = True) -> None:
        """Go on where a killed labctl stopped, or take it back, and say which.

        `start`: boot nodes that were running then.
        """
        journal = self._store.journal()
        if journal is None:
            self._store.sweep()
            return
        name, what = journal.name, remedy(journal)
        if what == "undo":
            self._undo(journal)
            text = (
                tr("saving {name} was interrupted: there is no such snapshot", name=name)
                if journal.doing == "save"
                else tr("restoring {name} was interrupted: the lab is as it was before", name=name)
            )
            self._say("warning", text)
            if start:
                self._restart(journal)
        elif journal.doing == "delete":
            self._delete(name)
            self._store.close_journal()
            self._say("warning", tr("deleting {name} was interrupted: now it is gone", name=name))
        else:
            text = tr("restoring {name} was interrupted: finishing it", name=name)
            self._say("warning", text)
            try:
                self._finish(journal, what == "start", start)
            except LabError as error:
                self._store.close_journal()  # or no verb would work any more
                raise LabError(
                    tr("{name} could not be restored: {why}", name=name, why=error.message),
                    hint=tr("the nodes may not fit each other; restore another snapshot"),
                ) from error

    def _finish(self, journal: Journal, only_start: bool, start: bool) -> None:
        manifest = self._store.read(journal.name)
        if journal.way == "warm":
            why = self._warm_failure(manifest) if self._all_run() else tr("not all nodes run")
            if not why:
                return
            self._say("warning", tr("not while it runs: {why}; taking the files", why=why))
        if only_start:
            for node in self._lab.topology.nodes:
                self._lab.provider.settle_node(node)
            if start and journal.was_up:
                self._start_restored()
            self._store.close_journal()
        else:
            was_up = journal.was_up and start
            self._cold(
                manifest,
                was_up=was_up,
                resumed=Journal("restore", journal.name, "changing", journal.way, was_up),
            )

    def _undo(self, journal: Journal) -> None:
        """Remove what was prepared; nothing of the lab was touched."""
        for node in self._lab.topology.nodes:
            if journal.doing == "save":
                self._lab.provider.delete_node(node, journal.name)
            else:
                self._lab.provider.unstage_node(node)
        self._store.sweep()
        self._store.close_journal()

    def _restart(self, journal: Journal) -> None:
        """Machines that were halted to be saved run again."""
        if journal.doing == "save" and journal.was_up and not self._all_run():
            self._start(tr("start {lab}", lab=self._lab.topology.lab))

    # -- small -----------------------------------------------------------------------------------
    def _say(self, level: Any, text: str) -> None:
        self._lab.bus.emit(Note(level, text))

    def _all_run(self) -> bool:
        return all(self._lab.provider.running(node) for node in self._lab.topology.nodes)

    def _whole(self) -> bool:
        """Whether the lab runs; LabError when half of it does."""
        running = [self._lab.provider.running(node) for node in self._lab.topology.nodes]
        if any(running) and not all(running):
            raise LabError(
                tr("only some nodes run; a snapshot is of the whole lab"),
                hint=tr("`labctl up` or `labctl halt` first"),
            )
        return all(running)

    def _each(self, work: Callable[[Node], T], context: StepContext) -> dict[str, T]:
        """The same work on all nodes at once; the first failure after all have ended."""
        nodes = self._lab.topology.nodes

        def one(node: Node) -> T:
            result = work(node)
            context.progress(node.name)
            return result

        with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
            return dict(zip((node.name for node in nodes), pool.map(one, nodes), strict=True))
