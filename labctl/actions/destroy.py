"""`labctl destroy`: no process, mount, namespace, interface or file stays behind."""

from dataclasses import dataclass

from labctl.engine.steps import Step, StepContext, run_steps
from labctl.errors import LabError
from labctl.i18n import tr, tr_list, tr_n
from labctl.lab import Lab
from labctl.snapshots.store import BASE, SnapshotStore


@dataclass(frozen=True)
class Destroyed:
    """What `destroy` found, and what it left on purpose."""

    existed: bool
    """Whether there was a lab."""
    cached: list[str]
    """What its provider keeps on this machine for the next lab, in words for the user."""


def destroy(lab: Lab, *, purge: bool = False) -> Destroyed:
    """Remove the lab and everything that belongs to it.

    Works on whatever an interrupted `create` left. With `purge` also removes what its provider
    keeps for the next lab. Raises LabError naming what could not be removed.
    """
    if lab.state.copied_from is not None:
        # Everything outside the directory that has the lab's name is the original's.
        with lab.state.locked("destroy"):
            lab.state.remove()
        return Destroyed(existed=True, cached=[])
    if not lab.state.usable:
        if purge:
            lab.provider.purge(lambda message: None)
        return Destroyed(existed=False, cached=[])
    cached: list[str] = []

    def remove_nodes(context: StepContext) -> None:
        lab.provider.destroy(context.progress)
        if left := lab.provider.leftovers():
            raise LabError(
                tr("this could not be removed: {what}", what=tr("; ").join(left)),
                hint=tr("end what uses it, then run `labctl destroy` again"),
            )
        if purge:
            lab.provider.purge(context.progress)
        cached.extend(lab.provider.cached())

    with lab.state.locked("destroy"):
        if lab.state.exists:
            _tell_snapshots(lab)
            lab.state.note_destroying()
            steps = [
                Step("nodes", tr("nodes, networks, file systems"), remove_nodes),
                Step("files", tr("files"), lambda context: lab.state.remove(), needs=("nodes",)),
            ]
            title = tr("destroy {lab}", lab=lab.state.identity().lab)
            run_steps(steps, bus=lab.bus, title=title).raise_if_failed()
        else:
            lab.state.remove()
    return Destroyed(existed=True, cached=cached)


def snapshots_of_the_user(lab: Lab) -> list[str]:
    """Names of the snapshots that are deleted with the lab, and that `create` does not make."""
    if not lab.state.usable or lab.state.copied_from is not None:
        return []
    return [name for name in SnapshotStore(lab.state).names() if name != BASE]


def _tell_snapshots(lab: Lab) -> None:
    """Say which of the user's snapshots go with the lab, while Ctrl-C still keeps them."""
    names = snapshots_of_the_user(lab)
    if names:
        text = tr_n(
            "the snapshot {names} is deleted with the lab",
            "the snapshots {names} are deleted with the lab",
            n=len(names),
            names=tr_list(names),
        )
        lab.note("warning", text)


def finish_destroying(lab: Lab) -> bool:
    """Finish a `destroy` that was killed; whether there was one. Then `lab` is out of date.

    Raises LabError naming what could not be removed.
    """
    if not lab.state.being_destroyed:
        return False
    lab.note("warning", tr("destroying the lab was interrupted: finishing it"))
    destroy(lab)
    return True
