"""eth0 moves into br-ex on trust: it comes out again unless somebody comes back by the new way."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from labctl.spec.load import load_spec
from labctl.topology import build_topology
from tests.e2e.cli import Cli, on

SPEC = """
name: rollback
provider: nspawn
stack: ovn
nat: {subnet: 10.0.9.0/24}
"""
GATEWAY = "network-controller"
SCRIPT = "/opt/labctl/provision/25-network.sh"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("rollback", SPEC)
    cli("create")
    return cli


def interfaces(lab: Cli, node: str) -> dict[str, dict[str, Any]]:
    """What a node has, by name: MAC and IPv4 addresses."""
    shown = json.loads(on(lab, node, "ip -j addr show"))
    return {
        one["ifname"]: {
            "mac": one.get("address"),
            "addresses": [
                f"{each['local']}/{each['prefixlen']}"
                for each in one["addr_info"]
                if each["family"] == "inet"
            ],
        }
        for one in shown
    }


def armed(lab: Cli) -> bool:
    """Whether the gateway would take a change back."""
    said = on(
        lab,
        GATEWAY,
        "[ -e /run/labctl-network.pending ] && echo pending;"
        " systemctl is-active labctl-rollback.timer || true",
    )
    assert said in ("inactive\n", "pending\nactive\n")  # both or none
    return "pending" in said


def is_moved(lab: Cli) -> bool:
    """Whether br-ex has the gateway's address; eth0 has it else, and the default route with it."""
    seen = interfaces(lab, GATEWAY)
    moved = "br-ex" in seen
    holder = "br-ex" if moved else "eth0"
    assert seen[holder]["addresses"] == ["10.0.9.15/24"]
    if moved:
        assert seen["eth0"]["addresses"] == []
        assert seen["br-ex"]["mac"] == seen["eth0"]["mac"]
    (route,) = json.loads(on(lab, GATEWAY, "ip -j route show default"))
    assert (route["gateway"], route["dev"]) == ("10.0.9.2", holder)
    on(lab, GATEWAY, "for i in $(seq 20); do ping -c 1 -W 1 10.0.9.2 && exit; done; false")
    return moved


def test_create_keeps_what_it_made(lab: Cli) -> None:
    assert is_moved(lab)
    assert not armed(lab)


@pytest.mark.long
def test_without_keep_it_is_taken_back_and_create_mends_it(lab: Cli) -> None:
    # As on a fresh node, up to the script, whose labctl is then killed.
    on(lab, GATEWAY, "touch /run/labctl-network.pending; labctl-network rollback")
    on(lab, GATEWAY, "rm /var/lib/labctl/done/25-network.sh")
    assert not is_moved(lab)
    on(lab, GATEWAY, f"bash {SCRIPT}")
    assert is_moved(lab)
    assert armed(lab)
    left = on(lab, GATEWAY, "systemctl show -P NextElapseUSecMonotonic labctl-rollback.timer")
    assert left.strip() not in ("", "0", "infinity")
    # The timer's minute is over.
    on(lab, GATEWAY, "systemctl start labctl-rollback.service")
    assert not is_moved(lab)
    assert not armed(lab)
    late = lab.run("ssh", GATEWAY, "--", "/usr/local/sbin/labctl-network", "keep")
    assert late.returncode == 1
    assert "moved out of it again" in late.stderr
    # Nor does it move at the next boot.
    assert on(lab, GATEWAY, "systemctl is-enabled labctl-network || true") == "disabled\n"

    lab("create")
    assert is_moved(lab)
    assert not armed(lab)
    assert on(lab, GATEWAY, "systemctl is-enabled labctl-network") == "enabled\n"
    assert on(lab, GATEWAY, "systemctl --failed --no-legend --plain list-units") == ""


def test_running_the_script_again_arms_nothing(lab: Cli) -> None:
    on(lab, GATEWAY, f"bash {SCRIPT}")
    assert is_moved(lab)
    assert not armed(lab)


def test_names_and_addresses_survive_a_reboot(lab: Cli) -> None:
    topology = build_topology(load_spec(lab.directory / "lab.yaml"))
    before = {node.name: interfaces(lab, node.name) for node in topology.nodes}
    lab("halt")
    lab("up")
    assert is_moved(lab)
    assert not armed(lab)
    for node in topology.nodes:
        after = interfaces(lab, node.name)
        assert {"eth0", "eth1"} < set(after)
        for nic in (node.eth0, node.eth1):
            assert after[nic.name]["mac"] == nic.mac
        assert {name: one for name, one in after.items() if one["addresses"]} == {
            name: one for name, one in before[node.name].items() if one["addresses"]
        }
