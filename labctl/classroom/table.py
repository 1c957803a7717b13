"""The state of a class as a table for people: on a terminal and on the teacher's page."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from typing_extensions import TypedDict

from labctl.classroom.ends import shown
from labctl.classroom.engine import STATES
from labctl.classroom.status import ClassStatus, LearnerStatus
from labctl.i18n import tr, tr_list
from labctl.terminal.text import duration

Mark = Literal["ok", "stuck", "bad"]


class Row(TypedDict):
    """One learner."""

    mark: Mark
    """ok: the machine answers, and how the learner gets on is known. stuck: so it is, and they are
    at one checkpoint for too long. bad: something does not answer."""
    cells: Mapping[str, str]
    """{column: text}, with the columns of `heads`."""


def heads() -> Mapping[str, str]:
    """{column: its heading}, in the order of the columns."""
    return {
        "learner": tr("learner"),
        "machine": tr("machine"),
        "address": tr("address"),
        "checkpoint": tr("checkpoint"),
        "here": tr("here for"),
        "idle": tr("idle for"),
        "remarks": tr("remarks"),
    }


def row(learner: LearnerStatus) -> Row:
    """What people read of one learner."""
    state = tr(STATES[learner["state"]])
    if learner["address"] and not learner["ssh"]:
        state = tr("no answer")
    mark: Mark = "ok" if learner["ssh"] and not learner["silent"] else "bad"
    remarks = [text for text in (learner["reason"], learner["silent"]) if text]
    place = here = idle = ""
    if pace := learner["pace"]:
        of = f"{pace['passed']}/{pace['checkpoints'] or '?'}"
        place = tr("no lesson was begun")
        if pace["lesson"] is not None:
            place = tr("{text} ({detail})", detail=of,
                       text=f"{pace['lesson']}/{pace['checkpoint'] or tr('done')}")  # fmt: skip
        open_ = pace["checkpoint"] is not None
        here = duration(pace["here"]) if open_ and pace["here"] is not None else ""
        idle = duration(pace["idle"]) if pace["idle"] is not None else ""
        if pace["stuck"]:
            mark = "stuck"
            remarks.append(tr("stuck"))
        if failing := pace["failing"]:
            remarks.append(tr("did not hold: {claim}", claim=failing[0]))
        remarks += pace["troubles"]
    return {
        "mark": mark,
        "cells": {
            "learner": learner["learner"], "machine": state, "address": learner["address"],
            "checkpoint": place, "here": here, "idle": idle, "remarks": tr("; ").join(remarks),
        },
    }  # fmt: skip


def notes(report: ClassStatus) -> list[str]:
    """What there is to say of the class as a whole, a sentence each."""
    sentences = []
    stuck = [
        learner["learner"]
        for learner in report["learners"]
        if learner["pace"] and learner["pace"]["stuck"]
    ]
    if stuck:
        sentences.append(tr("stuck: {names}", names=tr_list(stuck)))
    sentences += [tr("{name} has a machine and is not in class.yaml", name=name)
                  for name in report["others"]]  # fmt: skip
    if report["ends"]:
        time = shown(datetime.fromisoformat(report["ends"]))
        text = tr("the class ended at {time}", time=time)
        sentences.append(text if report["ended"] else tr("the class ends at {time}", time=time))
    return sentences
