"""Drawings are legible whatever is drawn: nothing overlaps, nothing is cut off."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.graph.layout import Drawing, lay_out
from labctl.graph.mermaid import mermaid
from labctl.graph.model import (
    INTERNET,
    Bridge,
    Graph,
    Host,
    Interface,
    Kind,
    LogicalPort,
    NatRule,
    Router,
    Segment,
    Switch,
    Tunnel,
    Vm,
)
from labctl.graph.shapes import Box, Line, Text, clean, measure, shorten, shown_place
from labctl.graph.svg import svg
from labctl.graph.terminal import drawing
from labctl.prose import cell_width

_NASTY = st.text(
    st.one_of(
        st.sampled_from("<>&\"'`#;[](){}|\x1b\x07\u202e\ufffe\x9b\\"),
        st.sampled_from("節點網路封包橋接器ＡＢ"),
        st.characters(categories=["L", "N", "P", "S", "Cc"]),
    ),
    max_size=70,
)
_NAMES = st.one_of(st.from_regex(r"[a-z][a-z0-9_-]{0,40}", fullmatch=True), _NASTY)


@st.composite
def hosts(draw: st.DrawFn, name: str) -> Host:
    """A node with br-int, whichever bridges its interfaces are in, and instances."""
    eth0, eth1 = draw(st.sampled_from([("", ""), ("br-ex", "br-phy"), ("br-ex", ""), ("x", "x")]))
    interfaces = [Interface("eth1", "nic", draw(_NAMES), bridge=eth1)]
    if draw(st.booleans()):
        interfaces.append(Interface("eth0", "nic", "10.0.2.15/24", bridge=eth0))
    bridges = [Bridge("br-int"), *(Bridge(one, draw(_NAMES)) for one in {eth0, eth1} - {""})]
    if draw(st.booleans()):
        bridges.append(Bridge("br-eth2", "flat0"))
        interfaces.append(Interface("eth2", "nic", bridge="br-eth2"))
        interfaces.append(Interface("eth3", "nic", "192.168.9.1/24"))
    for bridge in bridges:
        interfaces.append(Interface(bridge.name, "bridge", draw(_NAMES), bridge=bridge.name))
    kinds: st.SearchStrategy[Kind] = st.sampled_from(("patch", "tunnel", "vif", "other"))
    for number in range(draw(st.integers(0, 12))):
        kind = draw(kinds)
        its = draw(st.sampled_from(bridges)).name
        interfaces.append(
            Interface(f"p{number}-{draw(_NAMES)}", kind, bridge=its, peer=draw(_NAMES))
        )
    vms = []
    for number in range(draw(st.integers(0, 6))):
        tap = f"tap{number}" if draw(st.booleans()) else ""
        if tap:
            interfaces.append(Interface(tap, "vif", bridge="br-int"))
        status = draw(st.sampled_from(["", "ACTIVE", "ERROR"]))
        vms.append(Vm(draw(_NAMES), tap, f"port{number}", draw(_NAMES), draw(_NAMES), status))
    return Host(
        name,
        draw(st.sampled_from([("controller", "gateway"), ("compute",), ()])),
        tuple(interfaces),
        tuple(bridges),
        tuple(vms),
        draw(_NAMES),
        draw(st.sampled_from(["planned", "running", "silent", "down"])),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any lab, whole or in pieces, with names that nobody should give."""
    names = draw(st.lists(_NAMES.map(lambda one: f"n{one}"), unique_by=clean, max_size=5))
    nodes = tuple(draw(hosts(name)) for name in names)
    everywhere = st.sampled_from([*names, ""])
    shared = draw(st.booleans())
    outside = tuple(f"{name}/eth0" for name in names)
    nats = (
        [Segment("nat", "nat", "10.0.2.0/24", "10.0.2.2", outside)]
        if shared and len(names) > 1
        else [Segment(f"nat/{one}", "nat", "10.0.2.0/24", draw(_NAMES), (one,)) for one in outside]
    )
    peers = [f"s{number}" for number in range(draw(st.integers(0, 4)))]
    routers = [f"r{number}" for number in range(draw(st.integers(0, 3)))]
    cable = st.tuples(st.sampled_from(routers or [""]), st.sampled_from(peers or [""]))
    cables = draw(st.lists(cable, max_size=6))
    numbered = list(enumerate(cables))
    pairs = list(combinations(names, 2))
    return Graph(
        lab=draw(_NAMES),
        live=draw(st.booleans()),
        hosts=nodes,
        segments=(
            Segment("private", "private", "192.168.33.0/24", "", tuple(f"{n}/eth1" for n in names)),
            *nats,
            Segment(INTERNET, "internet", "", "", outside[: draw(st.integers(0, 3))]),
        ),
        tunnels=tuple(Tunnel(pair, ("", "")) for pair in pairs if draw(st.booleans())),
        switches=tuple(
            Switch(
                name,
                draw(_NAMES),
                ("10.1.0.0/24",),
                draw(st.sampled_from(["", "extnet0"])),
                (
                    *(
                        LogicalPort(f"to{n}", draw(_NAMES), "router", peer=router)
                        for n, (router, switch) in numbered
                        if switch == name
                    ),
                    *(
                        LogicalPort(
                            f"p{n}",
                            draw(_NAMES),
                            "instance",
                            (draw(_NAMES),),
                            host=draw(everywhere),
                        )
                        for n in range(draw(st.integers(0, 5)))
                    ),
                ),
            )
            for name in peers
        ),
        routers=tuple(
            Router(
                name,
                draw(_NAMES),
                tuple(
                    LogicalPort(
                        f"from{n}",
                        draw(_NAMES),
                        "gateway",
                        ("10.1.0.1/24",),
                        host=draw(everywhere),
                        peer=switch,
                    )
                    for n, (router, switch) in numbered
                    if router == name
                ),
                tuple(
                    NatRule("snat", draw(_NAMES), draw(_NAMES))
                    for _ in range(draw(st.integers(0, 4)))
                ),
                (("0.0.0.0/0", draw(_NAMES)),),
            )
            for name in routers
        ),
        notes=tuple(draw(st.lists(_NAMES, max_size=2))),
    )


def big(computes: int, instances: int) -> Graph:
    """A whole lab of that size, as one that runs."""
    names = ["network-controller", *(f"compute-{n:02d}" for n in range(1, computes + 1))]
    home = {f"vm_{n}": names[1 + (n - 1) % computes] for n in range(1, instances + 1)}
    nodes = []
    for number, name in enumerate(names):
        vms = [vm for vm, host in home.items() if host == name]
        bridge = "br-ex" if number == 0 else ""
        interfaces = [
            Interface("eth0", "nic", "" if bridge else "10.0.2.15/24", bridge=bridge),
            Interface("eth1", "nic", bridge="br-phy"),
            Interface("br-phy", "bridge", f"192.168.33.{10 + number}/24", bridge="br-phy"),
            Interface("br-int", "bridge", bridge="br-int"),
            *(
                Interface(f"ovn-{n}", "tunnel", bridge="br-int", peer=f"192.168.33.{10 + n}")
                for n in range(len(names))
                if n != number
            ),
            *(Interface(f"tap-{vm}", "vif", bridge="br-int") for vm in vms),
        ]
        bridges = [Bridge("br-int"), Bridge("br-phy")]
        if bridge:
            interfaces.append(Interface("br-ex", "bridge", "10.0.2.15/24", bridge="br-ex"))
            bridges.append(Bridge("br-ex", "extnet0"))
        nodes.append(
            Host(
                name,
                ("controller", "gateway") if bridge else ("compute",),
                tuple(interfaces),
                tuple(bridges),
                tuple(
                    Vm(vm, f"tap-{vm}", vm, f"172.16.100.{n}", f"10.0.2.{n}", "ACTIVE")
                    for n, vm in enumerate(vms, 100)
                ),
                name,
                "running",
            )
        )
    return Graph(
        "big",
        True,
        tuple(nodes),
        (
            Segment("private", "private", "192.168.33.0/24", "", tuple(f"{n}/eth1" for n in names)),
            *(Segment(f"nat/{n}", "nat", "10.0.2.0/24", "10.0.2.2", (f"{n}/eth0",)) for n in names),
            Segment(INTERNET, "internet", members=(f"{names[0]}/eth0",)),
        ),
        tuple(Tunnel(pair, ("", "")) for pair in combinations(names, 2)),
        (
            Switch(
                "n1",
                "n1",
                ("172.16.100.0/24",),
                ports=(
                    LogicalPort("n1-r", "r", "router", peer="r"),
                    *(LogicalPort(vm, vm, "instance", host=host) for vm, host in home.items()),
                ),
            ),
            Switch(
                "ext",
                "ext_n2",
                localnet="extnet0",
                ports=(LogicalPort("ext-r", "r", "router", peer="r"),),
            ),
        ),
        (
            Router(
                "r",
                "r",
                (
                    LogicalPort("r-n1", "n1", "router", peer="n1"),
                    LogicalPort("r-ext", "ext_n2", "gateway", peer="ext", host=names[0]),
                ),
                tuple(NatRule("dnat_and_snat", f"10.0.2.{n}", vm) for n, vm in enumerate(home)),
            ),
        ),
    )


# -- what must hold --------------------------------------------------------------------------------
def overlap(a: Box, b: Box) -> bool:
    return a.x < b.right and b.x < a.right and a.y < b.bottom and b.y < a.bottom


def every(drawn: Drawing) -> Iterator[Box]:
    for box in drawn.boxes:
        yield from box.walk()


def texts(drawn: Drawing) -> Iterator[Text]:
    yield from drawn.texts
    for box in every(drawn):
        yield from box.texts


def lines(drawn: Drawing) -> Iterator[Line]:
    yield from drawn.lines
    for box in every(drawn):
        yield from box.lines


def rectangle(text: Text) -> Box:
    return Box("text", text.width, text.y + 2 - text.top, text.x, text.top)


def check(drawn: Drawing) -> None:
    whole = Box("all", drawn.width, drawn.height)
    parents = [replace(whole, children=drawn.boxes, texts=drawn.texts), *every(drawn)]
    for parent in parents:
        inside = [*parent.children, *(rectangle(one) for one in parent.texts)]
        for one in inside:
            assert parent.x <= one.x, (parent, one)
            assert one.right <= parent.right, (parent, one)
            assert parent.y <= one.y, (parent, one)
            assert one.bottom <= parent.bottom, (parent, one)
        for a, b in combinations(inside, 2):
            assert not overlap(a, b), (parent.kind, a, b)
    written = [rectangle(one) for one in texts(drawn) if one.text]
    for line in lines(drawn):
        for (x1, y1), (x2, y2) in zip(line.points, line.points[1:], strict=False):
            assert x1 == x2 or y1 == y2, line
            stroke = Box("l", abs(x2 - x1) + 1, abs(y2 - y1) + 1, min(x1, x2), min(y1, y2))
            assert stroke.x >= 0
            assert stroke.right <= drawn.width
            assert stroke.bottom <= drawn.height
            for text in written:
                assert not overlap(stroke, text), (line, text)


_MORE = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_MORE
@given(graphs())
def test_nothing_overlaps_and_nothing_is_cut_off(graph: Graph) -> None:
    check(lay_out(graph))


@pytest.mark.parametrize(
    ("computes", "instances"), [(1, 1), (1, 20), (2, 3), (4, 9), (10, 20), (10, 1)]
)
def test_a_lab_of_any_size_is_legible(computes: int, instances: int) -> None:
    graph = big(computes, instances)
    drawn = lay_out(graph)
    check(drawn)
    assert drawn.width < 2000
    assert drawn.height < 3500
    assert max(cell_width(line) for line in plain(graph, 100)) <= 100


@_MORE
@given(graphs())
def test_the_svg_is_xml_and_has_every_place_once(graph: Graph) -> None:
    root = ElementTree.fromstring(svg(graph))
    places = [one.get("data-place") for one in root.iter() if one.get("data-place")]
    assert len(places) == len(set(places))
    # Many tunnels are drawn as one, and no packet is seen at any of them.
    taken = {
        shown_place(host.name, one.name)
        for host in graph.hosts
        for one in host.interfaces
        if one.kind != "tunnel"
    }
    assert (taken | {INTERNET} if graph.hosts else taken) <= set(places)
    logical = {one.get("data-logical") for one in root.iter()}
    assert {one.name for one in graph.switches} <= logical
    assert {one.name for one in graph.routers} <= logical


@_MORE
@given(graphs(), st.integers(40, 130))
def test_the_terminal_drawing_has_its_width(graph: Graph, width: int) -> None:
    for line in plain(graph, width):
        assert cell_width(line) <= max(width, 44)
        assert "\x1b" not in line


@_MORE
@given(graphs())
def test_no_name_gets_out_of_its_label_in_mermaid(graph: Graph) -> None:
    for line in mermaid(graph).splitlines():
        before, *rest = line.split('"')
        assert len(rest) in (0, 2), line
        if rest:
            assert not set(rest[0].replace("<br/>", "")) & set('<>&"`[]{}|\\*%'), line
        assert not set(before) & set("<>&`\\*%\x1b"), line


def plain(graph: Graph, width: int) -> list[str]:
    return ["".join(span.text for span in line) for line in drawing(graph, width)]


# -- texts -----------------------------------------------------------------------------------------
@given(_NASTY, st.integers(2, 40))
def test_a_shortened_text_fits(text: str, cells: int) -> None:
    assert cell_width(shorten(clean(text), cells)) <= cells


def test_chinese_takes_two_cells() -> None:
    assert measure("節點", "mono") == measure("abcd", "mono")


def test_a_missing_tunnel_is_named() -> None:
    graph = big(2, 1)
    said = "\n".join(plain(replace(graph, tunnels=graph.tunnels[:-1]), 100))
    assert "none between compute-01 – compute-02" in said
