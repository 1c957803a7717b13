"""The providers by the names that lab.yaml knows."""

import os
from pathlib import Path

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.images.baked import ImageCache
from labctl.providers import Features, Provider
from labctl.providers.libvirt.hypervisor import Libvirt
from labctl.providers.nspawn.provider import NspawnProvider
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.provider import VagrantProvider
from labctl.providers.virtualbox.hypervisor import VirtualBox
from labctl.state import LabState
from labctl.topology import Topology

HYPERVISORS: dict[str, type[Hypervisor]] = {"virtualbox": VirtualBox, "libvirt": Libvirt}

FEATURES: dict[str, Features] = {
    "nspawn": NspawnProvider.features,
    **{name: hypervisor.features for name, hypervisor in HYPERVISORS.items()},
}
"""What each provider can do, known before one is made."""


def make_provider(
    name: str, topology: Topology, state: LabState, images: ImageCache, template: Path
) -> Provider:
    """The provider of that name for one lab. Raises LabError without the rights it needs."""
    if FEATURES[name].needs_root and os.geteuid() != 0:
        raise LabError(
            tr("the {name} provider needs root", name=name), hint=tr("run the command with sudo")
        )
    if name in HYPERVISORS:
        return VagrantProvider(topology, state, HYPERVISORS[name](), template)
    return NspawnProvider(topology, state, state.identity(), images)
