"""The providers, by the names that lab.yaml uses for them.

`spec.fields.PROVIDERS` has the names. The entry of NAME is `ENTRY` in `providers/NAME/entry.py`;
everything that is special about the provider is in that folder. Code outside it takes what it needs
from the entry and never compares names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from labctl.errors import EXIT_USAGE, LabError
from labctl.host.questions import HostChecks
from labctl.i18n import tr, tr_list
from labctl.images.baked import ImageCache
from labctl.images.box_format import BoxFormat
from labctl.operating_system import rights
from labctl.providers.provider import Features, Provider
from labctl.spec import fields
from labctl.state import LabState
from labctl.topology import Topology


@dataclass(frozen=True)
class ProviderEntry:
    """Everything that labctl knows about a provider without a lab."""

    name: str
    """In lab.yaml; also the name of the folder."""
    title: str
    """In what users read."""
    features: Features
    make: Callable[[Topology, LabState, ImageCache, Path], Provider]
    """Makes the provider of one lab; the path is that of Vagrantfile.j2."""
    checks: HostChecks
    """What the doctor finds out and checks for it."""
    auto: int | None = None
    """`auto` tries the providers in the order of this number; None: `auto` never chooses it."""
    builds_boxes: bool = False
    """A host that can make its labs can build boxes, too: they are made of the same image."""
    box: BoxFormat | None = None
    """The format of the box that `labctl box build` makes for it; None if it uses no box."""
    export_disk: Callable[[str, Path, Path, Callable[[], bool]], None] | None = None
    """Copies the disk of a machine (its ID) into a file, with a log, until it is cancelled; None
    if `labctl box get` cannot make this provider's box by its machines."""
    from_vmdk: Callable[[Path, Path, Path, Callable[[], bool]], None] | None = None
    """Converts a VMDK into the format of the box's disk, with a log, until it is cancelled; None
    where that is a VMDK."""


def names() -> tuple[str, ...]:
    """The names of all providers, in the order of lab.yaml's JSON Schema."""
    return fields.PROVIDERS


def entries() -> list[ProviderEntry]:
    """All entries, in the order of `names`."""
    return [find(name) for name in names()]


def find(name: str, source: object = "") -> ProviderEntry:
    """The entry of a provider. Raises LabError (wrong use) if there is no provider of that name.

    `source` is the file or variable that the name is from, for the error message.
    """
    if name not in names():
        known = tr_list(names())
        raise LabError(
            tr("{source}: there is no provider {name}", source=source, name=repr(name))
            if source
            else tr("there is no provider {name}", name=repr(name)),
            hint=tr("this version of labctl has {names}", names=known),
            code=EXIT_USAGE,
        )
    entry: ProviderEntry = import_module(f"labctl.providers.{name}.entry").ENTRY
    return entry


def auto_order() -> list[ProviderEntry]:
    """The providers that `auto` may choose, the first choice first."""
    ranked = [(entry.auto, entry) for entry in entries() if entry.auto is not None]
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]


def make_provider(
    name: str, topology: Topology, state: LabState, images: ImageCache, template: Path
) -> Provider:
    """The provider of that name for one lab. Raises LabError if it needs root and we are not."""
    entry = find(name)
    if entry.features.needs_root and not rights.is_root():
        raise LabError(
            tr("the {name} provider needs root", name=name), hint=tr("run the command with sudo")
        )
    return entry.make(topology, state, images, template)
