"""What a toy needs of a host: wood."""

from collections.abc import Iterator
from dataclasses import replace

from labctl.host.checks import machine_summary
from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, Group
from labctl.host.questions import Host

from . import NAME


def look(host: Host, facts: HostFacts) -> HostFacts:
    return replace(facts, by_provider=facts.by_provider | {NAME: host.env.get("TOY_WOOD", "")})


def usable(facts: HostFacts, case: Case) -> Iterator[Finding]:
    if not facts.by_provider[NAME]:
        yield Finding("toy-wood", "error", "machine", "there is no wood", fix="buy some")


def fits(facts: HostFacts, case: Case) -> Iterator[Finding]:
    yield from ()


def why_auto(facts: HostFacts) -> str:
    return "everybody likes toys"


def summary(facts: HostFacts, case: Case) -> dict[Group, list[str]]:
    return {"machine": [f"wood: {facts.by_provider[NAME]}", machine_summary(facts, 1)]}
