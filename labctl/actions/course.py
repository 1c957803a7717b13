"""How far the user is in the course, with a lab or without one."""

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.lessons.course import CourseJson, built_in_course, describe, finished_lessons
from labctl.lessons.done import Done, note_done, read_done
from labctl.lessons.progress import Position, read_position
from labctl.topology import Topology, build_topology


def course(lab: Lab | None) -> CourseJson:
    """The course, with what this lab can run; None: there is no lab.yaml.

    Raises LabError for a note of what was done that is not as labctl writes it, SpecError.
    """
    position, topology = Position(), None
    if lab is not None and lab.state.exists:
        position, topology = read_position(lab.state), lab.topology
    elif lab is not None:
        # As lab.yaml says. Which provider would make it need not be found out for this.
        topology = build_topology(lab.spec)
    return describe(built_in_course(), topology, position, read_done())


def note_finished(lab: Lab, topology: Topology) -> None:
    """Note the lessons of the course that are proved to their end in this lab now.

    What cannot be noted is told as a warning: the lesson itself is not at fault.
    """
    try:
        finished = finished_lessons(read_position(lab.state))
        if not finished:
            return
        known = read_done()
        new = {id: Done(at, topology.lab) for id, at in finished.items()
               if id not in known or known[id].at < at - _SAME}  # fmt: skip
        if new:
            note_done(new)
    except LabError as error:
        text = tr("the course cannot note that this lesson is done: {why}", why=error.message)
        lab.note("warning", text)


_SAME = 1.0
"""Seconds: the note may have rounded a time."""
