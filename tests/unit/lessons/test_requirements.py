"""What a lesson requires of lab.yaml, and the lines that give it."""

from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.lessons.load import load_lesson, parse_lesson
from labctl.lessons.requirements import Requirements, how_to_mend, lines_to_add, missing
from labctl.spec.load import parse_spec
from labctl.spec.problems import SpecError
from labctl.topology import build_topology
from tests.unit.fakes import topology

ALL = Requirements.model_validate(
    {
        "gateways": 3,
        "computes": 2,
        "instances": 2,
        "shared_nat": True,
        "service_plugins": ("qos", "port_forwarding"),
        "distributed_floating_ip": True,
        "physical_networks": 2,
        "clients": 2,
    }
)

LESSON = """
id: needy
title: Needy
goal: Ask for more.
requires: {gateways: 2, shared_nat: true}
checkpoints:
  - id: look
    title: Look
    explain: Nothing.
    run: ["true"]
    claims: [{id: c, text: T, probe: ovn.chassis, count: 1}]
"""


def test_the_lines_make_a_lab_that_lacks_nothing() -> None:
    text = "name: x\nneutron: {service_plugins: [trunk]}\n"
    text += "networks: {eth2: , eth4: {physical_network: p}}\n"
    text += "internet: {clients: {far: }}\n"
    found = list(missing(ALL, topology(text)))
    lines = lines_to_add(found)
    assert (
        lines
        == """\
nodes:
  gateway-01: {roles: [gateway]}
  gateway-02: {roles: [gateway]}
  compute-02:
internet:
  clients: {far: {}, client-01: {}}
nat:
  shared: true
networks:
  eth3: {physical_network: physnet-eth3}
neutron:
  service_plugins: [trunk, qos, port_forwarding]
  distributed_floating_ip: true
instances:
  vm_2:"""
    )
    # As the reader would write it: beside the nodes and instances that there are.
    merged = "name: x\n" + lines.replace("nodes:", "nodes:\n  network-controller:\n  compute-01:")
    merged = merged.replace("instances:", "instances:\n  vm_1:")
    merged = merged.replace("networks:", "networks:\n  eth4: {physical_network: p}")
    assert list(missing(ALL, topology(merged))) == []


def test_the_tutorials_lab_lacks_nothing_that_is_not_asked() -> None:
    assert list(missing(Requirements(), topology())) == []
    assert list(missing(Requirements(distributed_floating_ip=False), topology())) == []


def test_a_network_that_the_provider_shares_counts() -> None:
    spec = parse_spec(b"name: x\nprovider: libvirt\n", "lab.yaml")
    lab = build_topology(spec, shared_nat=True)
    assert list(missing(Requirements(shared_nat=True), lab)) == []


def test_a_lesson_is_refused_with_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    file = tmp_path / "needy.yaml"
    file.write_text(LESSON, encoding="utf-8")
    lesson = load_lesson(str(file))
    with pytest.raises(LabError) as refused:
        lesson.require(topology())
    assert refused.value.code == 2
    assert str(refused.value).startswith("lesson needy needs what ovn-tutorial has not: 2 nodes")
    assert "  gateway-01: {roles: [gateway]}\nnat:\n  shared: true" in (refused.value.hint or "")


def test_slips_are_told_at_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    file = tmp_path / "needy.yaml"
    slip = "{gateway: 2, computes: 0, service_plugins: [vpn]}"
    file.write_text(LESSON.replace("{gateways: 2, shared_nat: true}", slip), encoding="utf-8")
    with pytest.raises(SpecError) as refused:
        load_lesson(str(file))
    shown = [str(problem).partition("needy.yaml:")[2] for problem in refused.value.problems]
    assert sorted(shown) == [
        "5: requires.computes: must not be less than 1",
        "5: requires.gateway: unknown key; did you mean gateways?",
        "5: requires.service_plugins[0]: must be port_forwarding, qos, trunk, dns or log",
    ]


def test_a_lab_without_a_further_card_is_told_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    lab = "name: x\nstack: ovn\n"
    with pytest.raises(LabError) as refused:
        load_lesson("ovn-localnet").require(topology(lab))
    assert "1 card on a physical network (it has 0)" in str(refused.value)
    lines = "networks:\n  eth2: {physical_network: physnet-eth2}"
    assert lines in (refused.value.hint or "")
    load_lesson("ovn-localnet").require(topology(f"{lab}{lines}\n"))


MANY = """
name: x
nodes:
  network-controller:
  gateway-01: {roles: [gateway]}
  compute-01:
  compute-02:
instances: {vm_1: , vm_2: }
networks: {eth2: {physical_network: a}, eth3: {physical_network: b}}
"""


@pytest.mark.parametrize(
    ("asked", "what", "surplus"),
    [
        ("gateways: {at_most: 1}", "at most 1 node with the role gateway (it has 2)",
         ["the role gateway of nodes.gateway-01"]),
        ("computes: {at_least: 1, at_most: 1}", "at most 1 node with the role compute (it has 2)",
         ["the role compute of nodes.compute-02"]),
        ("instances: {at_most: 1}", "at most 1 instances (it has 2)", ["instances.vm_2"]),
        ("physical_networks: {at_most: 0}", "at most 0 cards on a physical network (it has 2)",
         ["networks.eth2", "networks.eth3"]),
    ],
)  # fmt: skip
def test_too_much_of_something_is_told_with_what_to_take_out(
    asked: str, what: str, surplus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    text = LESSON.replace("{gateways: 2, shared_nat: true}", f"{{{asked}}}")
    lesson = parse_lesson(text.encode(), "needy.yaml")
    with pytest.raises(LabError) as refused:
        lesson.require(topology(MANY))
    assert what in refused.value.message
    assert refused.value.hint == "\n".join(
        ["take this out of lab.yaml, then `labctl destroy` and `labctl create`:", *surplus]
    )
    lesson.require(topology())


@pytest.mark.parametrize("name", ["external-network-snat", "floating-ip"])
def test_lessons_of_one_gateway_are_refused_where_there_are_several(name: str) -> None:
    with pytest.raises(LabError) as refused:
        load_lesson(name).require(topology(MANY))
    assert "gateway-01" in (refused.value.hint or "")


def test_too_much_and_too_little_are_told_at_once() -> None:
    asked = Requirements.model_validate({"gateways": {"at_most": 1}, "computes": "3"})
    hint = how_to_mend(list(missing(asked, topology(MANY))))
    assert "  compute-03:" in hint
    assert "the role gateway of nodes.gateway-01" in hint


@pytest.mark.parametrize(
    ("asked", "path", "message"),
    [
        ("gateways: 0", "requires.gateways", "must not be less than 1"),
        ("gateways: many", "requires.gateways", "must be a whole number"),
        ("gateways: {at_most: 0}", "requires.gateways.at_most", "must not be less than 1"),
        ("gateways: {at_least: 2, at_most: 1}", "requires.gateways",
         "at_most must not be less than at_least"),
        ("gateways: {atmost: 1}", "requires.gateways.atmost", "unknown key"),
    ],
)  # fmt: skip
def test_bounds_that_are_wrong_are_told_at_their_line(
    asked: str, path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    text = LESSON.replace("{gateways: 2, shared_nat: true}", f"{{{asked}}}")
    with pytest.raises(SpecError) as error:
        parse_lesson(text.encode(), "needy.yaml")
    (problem,) = error.value.problems
    assert (problem.line, problem.path, problem.message) == (5, path, message)
