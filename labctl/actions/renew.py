"""`labctl renew`: new passwords and keys for a lab that is there, in place.

As `fork` does it beside: the disks of a snapshot are unpacked, renewed while nobody reaches them,
and become the nodes'. A machine image holds a lab with the first part of this begun
(actions/class_image.py), so that each machine made of it goes on with it at its first boot. So does
a lab that `create` makes of a template (actions/template.py).
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from labctl.actions.held import held
from labctl.engine.steps import Step, StepContext
from labctl.errors import EXIT_USAGE, LabError
from labctl.faults.keeper import clear_for_restore, forget
from labctl.i18n import tr, tr_list
from labctl.lab import Lab
from labctl.provisioning.boot import halt_steps, provisioner, start_steps
from labctl.snapshots.health import alive_steps, health_step
from labctl.snapshots.renewal import (
    INIT_FILE,
    INIT_OPTION,
    NodeIdentity,
    forget_live_snapshots,
)
from labctl.snapshots.renewal import renew as renew_disk
from labctl.snapshots.restore import check_files, require_of_this_lab
from labctl.snapshots.save import remove, save
from labctl.snapshots.store import BASE, Manifest, SnapshotStore, checked_name
from labctl.state import LabState, Secrets, not_ours, secrets_in, write_atomic
from labctl.topology import Machine

Phase = Literal["files", "snapshots", "start"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Renewal:
    """A `renew` that has begun, as its file holds it; the file goes at the end."""

    snapshot: str
    """From which the disks are made anew."""
    old: Secrets | None
    """The passwords in that snapshot; None: they are nowhere any more."""
    phase: Phase = "files"
    """`files`: some disks may be renewed and others not, and it begins again. `snapshots`: all are,
    and the snapshots of before have to go. `start`: the lab has to start."""

    def write(self, state: LabState) -> None:
        """Replace the file. Raises LabError."""
        write_atomic(state.renewal, json.dumps(asdict(self), indent=1) + "\n", 0o600)

    @classmethod
    def read(cls, state: LabState) -> "Renewal | None":
        """The renewal that has begun; None: there is none. Raises LabError."""
        data = state.read_json(state.renewal)
        if data is None:
            return None
        old, snapshot = data.get("old"), data.get("snapshot")
        phase = next((phase for phase in PHASES if phase == data.get("phase")), None)
        if phase is None or not (isinstance(old, dict) or phase != "files"):
            raise not_ours(state.renewal)
        secrets = secrets_in(old, state.renewal) if isinstance(old, dict) else None
        return cls(checked_name(str(snapshot)), secrets, phase)  # a directory has that name


def renew(lab: Lab, *, snapshot: str = "", start: bool = True) -> None:
    """Put the lab back to a snapshot, with new passwords and keys; then start it.

    `snapshot`: default `base`, or else the newest. All snapshots are deleted, for they hold the old
    passwords; the new `base` is that state. Without `start` the lab stays halted, and the next
    `renew` goes on from there. Goes on with one that was interrupted. Raises LabError.
    """
    lab.require_finished()
    if not lab.provider.features.forks:
        raise LabError(
            tr("the provider {provider} cannot renew a lab: labctl does not reach into the disks of"
               " its nodes", provider=lab.provider_name),
            hint=tr("`labctl destroy` and `labctl create` give it new passwords and keys"),
            code=EXIT_USAGE,
        )  # fmt: skip
    with held(lab, "renew"):
        renewal = Renewal.read(lab.state)
        if renewal is None:
            manifest = copied_manifest(lab, snapshot)
            clear_for_restore(lab, files=True)
            renewal = Renewal(manifest.name, lab.state.secrets())
            renewal.write(lab.state)
        elif snapshot not in ("", renewal.snapshot):
            lab.note("warning", tr("going on with the renewal that was begun, from {name}",
                                   name=renewal.snapshot))  # fmt: skip
        finish_renewal(lab, renewal, start=start)


def finish_renewal(lab: Lab, renewal: Renewal, *, start: bool = True) -> None:
    """Do what is left of a renewal that has begun; the caller holds the lab. Raises LabError."""
    if renewal.phase == "files":
        _renew_files(lab, renewal, Secrets.generate())
    if renewal.phase != "start":
        _delete_snapshots(lab, renewal)
    if not start:
        return
    start_renewed(lab)
    lab.state.renewal.unlink()


def copied_manifest(lab: Lab, name: str) -> Manifest:
    """The snapshot to copy disks from. Raises LabError when none has the files of all nodes."""
    store = SnapshotStore(lab.state)
    rows = {row.name: row for row in store.rows() if row.cold and not row.trouble}
    if not name:
        newest = max(rows.values(), key=lambda row: row.at, default=None)
        name = BASE if BASE in rows else newest.name if newest else ""
    if not name:
        raise LabError(
            tr("there is no snapshot with the files of all nodes"),
            hint=tr("save one: {command}", command="labctl snapshot save NAME"),
        )
    manifest = store.read(name)
    require_of_this_lab(lab, manifest)
    if not manifest.offline:
        raise LabError(
            tr("snapshot {name} has no files: nothing can be copied from it", name=name),
            hint=tr("take one of {names}", names=tr_list(rows)) if rows
            else tr("save one: {command}", command="labctl snapshot save NAME"),
            code=EXIT_USAGE,
        )  # fmt: skip
    return manifest


# -- the disks -------------------------------------------------------------------------------------
def _renew_files(lab: Lab, renewal: Renewal, new: Secrets) -> None:
    """Make the disks of all nodes anew, with these passwords; the lab is then halted.

    The caller holds the lab, and has written the renewal. Raises LabError.
    """
    assert renewal.old is not None
    manifest = SnapshotStore(lab.state).read(renewal.snapshot)
    require_of_this_lab(lab, manifest)
    halts = halt_steps(lab, deadline=0)
    needs = tuple(step.id for step in halts)
    steps = [*halts, *_disk_steps(lab, manifest, renewal.old, new, needs)]
    lab.run(tr("new passwords and keys for {lab}", lab=lab.topology.lab), steps).raise_if_failed()
    forget(lab)  # the faults in the lab: the files of the nodes have none
    if manifest.lesson is None:
        lab.state.lesson_position.unlink(missing_ok=True)
    else:
        lab.state.write_json(lab.state.lesson_position, manifest.lesson)
    lab.forget_connections()
    lab.state.replace_secrets(new)
    Renewal(renewal.snapshot, None, "snapshots").write(lab.state)


def _delete_snapshots(lab: Lab, renewal: Renewal) -> None:
    """Delete the disks and the snapshots that hold the old passwords."""
    for node in lab.topology.machines:
        lab.provider.snapshots.clean_up(node)
    for name in SnapshotStore(lab.state).names():
        remove(lab, name)
    Renewal(renewal.snapshot, None, "start").write(lab.state)


def _disk_steps(
    lab: Lab, manifest: Manifest, old: Secrets, new: Secrets, needs: tuple[str, ...]
) -> list[Step]:
    directory = SnapshotStore(lab.state).directory(manifest.name)
    before, after = identities(lab, old), identities(lab, new)

    def check(context: StepContext) -> None:
        check_files(lab, manifest, context)

    def make(context: StepContext) -> None:
        def work(node: Machine) -> None:
            stage_renewed(context, lab, node, manifest.name, directory, before, after)
            upper = lab.state.node_files(node.name).upper
            if upper.is_dir():  # it would be moved along
                forget_live_snapshots(upper)

        lab.on_each_node(work, context)

    def take(context: StepContext) -> None:
        lab.on_each_node(lambda node: lab.provider.snapshots.restore(node, manifest.name), context)

    return [
        Step("check", tr("check the snapshot"), check, needs),
        Step("renew", tr("files, with passwords and keys of their own"), make, ("check",)),
        Step("files", tr("files of all nodes"), take, ("renew",)),
    ]


def stage_renewed(
    context: StepContext,
    lab: Lab,
    node: Machine,
    snapshot: str,
    directory: Path,
    before: Mapping[str, NodeIdentity],
    after: Mapping[str, NodeIdentity],
) -> None:
    """Unpack a node's files of the snapshot in `directory`; renew them before anybody gets there.

    `before` is what they hold, `after` what they are to hold: {node: identity}. Raises LabError.
    """
    files = lab.state.node_files(node.name)
    files.directory.mkdir(parents=True, exist_ok=True)
    lab.provider.snapshots.stage(node, snapshot, directory)
    context.progress(tr("new passwords and keys"))
    renew_disk(files.staged, before[node.name], after[node.name])


def identities(lab: Lab, secrets: Secrets | None = None) -> dict[str, NodeIdentity]:
    """What the disk of each node holds of the lab; `secrets` stand in for its own passwords."""
    known = lab.state.secrets() if secrets is None else secrets
    stages = provisioner(lab, known)
    return {
        node.name: NodeIdentity(
            known,
            (node.eth0.mac, *(nic.mac for nic in node.shared_nics)),
            stages.env(node),
            stages.inputs(node),
        )
        for node in lab.topology.machines
    }


# -- the first boot --------------------------------------------------------------------------------
def start_renewed(lab: Lab) -> None:
    """Boot a lab whose disks were renewed, wait until it is whole, and save that as its `base`."""
    steps = start_steps(lab)
    steps += alive_steps(lab, steps)
    ready = tuple(step.id for step in steps)
    steps.append(Step("forget", tr("what it remembered of the other lab"), _forgetter(lab), ready,
                      node=lab.topology.controller.name))  # fmt: skip
    steps.append(health_step(lab, ("forget",)))
    lab.run(tr("start {lab}", lab=lab.topology.lab), steps).raise_if_failed()
    if not SnapshotStore(lab.state).exists(BASE):
        save(lab, BASE)


def _forgetter(lab: Lab) -> Callable[[StepContext], None]:
    def forget_the_other(context: StepContext) -> None:
        # The statements have been run: MariaDB answers only afterwards. MAC addresses that routers
        # have learned are those of the other lab's nodes.
        lab.controller.run(
            f"rm -f {shlex.quote(INIT_FILE)} {shlex.quote(INIT_OPTION)}"
            " && ovn-sbctl --timeout=15 --all destroy MAC_Binding"
        )

    return forget_the_other


# -- a lab to be copied into machines --------------------------------------------------------------
def published() -> Secrets:
    """Passwords of a lab in a machine image, which anybody may know: no lab that runs has them."""
    words = (f"labctl class image {field.name}" for field in fields(Secrets))
    return Secrets(*(hashlib.sha256(word.encode()).hexdigest()[:32] for word in words))


def seal(lab: Lab, target: Path, place: Path) -> None:
    """Copy a finished lab into the directory `target`, without any secret of its own.

    There it is halted, at `base`, with a renewal begun that the next `renew` goes on with. `place`
    is where that directory will be. This lab is halted, and has published passwords afterwards.
    Raises LabError.
    """
    with held(lab, "renew"):
        renewal = Renewal(copied_manifest(lab, BASE).name, lab.state.secrets())
        renewal.write(lab.state)
        _renew_files(lab, renewal, published())
        _delete_snapshots(lab, renewal)
        save(lab, BASE)
    copy = LabState(target)
    target.mkdir(parents=True, exist_ok=True)
    copy.root.mkdir(mode=0o700)
    shutil.copyfile(lab.file, target / lab.file.name)
    for path in (lab.state.built_spec, lab.state.created, lab.state.snapshot_current):
        shutil.copyfile(path, copy.root / path.name)
    shutil.copytree(lab.state.snapshots, copy.snapshots)
    where = LabState(place).root
    identity = replace(lab.state.identity(), directory=str(where), device=0, inode=0)
    copy.save_identity(identity)
    Renewal(BASE, published()).write(copy)
