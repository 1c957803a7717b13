"""Take back a save or a restore that was interrupted before it touched the lab."""

from labctl.lab import Lab
from labctl.snapshots.health import start_lab
from labctl.snapshots.store import Journal, SnapshotStore


def undo(lab: Lab, journal: Journal) -> None:
    """Remove what was prepared; nothing of the lab was touched."""
    store = SnapshotStore(lab.state)
    for node in lab.topology.nodes:
        if journal.doing == "save":
            lab.provider.snapshots.delete(node, journal.name)
        else:
            lab.provider.snapshots.unstage(node)
    store.sweep()
    store.close_journal()


def start_again(lab: Lab, journal: Journal) -> None:
    """Start the machines that were halted only to be saved."""
    if journal.doing == "save" and journal.was_up and not all(lab.running()):
        start_lab(lab)
