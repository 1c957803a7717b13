"""The entry of the provider virtualbox."""

from pathlib import Path

from labctl.host.questions import HostChecks
from labctl.images.baked import ImageCache
from labctl.images.box_format import BoxFormat
from labctl.providers.provider import Provider
from labctl.providers.registry import ProviderEntry
from labctl.providers.vagrant.provider import VagrantProvider
from labctl.providers.virtualbox import NAME, checks, questions
from labctl.providers.virtualbox.disk import export_disk
from labctl.providers.virtualbox.hypervisor import VirtualBox
from labctl.state import LabState
from labctl.topology import Topology


def _make(topology: Topology, state: LabState, images: ImageCache, template: Path) -> Provider:
    return VagrantProvider(topology, state, VirtualBox(), template)


ENTRY = ProviderEntry(
    name=NAME,
    title="VirtualBox",
    features=VirtualBox.features,
    make=_make,
    auto=1,
    checks=HostChecks(
        usable=checks.usable,
        fits=checks.fits,
        why_auto=checks.why_auto,
        summary=checks.summary,
        decisive=frozenset({"architecture", "wsl-virtualbox"}),
        programs=checks.PROGRAMS,
        places=questions.places,
        look=questions.look,
        questions=(questions.ask,),
    ),
    box=BoxFormat(NAME, "vmdk", "box-disk001.vmdk", templates=("box.ovf",)),
    export_disk=export_disk,
)
