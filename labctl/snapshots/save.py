"""Save a snapshot of the whole lab, and delete one.

The order is such that a kill at any moment leaves a way to go on: what is under way stands in the
journal (store.py) before it is begun.
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
from labctl.snapshots.store import Journal, Manifest, Proof, SnapshotStore, checked_name
from labctl.snapshots.undo import start_again, undo


def save(lab: Lab, name: str, *, files: bool = True) -> Manifest:
    """Keep the whole lab under a name; the lab is held by this process.

    Without `files` only what can be put back while the lab runs is kept. Raises LabError; the
    lab is as it was then, and so are older snapshots.
    """
    store = SnapshotStore(lab.state)
    checked_name(name)
    if store.exists(name):
        raise LabError(
            tr("there is a snapshot {name} already", name=name),
            hint=tr("delete it first: {command}", command=f"labctl snapshot delete {name}"),
            code=EXIT_USAGE,
        )
    up = _runs(lab)
    began = time.time()
    store.begin(name)
    store.write_journal(Journal("save", name, was_up=up))
    proofs: dict[str, Mapping[str, Proof]] = {"warm": {}, "cold": {}}
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
            cold=proofs["cold"],
            warm=proofs["warm"],
            lesson=lab.state.read_json(lab.state.lesson_position),
            seconds=round(time.time() - began, 2),
        )
        if not (manifest.cold or manifest.warm):
            raise LabError(tr("nothing of this lab can be kept while it runs"))
        store.finish(manifest)
    store.set_current(name)
    store.close_journal()
    if up and files and not lab.provider.features.live_snapshots:
        start_lab(lab)
    return manifest


def _runs(lab: Lab) -> bool:
    """Whether the lab runs; LabError when half of it does."""
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
    proofs: dict[str, Mapping[str, Proof]],
) -> list[Step]:
    steps: list[Step] = []
    live = live_snapshots(lab)

    def save_state(context: StepContext) -> None:
        try:
            proofs["warm"] = live.save(name, [*store.names(), name], context)
        except LabError as error:
            if not files:
                raise
            lab.note("warning", tr("only the files are kept: {why}", why=error.message))

    def save_files(context: StepContext) -> None:
        directory = store.unfinished(name)
        save_node = lambda node: lab.provider.snapshots.save(node, name, directory)  # noqa: E731
        if up and lab.provider.features.live_snapshots:
            with lab.provider.snapshots.frozen():
                proofs["cold"] = lab.on_each_node(save_node, context)
        else:
            proofs["cold"] = lab.on_each_node(save_node, context)

    if up:
        steps.append(Step("warm", tr("state of the running lab"), save_state))
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
    """After a failure the lab is what it was before; what fails meanwhile is not hidden."""
    try:
        yield
    except BaseException:
        journal = store.journal()
        if journal is not None:
            undo(lab, journal)
            start_again(lab, journal)
        raise


def delete(lab: Lab, name: str) -> None:
    """Delete a snapshot. Raises LabError; what could not be deleted can be tried again."""
    store = SnapshotStore(lab.state)
    checked_name(name)
    if not store.exists(name):
        store.read(name)  # says which there are
    store.write_journal(Journal("delete", name))
    try:
        remove(lab, name)
    finally:
        store.close_journal()  # nothing that has to be gone on with


def remove(lab: Lab, name: str) -> None:
    """Remove what the nodes and the store have of a snapshot, also of half a one."""
    for node in lab.topology.nodes:
        lab.provider.snapshots.delete(node, name)
    SnapshotStore(lab.state).remove(name)
    if all(lab.running()):
        live_snapshots(lab).forget(name)
