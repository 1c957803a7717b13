"""Put the whole lab back into a snapshot: live while it runs, or offline by the files of all nodes.

The order is such that a kill at any moment leaves a way to go on: what is under way stands in the
journal (store.py) before it is begun.
"""

from labctl.engine.steps import Step, StepContext
from labctl.errors import Cancelled, LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.boot import halt_steps
from labctl.snapshots.health import health_step, start_lab
from labctl.snapshots.live import live_snapshots
from labctl.snapshots.store import (
    Journal,
    Manifest,
    Method,
    SnapshotStore,
    damaged,
    recovery_action,
    restore_methods,
)
from labctl.snapshots.undo import undo


def restore(lab: Lab, name: str, *, cold: bool = False) -> Method:
    """Put the whole lab back; by which method. `cold`: offline, by its files, whatever runs.

    The lesson position is put back too. Raises LabError: before anything is touched if the
    snapshot is not whole on every node, afterwards if the lab does not become whole.
    """
    manifest = SnapshotStore(lab.state).read(name)
    identity = lab.state.identity()
    nodes = [node.name for node in lab.topology.nodes]
    if why := manifest.fits(lab_id=identity.lab_id, nodes=nodes, image=identity.image):
        raise damaged(name, why)
    running = lab.running()
    methods = restore_methods(manifest, running, cold=cold)
    if not methods:
        raise LabError(
            tr("snapshot {name} has no files: it is for a lab that runs", name=name),
            hint=tr("start the lab first: `labctl up`"),
        )
    if "warm" in methods:
        why = restore_live(lab, manifest)
        if not why:
            return "warm"
        if "cold" not in methods:
            raise LabError(tr("{name} could not be restored: {why}", name=name, why=why))
        lab.note("warning", tr("not while it runs: {why}; taking the files", why=why))
    restore_offline(lab, manifest, was_up=any(running))
    return "cold"


def restore_live(lab: Lab, manifest: Manifest) -> str:
    """Try it while the lab runs; "", or why it did not work. The lab may be anything then."""
    store, live, name = SnapshotStore(lab.state), live_snapshots(lab), manifest.name

    def check(context: StepContext) -> None:
        if why := live.trouble(name, manifest.warm):
            raise damaged(name, why)

    def put_back(context: StepContext) -> None:
        store.write_journal(Journal("restore", name, "changing", "warm", was_up=True))
        live.restore(name, context)
        _put_position_back(lab, manifest)

    steps = [
        Step("check", tr("the snapshot is whole"), check),
        Step("state", tr("state of the running lab"), put_back, ("check",)),
        health_step(lab, ("state",)),
    ]
    result = lab.run(tr("restore {name}", name=name), steps)
    if result.failed:
        return result.failed[0].message
    if not result.ok:
        raise Cancelled
    store.set_current(name)
    store.close_journal()
    return ""


def restore_offline(
    lab: Lab, manifest: Manifest, *, was_up: bool, resumed: Journal | None = None
) -> None:
    """Put the files of all nodes back, with the nodes down; start them if the lab `was_up`.

    `resumed` is the journal of a restore that a kill interrupted. Raises LabError.
    """
    store, name = SnapshotStore(lab.state), manifest.name
    directory = store.directory(name)
    before = resumed or Journal("restore", name, was_up=was_up)

    def check(context: StepContext) -> None:
        troubles = lab.on_each_node(
            lambda node: lab.provider.snapshots.trouble(
                node, name, directory, manifest.cold[node.name]
            ),
            context,
        )
        if why := "; ".join(trouble for trouble in troubles.values() if trouble):
            raise damaged(name, why)

    def stage(context: StepContext) -> None:
        if store.journal() is None:
            store.write_journal(before)
        lab.on_each_node(lambda node: lab.provider.snapshots.stage(node, name, directory), context)
        store.write_journal(Journal("restore", name, "changing", "cold", before.was_up))

    def put_back(context: StepContext) -> None:
        lab.on_each_node(lambda node: lab.provider.snapshots.restore(node, name), context)
        _put_position_back(lab, manifest)
        store.set_current(name)
        store.write_journal(Journal("restore", name, "starting", "cold", before.was_up))
        for node in lab.topology.nodes:
            lab.provider.snapshots.clean_up(node)
        lab.forget_connections()

    steps = []
    if resumed is None or resumed.way == "warm":
        steps = [
            Step("check", tr("the snapshot is whole"), check),
            Step("stage", tr("files made ready"), stage, ("check",)),
        ]
    ready = tuple(step.id for step in steps[-1:])
    halts = halt_steps(lab, ready, deadline=0)
    needs = tuple(step.id for step in halts)
    steps += [*halts, Step("files", tr("files of all nodes"), put_back, needs)]
    # Once nodes are touched only going on helps; until then everything can be taken back.
    result = lab.run(tr("restore {name}", name=name), steps)
    if not result.ok:
        journal = store.journal()
        if journal is not None and recovery_action(journal) == "undo":
            undo(lab, journal)
        result.raise_if_failed()
    if before.was_up:
        start_restored(lab)
    store.close_journal()


def start_restored(lab: Lab) -> None:
    """Start the nodes, whose files are all back. Raises LabError; `up` goes on from there."""
    try:
        start_lab(lab, checked=True)
    except LabError:
        SnapshotStore(lab.state).close_journal()
        raise


def _put_position_back(lab: Lab, manifest: Manifest) -> None:
    if manifest.lesson is None:
        lab.state.lesson_position.unlink(missing_ok=True)
    else:
        lab.state.write_json(lab.state.lesson_position, manifest.lesson)
