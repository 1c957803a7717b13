"""The toy, as a provider among the others."""

from labctl.host.questions import HostChecks
from labctl.providers.registry import ProviderEntry

from . import NAME, checks
from .provider import ToyProvider, make

ENTRY = ProviderEntry(
    name=NAME,
    title="Toy",
    features=ToyProvider.features,
    make=make,
    checks=HostChecks(
        usable=checks.usable,
        fits=checks.fits,
        why_auto=checks.why_auto,
        summary=checks.summary,
        look=checks.look,
    ),
)
