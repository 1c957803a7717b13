"""The lessons of OVN alone, replayed in one lab: `make e2e ARGS='-k ovn_lessons'`."""

from collections.abc import Callable

import pytest

from tests.e2e.cli import Cli, claims

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

# Not the addresses or names that a lesson might have by heart.
SPEC = """
name: ovn-alone
provider: nspawn
stack: ovn
nodes: {boss: , worker: , other: }
nat: {subnet: 10.0.9.0/24}
private: {subnet: 192.168.77.0/24}
networks: {eth2: , eth3: {physical_network: outside}}
"""
LESSONS = {
    "ovn-logical-switch": "first-request-flooded",
    "ovn-geneve": "option-of-the-request",
    "ovn-logical-router": "no-arp-between-the-nodes",
    "ovn-localnet": "tagged-on-the-card",
}
LEFT = "ip netns list; ovs-vsctl --bare --columns=name find interface type=internal"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("ovn-alone", SPEC)
    cli("create")
    return cli


def left(lab: Cli) -> list[str]:
    return [lab("ssh", node, "--", "sh", "-c", LEFT) for node in ("boss", "worker")]


def test_each_lesson_holds_and_takes_back_the_one_before(lab: Cli) -> None:
    clean = left(lab)
    for name, claim in LESSONS.items():
        report = lab.json("replay", name)
        told = claims(report)
        assert (name, [each for each in told if not told[each]["holds"]]) == (name, [])
        assert told[claim]["holds"] is True
    # Their workloads are gone with them.
    lab("replay", "ovn-logical-switch")
    lab("goto", "ovn-logical-switch/bridge")
    assert left(lab) == clean
    assert "sw0" not in lab("ssh", "boss", "--", "ovn-nbctl", "ls-list")
