"""`labctl snapshot …` and `labctl reset`."""

from labctl.actions.faults import refuse_injected
from labctl.actions.held import held
from labctl.actions.lessons import session
from labctl.lab import Lab
from labctl.lessons.progress import read_position
from labctl.snapshots import restore as restoring
from labctl.snapshots import save as saving
from labctl.snapshots.store import BASE, Manifest, Row, SnapshotStore
from labctl.terminal.console import Console


def save(lab: Lab, name: str, *, files: bool = True) -> Manifest:
    """Save the whole lab under a name.

    With `files` the file systems of the nodes are saved too, so that the snapshot can be restored
    when the lab is down; without, only while it runs.
    """
    lab.require_created()
    with held(lab, f"snapshot save {name}"):
        refuse_injected(lab)
        return saving.save(lab, name, files=files)


def rows(lab: Lab) -> list[Row]:
    """All snapshots, oldest first."""
    lab.require_created()
    return SnapshotStore(lab.state).rows()


def restore(lab: Lab, name: str, *, cold: bool = False) -> None:
    """Put the whole lab back into the state of a snapshot, the position in the lesson too.

    `cold` restores the files of the nodes even where the running lab could be put back.
    """
    lab.require_created()
    with held(lab, f"snapshot restore {name}"):
        restoring.restore(lab, name, offline=cold)


def delete(lab: Lab, name: str) -> None:
    lab.require_created()
    with held(lab, f"snapshot delete {name}"):
        saving.delete(lab, name)


def reset(
    lab: Lab, to: str, console: Console, *, cold: bool = False, labctl: str = "labctl"
) -> None:
    """Restore the snapshot `to`; "": restore `base` and start the current lesson again."""
    lab.require_created()
    position = read_position(lab.state)
    with held(lab, "reset"):
        restoring.restore(lab, to or BASE, offline=cold)
    if not to and position.current is not None:
        source = position.lessons[position.current].source
        with session(lab, f"start {position.current}", console, source, labctl) as lessons:
            outcome = lessons.start(source, practice=position.practice)
            if outcome.failure is not None:
                raise outcome.failure
