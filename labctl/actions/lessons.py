"""Lessons on a lab: a session, and the transcript of a lesson that was run."""

from collections.abc import Iterator
from contextlib import contextmanager

from labctl.actions.course import note_finished
from labctl.actions.faults import judge_secret
from labctl.actions.held import held
from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.lab import Lab, each_node
from labctl.lessons.load import load_lesson
from labctl.lessons.proof import certificate, read_proof
from labctl.lessons.results import Preview
from labctl.lessons.session import Session
from labctl.lessons.transcript import Scene, read_records
from labctl.lessons.transcript import transcript as write_transcript
from labctl.provisioning.services import inactive_units
from labctl.terminal.console import Console
from labctl.topology import Machine


@contextmanager
def session(
    lab: Lab, verb: str, console: Console, lesson: str = "", labctl: str = "labctl"
) -> Iterator[Session]:
    """The lessons on this lab, which is locked for `verb` while the body runs.

    Raises LabError when the lab is not up, or is not one that `lesson` can be run in.
    """
    lab.require_created()
    if lesson:
        load_lesson(lesson).require(lab.topology)
    with held(lab, verb):
        lab.require_up()
        _warn_of_services(lab)
        try:
            yield _session(lab, console, labctl)
            if verb == "check":
                judge_secret(lab)
        finally:
            note_finished(lab, lab.topology)


def preview(lab: Lab, console: Console) -> Preview | None:
    """What the lesson's next checkpoint will be, without a lock; see `Session.preview`."""
    lab.require_up()
    return _session(lab, console, "labctl").preview()


def _session(lab: Lab, console: Console, labctl: str) -> Session:
    return Session(
        lab.topology,
        lab.state,
        lab.guest,
        lab.one_connection(),
        console,
        lambda title, steps: lab.run(title, steps, workers=1),
        labctl,
    )


def _warn_of_services(lab: Lab) -> None:
    """Tell which services do not run: what needs one of them may hang until its time is up."""

    def look(node: Machine) -> list[str]:
        try:
            states = inactive_units(lab.provider.guest(node), node, lab.topology.stack)
        except LabError:
            return []  # the lesson's own commands will tell
        return [f"{node.name}: {unit} {state}" for unit, state in states.items()]

    if troubles := [
        line for lines in each_node(lab.topology.machines, look).values() for line in lines
    ]:
        lab.note("warning", tr("{troubles}; `labctl reset` mends it", troubles=tr_list(troubles)))


def transcript(lab: Lab, name: str) -> str:
    """A lesson's last run as Markdown. Raises LabError when it was never run in this lab."""
    lab.require_created()
    lesson = load_lesson(name)
    records = read_records(lab.state, lesson)
    if not records:
        raise LabError(
            tr("lesson {id} was never run in this lab", id=lesson.id),
            hint=tr("run it first: {command}", command=f"labctl replay {name}"),
        )
    nodes = [machine.name for machine in lab.topology.machines]
    proof = read_proof(lab.state, lesson)
    proved = certificate(proof) if proof is not None else ""
    return write_transcript(lesson, records, Scene(lab.topology.lab, nodes), proved)
