"""`labctl prove` of every built-in lesson, on the labs that they are for: `make prove`."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.lessons.load import available, load_lesson
from tests.e2e.cli import Cli, claims

pytestmark = [pytest.mark.long, pytest.mark.timeout(3 * 3600)]

SPECS = {
    "ovn": (
        "name: proving\nprovider: nspawn\nstack: ovn\n"
        "networks: {eth2: {physical_network: physnet1}}\n"
    ),
    "openstack": "name: proving-all\nprovider: nspawn\n",
    "openstack-days": (
        "name: proving-days\nprovider: nspawn\n"
        "networks: {eth2: {physical_network: physnet1, vlans: 100:199}}\n"
    ),
    "openstack-wide": (
        "name: proving-wide\nprovider: nspawn\n"
        "nodes:\n"
        "  network-controller: {roles: [controller, gateway]}\n"
        "  gateway-01: {roles: [gateway]}\n"
        "  compute-01:\n"
        "  compute-02:\n"
        "nat: {shared: true}\n"
        "neutron: {service_plugins: [port_forwarding, qos], distributed_floating_ip: true}\n"
    ),
}
# The one that needs least comes first, and each begins where the one before has ended.
LESSONS = {
    "ovn": [
        "ovn-logical-switch",
        "ovn-geneve",
        "ovn-logical-router",
        "ovn-localnet",
        "ovn-acl",
        "ovn-load-balancer",
        "ovn-dhcp-dns",
        "ovn-localport",
        "ovn-snat-dnat",
    ],
    "openstack": ["external-network-snat", "floating-ip"],
    "openstack-days": ["tracing", "datapath-flows", "vlan-provider-network", "troubleshooting"],
    "openstack-wide": [
        "neutron-in-ovn",
        "east-west",
        "port-forwarding",
        "provider-network",
        "distributed-floating-ip",
        "gateway-failover",
        "qos",
        "ipv6",
    ],
}


def test_every_built_in_lesson_is_proved_here() -> None:
    stacks = {name: load_lesson(name).stack for name in available()}
    proved = {name: lab.partition("-")[0] for lab, names in LESSONS.items() for name in names}
    assert proved == stacks


def wrong(proof: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (asked["subject"], asked["phase"], asked["claim"], asked["seen"])
        for asked in proof["asked"]
        if asked["expected"] not in (None, asked["holds"])
    ]


@pytest.mark.parametrize("stack", SPECS)
def test_the_lessons_of_a_stack_are_proved(make_lab: Callable[[str, str], Cli], stack: str) -> None:
    lab = make_lab(f"proving-{stack}", SPECS[stack])
    lab("create")
    for name in LESSONS[stack]:
        proof = lab.json("prove", name, expect=(0, 1, 3))
        assert (name, wrong(proof), proof["failure"]) == (name, [], None)
        faults = [fault.id for fault in load_lesson(name).faults]
        assert (proof["ok"], proof["whole"], proof["faults"]) == (True, True, faults)
        assert f"lesson {name} is proved" in lab("transcript", name)
    if stack == "ovn":
        interrupt(lab)
    elif stack == "openstack":
        for do, undo, claim in CHEATS:
            assert (do, failing_after(lab, do, undo)) == (do, {claim})


# What looks like the lesson's end and is not, how it is taken back, and the claim that tells.
_PORT = "$(openstack port list --server vm_1 -f value -c ID)"
_TENANT = "$(openstack subnet list --network n1 -f value -c ID)"
_OUTSIDE = "$(openstack subnet list --network ext_n2 -f value -c ID)"
_DNS = "$(openstack subnet show $s -f json -c dns_nameservers | jq -r '.dns_nameservers[]')"
CHEATS = (
    (
        f"s={_TENANT}; echo {_DNS} >/run/dns;"
        " openstack subnet set --no-dns-nameservers --dns-nameserver 192.0.2.53 $s",
        f"openstack subnet set --no-dns-nameservers"
        f" $(sed 's/[^ ]*/--dns-nameserver &/g' /run/dns) {_TENANT}",
        "dhcp-of-the-instance",
    ),
    (
        "openstack network set --mtu 1300 n1",
        "openstack network set --mtu 1442 n1",
        "dhcp-of-the-instance",
    ),
    (
        "openstack network set --disable-port-security ext_n2",
        "openstack network set --enable-port-security ext_n2",
        "network-with-its-defaults",
    ),
    (
        f"openstack port set --allowed-address ip-address=0.0.0.0/0 {_PORT}",
        f"openstack port unset --allowed-address ip-address=0.0.0.0/0 {_PORT}",
        "only-its-own-address",
    ),
    (
        f"openstack subnet set --name foo {_OUTSIDE}",
        f"openstack subnet set --name extsubnet {_OUTSIDE}",
        "pool-and-gateway",
    ),
)


def failing_after(lab: Cli, do: str, undo: str) -> set[str]:
    """The claims that `check --all` finds wrong between the two scripts."""
    shell = ("ssh", "network-controller", "--", "bash", "-lc")
    lab(*shell, do)
    try:
        checked = lab.json("check", "--all", expect=(0, 3))
    finally:
        lab(*shell, undo)
    return {name for name, claim in claims(checked).items() if not claim["holds"]}


def interrupt(lab: Cli) -> None:
    """End a proof by Ctrl-C while a fault is in the lab: it is taken back."""
    proving = lab.start("prove", "ovn-snat-dnat", "--checkpoint", "ping-out-again")
    code = end(proving, lab.directory / ".labctl" / "fault.json", signal.SIGINT)
    assert code == 130
    assert not (lab.directory / ".labctl" / "fault.json").exists()
    assert lab.json("goto", "ovn-snat-dnat/ping-out-again")["ok"] is True
    assert all(c["holds"] for c in lab.json("check", "--all")["checkpoints"][-2]["claims"])


def end(process: "subprocess.Popen[bytes]", when: Path, how: int) -> int:
    """Wait until a file is there, end the process so, and give its exit code."""
    until = time.monotonic() + 600
    while not when.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert when.exists(), "no fault was put into the lab"
    time.sleep(1)  # the change itself comes after the note of it
    process.send_signal(how)
    return process.wait(120)
