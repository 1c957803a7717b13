"""Snapshots and reset on the page: the same actions as `labctl snapshot …` and `labctl reset`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.page.work import LabVerb
from labctl.snapshots.store import BASE, SnapshotStore
from labctl.terminal.text import one_line

if TYPE_CHECKING:
    from labctl.terminal.console import Console

# labctl.actions.snapshots loads what lessons need: only the verb that is run does so.


def _save(lab: Lab, name: str, console: "Console", *, files: bool) -> None:
    from labctl.actions.snapshots import save

    manifest = save(lab, name, files=files)
    size = f"{manifest.size / 1e6:.1f} MB"
    console.say(tr("snapshot {name}: {size}", name=name, size=size))


def _restore(lab: Lab, name: str, *, cold: bool) -> None:
    from labctl.actions.snapshots import restore

    restore(lab, name, cold=cold)


def _delete(lab: Lab, name: str, console: "Console") -> None:
    from labctl.actions.snapshots import delete

    delete(lab, name)
    console.say(tr("snapshot {name} is deleted", name=name))


def _reset(lab: Lab, to: str, console: "Console", labctl: str) -> None:
    from labctl.actions.snapshots import reset

    reset(lab, to, console, labctl=labctl)


SNAPSHOT_VERBS: Mapping[str, LabVerb] = {
    "save": lambda lab, name, console, _: _save(lab, name, console, files=True),
    "save-warm": lambda lab, name, console, _: _save(lab, name, console, files=False),
    "restore": lambda lab, name, _, __: _restore(lab, name, cold=False),
    "restore-cold": lambda lab, name, _, __: _restore(lab, name, cold=True),
    "delete": lambda lab, name, console, _: _delete(lab, name, console),
    "reset": _reset,
}
"""By the name of the button; the argument is the snapshot's name."""


def snapshots_shown(lab: Lab, seconds: Mapping[str, float]) -> Mapping[str, Any]:
    """The snapshots, the oldest first, JSON-ready; `seconds` is what each verb took last."""
    rows: list[Mapping[str, Any]] = []
    try:
        if lab.state.exists:
            rows = [
                {"name": one_line(row.name), "at": row.at, "size": row.size, "current": row.current,
                 "cold": row.cold, "warm": row.warm, "lesson": one_line(row.lesson),
                 "trouble": one_line(row.trouble)}
                for row in SnapshotStore(lab.state).rows()
            ]  # fmt: skip
    except LabError as error:
        return {"rows": [], "base": BASE, "seconds": {}, "problem": one_line(error.message)}
    return {"rows": rows, "base": BASE, "seconds": dict(seconds), "problem": ""}
