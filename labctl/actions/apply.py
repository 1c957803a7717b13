"""`labctl apply`: a lab that exists follows its edited lab.yaml."""

import time

from labctl.actions.faults import refuse_injected
from labctl.actions.held import held
from labctl.engine.steps import Step, StepContext
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.lab import Lab
from labctl.lessons.progress import read_position
from labctl.provisioning.boot import HALT_SECONDS, provisioner
from labctl.provisioning.seed import Seed, remove_instance
from labctl.snapshots.save import delete, save
from labctl.snapshots.store import BASE, SnapshotStore
from labctl.spec.changes import Change, changes
from labctl.spec.load import load_built
from labctl.state import write_atomic
from labctl.terminal.console import Console
from labctl.terminal.fit import table
from labctl.terminal.text import Span, Style


def plan(lab: Lab) -> list[Change]:
    """What has to be done so that the lab is as lab.yaml says. Raises SpecError, LabError."""
    lab.require_finished()
    built = load_built(lab.state.built_spec)
    if built is None:
        raise LabError(
            tr("there is no record of what this lab was made from"),
            hint=tr("`labctl destroy`, then `labctl create`"),
        )
    return changes(built, lab.spec, machines=lab.provider.features.machines)


def show(plan: list[Change], console: Console) -> None:
    """Print the plan, a line for each change."""
    words = {"live": tr("live"), "restart": tr("with a restart"), "anew": tr("only anew")}
    styles: dict[str, Style] = {"live": "ok", "restart": "warn", "anew": "bad"}
    lines = [[Span(head, "bold") for head in (tr("effect"), tr("change"), tr("reason"))]]
    for change in plan:
        effect = Span(words[change.effect], styles[change.effect])
        lines.append([effect, Span(change.what), Span(change.reason)])
    console.write(list(table(lines, console.width)))


def refuse(plan: list[Change]) -> None:
    """Raises LabError (wrong use) if the lab cannot follow one of the changes."""
    anew = [change.what for change in plan if change.effect == "anew"]
    if anew:
        raise LabError(
            tr("this lab cannot follow lab.yaml: {changes}", changes=tr("; ").join(anew)),
            hint=tr("nothing was changed; undo these edits, or make the lab anew: `labctl destroy`,"
                    " then `labctl create`"),
            code=EXIT_USAGE,
        )  # fmt: skip


def apply(lab: Lab, plan: list[Change]) -> None:
    """Carry the plan out; `base` is then saved anew. Raises LabError, StepFailed.

    Interrupted while it deletes, it goes on when it is called again; afterwards the lab counts as
    not finished, and `create` finishes it.
    """
    refuse(plan)
    lab.require_up()
    with held(lab, "apply"):
        refuse_injected(lab)
        _refuse_lesson(lab)
        lab.examine(lab.provider_name).raise_if_not_ok()
        gone = [
            change.name
            for change in plan
            if change.path[0] == "instances" and change.action in ("remove", "replace")
        ]
        steps = [_deletion(lab, name) for name in gone]
        steps += _halts(lab, {change.name for change in plan if change.effect == "restart"})
        if steps:
            lab.run(tr("change {lab}", lab=lab.topology.lab), steps).raise_if_failed()
        lab.state.created.unlink(missing_ok=True)
        lab.state.save_identity(lab.state.identity().of_next_revision())
        write_atomic(lab.state.built_spec, lab.spec.model_dump_json(indent=1))
        after = Lab(lab.file, lab.bus.emit)
        stages = provisioner(after)
        steps = [*stages.host_steps(), *stages.node_steps(), *Seed(after).steps()]
        after.run(tr("apply {file} to {lab}", file=lab.file.name, lab=after.topology.lab),
                  steps).raise_if_failed()  # fmt: skip
        write_atomic(after.state.created, f"{time.time()}\n")
        if SnapshotStore(after.state).exists(BASE):
            delete(after, BASE)
        save(after, BASE, files=after.provider.features.live_snapshots)
    if others := SnapshotStore(lab.state).names()[:-1]:
        text = tr("older snapshots are of the lab as it was, and cannot be restored: {names}",
                  names=tr_list(others))  # fmt: skip
        lab.note("warning", text)


def _refuse_lesson(lab: Lab) -> None:
    """Raises LabError in the middle of a lesson: `base` would hold what was done in it."""
    position = read_position(lab.state)
    begun = [name for name, progress in position.lessons.items() if progress.attempted]
    if begun:
        raise LabError(
            tr("the lesson {names} is under way in this lab, and would become part of `base`",
               names=tr_list(begun)),
            hint=tr("go back to where it began: `labctl reset --to base`"),
        )  # fmt: skip


def _deletion(lab: Lab, name: str) -> Step:
    def work(context: StepContext) -> None:
        remove_instance(lab.cloud(), name)

    return Step(f"delete:{name}", tr("delete instance {name}", name=name), work,
                node=lab.topology.controller.name)  # fmt: skip


def _halts(lab: Lab, names: set[str]) -> list[Step]:
    return [
        Step(
            f"halt:{node.name}",
            tr("shut down"),
            lambda context, node=node: lab.provider.stop(  # type: ignore[misc]
                node, deadline=HALT_SECONDS
            ),
            node=node.name,
        )
        for node in lab.topology.nodes
        if node.name in names
    ]
