"""Can this lab be made on this host, and by which provider? The findings, the choice, the reason.

Facts are collected by survey.py and judged by the pure checks in checks/. `examine` is what
`labctl doctor` shows and what `create` asks before it begins.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.doctor.checks import Case
from labctl.doctor.facts import LabHere
from labctl.doctor.files import read
from labctl.doctor.judge import IGNORE, Report, _keeps, judge
from labctl.doctor.programs import Survey
from labctl.errors import LabError
from labctl.images.baked import ImageCache
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
        wanted = case.here.provider
    if wanted != "auto":
        facts = survey.ask(wanted, facts)
    else:
        for name in ("virtualbox", "libvirt"):
            # The slow programs of one that files alone, or KVM, rule out are not called.
            if name == "libvirt" and not _keeps(name, facts, case, ignored):
                facts = survey.try_kvm(facts)
            if not _keeps(name, facts, case, ignored):
                facts = survey.ask(name, facts)
            if not _keeps(name, facts, case, ignored):
                break
    if thorough:
        facts = survey.try_kvm(facts)
    return judge(provider, facts, case, ignored)


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
    files = [
        state.machine_id(node.name, provider)
        for node in topology.nodes
        for provider in ("virtualbox", "libvirt")
    ]
    machines = tuple(text.strip() for file in files if (text := read(file)))
    return LabHere(True, identity.lab_id, identity.provider, machines)


# -- for people ------------------------------------------------------------------------------------
