"""The template of a lab: what the first `create` of a lab.yaml leaves for the next ones.

It is the snapshot `base` of that lab. A later lab of the same lab.yaml begins as if it were that
one, half way through `labctl renew` (renew.py): its disks are those of the template, renewed while
nobody reaches them, and then booted. So a kill at any moment is gone on from as there.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from labctl.actions.renew import Renewal, copied_manifest, finish_renewal, published
from labctl.assets import PACKAGE
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.images.templates import TemplateCache, link_or_copy
from labctl.lab import Lab
from labctl.providers.kvm import kvm_works
from labctl.provisioning.boot import provisioner
from labctl.run import run
from labctl.snapshots.store import BASE, Manifest, SnapshotStore
from labctl.state import secrets_in

_MODULES = ("openvswitch", "geneve")


# -- which one -------------------------------------------------------------------------------------
def template_key(lab: Lab) -> str:
    """Name of the template that a new lab of this lab.yaml can be made of; "" if it can be of none.

    It is a hash of all that decides what is on the disks. Without the baked image there is none.
    Neither is there for a lab with images of its own: a URL or a file does not tell what is behind.
    """
    image = lab.images.find(lab.state.identity().image or None)
    if not lab.provider.features.forks or image is None:
        return ""
    if any(image.source != "builtin" for image in lab.topology.images):
        return ""
    # Baked anew from the same recipe, an image may have newer packages.
    layers = [f"{top.stat().st_ino} {top.stat().st_mtime_ns}" for top in image.layers]
    spec = json.dumps(lab.topology.spec.model_dump(mode="json"), sort_keys=True)
    # provision/ and lab.env, with passwords that are always the same.
    stages = provisioner(lab, published())
    inputs = [stages.inputs(node) for node in lab.topology.machines]
    parts = [spec, image.key, *layers, *inputs, *_host()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"\0{path.relative_to(PACKAGE).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _why(error: LabError | OSError) -> str:
    return error.message if isinstance(error, LabError) else str(error)


def _host() -> Iterator[str]:
    """What provision/25-network.sh and 60-nova-compute.sh ask of the machine."""
    run(["modprobe", "-q", "-a", *_MODULES], check=False)
    yield from (name for name in _MODULES if Path("/sys/module", name).is_dir())
    yield "kvm" if kvm_works() else ""


# -- left by a lab ---------------------------------------------------------------------------------
def keep_template(lab: Lab) -> None:
    """Keep the snapshot `base` of a lab that is just made as the template of its lab.yaml.

    If that fails the user is warned: the lab itself works.
    """
    cache = TemplateCache(lab.images.root)
    try:
        key = template_key(lab)
        if not key:
            return
        manifest = copied_manifest(lab, BASE)
        directory = SnapshotStore(lab.state).directory(BASE)
        parts = [lab.state.snapshot_part(directory, node) for node in manifest.offline]
        content = {"manifest": manifest.to_json(), "secrets": asdict(lab.state.secrets())}
        with cache.locked():
            lab.images.protect()  # nobody else's directory gets passwords
            cache.keep(key, parts, json.dumps(content))
    except (LabError, OSError) as error:
        lab.note("warning", tr("no template is kept for the next lab: {why}", why=_why(error)))
        return
    text = tr("the next `labctl create` of this lab.yaml takes this template: {path} ({size} MB)",
              path=cache.directory(key), size=f"{cache.size(key) / 1e6:.0f}")  # fmt: skip
    lab.note("info", text)


# -- used by another -------------------------------------------------------------------------------
def create_from_template(lab: Lab, *, wanted: bool) -> bool:
    """Make the lab of a template and start it, or go on with that; whether it then runs.

    False: there is no template, or it was of no use, or none is `wanted`. Then nothing of it is
    left, and the lab has to be made from the beginning. Raises Cancelled: the next `create` goes
    on. The caller holds the lab.
    """
    try:
        renewal = Renewal.read(lab.state)
        if renewal is not None and not wanted:
            _discard(lab)
            return False
        if renewal is None and wanted and not lab.state.nodes.exists():
            renewal = _begin(lab)
        if renewal is None:
            return False
        finish_renewal(lab, renewal)
    except (LabError, OSError) as error:
        _discard(lab)
        lab.note("warning", tr("the template of this lab is of no use, so it is made from the"
                               " beginning: {why}", why=_why(error)))  # fmt: skip
        return False
    return True


def _begin(lab: Lab) -> Renewal | None:
    """Take the template's files, as the lab's snapshot; None: there is no template.

    Raises LabError for one that is damaged.
    """
    cache, store = TemplateCache(lab.images.root), SnapshotStore(lab.state)
    if not cache.keys() or not (key := template_key(lab)):
        return None
    with cache.locked():
        lab.images.protect()  # nobody else's files become disks
        text = cache.content(key)
        if text is None:
            return None
        directory = cache.directory(key)
        try:
            content = json.loads(text)
            manifest = Manifest.from_json(content["manifest"])
            renewal = Renewal(manifest.name, secrets_in(content["secrets"], directory))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LabError(tr("it cannot be read")) from error
        # First: a snapshot with another lab's passwords is never there without this note.
        renewal.write(lab.state)
        identity = lab.state.identity()
        lab.state.save_identity(replace(identity, image=manifest.image))
        unfinished = store.begin(manifest.name)
        for node in manifest.offline:
            part = lab.state.snapshot_part(unfinished, node)
            link_or_copy(lab.state.snapshot_part(directory, node), part)
        store.finish(replace(manifest, lab_id=identity.lab_id, live={}))
        cache.used(key)
    text = tr("made of the template that an earlier lab of this lab.yaml has left, with new"
              " passwords and keys; `--no-template` makes everything anew")  # fmt: skip
    lab.note("info", text)
    return renewal


def _discard(lab: Lab) -> None:
    """Remove all that is of a template: nodes, packed files, and last the note that it was begun.

    Raises LabError.
    """
    lab.provider.destroy(lambda text: None)
    lab.forget_connections()
    store = SnapshotStore(lab.state)
    store.remove_leftovers()
    for name in store.names():
        store.remove(name)
    store.close_journal()
    lab.state.renewal.unlink(missing_ok=True)
