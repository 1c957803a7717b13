"""ovn-trace: what is asked, and what is understood of recorded answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.access.ovsdb import parse_tables
from labctl.access.packets import Frame
from labctl.walks.explain import entry_of
from labctl.walks.logical_network import understand
from labctl.walks.ovntrace import Trace, TraceEvent, command, events, microflow, parse
from tests.unit.fakes import topology
from tests.unit.walks.test_correlate import BREX, ETH0, NAT0, TAP, frame
from tests.unit.walks.walks import WALKS, printed_tables

ANSWERS = sorted(WALKS.glob("*/ovn-trace.*.txt"))


def answer(case: str, name: str) -> Trace:
    return parse((WALKS / case / f"ovn-trace.{name}.txt").read_text())


@pytest.mark.parametrize("file", ANSWERS, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_every_stage_of_a_recorded_answer_is_understood(file: Path) -> None:
    text = file.read_text()
    trace = parse(text)
    stages = [stage for pipeline in trace.pipelines for stage in pipeline.stages]
    numbered = [line for line in text.splitlines() if line.strip()[:2].rstrip(".").isdigit()]
    assert len([stage for stage in stages if stage.table is not None]) == len(numbered)
    assert all(stage.uuid and stage.priority is not None for stage in stages if stage.table)
    # Nothing of the answer is lost: every action and comment is in some stage.
    said = "".join("".join(stage.actions) + "".join(stage.notes) for stage in stages)
    for line in text.splitlines():
        if line.startswith("    ") and not line.strip()[:1].isdigit():
            word = line.strip().removeprefix("/* ").removesuffix(" */").rstrip(";")
            if word.startswith("LOG: "):  # an ACL that has a name logs
                continue
            assert word in said or "(dp=" in word or not word.strip("-"), line


def kinds(trace: Trace) -> list[str]:
    return [event.kind for event in events(trace)]


def test_a_ping_out() -> None:
    trace = answer("out", "request.1")
    assert [pipeline.kind for pipeline in trace.pipelines] == [
        "ingress", "egress", "ingress", "egress", "ingress", "multicast", "egress",
    ]  # fmt: skip
    assert trace.verdict == "output"
    assert [output.type for output in trace.outputs] == ["localnet"]
    assert kinds(trace) == [
        "enters", "allowed", "output", "enters", "routed", "redirected", "undnat", "snat",
        "output", "enters", "output",
    ]  # fmt: skip
    (snat,) = [event for event in events(trace) if event.kind == "snat"]
    assert (snat.detail, snat.table) == ("10.0.2.210", "lr_out_snat")
    (route,) = [event for event in events(trace) if event.kind == "routed"]
    assert route.detail == "0.0.0.0/0 via 10.0.2.2"
    conntrack = [s for p in trace.pipelines for s in p.stages if s.table is None]
    assert any("no un-dnat entry" in note for stage in conntrack for note in stage.notes)


def test_a_ping_in_that_no_security_group_allows() -> None:
    trace = answer("blocked", "request.1")
    assert trace.verdict == "drop"
    assert trace.outputs == ()
    last = events(trace)[-1]
    assert last.kind == "denied"
    assert "@neutron_pg_drop" in last.detail
    assert last.table == "ls_out_acl_eval"


def test_an_answer_that_only_conntrack_could_translate() -> None:
    first, second = answer("snat", "reply.1"), answer("snat", "reply.2")
    assert first.verdict == "drop"
    assert events(first)[-1].table == "lr_in_arp_resolve"
    assert second.verdict == "output"


SHORT = """# udp,reg14=0x1

ingress(dp="sw0", inport="a")
-----------------------------
 0. ls_in_check_port_sec (northd.c:1): 1, priority 50, uuid 0a0b0c0d
    next;
 8. ls_in_acl_eval (northd.c:1): %s, priority 1001, uuid 0a0b0c0e
    %s
"""


@pytest.mark.parametrize(
    ("match", "action", "kind"),
    [("ip4", "reg8[17] = 1;", "denied"), ("ip4", "reg8[18] = 1;", "rejected"),
     ("ip4", "drop;", "dropped")],
)  # fmt: skip
def test_what_ends_a_packet(match: str, action: str, kind: str) -> None:
    found = events(parse(SHORT % (match, action)))
    assert [event.kind for event in found][:2] == ["enters", kind]
    event = TraceEvent(kind, "sw0", "ip4", "ls_in_acl_eval", "0a0b0c0e")  # type: ignore[arg-type]
    assert found[1] == event


def test_a_table_without_a_match_drops() -> None:
    text = SHORT % ("x", "next;") + "28. ls_in_l2_lkup: no match (implicit drop)\n"
    trace = parse(text)
    assert trace.verdict == "drop"
    assert events(trace)[-1].kind == "dropped"
    assert events(trace)[-1].table == "ls_in_l2_lkup"


def test_an_older_ovn_without_places_of_its_source() -> None:
    text = SHORT.replace(" (northd.c:1)", "") % ("ip4", 'output;\n    /* output to "b", type "" */')
    trace = parse(text)
    assert trace.pipelines[0].stages[0].name == "ls_in_check_port_sec"
    assert [output.port for output in trace.outputs] == ["b"]


@pytest.mark.parametrize("text", ["", "garbage", "\x00\n---\n", 'ingress(dp="x")\n----\n'])
def test_what_is_no_answer(text: str) -> None:
    trace = parse(text)
    assert trace.outputs == ()
    events(trace)


# -- asking ----------------------------------------------------------------------------------------
def test_a_question_is_made_of_the_frame() -> None:
    argv = command("uuid-of-n1", "port", frame(TAP, 1.0), "new")
    assert argv[:3] == ["ovn-trace", "--detailed", "--no-friendly-names"]
    assert argv[-2] == "uuid-of-n1"
    assert argv[-1] == (
        'inport == "port" && eth.src == fa:16:3e:00:00:01 && eth.dst == fa:16:3e:00:00:02'
        " && ip4.src == 172.16.100.10 && ip4.dst == 8.8.8.8 && ip.ttl == 64"
        " && icmp4.type == 8 && icmp4.code == 0"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [({"kind": "reply"}, "icmp4.type == 0 && icmp4.code == 0"),
     ({"kind": "3", "code": 3}, "icmp4.type == 3 && icmp4.code == 3"),
     ({"protocol": "tcp", "source_port": 5, "destination_port": 22, "flags": "SA"},
      "tcp && tcp.src == 5 && tcp.dst == 22 && tcp.flags == 18"),
     ({"protocol": "udp", "source_port": 5, "destination_port": 53},
      "udp && udp.src == 5 && udp.dst == 53"),
     ({"protocol": "47"}, "ip.proto == 47")],
)  # fmt: skip
def test_each_protocol(given: dict[str, Any], said: str) -> None:
    assert microflow("p", frame(TAP, 1.0, **given)).endswith(f"ip.ttl == 64 && {said}")


# -- where a packet enters OVN -----------------------------------------------------------------
@pytest.fixture
def network() -> Any:
    return understand(parse_tables(printed_tables(WALKS / "in")))


def test_network_of_a_real_lab(network: Any) -> None:
    assert {one.name: (one.router, one.key) for one in network.datapaths} == {
        "n1": (False, 1), "r": (True, 2), "ext_n2": (False, 3),
    }  # fmt: skip
    assert {(rule.type, rule.external, rule.logical) for rule in network.nat} == {
        ("snat", "10.0.2.220", "172.16.100.0/24"),
        ("dnat_and_snat", "10.0.2.210", "172.16.100.10"),
    }
    names = network.names(topology(), {}, "")
    assert names.ports[2, 3] == "r on network-controller"
    gateway = next(mac for mac in names.routers if names.owners.get(mac) == "network-controller")
    assert names.macs[gateway] == "r:ext_n2"


def test_a_packet_enters_by_its_instance_or_by_localnet(network: Any) -> None:
    instance = next(port for port in network.ports if "172.16.100.10" in port.addresses)
    router = next(p for p in network.ports if "10.0.2.220" in p.addresses and p.type == "patch")

    def entered(hops: list[tuple[Any, Frame]]) -> Any:
        from types import SimpleNamespace

        path = SimpleNamespace(
            hops=[SimpleNamespace(role=point.role, frame=one) for point, one in hops]
        )
        found = entry_of(network, path)  # type: ignore[arg-type]
        return found and (found[0].type, found[1].interface)

    mine, theirs = instance.macs[0], router.macs[0]
    assert entered([(TAP, frame(TAP, 1.0, src_mac=mine))]) == ("", "tap0")
    from_host = frame(BREX, 1.0, src_mac="52:54:00:00:00:09", dst_mac=theirs)
    assert entered([(BREX, from_host)]) == ("localnet", "br-ex")
    assert entered([(NAT0, frame(NAT0, 1.0, src_mac="0a:00:00:00:00:01", dst_mac=theirs))])
    # On its way out it has been in OVN already.
    assert entered([(ETH0, frame(ETH0, 1.0, src_mac=theirs, dst_mac="0a:00:00:00:00:01"))]) is None
    assert entered([]) is None


def test_a_distributed_floating_ip_has_a_mac_of_its_own_at_its_compute(network: Any) -> None:
    """As Neutron writes the rule with `enable_distributed_floating_ip`."""
    instance = next(port for port in network.ports if "172.16.100.10" in port.addresses)
    own = "fa:16:3e:00:00:99"
    distributed = replace(
        network,
        nat=tuple(
            replace(rule, mac=own, port=instance.name) if rule.external == "10.0.2.210" else rule
            for rule in network.nat
        ),
    )
    for address in ("10.0.2.210", "172.16.100.10"):
        assert distributed.translating_node(address) == "compute-01"
        assert network.translating_node(address) is None
    assert distributed.translating_node("10.0.2.220") is None
    gateway = next(port for port in network.ports if "10.0.2.220" in port.addresses)
    assert distributed.receiver(own) == distributed.by_mac(gateway.macs[0])
    assert network.receiver(own) is None
    names = distributed.names(topology(), {}, "")
    assert (names.owners[own], names.routers[own]) == ("compute-01", "r")
    assert names.macs[own] == "r 10.0.2.210"
    assert own in names.inside
