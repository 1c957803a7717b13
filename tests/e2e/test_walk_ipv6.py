"""`labctl walk` over IPv6, and what it says of dropped packets: in real labs of two computes.

The first lab is OVN alone: two switches and a router, each workload with its namespace. The second
one is OpenStack, as the lesson `ipv6` leaves it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.cli import Cli, on

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

NODES = "nodes: {network-controller: , compute-01: , compute-02: }\n"
OVN = f"name: walk-six\nprovider: nspawn\nstack: ovn\n{NODES}"
OPENSTACK = f"name: walk-six-os\nprovider: nspawn\n{NODES}"

NETWORK = """set -e
ovn-nbctl ls-add n1 -- ls-add n2 -- lr-add r
ovn-nbctl lrp-add r r-n1 02:00:00:00:01:fe 192.168.100.1/24 2001:db8:8::1/64
ovn-nbctl lrp-add r r-n2 02:00:00:00:02:fe 2001:db8:9::1/64
for switch in n1 n2; do
    ovn-nbctl lsp-add $switch $switch-r -- lsp-set-type $switch-r router \
        -- lsp-set-addresses $switch-r router -- lsp-set-options $switch-r router-port=r-$switch
done
"""
WORKLOADS = {
    "vm_1": ("compute-01", "n1", "02:00:00:00:01:01", "192.168.100.11/24", "2001:db8:8::11/64"),
    "vm_2": ("compute-02", "n1", "02:00:00:00:01:02", "192.168.100.12/24", "2001:db8:8::12/64"),
    "vm_six": ("compute-02", "n2", "02:00:00:00:02:06", "2001:db8:9::66/64"),
}
"""Node, switch, MAC address and addresses by name."""
GATEWAYS = {"n1": ("192.168.100.1", "2001:db8:8::1"), "n2": ("2001:db8:9::1",)}


def build(lab: Cli) -> None:
    """Make the logical network, and its workloads."""
    on(lab, "network-controller", NETWORK)
    for name, (node, switch, mac, *addresses) in WORKLOADS.items():
        bare = " ".join(address.partition("/")[0] for address in addresses)
        on(
            lab, "network-controller",
            f"ovn-nbctl lsp-add {switch} {name} -- lsp-set-addresses {name} '{mac} {bare}'"
            f" -- lsp-set-port-security {name} '{mac} {bare}'",
        )  # fmt: skip
        commands = [
            f"ovs-vsctl add-port br-int tap-{name} -- set interface tap-{name} type=internal"
            f" mac='\"{mac}\"' mtu_request=1442 external_ids:iface-id={name}"
            f" external_ids:netns={name}",
            f"ip netns add {name}",
            f"ip link set tap-{name} netns {name}",
            *(
                f"ip -n {name} address add {address} dev tap-{name}"
                + (" nodad" if ":" in address else "")
                for address in addresses
            ),
            f"ip -n {name} link set tap-{name} up",
            f"ip -n {name} link set lo up",
            *(f"ip -n {name} route add default via {gateway}" for gateway in GATEWAYS[switch]),
        ]
        on(lab, node, "set -e; " + "; ".join(commands))
    on(lab, "network-controller", "ovn-nbctl --wait=hv sync")


@pytest.fixture(scope="module")
def ovn(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("walk-six", OVN)
    cli("create")
    build(cli)
    return cli


def places(path: dict[str, Any]) -> list[str]:
    return [f"{hop['node']} {hop['interface']}" for hop in path["hops"]]


def limits(path: dict[str, Any]) -> list[int]:
    return [hop["frame"]["ttl"] for hop in path["hops"]]


TO_VM_2 = ["compute-01 tap-vm_1", "compute-01 eth1", "compute-02 eth1", "compute-02 tap-vm_2"]
TO_SIX = [*TO_VM_2[:3], "compute-02 tap-vm_six"]


def test_in_one_switch_ipv4_by_itself_and_ipv6_when_asked_for(ovn: Cli) -> None:
    for words, address in (((), "192.168.100.12"), (("-6",), "2001:db8:8::12")):
        walk = ovn.json("walk", *words, "ping", "vm_1", "vm_2")
        assert walk["target"]["address"] == address
        assert (walk["answered"], walk["answer"]) == (True, "reply")
        assert places(walk["request"]) == TO_VM_2
        assert places(walk["reply"]) == TO_VM_2[::-1]
        assert limits(walk["request"]) == [64] * 4
        assert walk["traced"]["request"]["trace"]["verdict"] == "output"


def test_over_the_router_between_computes(ovn: Cli) -> None:
    walk = ovn.json("walk", "ping", "vm_1", "vm_six")
    assert (walk["source"]["address"], walk["target"]["address"]) == (
        "2001:db8:8::11", "2001:db8:9::66",
    )  # fmt: skip
    assert places(walk["request"]) == TO_SIX
    assert places(walk["reply"]) == TO_SIX[::-1]
    assert limits(walk["request"]) == limits(walk["reply"]) == [64, 63, 63, 63]
    # Each compute routes what its own workload sends: in the tunnel it is of the other's network.
    assert [hop["encap"]["datapath"] for hop in walk["request"]["hops"] if hop["encap"]] == [
        "n2", "n2",
    ]  # fmt: skip
    assert [event["detail"] for event in walk["traced"]["request"]["events"]
            if event["kind"] == "routed"] == ["2001:db8:9::/64"]  # fmt: skip


def test_the_routers_own_address(ovn: Cli) -> None:
    for address in ("2001:db8:8::1", "192.168.100.1"):
        walk = ovn.json("walk", "ping", "vm_1", address)
        assert walk["answered"]
        assert places(walk["request"]) == places(walk["reply"]) == ["compute-01 tap-vm_1"]
        assert walk["traced"]["request"]["trace"]["verdict"] == "output"
        assert walk["causes"] == []


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_nobody_listens(ovn: Cli, protocol: str) -> None:
    walk = ovn.json("walk", protocol, "vm_1", "vm_six", "9999")
    assert (walk["answered"], walk["answer"]) == (True, "refused")
    assert places(walk["request"]) == TO_SIX
    assert places(walk["reply"]) == TO_SIX[::-1]


def test_an_address_that_nobody_has(ovn: Cli) -> None:
    walk = ovn.json("walk", "ping", "vm_1", "2001:db8:8::77", expect=3)
    assert walk["request"]["hops"] == []
    (question,) = [asked for asked in walk["arp"] if asked["target"] == "2001:db8:8::77"]
    assert (question["asker"], question["answers"]) == ("2001:db8:8::11", [])
    assert "neighbor discovery: vm_1" in ovn("walk", "ping", "vm_1", "2001:db8:8::77", expect=3)


# -- dropped ---------------------------------------------------------------------------------------
def test_a_router_without_a_route(ovn: Cli) -> None:
    for address in ("2001:db8:ffff::1", "8.8.8.8"):
        walk = ovn.json("walk", "ping", "vm_1", address, expect=3)
        assert places(walk["request"]) == TO_VM_2[:1]
        assert walk["lost"]["reason"]["table"] == "lr_in_ip_routing"
        assert walk["lost"]["drop"]["flows"][0]["packets"] > 0
    text = ovn("walk", "ping", "vm_1", "2001:db8:ffff::1", expect=3)
    assert "r: dropped: no route to its destination" in text


@contextmanager
def acl(lab: Cli, words: str, taken: str) -> Iterator[None]:
    on(lab, "network-controller", f"ovn-nbctl {words} && ovn-nbctl --wait=hv sync")
    try:
        yield
    finally:
        on(lab, "network-controller", f"ovn-nbctl acl-del {taken} && ovn-nbctl --wait=hv sync")


@pytest.mark.parametrize(
    ("target", "switch", "match"),
    [("vm_six", "n2", "ip6 && icmp6.type == 128"), ("vm_2", "n1", "ip4 && icmp4.type == 8")],
)
def test_an_acl_by_its_name(ovn: Cli, target: str, switch: str, match: str) -> None:
    words = f"--name=no-echo acl-add {switch} to-lport 1500 '{match}' drop"
    with acl(ovn, words, switch):
        walk = ovn.json("walk", "ping", "vm_1", target, expect=3)
        text = ovn("walk", "ping", "vm_1", target, expect=3)
    lost = walk["lost"]
    assert (lost["node"], lost["interface"]) == ("compute-02", "eth1")
    assert lost["reason"]["kind"] == "denied"
    dropped_by = lost["drop"]["acl"]
    assert (dropped_by["name"], dropped_by["priority"], dropped_by["match"]) == (
        "no-echo", 1500, match,
    )  # fmt: skip
    assert lost["drop"]["node"] == "compute-02"
    assert lost["drop"]["flows"][0]["packets"] > 0, "the counter of the node tells the same"
    assert "name no-echo" in text
    assert "OpenFlow on compute-02" in text


@pytest.mark.parametrize(("words", "answer"), [(("tcp", "22"), "refused"), (("ping",), "error")])
def test_what_ovn_answers_for_a_rejecting_acl_is_no_answer_of_the_target(
    ovn: Cli, words: tuple[str, ...], answer: str
) -> None:
    # Only what goes to vm_six: else the RST that OVN sends would be rejected in turn.
    match = 'outport == "vm_six" && ip6 && (tcp || icmp6.type == 128)'
    with acl(ovn, f"acl-add n2 to-lport 1500 '{match}' reject", "n2"):
        walk = ovn.json("walk", words[0], "vm_1", "vm_six", *words[1:], expect=3)
    assert (walk["answered"], walk["answer"]) == (False, answer)
    assert walk["lost"]["reason"]["kind"] == "rejected"
    assert walk["lost"]["drop"]["acl"]["action"] == "reject"


@contextmanager
def other_address(lab: Cli, own: str, other: str) -> Iterator[None]:
    """vm_1 has another address than OVN knows."""

    def change(gone: str, new: str, gateway: str) -> None:
        family, end = ("-6", " nodad") if ":" in own else ("-4", "")
        on(
            lab, "compute-01",
            f"ip -n vm_1 address del {gone} dev tap-vm_1;"
            f" ip -n vm_1 address add {new} dev tap-vm_1{end};"
            f" ip -n vm_1 {family} route replace default via {gateway}",
        )  # fmt: skip

    gateway = GATEWAYS["n1"][":" in own]
    change(own, other, gateway)
    try:
        yield
    finally:
        change(other, own, gateway)


@pytest.mark.parametrize(
    ("own", "other", "target"),
    [("2001:db8:8::11/64", "2001:db8:8::99/64", "2001:db8:9::66"),
     ("192.168.100.11/24", "192.168.100.99/24", "192.168.100.12")],
)  # fmt: skip
def test_port_security(ovn: Cli, own: str, other: str, target: str) -> None:
    with other_address(ovn, own, other):
        walk = ovn.json("walk", "ping", "vm_1", target, expect=3)
        text = ovn("walk", "ping", "vm_1", target, expect=3)
    assert walk["lost"]["reason"]["table"] == "ls_in_apply_port_sec"
    (allowed,) = walk["lost"]["drop"]["port_security"]
    assert own.partition("/")[0] in allowed
    (cause,) = [cause for cause in walk["causes"] if cause["kind"] == "other-source"]
    assert cause["found"] == other.partition("/")[0]
    assert "port security of vm_1 allows only" in text


@pytest.mark.parametrize(
    "words",
    [("ping", "vm_1", "fe80::1"), ("-6", "ping", "vm_1", "8.8.8.8"),
     ("-6", "ping", "vm_1", "compute-01"), ("ping", "vm_six", "192.168.100.12")],
)  # fmt: skip
def test_wrong_use(ovn: Cli, words: tuple[str, ...]) -> None:
    ovn("walk", *words, expect=2)
    assert ovn.stderr.strip()


# -- OpenStack -------------------------------------------------------------------------------------
SIX = """set -e
openstack subnet create --network n1 --ip-version 6 --ipv6-ra-mode slaac --ipv6-address-mode slaac \
    --subnet-range 2001:db8:8::/64 --gateway 2001:db8:8::1 s_six_near
openstack router add subnet r s_six_near
openstack network create n_six
openstack subnet create --network n_six --ip-version 6 --ipv6-ra-mode slaac \
    --ipv6-address-mode slaac --subnet-range 2001:db8:9::/64 --gateway 2001:db8:9::1 s_six
openstack router add subnet r s_six
openstack port create --network n_six --security-group allow-icmp-ssh p_six
host=$(openstack server show vm_1 -c OS-EXT-SRV-ATTR:host -f value)
other=compute-01
[ "$host" = compute-02 ] || other=compute-02
openstack server create --image cirros --flavor m1.nano --port p_six \
    --availability-zone nova:$other --wait vm_six
openstack security group rule create --ethertype IPv6 --protocol ipv6-icmp allow-icmp-ssh
"""


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("walk-six-os", OPENSTACK)
    cli("create")
    cli("replay", "floating-ip", "--quiet")
    on(cli, "network-controller", SIX)
    # As after a boot: it asks for routers, and makes itself an address of the prefix.
    flag = "net.ipv6.conf.eth0.disable_ipv6"
    cli("ssh", "vm_1", "--", "sh", "-c", f"sudo sysctl -w {flag}=1 {flag}=0; sleep 10")
    return cli


@pytest.fixture(scope="module")
def there_and_back(cloud: Cli) -> dict[str, Any]:
    """A ping between the two; vm_six may be booting yet."""
    for _ in range(6):
        walk: dict[str, Any] = cloud.json("walk", "ping", "vm_1", "vm_six", expect=(0, 1, 3))
        if walk["answered"]:
            break
    return walk


def test_an_instance_that_has_only_ipv6(there_and_back: dict[str, Any]) -> None:
    walk = there_and_back
    assert walk["answered"]
    assert ":" in walk["source"]["address"]
    assert limits(walk["request"]) == [255, 254, 254, 254], "as the router advertises"
    assert [hop["role"] for hop in walk["request"]["hops"]] == [
        "instance", "underlay", "underlay", "instance",
    ]  # fmt: skip


@pytest.mark.usefixtures("there_and_back")
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_no_rule_of_a_security_group_allows(cloud: Cli, protocol: str) -> None:
    """The rules of the group are of IPv4, and one of ICMPv6."""
    walk = cloud.json("walk", protocol, "vm_1", "vm_six", "22", expect=3)
    assert walk["lost"]["reason"]["kind"] == "denied"
    assert walk["lost"]["drop"]["acl"]["group"] == "neutron_pg_drop"
    assert walk["lost"]["drop"]["flows"][0]["packets"] > 0
    text = cloud("walk", protocol, "vm_1", "vm_six", "22", expect=3)
    assert "vm_six has these security groups, of which no rule allows it" in text
    assert "allow-icmp-ssh" in text


def test_the_router_of_openstack_answers(cloud: Cli) -> None:
    walk = cloud.json("walk", "ping", "vm_1", "2001:db8:8::1")
    assert walk["answered"]
    assert walk["traced"]["request"]["trace"]["verdict"] == "output"
