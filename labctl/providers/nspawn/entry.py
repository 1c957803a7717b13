"""The entry of the provider nspawn."""

from pathlib import Path

from labctl.host.questions import HostChecks
from labctl.images.baked import ImageCache
from labctl.providers.nspawn import NAME, checks, questions
from labctl.providers.nspawn.provider import NspawnProvider
from labctl.providers.provider import Provider
from labctl.providers.registry import ProviderEntry
from labctl.state import LabState
from labctl.topology import Topology


def _make(topology: Topology, state: LabState, images: ImageCache, template: Path) -> Provider:
    return NspawnProvider(topology, state, images)


ENTRY = ProviderEntry(
    name=NAME,
    title="nspawn",
    features=NspawnProvider.features,
    make=_make,
    auto=3,  # the last: it works nearly everywhere
    builds_boxes=True,
    checks=HostChecks(
        usable=checks.usable,
        fits=checks.fits,
        why_auto=checks.why_auto,
        summary=checks.summary,
        decisive=frozenset({"architecture", "nspawn-linux"}),
        programs=checks.PROGRAMS,
        look=questions.look,
        questions=(questions.firewall,),
    ),
)
