"""The catalogue: every entry is described, documented, and refused where it cannot be had."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.errors import EXIT_USAGE, LabError
from labctl.faults.catalogue import FAULTS, faults_of, find_fault, node_for
from labctl.i18n import set_language
from labctl.lab import Lab
from tests.unit.fakes import topology

MANUAL = (Path(__file__).parents[3] / "docs" / "faults.md").read_text("utf-8")
OVN = "name: first-week\nstack: ovn\n"


def lab(spec: str = "name: x\n", *, cables: bool = True, clocks: bool = False) -> Lab:
    """A lab whose provider has cables, or clocks."""
    made = topology(spec)
    provider = SimpleNamespace(
        host_end=lambda node, card: "end" if cables else None,
        features=SimpleNamespace(own_clock=clocks),
    )
    fake = SimpleNamespace(
        topology=made, node=made.machine, provider=provider, provider_name="libvirt"
    )
    return cast(Lab, cast(Any, fake))


def section(title: str) -> str:
    _, _, rest = MANUAL.partition(f"\n### {title}\n")
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_every_fault_says_what_it_does_and_shows_and_how_it_is_mended() -> None:
    ids = [fault.id for fault in FAULTS]
    assert len(ids) == len({*ids})
    for language in ("en", "zh-TW"):
        set_language(cast(Any, language))
        for fault in FAULTS:
            texts = [fault.text(text) for text in (fault.effect, fault.symptoms, fault.remedy)]
            assert all(texts), fault.id
            assert "{" not in "".join(texts), fault.id
    set_language("en")


@pytest.mark.parametrize(("spec", "title"), [(OVN, "`stack: ovn`"), ("name: x\n", "OpenStack")])
def test_the_manual_has_a_row_for_every_fault(spec: str, title: str) -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", section(title), re.MULTILINE)
    assert rows == [fault.id for fault in faults_of(lab(spec))], f"docs/faults.md, {title}"


def test_faults_of_openstack_are_for_openstack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    assert "mariadb-killed" not in [fault.id for fault in faults_of(lab(OVN))]
    with pytest.raises(LabError, match="is for labs with `stack: openstack`") as refused:
        node_for(find_fault("mariadb-killed"), lab(OVN))
    assert refused.value.code == EXIT_USAGE


def test_what_is_asked_for_in_vain_is_refused_with_a_reason() -> None:
    with pytest.raises(LabError, match="there is no fault 'powercut'") as refused:
        find_fault("powercut")
    assert "power-cut" in refused.value.hint
    with pytest.raises(LabError, match="ovn-northd-frozen cannot be on compute-01") as refused:
        node_for(find_fault("ovn-northd-frozen"), lab(), "compute-01")
    assert "network-controller" in refused.value.hint


def test_no_fault_is_outside() -> None:
    outside = lab("name: x\ninternet: {clients: {client-01: }}\n")
    for fault in faults_of(outside):
        with pytest.raises(LabError, match="cannot be on client-01"):
            node_for(fault, outside, "client-01")


CABLES = ("eth1-cut", "slow-link", "late-link", "lossy-link", "duplicate-address")


@pytest.mark.parametrize("id", CABLES)
def test_cables_of_machines_are_not_ours(id: str) -> None:
    with pytest.raises(LabError, match="the cables of this lab belong to libvirt"):
        node_for(find_fault(id), lab(cables=False))
    assert node_for(find_fault(id), lab()).name


def test_a_container_has_no_clock_and_a_machine_has() -> None:
    with pytest.raises(LabError, match="no clocks of their own"):
        node_for(find_fault("wrong-clock"), lab())
    assert node_for(find_fault("wrong-clock"), lab(clocks=True)).name == "compute-01"


def test_a_node_that_only_computes_is_broken_where_none_is_named() -> None:
    assert node_for(find_fault("power-cut"), lab()).name == "compute-01"
    assert node_for(find_fault("power-cut"), lab(), "network-controller").is_gateway
    assert node_for(find_fault("duplicate-address"), lab()).is_gateway
