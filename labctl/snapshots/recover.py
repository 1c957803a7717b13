"""Finish or undo a save, a restore or a delete that was interrupted because labctl was killed."""

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.snapshots.restore import note_offline, restore_live, restore_offline, start_restored
from labctl.snapshots.save import remove
from labctl.snapshots.store import Journal, SnapshotStore, recovery_action
from labctl.snapshots.undo import start_again, undo


def recover(lab: Lab, *, start: bool = True) -> None:
    """Finish or undo the operation in the journal, if there is one, and tell the user which.

    `start`: boot the nodes if the lab was up when the operation began. Raises LabError when the
    lab cannot be restored.
    """
    store = SnapshotStore(lab.state)
    journal = store.journal()
    if journal is None:
        store.remove_leftovers()
        return
    name, action = journal.name, recovery_action(journal)
    if action == "undo":
        undo(lab, journal)
        text = (
            tr("saving {name} was interrupted: there is no such snapshot", name=name)
            if journal.doing == "save"
            else tr("restoring {name} was interrupted: the lab is as it was before", name=name)
        )
        lab.note("warning", text)
        if start:
            start_again(lab, journal)
    elif journal.doing == "delete":
        remove(lab, name)
        store.close_journal()
        lab.note("warning", tr("deleting {name} was interrupted: now it is gone", name=name))
    else:
        lab.note("warning", tr("restoring {name} was interrupted: finishing it", name=name))
        try:
            _finish_restore(lab, journal, only_start=action == "start", start=start)
        except LabError as error:
            # Else every later command would fail here again, even a restore of another snapshot.
            store.close_journal()
            raise LabError(
                tr("{name} could not be restored: {why}", name=name, why=error.message),
                hint=tr(
                    "some nodes may be restored and others not: run the same restore again, or"
                    " restore another snapshot"
                ),
            ) from error


def _finish_restore(lab: Lab, journal: Journal, *, only_start: bool, start: bool) -> None:
    store = SnapshotStore(lab.state)
    manifest = store.read(journal.name)
    if journal.method == "live":
        why = restore_live(lab, manifest) if all(lab.running()) else tr("not all nodes run")
        if not why:
            return
        note_offline(lab, why)
    if only_start:
        for node in lab.topology.machines:
            lab.provider.snapshots.clean_up(node)
        if start and journal.was_up:
            start_restored(lab, journal.name)
        store.close_journal()
    else:
        was_up = journal.was_up and start
        resumed = Journal("restore", journal.name, "changing", journal.method, was_up)
        restore_offline(lab, manifest, was_up=was_up, resumed=resumed)
