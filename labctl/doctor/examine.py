"""Can this lab be made on this host, and by which provider? The findings, the choice, the reason.

Facts are collected by programs.py and judged by the pure checks of the providers. `examine` is what
`labctl doctor` shows and what `create` asks before it begins.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.doctor.judge import IGNORE, Report, judge, keeps
from labctl.doctor.programs import Survey
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
) -> Report:
    """Look at the host and judge it for this lab; changes nothing, needs no root.

    `provider` is lab.yaml's or the one the user names, `auto` included; `cache` is where baked
    images are, `provision` what they are baked from. `thorough` also tries what only matters to a
    reader of the report. Never raises for a fault of the host: that is a finding.
    """
    env = os.environ if env is None else env
    ports = [forward.host for node in topology.nodes for forward in node.forwards]
    survey = Survey(state.root.parent, cache, env, ports)
    facts = replace(survey.look(), image=_image(ImageCache(cache, provision)))
    case = Case(topology, lab_here(state, topology))
    ignored = frozenset(word.strip() for word in env.get(IGNORE, "").split(",") if word.strip())
    wanted = provider
    if wanted == "auto" and case.here.exists and case.here.provider:
        wanted = find(case.here.provider, state.identity_file).name
    if wanted != "auto":
        facts = survey.ask(wanted, facts)
    else:
        facts = _ask_until_one_will_do(survey, facts, case, ignored)
    if thorough:
        facts = survey.try_kvm(facts)
    return judge(provider, facts, case, ignored)


def _ask_until_one_will_do(
    survey: Survey, facts: HostFacts, case: Case, ignored: frozenset[str]
) -> HostFacts:
    """The facts, and what `auto` has to know: no program is called of one that is ruled out."""
    for entry in auto_order():
        for question in entry.checks.questions:
            if not keeps(entry, facts, case, ignored):
                facts = survey.put(question, facts)
        if not keeps(entry, facts, case, ignored):
            break
    return facts


def _image(images: ImageCache) -> Any:
    try:
        if images.find() is not None:
            return "baked"
        return "packages" if (images.root / f"packages-{images.packages_key}").is_dir() else "none"
    except OSError:
        return "none"


def lab_here(state: LabState, topology: Topology) -> LabHere:
    """What the lab's directory holds already, as far as this user may read it."""
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


# -- for people ------------------------------------------------------------------------------------
