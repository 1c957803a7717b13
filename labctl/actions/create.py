"""`labctl create`: from nothing to the state that the lessons start from."""

import time

from labctl.actions.box import BoxMaker, expected_time, makers
from labctl.actions.held import held
from labctl.actions.template import create_from_template, keep_template
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.boot import provisioner
from labctl.provisioning.seed import Seed
from labctl.snapshots.save import delete, save
from labctl.snapshots.store import BASE, SnapshotStore
from labctl.spec.fields import OWN_BOX
from labctl.spec.load import load_built
from labctl.state import write_atomic


def create(lab: Lab, *, template: bool = True) -> None:
    """Make the lab, or finish one that was interrupted, or repair one that is broken.

    Each stage is asked whether its work is done, and only the others run. With `template` a lab
    without nodes is made of the template that an earlier lab of its lab.yaml has left; if there is
    none, it leaves one. Raises SpecError, LabError, StepFailed.
    """
    lab.examination.raise_if_not_ok()
    with held(lab, "create", new=True):
        lab.state.begin(lab.spec.name, lab.provider_name)
        refuse_other_topology(lab)
        _make_box(lab)
        copied = create_from_template(lab, wanted=template)
        # Of nodes that were there before, somebody may have changed the files meanwhile.
        new = not lab.state.nodes.exists()
        if not copied:
            stages = provisioner(lab)
            steps = [*stages.host_steps(), *stages.node_steps(), *Seed(lab).steps()]
            lab.run(tr("create {lab}", lab=lab.topology.lab), steps).raise_if_failed()
        write_atomic(lab.state.created, f"{time.time()}\n")
        _save_base(lab)
        if template and new:
            keep_template(lab)


def _make_box(lab: Lab) -> None:
    """Make labctl's own box, if the lab's machines are made from it and Vagrant has none.

    Raises LabError, StepFailed.
    """
    box = lab.topology.box
    if (
        lab.provider_name not in makers()
        or (box.name, box.version) != (OWN_BOX, "")
        or lab.provider.prepared()
    ):
        return
    lab.note("info", tr("Vagrant has no box {box} for {provider} yet",
                        box=box.name, provider=lab.provider_name))  # fmt: skip
    lab.note("info", expected_time())
    BoxMaker(lab.provider_name, subscriber=lab.bus.emit).make()


def _save_base(lab: Lab) -> None:
    """Save the snapshot `base`. If that fails the user is warned: the lab itself works."""
    store = SnapshotStore(lab.state)
    if store.exists(BASE):
        try:
            revision = store.read(BASE).revision
        except LabError:
            return  # altered: `labctl snapshot list` says so
        if revision == lab.state.identity().revision:
            return
        delete(lab, BASE)  # `apply` was interrupted before it saved another
    live = lab.provider.features.live_snapshots
    try:
        save(lab, BASE, files=live)
    except LabError as error:
        lab.note(
            "warning", tr("the snapshot {name} was not made: {why}", name=BASE, why=error.message)
        )
        return
    if not live:
        # Virtual machines must be down for a snapshot of their files. Halting and booting them
        # would double the time of `create`.
        text = tr(
            "{name} can be restored only while the lab runs; to save all files, too: {command}",
            name=BASE,
            command="labctl snapshot save NAME",
        )
        lab.note("info", text)


def _as_read_today(lab: Lab) -> str:
    """The spec the lab was made from, by today's labctl: an older one wrote other defaults."""
    spec = load_built(lab.state.built_spec)
    return spec.model_dump_json(indent=1) if spec else ""


def refuse_other_topology(lab: Lab) -> None:
    """Raises LabError (wrong use) if lab.yaml was edited after the lab was made from it.

    Going on would mix nodes and addresses of both versions.
    """
    now = lab.spec.model_dump_json(indent=1)
    built = lab.state.built_spec
    if not built.exists():
        write_atomic(built, now)
    elif built.read_text(encoding="utf-8") != now and _as_read_today(lab) != now:
        raise LabError(
            tr("{file} describes another lab than the one that exists here", file=lab.file.name),
            hint=tr(
                "`labctl apply --dry-run` tells whether this lab can follow; or `labctl destroy`"
                " first, or undo the edit"
            ),
            code=EXIT_USAGE,
        )
