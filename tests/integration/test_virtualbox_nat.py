"""What docs/virtualbox-nat.md says, asked of real VirtualBox again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.virtualbox.nat_experiment import CARD, FLOATING, NAT_MAC, ROUTER
from tests.virtualbox.rig import TOOLS, Rig

pytestmark = pytest.mark.long  # three minutes; only another VirtualBox gives other answers
REPOSITORY = Path(__file__).parents[2]

ANSWERS = {
    "arp-unknown": "no",
    "no-arp-quiet": "no",
    "no-arp": "yes",
    **{
        f"{kind}-{whose}": "yes"
        for whose in ("211", "215", "215-router", "card2")
        for kind in ("arp", "ping", "udp", "tcp")
    },
    "ping-own": "yes",
    "ping-gateway-own": "yes",
    "ping-gateway-211": "yes",
    "ping-gateway-reachable": "yes",
    "tcp-gateway": "no",
    "tcp-gateway-reachable": "yes",
    "ping-range-closed": "yes",
    "forward-ssh-first": "dropbear on 10.0.2.15",
    "forward-unpinned-first": "dropbear on 10.0.2.15",
    "forward-ssh": "dropbear on 10.0.2.15",
    "forward-unpinned": "dropbear on 10.0.2.15",
    "forward-api": "port-8774-on-15",
    "forward-router": "router-on-211",
    "forward-floating": "instance-on-215",
    "forward-fresh": "host-on-219",
    "forward-several": "4 × port-8774-on-15, 4 × port-9696-on-15",
    "forward-after-many": "dropbear on 10.0.2.15",
    "session": "before: True; MAC changed, nothing sent: False; gratuitous ARP sent: True",
    "forward-new-mac": "dropbear on 10.0.2.15",
    "forward-nobody": "nobody",
    "forward-same-mac": "bridge-on-15",
    "forward-other-mac": "nobody",
    "forward-other-mac-announced": "bridge-on-15",
}


@pytest.fixture(scope="module")
def observations(
    require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    require(*TOOLS, root=True)
    work = tmp_path_factory.mktemp("nat")
    with Rig(work, see=[REPOSITORY]) as rig:
        rig.run(
            [sys.executable, "-m", "tests.virtualbox.nat_experiment", "--json", work / "found"],
            cwd=REPOSITORY,
            timeout=1700,
        )
    return {one["name"]: one for one in json.loads((work / "found").read_text(encoding="utf-8"))}


@pytest.mark.timeout(1800)  # a few minutes on an idle machine, ten on a busy one
def test_every_question_has_the_answer_of_the_document(
    observations: dict[str, dict[str, Any]],
) -> None:
    assert {name: one["answer"] for name, one in observations.items()} == ANSWERS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "mac", "address"),
    [
        ("ping-211", ROUTER, "10.0.2.211"),
        ("ping-215", FLOATING, "10.0.2.215"),
        ("ping-215-router", ROUTER, "10.0.2.215"),
    ],
)
def test_virtualbox_itself_saw_the_answer_come_to_that_mac(
    observations: dict[str, dict[str, Any]], name: str, mac: str, address: str
) -> None:
    """The other witness: not the guest says so, but the trace VirtualBox kept of its own card."""
    frames = observations[name]["frames"]
    assert f"{mac} > {NAT_MAC} {address} > 8.8.8.8 ICMP echo-request" in frames
    assert f"{NAT_MAC} > {mac} 8.8.8.8 > {address} ICMP echo-reply" in frames
    assert CARD not in " ".join(frames)
