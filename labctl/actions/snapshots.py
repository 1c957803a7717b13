"""`labctl snapshot …` and `labctl reset`."""

from labctl.actions.held import held
from labctl.actions.lessons import session
from labctl.lab import Lab
from labctl.lessons.progress import read_position
from labctl.snapshots import restore as restoring
from labctl.snapshots import save as saving
from labctl.snapshots.store import BASE, Manifest, Row, SnapshotStore
from labctl.terminal.console import Console


def save(lab: Lab, name: str, *, files: bool = True) -> Manifest:
    """Keep the whole lab under a name; `files`: so that it can be put back when it is down."""
    lab.require_created()
    with held(lab, f"snapshot save {name}"):
        return saving.save(lab, name, files=files)


def rows(lab: Lab) -> list[Row]:
    """All snapshots, the oldest first."""
    lab.require_created()
    return SnapshotStore(lab.state).rows()


def restore(lab: Lab, name: str, *, cold: bool = False) -> None:
    """Put the whole lab back into a snapshot, the lesson position too."""
    lab.require_created()
    with held(lab, f"snapshot restore {name}"):
        restoring.restore(lab, name, offline=cold)


def delete(lab: Lab, name: str) -> None:
    """Delete a snapshot."""
    lab.require_created()
    with held(lab, f"snapshot delete {name}"):
        saving.delete(lab, name)


def reset(
    lab: Lab, to: str, console: Console, *, cold: bool = False, labctl: str = "labctl"
) -> None:
    """Into snapshot `to`; "": into `base` and to the beginning of the lesson at hand."""
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
