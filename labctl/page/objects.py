"""One object of the drawing, as OpenStack, OVN's two databases and Open vSwitch each know it."""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from labctl.access.ovsdb import Row, Rows, Tool, as_list, list_command, parse_tables, tables_script
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.terminal.text import one_line, sanitize

Kind = Literal["interface", "port", "logical", "nat", "floating"]
KINDS: tuple[Kind, ...] = ("interface", "port", "logical", "nat", "floating")
"""An interface of a node, a logical port, a logical switch or router, a NAT rule of a router, and
a floating IP that belongs to no port: Neutron alone knows it."""
MOST_VALUE = 2000
"""Characters of one value."""
MOST_LINES = 60
"""Flows of one object that are shown."""

_NORTH = ("Logical_Switch", "Logical_Switch_Port", "Logical_Router", "Logical_Router_Port", "NAT")
_SOUTH = ("Datapath_Binding", "Port_Binding", "Chassis", "Encap")
_SWITCH = ("Interface", "Port", "Bridge")
_LARGE = frozenset({"statistics", "nb_cfg"})
"""Columns that would only fill the page."""

Section = dict[str, Any]
"""title, and fields as [name, value] or lines of text."""


def ask(lab: Lab, kind: Kind, name: str, router: str = "") -> dict[str, Any]:
    """Four columns, each with its sections; `name` as in the drawing.

    `router` is that of a NAT rule, which is named as `TYPE EXTERNAL LOGICAL`. Raises LabError when
    OVN's databases do not answer, or have no such object.
    """
    lab.require_created()
    databases = _databases(lab)
    switches = _switches(lab)
    object_ = _Object(kind, name, router, databases, switches)
    north, south, switch = object_.north(), object_.south(), object_.switch()
    flows = _flows(lab, object_)
    cloud = _openstack(lab, object_)
    if not (north or south or switch or (kind == "floating" and cloud["sections"])):
        raise LabError(tr("there is no {name} any more", name=repr(name)), code=EXIT_USAGE)
    return {
        "title": one_line(name),
        "columns": [
            {"name": "OpenStack", **cloud},
            {"name": tr("OVN northbound"), "sections": north, "note": "" if north else _none()},
            {"name": tr("OVN southbound"), "sections": [*south, *flows.get("south", [])],
             "note": "" if south or flows.get("south") else _none()},
            {"name": "Open vSwitch", "sections": [*switch, *flows.get("switch", [])],
             "note": "" if switch or flows.get("switch") else _none()},
        ],
    }  # fmt: skip


def _none() -> str:
    return tr("It knows nothing of it.")


# -- reading ---------------------------------------------------------------------------------------
def _tables(tool: Tool, tables: Sequence[str]) -> dict[str, list[str]]:
    # All columns: what a learner looks for is not ours to choose.
    return {table: list_command(tool, table, None, timeout=30) for table in tables}


def _databases(lab: Lab) -> Mapping[str, Rows]:
    commands = {**_tables("ovn-nbctl", _NORTH), **_tables("ovn-sbctl", _SOUTH)}
    output = lab.controller.run(tables_script(commands), timeout=60).stdout
    try:
        return parse_tables(output, commands)
    except (ValueError, KeyError) as error:
        raise LabError(tr("OVN's databases do not answer: {error}", error=error)) from error


def _switches(lab: Lab) -> dict[str, Mapping[str, Rows]]:
    """By node, as far as they answer."""

    def read(node: str) -> Mapping[str, Rows]:
        try:
            script = tables_script(_tables("ovs-vsctl", _SWITCH))
            return parse_tables(lab.guest(node).run(script, timeout=30).stdout)
        except (LabError, OSError, ValueError, KeyError):
            return {}

    nodes = [node.name for node in lab.topology.nodes]
    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        return dict(zip(nodes, pool.map(read, nodes), strict=True))


# -- choosing --------------------------------------------------------------------------------------
class _Object:
    """The rows that are about one object. Pure."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        router: str,
        databases: Mapping[str, Rows],
        switches: Mapping[str, Mapping[str, Rows]],
    ) -> None:
        self.kind = kind
        self.name = name
        self.router = router
        self.databases = databases
        self.switches = switches
        self.node, _, self.device = name.partition("/") if kind == "interface" else ("", "", "")

    def _rows(self, table: str) -> Rows:
        return self.databases.get(table, [])

    @property
    def port(self) -> str:
        """Name of the logical port; empty: none."""
        if self.kind == "port":
            return self.name
        if self.kind == "interface":
            for row in self._interfaces(self.node):
                if row["name"] == self.device:
                    return str((row.get("external_ids") or {}).get("iface-id", ""))
        return ""

    @property
    def remote(self) -> str:
        """Far end of the tunnel that the interface is; empty: it is none."""
        for row in self._interfaces(self.node):
            if row["name"] == self.device:
                return str((row.get("options") or {}).get("remote_ip", ""))
        return ""

    @property
    def rule(self) -> tuple[str, str, str]:
        """Type, external and logical address of a NAT rule."""
        words = [*self.name.split(), "", "", ""]
        return words[0], words[1], words[2]

    def _interfaces(self, node: str) -> Rows:
        return self.switches.get(node, {}).get("Interface", [])

    def nat(self) -> Rows:
        """The rows of the NAT rule."""
        owned = [
            uuid
            for row in self._rows("Logical_Router")
            if not self.router or row["name"] == self.router
            for uuid in as_list(row.get("nat"))
        ]
        return [
            row
            for row in self._rows("NAT")
            if row["_uuid"] in owned
            and (row["type"], row["external_ip"], row["logical_ip"]) == self.rule
        ]

    def north(self) -> list[Section]:
        """What the northbound database says."""
        if self.kind == "nat":
            return [_section("NAT", row) for row in self.nat()]
        names = {self.name if self.kind == "logical" else self.port} - {""}
        tables = (
            ("Logical_Switch", "Logical_Router")
            if self.kind == "logical"
            else ("Logical_Switch_Port", "Logical_Router_Port")
        )
        return [
            _section(table, row)
            for table in tables
            for row in self._rows(table)
            if row["name"] in names
        ]

    def south(self) -> list[Section]:
        """What the southbound database says."""
        sections: list[Section] = []
        if self.kind == "logical":
            sections += [
                _section("Datapath_Binding", row)
                for row in self._rows("Datapath_Binding")
                if self.name in (row.get("external_ids") or {}).values()
            ]
        bindings = [
            row for row in self._rows("Port_Binding")
            if self.port and row["logical_port"] in (self.port, f"cr-{self.port}")
        ]  # fmt: skip
        sections += [_section("Port_Binding", row) for row in bindings]
        chassis = {uuid for row in bindings for uuid in as_list(row.get("chassis"))}
        encaps = [row for row in self._rows("Encap") if self.remote and row["ip"] == self.remote]
        names = {row["chassis_name"] for row in encaps}
        sections += [_section("Encap", row) for row in encaps]
        sections += [
            _section("Chassis", row)
            for row in self._rows("Chassis")
            if row["_uuid"] in chassis or row["name"] in names
        ]
        return sections

    def switch(self) -> list[Section]:
        """What Open vSwitch says, on any node."""
        sections: list[Section] = []
        for node, tables in self.switches.items():
            for row in tables.get("Interface", []):
                is_meant = (
                    (node, row["name"]) == (self.node, self.device)
                    if self.kind == "interface"
                    else bool(self.port)
                    and (row.get("external_ids") or {}).get("iface-id") == self.port
                )
                if not is_meant:
                    continue
                sections.append(_section("Interface", row, node))
                ports = [
                    port for port in tables.get("Port", [])
                    if row["_uuid"] in as_list(port.get("interfaces"))
                ]  # fmt: skip
                sections += [_section("Port", port, node) for port in ports]
                sections += [
                    _section("Bridge", bridge, node)
                    for bridge in tables.get("Bridge", [])
                    if {port["_uuid"] for port in ports} & set(as_list(bridge.get("ports")))
                ]
        return sections


def _section(table: str, row: Row, node: str = "") -> Section:
    title = tr("{text} ({detail})", text=table, detail=node) if node else table
    return {"title": title, "fields": list(_fields(row))}


def _fields(row: Mapping[str, Any]) -> Iterator[list[str]]:
    for key, value in row.items():
        if value in (None, "", [], {}) or key in _LARGE or key.startswith("ingress_policing"):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield [one_line(key), sanitize(text)[:MOST_VALUE]]


# -- flows of a NAT rule ---------------------------------------------------------------------------
_HEX_COOKIE = re.compile(r"cookie=\S+, duration=\S+ ")


def _flows(lab: Lab, wanted: _Object) -> dict[str, list[Section]]:
    """Logical and OpenFlow flows that name the external address of a NAT rule."""
    _, external, _ = wanted.rule
    if wanted.kind != "nat" or not wanted.nat():
        return {}  # so that the names below are those of rows, and no options of a command
    pattern = shlex.quote(external)
    logical = (
        f"ovn-sbctl --timeout=30 lflow-list {shlex.quote(wanted.router)} | grep -wF -- {pattern}"
    )
    found = {"south": _lines(lab, lab.topology.controller.name, logical, "Logical_Flow")}
    sections: list[Section] = []
    for node in lab.topology.nodes:
        openflow = f"ovs-ofctl --no-names dump-flows br-int | grep -wF -- {pattern}"
        sections += _lines(lab, node.name, openflow, "br-int")
    return {**found, "switch": sections}


def _lines(lab: Lab, node: str, script: str, title: str) -> list[Section]:
    try:
        output = lab.guest(node).run(script, timeout=30, check=False).stdout
    except (LabError, OSError):
        return []
    lines = [_HEX_COOKIE.sub("", sanitize(line.strip())) for line in output.splitlines()]
    heading = tr("{text} ({detail})", text=title, detail=node)
    return [{"title": heading, "lines": lines[:MOST_LINES]}] if lines else []


# -- OpenStack -------------------------------------------------------------------------------------
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _openstack(lab: Lab, wanted: _Object) -> dict[str, Any]:
    """What Neutron and Nova say, with a note where they say nothing."""
    if lab.topology.stack != "openstack":
        return {"sections": [], "note": tr("This lab has no OpenStack.")}
    try:
        sections = list(_resources(lab, wanted))
    except Exception as error:  # openstacksdk raises errors of its own and of HTTP's
        said = one_line(str(error))
        return {"sections": [], "note": tr("OpenStack does not answer: {said}", said=said)}
    return {"sections": sections, "note": "" if sections else _none()}


def _resources(lab: Lab, wanted: _Object) -> Iterator[Section]:
    network = lab.cloud().network
    if wanted.kind == "floating":
        for address in network.ips(floating_ip_address=wanted.name):
            yield _resource("floating IP", address)
    elif wanted.kind == "nat":
        _, external, _ = wanted.rule
        for address in network.ips(floating_ip_address=external):
            yield _resource("floating IP", address)
        found = _UUID.search(wanted.router)
        if found:
            yield from _found("router", network.find_router, found[0])
    elif wanted.kind == "logical":
        if found := _UUID.search(wanted.name):
            yield from _found("network", network.find_network, found[0])
            yield from _found("router", network.find_router, found[0])
    elif wanted.remote:
        for agent in network.agents():
            hosts = {row["hostname"] for row in wanted.databases.get("Chassis", [])
                     if row["name"] in {encap["chassis_name"]
                                        for encap in wanted.databases.get("Encap", [])
                                        if encap["ip"] == wanted.remote}}  # fmt: skip
            if agent.host in hosts:
                yield _resource("agent", agent)
    elif found := _UUID.search(wanted.port):
        port = network.find_port(found[0])
        if port is None:
            return
        yield _resource("port", port)
        if str(port.device_owner).startswith("compute:"):
            server = lab.cloud().compute.find_server(port.device_id)
            if server is not None:
                yield _resource("server", server)


def _found(title: str, find: Callable[[str], Any], name: str) -> Iterator[Section]:
    resource = find(name)
    if resource is not None:
        yield _resource(title, resource)


def _resource(title: str, resource: Any) -> Section:
    fields = resource.to_dict(computed=False)
    fields.pop("location", None)
    return {"title": title, "fields": list(_fields(fields))}
