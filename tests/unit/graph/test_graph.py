"""The lab as a graph: planned from lab.yaml, read from recorded answers of real labs, and drawn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from labctl.access.guest import GuestError
from labctl.cli.views import views_app
from labctl.errors import LabError
from labctl.graph import ovn, ovs
from labctl.graph.machines import short_name
from labctl.graph.mermaid import mermaid
from labctl.graph.model import INTERNET, Graph, Host, Interface, NatRule, Segment, Vm
from labctl.graph.observed import NEUTRON, NOVA, OVN, Answers, live
from labctl.graph.planned import planned
from labctl.graph.svg import svg
from labctl.graph.terminal import drawing
from labctl.i18n import set_language
from labctl.lab import Lab
from tests.documents import expect_document
from tests.unit.fakes import no_cloud, topology
from tests.unit.golden import GOLDEN, expect_json, expect_text
from tests.unit.graph.graphs import CASES, COMPUTE, CONTROLLER, HOSTILE, RecordedLab, renamed


def plain(graph: Graph, width: int = 100) -> str:
    return "".join("".join(span.text for span in line) + "\n" for line in drawing(graph, width))


def host(graph: Graph, name: str) -> Host:
    found = graph.host(name)
    assert found is not None
    return found


def interface(graph: Graph, name: str, interface: str) -> Interface:
    found = host(graph, name).interface(interface)
    assert found is not None
    return found


# -- planned ---------------------------------------------------------------------------------------
def test_the_plan_is_the_tutorials_lab() -> None:
    graph = planned(topology())
    assert not graph.live
    assert interface(graph, CONTROLLER, "eth0").bridge == "br-ex"
    assert interface(graph, CONTROLLER, "br-ex").address == "10.0.2.15/24"
    assert interface(graph, COMPUTE, "eth0").bridge == ""
    assert interface(graph, COMPUTE, "eth1").address == "192.168.33.20/24"
    assert [vm.name for vm in host(graph, COMPUTE).vms] == ["vm_1"]
    assert [one.hosts for one in graph.tunnels] == [(CONTROLLER, COMPUTE)]
    assert [(one.label, one.localnet) for one in graph.switches] == [
        ("n1", ""), ("ext_n2", "extnet0"),
    ]  # fmt: skip
    (router,) = graph.routers
    assert (router.label, router.host) == ("r", CONTROLLER)
    kinds = [(one.kind, one.members) for one in graph.segments]
    assert kinds == [
        ("private", (f"{CONTROLLER}/eth1", f"{COMPUTE}/eth1")),
        ("nat", (f"{CONTROLLER}/eth0",)),
        ("nat", (f"{COMPUTE}/eth0",)),
        ("internet", (f"{CONTROLLER}/eth0",)),
    ]


WITH_CLIENTS = "name: x\nstack: ovn\ninternet: {clients: {client-01: , client-02: }}\n"


def test_clients_are_behind_the_internet() -> None:
    graph = planned(topology(WITH_CLIENTS))
    client = host(graph, "client-01")
    assert client.is_client
    assert [(one.name, one.address) for one in client.interfaces] == [("eth0", "198.51.100.10/24")]
    (outside,) = [one for one in graph.segments if one.kind == "outside"]
    assert outside.members == ("client-01/eth0", "client-02/eth0")
    assert (outside.cidr, outside.gateway) == ("198.51.100.0/24", "198.51.100.1")
    assert [one.hosts for one in graph.tunnels] == [(CONTROLLER, COMPUTE)]
    text = plain(graph)
    assert "Geneve tunnels between all nodes: 1" in text
    assert "198.51.100.10/24  → Internet" in text
    drawn = mermaid(graph)
    assert "network outside<br/>198.51.100.0/24" in drawn
    assert "client-02" in svg(graph)


def test_a_running_lab_shows_which_client_runs() -> None:
    lab = RecordedLab("ovn-only")
    lab.topology = topology(WITH_CLIENTS.replace("name: x", "name: ovn-only"))
    lab.down = {"client-02"}
    graph = lab.graph()
    states = [(one.name, one.state) for one in graph.hosts if one.is_client]
    assert states == [("client-01", "running"), ("client-02", "down")]
    assert "client-02 is not running" in graph.notes


def test_nova_chooses_among_several_computes() -> None:
    graph = planned(
        topology("name: x\nnodes:\n  network-controller:\n  compute-01:\n  compute-02:\n")
    )
    assert not any(one.vms for one in graph.hosts)
    assert len(graph.tunnels) == 3
    assert any("Nova chooses" in note for note in graph.notes)


def test_a_lab_of_ovn_alone_begins_without_a_logical_network() -> None:
    graph = planned(topology("name: x\nstack: ovn\n"))
    assert (graph.switches, graph.routers) == ((), ())
    assert not any(one.vms for one in graph.hosts)


# -- read from real labs ---------------------------------------------------------------------------
@pytest.mark.parametrize("case", sorted(CASES))
def test_what_a_real_lab_said_becomes_a_graph(case: str) -> None:
    graph = RecordedLab(case).graph()
    directory = GOLDEN / "graph" / case
    expect_json(directory / "graph.json", expect_document("graph", graph))
    expect_text(directory / "terminal.en.txt", plain(graph))
    expect_text(directory / "graph.mmd", mermaid(graph))
    set_language("zh-TW")
    expect_text(directory / "terminal.zh-TW.txt", plain(graph, 80))


def test_the_tutorials_lab_is_understood() -> None:
    graph = RecordedLab("tutorial").graph()
    assert graph.live
    assert graph.notes == ()
    (vm,) = host(graph, COMPUTE).vms
    assert (vm.name, vm.address, vm.floating, vm.status) == (
        "vm_1", "172.16.100.10", "10.0.2.213", "ACTIVE",
    )  # fmt: skip
    assert interface(graph, COMPUTE, vm.interface).kind == "vif"
    assert interface(graph, COMPUTE, "eth1").bridge == "br-phy"
    assert interface(graph, COMPUTE, "tap64687a5a-a0").use == "metadata"
    assert interface(graph, CONTROLLER, "eth0").bridge == "br-ex"
    assert [one.physical_network for one in host(graph, CONTROLLER).bridges] == ["extnet0", "", ""]
    (router,) = graph.routers
    assert router.host == CONTROLLER
    assert router.nat == (
        NatRule("snat", "10.0.2.210", "172.16.100.0/24"),
        NatRule("dnat_and_snat", "10.0.2.213", "172.16.100.10"),
    )
    bound = {port.label: port.host for switch in graph.switches for port in switch.ports}
    assert bound["vm_1"] == COMPUTE
    assert bound["extnet0"] == CONTROLLER
    assert [one.hosts for one in graph.tunnels] == [(CONTROLLER, COMPUTE)]


def test_a_workload_is_a_namespace() -> None:
    graph = RecordedLab("ovn-only").graph()
    (vm,) = host(graph, COMPUTE).vms
    assert vm == Vm("vm_1", "tap-vm_1", "vm_1", "192.168.100.10", "10.0.2.200")
    kinds = {port.name: port.kind for switch in graph.switches for port in switch.ports}
    assert kinds["vm_1"] == "workload"


# -- half broken labs ----------------------------------------------------------------------------
def test_a_node_that_does_not_answer_is_drawn_as_such() -> None:
    lab = RecordedLab("tutorial")
    lab.guests[COMPUTE].on("^ask", raises=GuestError("compute-01: connection refused"))
    graph = lab.graph()
    assert host(graph, COMPUTE).state == "silent"
    assert [vm.name for vm in host(graph, COMPUTE).vms] == ["vm_1"]  # Nova knows
    assert any("compute-01 does not answer" in note for note in graph.notes)
    assert [one.hosts for one in graph.tunnels] == [(CONTROLLER, COMPUTE)]  # by who does answer
    assert "does not answer" in plain(graph)
    assert 'class="host silent"' in svg(graph)


def test_a_node_that_says_nonsense_is_silent() -> None:
    lab = RecordedLab("tutorial")
    lab.guests[COMPUTE].on("^ask", "bash: ip: command not found\n")
    assert host(lab.graph(), COMPUTE).state == "silent"


def test_a_node_without_open_vswitch_keeps_its_interfaces() -> None:
    lab = RecordedLab("tutorial")
    (addresses,) = [
        line for line in lab.said(f"{COMPUTE}.txt").splitlines() if line.startswith("addresses ")
    ]
    lab.guests[COMPUTE].on("^ask", f"switch \nbridges \nports \ninterfaces \n{addresses}\n")
    graph = lab.graph()
    assert host(graph, COMPUTE).state == "running"
    assert interface(graph, COMPUTE, "eth0").address == "10.0.2.15/24"
    assert graph.notes == ("Open vSwitch does not answer on compute-01",)


def test_a_controller_that_is_down_leaves_the_machines() -> None:
    lab = RecordedLab("tutorial", down={CONTROLLER})
    lab.cloud = no_cloud
    graph = lab.graph()
    assert host(graph, CONTROLLER).state == "down"
    assert host(graph, COMPUTE).state == "running"
    assert (graph.switches, graph.routers) == ((), ())
    assert any("network-controller is not running" in note for note in graph.notes)


def test_a_lab_that_is_halted_is_its_plan() -> None:
    graph = RecordedLab("tutorial", down={CONTROLLER, COMPUTE}).graph()
    assert not graph.live
    assert {one.state for one in graph.hosts} == {"down"}
    assert [one.label for one in graph.switches] == ["n1", "ext_n2"]
    assert "no node is running" in plain(graph)


def test_without_openstack_ovn_still_tells_what_runs() -> None:
    lab = RecordedLab("tutorial")

    def silent() -> Any:
        raise LabError("no route to Keystone")

    lab.cloud = silent
    graph = lab.graph()
    (vm,) = host(graph, COMPUTE).vms
    assert (vm.address, vm.floating) == ("172.16.100.10", "10.0.2.213")
    assert any("no route to Keystone" in note for note in graph.notes)


def test_without_ovns_databases_the_machines_are_drawn() -> None:
    lab = RecordedLab("tutorial")
    lab.guests[CONTROLLER].on("^set -e", raises=GuestError("ovn-nbctl: connection refused"))
    graph = lab.graph()
    assert graph.switches == ()
    assert [vm.name for vm in host(graph, COMPUTE).vms] == ["vm_1"]
    assert any("connection refused" in note for note in graph.notes)


def test_a_tunnel_needs_both_ends() -> None:
    lab = RecordedLab("tutorial")
    said = lab.said(f"{COMPUTE}.txt").replace("192.168.33.10", "192.168.33.99")
    lab.guests[COMPUTE].on("^ask", said)
    graph = lab.graph()
    assert graph.tunnels == ()
    assert "no Geneve tunnels" in plain(graph)


def test_missing_tables_are_named() -> None:
    with pytest.raises(ValueError, match="Logical_Switch"):
        ovn.understand('NAT {"headings": [], "data": []}\n', {}, openstack=True)
    with pytest.raises(ValueError, match="ip addr"):
        ovs.understand("")


# -- drawn -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_guest_calls_itself_is_only_text(name: str) -> None:
    tree = renamed(name)
    drawn = svg(tree)
    root = ElementTree.fromstring(drawn)
    tags = {one.tag.rpartition("}")[2] for one in root.iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "g", "text", "polyline", "circle"}
    allowed = {"x", "y", "cx", "cy", "r", "rx", "width", "height", "points", "class", "id", "role",
               "lang", "viewBox", "aria-labelledby", "data-place", "data-logical", "data-node",
               "data-bridge", "data-segment"}  # fmt: skip
    assert {key for one in root.iter() for key in one.attrib} <= allowed
    assert not set(drawn) & {"\x1b", "\x07"}
    assert not set(plain(tree)) & {"\x1b", "\x07"}
    assert "<script" not in mermaid(tree)


def test_the_svg_says_where_packets_can_be_seen() -> None:
    graph = RecordedLab("tutorial").graph()
    root = ElementTree.fromstring(svg(graph))
    places = {one.get("data-place") for one in root.iter()}
    assert set(graph.places()) <= places
    assert {f"{COMPUTE}/tap3ba44b78-d1", f"{CONTROLLER}/br-ex", INTERNET} <= places
    assert {one.get("data-node") for one in root.iter()} - {None} == {CONTROLLER, COMPUTE}
    bridges = {one.get("data-bridge") for one in root.iter()} - {None}
    assert bridges == {f"{one.name}/{bridge.name}" for one in graph.hosts for bridge in one.bridges}
    segments = {one.get("data-segment") for one in root.iter()} - {None}
    assert segments == {one.name for one in graph.segments if one.kind != "internet"}
    logical = {one.get("data-logical") for one in root.iter()} - {None}
    names = {one.name for one in graph.switches} | {one.name for one in graph.routers}
    assert logical == names


def test_two_pictures_can_be_on_one_page() -> None:
    graph = planned(topology())
    first, second = svg(graph, prefix="a"), svg(graph, prefix="b-2")
    ids = [one.get("id") for text in (first, second) for one in ElementTree.fromstring(text).iter()]
    named = [one for one in ids if one]
    assert named
    assert len(named) == len(set(named))
    assert "svg.a" not in second
    with pytest.raises(ValueError, match="prefix"):
        svg(graph, prefix='"><script>')


def test_nothing_of_the_svg_comes_from_elsewhere() -> None:
    text = svg(RecordedLab("tutorial").graph()).replace("http://www.w3.org/2000/svg", "")
    for outside in ("http", "url(", "@import", "<script", "href", "javascript:"):
        assert outside not in text
    assert "prefers-color-scheme:dark" in text
    assert ".theme-dark svg.g" in text
    assert ".theme-light svg.g" in text


def test_the_words_in_it_are_in_the_readers_language() -> None:
    set_language("zh-TW")
    text = svg(planned(topology()))
    assert 'lang="zh-TW"' in text
    assert "節點" in text
    assert "Logical network" not in text


def test_one_nat_for_all_is_one_network() -> None:
    graph = planned(topology())
    places = tuple(one.place("eth0") for one in graph.hosts)
    nat = Segment("nat", "nat", "10.0.2.0/24", "10.0.2.2", places)
    others = tuple(one for one in graph.segments if one.kind != "nat")
    assert svg(replace(graph, segments=(*others, nat))).count(">NAT 10.0.2.0/24<") == 1
    assert svg(graph).count(">NAT 10.0.2.0/24<") == 2


# -- the verb --------------------------------------------------------------------------------------
@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.yaml").write_text("name: ovn-tutorial\nprovider: nspawn\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> str:
    done = CliRunner().invoke(views_app, ["graph", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_before_there_is_a_lab_its_plan_is_drawn(directory: Path) -> None:
    assert "what will be built" in call("--planned")
    said = json.loads(call("--planned", "--json"))
    assert expect_document("graph", said)["live"] is False
    assert call("--planned", "--format", "svg").startswith("<svg ")


@pytest.mark.parametrize(
    ("name", "begins"),
    [("a.svg", "<svg "), ("a.mmd", "flowchart TB"), ("a.md", "```mermaid\n"), ("a.txt", "ovn-")],
)
def test_a_file_ends_as_what_it_is(directory: Path, name: str, begins: str) -> None:
    assert f"{name} is written" in call("--planned", "-o", name)
    assert (directory / name).read_text("utf-8").startswith(begins)


@pytest.mark.parametrize("words", [["--format", "png"], ["-o", "a.png"]])
def test_what_cannot_be_drawn_is_refused(directory: Path, words: list[str]) -> None:
    with pytest.raises(LabError):
        CliRunner().invoke(views_app, ["graph", "--planned", *words], catch_exceptions=False)


def test_only_ovns_own_tunnels_are_called_geneve() -> None:
    tunnels = (
        Interface("ovn-comput-0", "tunnel", bridge="br-int", peer="192.168.33.20"),
        Interface("vxlan0", "tunnel", bridge="br-ex", peer="192.168.33.20"),
    )
    host = Host("a", (), tunnels)
    assert [short_name(host, tunnel) for tunnel in tunnels] == [
        "Geneve → 192.168.33.20",
        "vxlan0 → 192.168.33.20",
    ]


def test_many_tunnels_of_ovn_share_a_box_and_others_have_their_names() -> None:
    graph = planned(topology())
    tunnels = tuple(
        Interface(f"{name}{n}", "tunnel", bridge=bridge, peer=f"10.9.0.{n}")
        for name, bridge in (("ovn-", "br-int"), ("vxlan", "br-ex"))
        for n in range(4)
    )
    hosts = tuple(
        replace(one, interfaces=(*one.interfaces, *tunnels)) if one.name == CONTROLLER else one
        for one in graph.hosts
    )
    graph = replace(graph, hosts=hosts)
    for drawn in (svg(graph), plain(graph, 160)):
        assert "4 × Geneve" in drawn
        assert "8 × Geneve" not in drawn
        assert drawn.count("vxlan0 → 10.9.0.0") >= 1


# -- floating IPs without a port -------------------------------------------------------------------
FREE = "10.0.2.214"
OUTSIDE = "78970d03-f3ed-43b1-b2c5-75938b9555f4"
"""ID of the recorded external network."""


def test_a_floating_ip_without_a_port_is_drawn_in_its_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")
    lab = RecordedLab("tutorial")
    lab.free = {FREE: OUTSIDE}
    graph = lab.graph()
    assert [(switch.label, switch.floating) for switch in graph.switches if switch.floating] == [
        ("ext_n2", (FREE,))
    ]
    for text in (svg(graph), mermaid(graph), plain(graph)):
        assert FREE in text
        assert "floating IPs without a port" in text
    lab.free = {}
    for text in (svg(lab.graph()), mermaid(lab.graph()), plain(lab.graph())):
        assert FREE not in text
        assert "without a port" not in text


def does_not_answer() -> Any:
    raise LabError("no answer")


def test_only_what_is_not_known_is_asked() -> None:
    lab, known = RecordedLab("tutorial"), Answers()
    first = live(cast(Lab, lab), known)
    asked = {name: len(guest.ran) for name, guest in lab.guests.items()}
    lab.cloud = does_not_answer
    assert live(cast(Lab, lab), known) == first
    assert {name: len(guest.ran) for name, guest in lab.guests.items()} == asked
    known.forget(OVN)
    known.forget(COMPUTE)
    assert live(cast(Lab, lab), known) == first
    assert {name: len(guest.ran) for name, guest in lab.guests.items()} == {
        name: count + 1 for name, count in asked.items()
    }
    for part in (NOVA, NEUTRON, "anything else"):
        known.forget(part)
        assert any(
            "OpenStack does not answer" in note for note in live(cast(Lab, lab), known).notes
        )
