"""The entry of the provider libvirt."""

from pathlib import Path

from labctl.host.questions import HostChecks
from labctl.images.baked import ImageCache
from labctl.images.box_format import DISK_GIB, BoxFormat
from labctl.providers.libvirt import NAME, checks, questions
from labctl.providers.libvirt.disk import export_disk, from_vmdk
from labctl.providers.libvirt.hypervisor import Libvirt
from labctl.providers.provider import Provider
from labctl.providers.registry import ProviderEntry
from labctl.providers.vagrant.provider import VagrantProvider
from labctl.state import LabState
from labctl.topology import Topology


def _make(topology: Topology, state: LabState, images: ImageCache, template: Path) -> Provider:
    return VagrantProvider(topology, state, Libvirt(), template)


ENTRY = ProviderEntry(
    name=NAME,
    title="libvirt",
    features=Libvirt.features,
    make=_make,
    auto=2,
    checks=HostChecks(
        usable=checks.usable,
        fits=checks.fits,
        why_auto=checks.why_auto,
        summary=checks.summary,
        slow=checks.accelerated,
        decisive=frozenset({"architecture", "libvirt-linux"}),
        programs=checks.PROGRAMS,
        places=questions.places,
        look=questions.look,
        questions=(questions.try_kvm, questions.ask),
    ),
    box=BoxFormat(NAME, "qcow2", "box.img", {"format": "qcow2", "virtual_size": DISK_GIB}),
    export_disk=export_disk,
    from_vmdk=from_vmdk,
)
