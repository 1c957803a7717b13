"""The day before: SNAT, with an instance that nobody outside can reach."""

import re
from typing import Any

import pytest

from tests.e2e.cli import Cli, claims, failing, learner_at_the_console, on


@pytest.fixture(scope="module")
def replayed(shared_lab: Cli) -> dict[str, Any]:
    report: dict[str, Any] = shared_lab.json("replay", "external-network-snat")
    return report


def test_replay_proves_the_day(shared_lab: Cli, replayed: dict[str, Any]) -> None:
    assert replayed["ok"] is True
    proved = claims(replayed)
    assert all(claim["holds"] for claim in proved.values())
    (sighting, *_) = proved["request-leaves-with-the-gateway-address"]["seen"]
    (router,) = proved["gateway-in-pool"]["seen"]
    assert sighting["src"] == router["gateway_address"]
    assert sighting["interface"] == "eth0"
    assert proved["request-in-tunnel-at-the-gateway"]["seen"][0]["same"] is True
    assert proved["address-does-not-answer"]["seen"][0]["received"] == 0
    # By its guest agent: there is no way in by the network.
    assert shared_lab.json("status")["instances"][0]["floating"] == []
    (ping,) = (c for c in replayed["checkpoints"] if c["id"] == "ping-out")
    assert "3 packets received" in ping["commands"][0]["output"]


@pytest.mark.long  # `make prove` puts worse rules in
def test_a_rule_that_leads_in_is_noticed(shared_lab: Cli, replayed: dict[str, Any]) -> None:
    """A door that somebody opened behind OpenStack's back."""
    with learner_at_the_console(shared_lab, "vm_1"):
        assert failing(shared_lab) == set()
    router = on(
        shared_lab, "network-controller", "ovn-nbctl --bare --columns=name list logical_router"
    )
    rule = f"{router.strip()} dnat_and_snat 10.0.2.220"
    # `lr-nat-add` of OVN 25.03 dies of SIGSEGV on one in seven of Neutron's routers (9 of 60).
    on(
        shared_lab,
        "network-controller",
        # Claims are asked at once: the gateway has to have the flows of the rule by then.
        "ovn-nbctl --wait=hv --timeout=60 --id=@rule create NAT type=dnat_and_snat"
        f" external_ip=10.0.2.220 logical_ip=172.16.100.10"
        f" -- add Logical_Router {router.strip()} nat @rule",
    )
    try:
        assert failing(shared_lab) == {
            "snat-is-the-only-rule",
            "no-rule-leads-in",
            # The instance has an address of its own now, which it also uses on the way out.
            "request-leaves-with-the-gateway-address",
            "reply-comes-to-the-gateway-address",
        }
    finally:
        on(shared_lab, "network-controller", f"ovn-nbctl --wait=hv --timeout=60 lr-nat-del {rule}")
    assert failing(shared_lab) == set()


@pytest.mark.long
def test_without_its_gateway_the_instance_reaches_nothing(
    shared_lab: Cli, replayed: dict[str, Any]
) -> None:
    on(shared_lab, "network-controller", "openstack router unset --external-gateway r")
    lost = failing(shared_lab)
    assert {"gateway-in-pool", "one-snat-rule", "instance-reaches-the-internet"} <= lost
    assert not lost & {"network-is-external", "pool-and-gateway", "address-does-not-answer"}
    # What is missing is made again from where it is missing.
    shared_lab("goto", "external-network-snat/router-gateway")
    shared_lab("goto", "external-network-snat/not-reachable")
    shared_lab("next")
    assert failing(shared_lab) == set()


def test_the_transcript_is_a_page_to_publish(shared_lab: Cli, replayed: dict[str, Any]) -> None:
    page = shared_lab("transcript", "external-network-snat")
    assert page.startswith("# External network and SNAT\n")
    assert "cirros@vm_1$ ping -c 3 8.8.8.8\n" in page
    assert "64 bytes from 8.8.8.8" in page
    assert "✗" not in page
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-", page), "UUIDs are abbreviated"
    assert "\x1b" not in page
    chinese = shared_lab("transcript", "external-network-snat", "--lang", "zh-TW", "-o", "page.md")
    assert "page.md" in chinese
    text = (shared_lab.directory / "page.md").read_text(encoding="utf-8")
    (shared_lab.directory / "page.md").unlink()
    assert text.startswith("# External network 與 SNAT\n")
    assert "- ✓ vm_1 可以連到 8.8.8.8" in text
