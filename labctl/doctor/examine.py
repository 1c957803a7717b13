"""Can this lab be made on this host, and by which provider?

programs.py collects facts about the host; the checks of the providers, pure functions, judge them.
`labctl doctor` shows the report of `examine`, and `create` calls it before it begins.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.doctor.judge import IGNORE, DoctorReport, judge, why_not_auto
from labctl.doctor.programs import FactCollector
from labctl.errors import LabError
from labctl.host.facts import HostFacts, LabHere
from labctl.host.files import read
from labctl.host.findings import Case
from labctl.images.baked import ImageCache
from labctl.providers.registry import auto_order, find, names
from labctl.state import LabState
from labctl.topology import Topology


def examine(
    topology: Topology,
    state: LabState,
    *,
    provider: str,
    cache: Path,
    provision: Path,
    env: Mapping[str, str] | None = None,
    thorough: bool = False,
) -> DoctorReport:
    """Collect facts about the host and judge them for this lab. Changes nothing, needs no root.

    `provider` is the name from lab.yaml or from the user, or `auto`. `cache` is the directory of
    the baked images, `provision` that of the scripts they are made with. `thorough` also tries KVM
    where only the report needs to know. Problems of the host are findings, and never raised.
    """
    env = os.environ if env is None else env
    ports = [forward.host for node in topology.nodes for forward in node.forwards]
    collector = FactCollector(state.root.parent, cache, env, ports)
    facts = replace(collector.look(), image=_cached_image(ImageCache(cache, provision)))
    case = Case(topology, lab_here(state, topology))
    ignored = ignored_findings(env)
    wanted = provider
    if wanted == "auto" and case.here.exists and case.here.provider:
        wanted = find(case.here.provider, state.identity_file).name
    if wanted != "auto":
        facts = collector.ask_all(wanted, facts)
    else:
        facts = _ask_until_one_works(collector, facts, case, ignored)
    if thorough:
        facts = collector.try_kvm(facts)
    return judge(provider, facts, case, ignored)


def ignored_findings(env: Mapping[str, str]) -> frozenset[str]:
    """The ids of the findings that are to stop nothing."""
    return frozenset(word.strip() for word in env.get(IGNORE, "").split(",") if word.strip())


def _ask_until_one_works(
    collector: FactCollector, facts: HostFacts, case: Case, ignored: frozenset[str]
) -> HostFacts:
    """Add to the facts what programs say, until one provider can be used by `auto`.

    The programs of a provider that is ruled out already are not called.
    """
    for entry in auto_order():
        for question in entry.checks.questions:
            if not why_not_auto(entry, facts, case, ignored):
                facts = collector.ask_one(question, facts)
        if not why_not_auto(entry, facts, case, ignored):
            break
    return facts


def _cached_image(images: ImageCache) -> Any:
    if images.root.is_dir() and not os.access(images.root, os.R_OK | os.X_OK):
        return "unknown"  # root's, and closed to others
    try:
        if images.find() is not None:
            return "baked"
        return "packages" if (images.root / f"packages-{images.packages_key}").is_dir() else "none"
    except OSError:
        return "none"


def lab_here(state: LabState, topology: Topology) -> LabHere:
    """What exists of the lab already, as far as this user may read it."""
    if state.root.exists() and not os.access(state.root, os.R_OK | os.X_OK):
        return LabHere(unreadable=True)
    if not state.exists:
        return LabHere()
    try:
        identity = state.identity()
    except LabError:
        return LabHere(exists=True)
    files = [state.machine_id(node.name, name) for node in topology.nodes for name in names()]
    machines = tuple(text.strip() for file in files if (text := read(file)))
    return LabHere(True, identity.lab_id, identity.provider, machines)
