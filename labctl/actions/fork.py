"""`labctl fork`: a second, independent lab from a snapshot of this one, beside it."""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import yaml

from labctl.actions.destroy import destroy
from labctl.actions.held import held
from labctl.actions.renew import (
    copied_manifest,
    identities,
    stage_renewed,
    start_renewed,
)
from labctl.caller import acting_as_caller
from labctl.engine.events import Event
from labctl.engine.steps import Step, StepContext
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.snapshots.restore import check_files
from labctl.snapshots.store import Manifest, SnapshotStore
from labctl.spec.load import LabSpec, parse_spec
from labctl.spec.problems import SpecError
from labctl.state import write_atomic
from labctl.topology import Machine
from labctl.user_files import delete_for_user, directory_for_user, write_for_user


def fork(
    lab: Lab,
    name: str,
    *,
    directory: Path | None = None,
    snapshot: str = "",
    subscriber: Callable[[Event], None] | None = None,
) -> Lab:
    """Make a lab called `name` in `directory` (default: NAME, beside this lab's) and start it.

    `snapshot`: the one it is made from; default: `base`, or else the newest. This lab stays as it
    is, and may run. `subscriber` receives the events of the new lab. Raises SpecError for a name
    that no lab can have, LabError; what was begun is then removed, unless the new lab
    boots already.
    """
    lab.require_finished()
    if not lab.provider.features.forks:
        raise LabError(
            tr("the provider {provider} cannot fork a lab: labctl does not reach into the disks of"
               " its nodes, and a copy would have this lab's passwords and keys",
               provider=lab.provider_name),
            hint=tr("make a second lab from lab.yaml, with `labctl create` in another directory"),
            code=EXIT_USAGE,
        )  # fmt: skip
    spec = _spec(lab, name, directory)
    place = Path(os.path.abspath(directory or lab.file.parent.parent / name))  # noqa: PTH100 - no ..
    with held(lab, f"fork {name}"):
        manifest = copied_manifest(lab, snapshot)
        _refuse_taken(place)
        new = _begin(lab, spec, place, manifest, subscriber)
        try:
            with held(new, f"fork of {lab.topology.lab}", new=True):
                new.run(
                    tr("fork {lab} from {snapshot}", lab=name, snapshot=manifest.name),
                    _copy_steps(lab, new, manifest),
                ).raise_if_failed()
        except BaseException:
            _remove(new, place)
            raise
        with held(new, f"fork of {lab.topology.lab}", new=True):
            write_atomic(new.state.created, f"{time.time()}\n")
            if manifest.lesson is not None:
                new.state.write_json(new.state.lesson_position, manifest.lesson)
    with held(new, f"fork of {lab.topology.lab}"):
        start_renewed(new)
    return new


# -- before anything is made -----------------------------------------------------------------------
def _spec(lab: Lab, name: str, directory: Path | None) -> LabSpec:
    """The spec of the new lab. Raises SpecError, LabError for a name that is no lab's, or ours."""
    if name == lab.topology.lab:
        raise LabError(
            tr("{name} is the name of this lab; its fork needs another", name=name),
            code=EXIT_USAGE,
        )
    data = {**lab.topology.spec.model_dump(mode="json"), "name": name}
    return parse_spec(json.dumps(data).encode(), tr("the new lab"))


def _refuse_taken(place: Path) -> None:
    with suppress(FileNotFoundError):
        if place.is_dir() and not any(place.iterdir()):
            return
        place.lstat()
        raise LabError(
            tr("{path} is there already", path=place),
            hint=tr("choose another name, or an empty directory with --to"),
            code=EXIT_USAGE,
        )


def _refuse_too_large(lab: Lab, new: Lab) -> None:
    """Raise LabError where the machine has no room for a second lab beside what runs now."""
    from labctl.doctor.examine import ignored_findings

    report = new.examine(lab.provider_name)
    report.raise_if_not_ok()
    for finding in report.findings:
        if finding.id == "memory-free" and finding.id not in ignored_findings(os.environ):
            raise LabError(
                finding.what,
                hint=tr("halt a lab first: {command}; or to try it all the same: {variable}",
                        command="labctl halt", variable="LABCTL_DOCTOR_IGNORE=memory-free"),
            )  # fmt: skip


# -- its files -------------------------------------------------------------------------------------
def _begin(
    lab: Lab,
    spec: LabSpec,
    place: Path,
    manifest: Manifest,
    subscriber: Callable[[Event], None] | None,
) -> Lab:
    """The new lab's directory, with a lab.yaml and an identity, and no node yet."""
    directory_for_user(place)
    try:
        write_for_user(place / lab.file.name, _lab_yaml(lab, spec))
        new = Lab(place / lab.file.name, subscriber)
        _refuse_too_large(lab, new)
        identity = new.state.begin(spec.name, lab.provider_name)
        new.state.save_identity(replace(identity, image=manifest.image))
        write_atomic(new.state.built_spec, spec.model_dump_json(indent=1))
    except BaseException:
        _remove(Lab(place / lab.file.name), place)
        raise
    return new


def _lab_yaml(lab: Lab, spec: LabSpec) -> str:
    """The lab.yaml of this lab under another name; written anew if it was edited since `create`."""
    try:
        text = lab.file.read_text(encoding="utf-8")
        text = re.sub(r"(?m)^name:[ \t]*[^\s#]+", f"name: {spec.name}", text)
        if parse_spec(text.encode(), lab.file.name) == spec:
            return text
    except (OSError, ValueError, SpecError):
        pass
    lab.note("warning", tr("{file} was edited since the lab was made: the fork's is written anew,"
                           " without comments", file=lab.file.name))  # fmt: skip
    data = spec.model_dump(mode="json", exclude_none=True)
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _remove(new: Lab, place: Path) -> None:
    """Remove a fork of which no node has booted."""
    destroy(new)
    with suppress(OSError):
        delete_for_user(new.file)
        with acting_as_caller():
            place.rmdir()


def _copy_steps(lab: Lab, new: Lab, manifest: Manifest) -> list[Step]:
    """The nodes' files unpacked, renewed while nobody reaches them, then made the nodes' own."""
    directory = SnapshotStore(lab.state).directory(manifest.name)
    disks = new.provider.snapshots
    before, after = identities(lab), identities(new)

    def check(context: StepContext) -> None:
        check_files(lab, manifest, context)

    def copy(node: Machine) -> Callable[[StepContext], None]:
        def work(context: StepContext) -> None:
            stage_renewed(context, new, node, manifest.name, directory, before, after)

        return work

    def take(context: StepContext) -> None:
        new.on_each_node(lambda node: disks.restore(node, manifest.name), context)

    copies = [
        Step(f"copy:{node.name}", tr("files, with passwords and keys of their own"), copy(node),
             ("check",), node=node.name)
        for node in new.topology.machines
    ]  # fmt: skip
    return [
        Step("check", tr("check the snapshot"), check),
        *copies,
        Step("files", tr("files of all nodes"), take, tuple(step.id for step in copies)),
    ]
