"""Restore a snapshot of the whole lab: live while it runs, or offline by the files of all nodes.

labctl may be killed at any moment. Each phase is therefore written to the journal (store.py)
before it begins, and the next labctl finishes or undoes the restore (recover.py).
"""

from labctl.engine.steps import Step, StepContext
from labctl.errors import Cancelled, LabError
from labctl.faults.keeper import clear_for_restore, forget, without_power
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


def restore(lab: Lab, name: str, *, offline: bool = False) -> Method:
    """Restore the whole lab, and the position in the lessons; return the method that did it.

    The live method is tried first, unless `offline`. Raises LabError: before anything is changed
    when a part of the snapshot is missing or altered, afterwards when the lab does not get healthy.
    """
    manifest = SnapshotStore(lab.state).read(name)
    require_of_this_lab(lab, manifest)
    was_up = any(lab.running()) or without_power(lab)
    offline = not clear_for_restore(lab, files=bool(manifest.offline)) or offline
    running = lab.running()
    methods = restore_methods(manifest, running, offline=offline)
    if not methods:
        raise LabError(
            tr(
                "snapshot {name} has no files: it can be restored only while the lab runs",
                name=name,
            ),
            hint=tr("start the lab first: `labctl up`"),
        )
    if "live" in methods:
        why = restore_live(lab, manifest)
        if not why:
            return "live"
        if "offline" not in methods:
            raise LabError(tr("{name} could not be restored: {why}", name=name, why=why))
        note_offline(lab, why)
    restore_offline(lab, manifest, was_up=was_up)
    return "offline"


def require_of_this_lab(lab: Lab, manifest: Manifest) -> None:
    """Raises LabError for a snapshot that is not of this lab as it is now."""
    identity = lab.state.identity()
    if why := manifest.mismatch(
        lab_id=identity.lab_id,
        nodes=[node.name for node in lab.topology.machines],
        image=identity.image,
        revision=identity.revision,
    ):
        raise damaged(manifest.name, why)


def check_files(lab: Lab, manifest: Manifest, context: StepContext) -> None:
    """Raises LabError unless the files of all nodes are those that were saved."""
    directory = SnapshotStore(lab.state).directory(manifest.name)
    troubles = lab.on_each_node(
        lambda node: lab.provider.snapshots.trouble(
            node, manifest.name, directory, manifest.offline[node.name]
        ),
        context,
    )
    if why := tr("; ").join(trouble for trouble in troubles.values() if trouble):
        raise damaged(manifest.name, why)


def note_offline(lab: Lab, why: str) -> None:
    """Tell that the lab goes down to be restored; `why` it was not restored while it ran."""
    text = tr(
        "the lab cannot be restored while it runs ({why}); it is stopped, and the files of all"
        " nodes are restored",
        why=why,
    )
    lab.note("warning", text)


def restore_live(lab: Lab, manifest: Manifest) -> str:
    """Restore the running lab. Return "", or why that failed; the lab may then be half restored.

    Raises Cancelled.
    """
    store, live, name = SnapshotStore(lab.state), live_snapshots(lab), manifest.name

    def check(context: StepContext) -> None:
        if why := live.trouble(name, manifest.live):
            raise damaged(name, why)

    def restore_state(context: StepContext) -> None:
        store.write_journal(Journal("restore", name, "changing", "live", was_up=True))
        live.restore(name, context)
        _restore_position(lab, manifest)

    steps = [
        Step("check", tr("check the snapshot"), check),
        # An interface that somebody deleted, or a namespace: nodes cannot make them.
        Step(
            "host-network",
            tr(lab.provider.features.network),
            lambda context: lab.provider.create_network(),
            done=lab.provider.network_ready,
        ),
        Step("state", tr("state of the running lab"), restore_state, ("check", "host-network")),
        health_step(lab, ("state",), name),
    ]
    lab.log_in_ahead()  # the last step needs it; until then this process mostly waits for nodes
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
    """Halt the nodes and restore the files of all of them; start them again if the lab `was_up`.

    `resumed` is the journal of a restore that a kill interrupted. Raises LabError.
    """
    store, name = SnapshotStore(lab.state), manifest.name
    directory = store.directory(name)
    before = resumed or Journal("restore", name, was_up=was_up)

    def check(context: StepContext) -> None:
        check_files(lab, manifest, context)

    def stage(context: StepContext) -> None:
        if store.journal() is None:
            store.write_journal(before)
        lab.on_each_node(lambda node: lab.provider.snapshots.stage(node, name, directory), context)
        store.write_journal(Journal("restore", name, "changing", "offline", before.was_up))

    def restore_files(context: StepContext) -> None:
        lab.on_each_node(lambda node: lab.provider.snapshots.restore(node, name), context)
        _restore_position(lab, manifest)
        store.set_current(name)
        store.write_journal(Journal("restore", name, "starting", "offline", before.was_up))
        for node in lab.topology.machines:
            lab.provider.snapshots.clean_up(node)
        lab.forget_connections()

    steps = []
    # An offline restore that was interrupted had staged its files before it changed anything.
    if resumed is None or resumed.method == "live":
        steps = [
            Step("check", tr("check the snapshot"), check),
            Step("stage", tr("files made ready"), stage, ("check",)),
        ]
    ready = tuple(step.id for step in steps[-1:])
    # The nodes' files are replaced: no need to wait until they have shut down cleanly.
    halts = halt_steps(lab, ready, deadline=0)
    needs = tuple(step.id for step in halts)
    steps += [*halts, Step("files", tr("files of all nodes"), restore_files, needs)]
    # A failure before the first node is changed is undone. After that the restore can only be
    # finished, by the next labctl that finds the journal.
    result = lab.run(tr("restore {name}", name=name), steps)
    if not result.ok:
        journal = store.journal()
        if journal is not None and recovery_action(journal) == "undo":
            undo(lab, journal)
        result.raise_if_failed()
    if before.was_up:
        start_restored(lab, name)
    store.close_journal()


def start_restored(lab: Lab, name: str) -> None:
    """Start the nodes after their files were restored. Raises LabError; `up` then starts them."""
    try:
        start_lab(lab, restored=name)
    except LabError:
        SnapshotStore(lab.state).close_journal()
        raise


def _restore_position(lab: Lab, manifest: Manifest) -> None:
    forget(lab)  # what was not taken back before, the files of the nodes have
    if manifest.lesson is None:
        lab.state.lesson_position.unlink(missing_ok=True)
    else:
        lab.state.write_json(lab.state.lesson_position, manifest.lesson)
