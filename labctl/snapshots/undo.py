"""Undo a save or a restore that was interrupted before it changed the lab."""

from labctl.lab import Lab
from labctl.snapshots.health import start_lab
from labctl.snapshots.store import Journal, SnapshotStore


def undo(lab: Lab, journal: Journal) -> None:
    """Delete what the operation had prepared; the lab itself was not changed yet."""
    store = SnapshotStore(lab.state)
    for node in lab.topology.machines:
        if journal.doing == "save":
            lab.provider.snapshots.delete(node, journal.name)
        else:
            lab.provider.snapshots.unstage(node)
    store.remove_leftovers()
    store.close_journal()


def start_again(lab: Lab, journal: Journal) -> None:
    """Start the nodes if they were halted only to be saved."""
    if journal.doing == "save" and journal.was_up and not all(lab.running()):
        start_lab(lab)
