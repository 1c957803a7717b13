"""The providers: an entry each, found by the names that lab.yaml knows.

`spec.fields.PROVIDERS` has the names. The entry of NAME is `ENTRY` in `providers/NAME/entry.py`;
everything that is special about the provider is in that folder. Whoever else wants something of a
provider asks its entry for it and never compares names.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from labctl.errors import EXIT_USAGE, LabError
from labctl.host.questions import HostChecks
from labctl.i18n import tr
from labctl.images.baked import ImageCache
from labctl.images.box_format import BoxFormat
from labctl.providers.provider import Features, Provider
from labctl.spec import fields
from labctl.state import LabState
from labctl.topology import Topology


@dataclass(frozen=True)
class ProviderEntry:
    """Everything the rest of labctl may know about one provider before it is made."""

    name: str
    """As lab.yaml says it; the name of the folder."""
    title: str
    """As people read it."""
    features: Features
    make: Callable[[Topology, LabState, ImageCache, Path], Provider]
    """The provider for one lab; the path is that of Vagrantfile.j2."""
    checks: HostChecks
    """What the doctor asks and judges for it."""
    auto: int | None = None
    """Its place in the order in which `auto` tries them; None: only for who asks for it."""
    box: BoxFormat | None = None
    """What `labctl box build` makes for it, if that is anything."""


def names() -> tuple[str, ...]:
    """The names of all providers, in the order of lab.yaml's JSON Schema."""
    return fields.PROVIDERS


def entries() -> list[ProviderEntry]:
    """All entries, in the same order."""
    return [find(name) for name in names()]


def find(name: str, source: object = "") -> ProviderEntry:
    """The entry of a provider.

    Raises LabError when there is none of that name; `source` is what names it: a file, a variable.
    """
    if name not in names():
        known = ", ".join(names())
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
    """Those that `auto` may choose, the one it likes best first."""
    ranked = [(entry.auto, entry) for entry in entries() if entry.auto is not None]
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]


def make_provider(
    name: str, topology: Topology, state: LabState, images: ImageCache, template: Path
) -> Provider:
    """The provider of that name for one lab. Raises LabError without the rights it needs."""
    entry = find(name)
    if entry.features.needs_root and os.geteuid() != 0:
        raise LabError(
            tr("the {name} provider needs root", name=name), hint=tr("run the command with sudo")
        )
    return entry.make(topology, state, images, template)
