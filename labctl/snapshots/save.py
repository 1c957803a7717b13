"""Save a snapshot of the whole lab, and delete one.

labctl may be killed at any moment. Each operation is therefore written to the journal (store.py)
before it begins, and the next labctl finishes or undoes it (recover.py).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from labctl.engine.steps import Step, StepContext
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.boot import halt_steps
from labctl.snapshots.health import start_lab
from labctl.snapshots.live import live_snapshots
from labctl.snapshots.store import Journal, Manifest, Method, Proof, SnapshotStore, checked_name
from labctl.snapshots.undo import start_again, undo


def save(lab: Lab, name: str, *, files: bool = True) -> Manifest:
    """Save the whole lab under a name; the caller holds the lab's lock.

    Without `files` the snapshot can be restored only live. Raises LabError; the lab and older
    snapshots are then as they were before.
    """
    store = SnapshotStore(lab.state)
    checked_name(name)
    if store.exists(name):
        raise LabError(
            tr("there is a snapshot {name} already", name=name),
            hint=tr("delete it first: {command}", command=f"labctl snapshot delete {name}"),
            code=EXIT_USAGE,
        )
    up = _is_up(lab)
    began = time.time()
    store.begin(name)
    store.write_journal(Journal("save", name, was_up=up))
    proofs: dict[Method, Mapping[str, Proof]] = {"live": {}, "offline": {}}
    steps = _steps(lab, store, name, up, files, proofs)
    with _undone_if_failed(lab, store):
        lab.run(tr("save {name}", name=name), steps).raise_if_failed()
        identity = lab.state.identity()
        manifest = Manifest(
            name=name,
            at=began,
            lab_id=identity.lab_id,
            provider=identity.provider,
            image=identity.image,
            offline=proofs["offline"],
            live=proofs["live"],
            lesson=lab.state.read_json(lab.state.lesson_position),
            seconds=round(time.time() - began, 2),
            revision=identity.revision,
        )
        if not (manifest.offline or manifest.live):
            raise LabError(
                tr(
                    "nothing was saved: without files there is only the state of a running lab to"
                    " save, and this lab has none"
                ),
                hint=tr("leave out `--warm`, so that the files of all nodes are saved"),
            )
        store.finish(manifest)
    store.set_current(name)
    store.close_journal()
    if up and files and not lab.provider.features.live_snapshots:
        start_lab(lab)
    return manifest


def _is_up(lab: Lab) -> bool:
    """Whether all nodes run. Raises LabError when only some do."""
    running = lab.running()
    if any(running) and not all(running):
        raise LabError(
            tr("only some nodes run; a snapshot is of the whole lab"),
            hint=tr("`labctl up` or `labctl halt` first"),
        )
    return all(running)


def _steps(
    lab: Lab,
    store: SnapshotStore,
    name: str,
    up: bool,
    files: bool,
    proofs: dict[Method, Mapping[str, Proof]],
) -> list[Step]:
    """The steps of a save, which put the proofs of what they saved into `proofs`."""
    steps: list[Step] = []
    live = live_snapshots(lab)

    def save_state(context: StepContext) -> None:
        try:
            proofs["live"] = live.save(name, [*store.names(), name], context)
        except LabError as error:
            if not files:
                raise
            lab.note(
                "warning",
                tr(
                    "the state of the running lab could not be saved, only the files: {why}",
                    why=error.message,
                ),
            )

    def save_files(context: StepContext) -> None:
        directory = store.unfinished(name)
        save_node = lambda node: lab.provider.snapshots.save(node, name, directory)  # noqa: E731
        if up and lab.provider.features.live_snapshots:
            with lab.provider.snapshots.frozen():
                proofs["offline"] = lab.on_each_node(save_node, context)
        else:
            proofs["offline"] = lab.on_each_node(save_node, context)

    if up:
        steps.append(Step("state", tr("state of the running lab"), save_state))
    if files:
        needs = tuple(step.id for step in steps)
        if up and not lab.provider.features.live_snapshots:
            halts = halt_steps(lab, needs)
            steps += halts
            needs = tuple(step.id for step in halts)
        steps.append(Step("files", tr("files of all nodes"), save_files, needs))
    return steps


@contextmanager
def _undone_if_failed(lab: Lab, store: SnapshotStore) -> Iterator[None]:
    """When the block raises anything: undo the save, start the nodes again, and raise it again."""
    try:
        yield
    except BaseException:
        journal = store.journal()
        if journal is not None:
            undo(lab, journal)
            start_again(lab, journal)
        raise


def delete(lab: Lab, name: str) -> None:
    """Delete a snapshot. Raises LabError; deleting it again then deletes what is left."""
    store = SnapshotStore(lab.state)
    checked_name(name)
    if not store.exists(name):
        store.read(name)  # raises the error that lists the snapshots there are
    store.write_journal(Journal("delete", name))
    try:
        remove(lab, name)
    finally:
        store.close_journal()  # after an error, too: the user was told and can delete it again


def remove(lab: Lab, name: str) -> None:
    """Delete a snapshot on the nodes and in the store, even if only parts of it are left."""
    for node in lab.topology.machines:
        lab.provider.snapshots.delete(node, name)
    SnapshotStore(lab.state).remove(name)
    if all(lab.running()):
        live_snapshots(lab).forget(name)
