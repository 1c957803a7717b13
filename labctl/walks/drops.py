"""What drops a packet, by the names of OVN and Open vSwitch: the ACL, port security, the flow.

ovn-trace names the logical flow that drops a packet. `read` asks what it was made of in the
northbound database, and what OpenFlow flows a node made of it, with their counters.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labctl.access.guest import Guest, GuestError
from labctl.access.ovsdb import Row, Rows, as_list, list_command, parse_tables, tables_script
from labctl.walks.ovntrace import Trace, TraceEvent

TABLES = {
    "ACL": "_uuid,name,direction,priority,match,action,external_ids",
    "Port_Group": "name,acls,ports",
    "Logical_Switch": "_uuid,acls",
    "Logical_Switch_Port": "_uuid,name,port_security",
}
"""Columns by table of the northbound database."""
_MOST_FLOWS = 3
"""How many OpenFlow flows are named. One logical flow may become many: one for each member of an
address set."""


@dataclass(frozen=True)
class Acl:
    """The ACL that a logical flow was made of."""

    uuid: str
    name: str
    """Empty for most: Neutron names only those that are logged."""
    direction: str
    """`from-lport` (what a port sends) or `to-lport` (what is for it)."""
    priority: int
    match: str
    action: str
    group: str
    """The port group that it belongs to; empty: it belongs to the logical switch."""
    rule: str
    """ID of the rule of a security group that Neutron made it of; empty if of none."""


@dataclass(frozen=True)
class OpenFlow:
    """An OpenFlow flow of br-int on one node."""

    table: int
    priority: int
    cookie: str
    """Begins with 0x: the first digits of the logical flow's UUID."""
    packets: int
    """How many packets have matched it so far."""
    match: str
    actions: str


@dataclass(frozen=True)
class Drop:
    """What drops the packet."""

    node: str
    """The node that was asked for its OpenFlow flows: where the packet was seen last."""
    logical_flow: str
    """The first digits of its UUID in the southbound database."""
    port: str
    """The logical port by which the packet came in, or was to go out."""
    acl: Acl | None = None
    groups: tuple[str, ...] = ()
    """The port groups that the port is in. Neutron makes one of each security group."""
    port_security: tuple[str, ...] = ()
    """The addresses that the port may use; empty: it may use all."""
    flows: tuple[OpenFlow, ...] = ()
    """The first of those that have matched packets, else of all; only those of the switch or router
    that drops it."""


def read(
    controller: Guest, node: Guest, event: TraceEvent, trace: Trace, key: int | None
) -> Drop | None:
    """Ask what an event that drops a packet comes from; None where ovn-trace names no flow.

    `key` is the tunnel key of the switch or router that drops it; None if it is not known. Without
    an answer of the databases or of the node, what they would say is left out.
    """
    if not event.uuid:
        return None
    commands = {table: list_command("ovn-nbctl", table, columns) for table, columns in
                TABLES.items()}  # fmt: skip
    commands["Logical_Flow"] = list_command(
        "ovn-sbctl", "Logical_Flow", "_uuid,external_ids", record=event.uuid
    )
    try:
        tables = parse_tables(
            controller.run(tables_script(commands), timeout=30, check=False).stdout
        )
    except (GuestError, ValueError):
        tables = {}
    try:
        printed = node.run(openflow_command(f"0x{event.uuid}"), timeout=30, check=False).stdout
    except GuestError:
        printed = ""
    return understand(node.name, event, port_of(event, trace), tables, printed, key)


def openflow_command(cookie: str) -> list[str]:
    """argv that prints what a node made of a logical flow."""
    return ["ovs-ofctl", "dump-flows", "br-int", f"cookie={cookie}/-1"]


def port_of(event: TraceEvent, trace: Trace) -> str:
    """The logical port by which the packet came into that pipeline, or was to leave it."""
    # After a rejection the trace goes on with OVN's answer, maybe to the same flow again.
    for pipeline in trace.pipelines if event.kind == "rejected" else reversed(trace.pipelines):
        if any((stage.name, stage.uuid) == (event.table, event.uuid) for stage in pipeline.stages):
            return pipeline.outport if "_out_" in event.table else pipeline.inport
    return ""


def understand(
    node: str,
    event: TraceEvent,
    port: str,
    tables: Mapping[str, Rows],
    printed: str,
    key: int | None = None,
) -> Drop:
    """The rows of every table (what is missing is not known) and ovs-ofctl's output -> the drop."""
    row = next(
        (row for row in tables.get("Logical_Switch_Port", ()) if row.get("name") == port), {}
    )
    # One logical flow may be for several switches: OVN has a flow for each, with its key.
    flows = [flow for flow in parse_flows(printed) if _key(flow) in (None, key) or key is None]
    matched = [flow for flow in flows if flow.packets]
    return Drop(
        node=node,
        logical_flow=event.uuid,
        port=port,
        acl=_acl(tables),
        groups=tuple(
            sorted(
                group["name"]
                for group in tables.get("Port_Group", ())
                if row and row["_uuid"] in as_list(group.get("ports"))
            )
        ),
        port_security=tuple(as_list(row.get("port_security"))),
        flows=tuple((matched or flows)[:_MOST_FLOWS]),
    )


def _key(flow: OpenFlow) -> int | None:
    """The tunnel key of the switch or router that a flow is for."""
    found = re.search(r"\bmetadata=0x([0-9a-f]+)", flow.match)
    return int(found[1], 16) if found else None


def _acl(tables: Mapping[str, Rows]) -> Acl | None:
    # ovn-northd writes the first digits of the UUID of the row that a flow comes from.
    hints = [(row["external_ids"] or {}).get("stage-hint", "") for row in
             tables.get("Logical_Flow", ())]  # fmt: skip
    for row in tables.get("ACL", ()):
        if any(hint and row["_uuid"].startswith(hint) for hint in hints):
            return _acl_of(row, tables.get("Port_Group", ()))
    return None


def _acl_of(row: Row, groups: Sequence[Row]) -> Acl:
    return Acl(
        uuid=row["_uuid"],
        name=row["name"] or "",
        direction=row["direction"],
        priority=row["priority"],
        match=row["match"],
        action=row["action"],
        group=next(
            (group["name"] for group in groups if row["_uuid"] in as_list(group.get("acls"))), ""
        ),
        rule=(row["external_ids"] or {}).get("neutron:security_group_rule_id", ""),
    )


_FLOW = re.compile(
    r"\s*cookie=(?P<cookie>0x[0-9a-f]+),.*?\btable=(?P<table>\d+), n_packets=(?P<packets>\d+),"
    r".*?\bpriority=(?P<priority>\d+)(?:,(?P<match>\S*))? actions=(?P<actions>.*)"
)


def parse_flows(text: str) -> list[OpenFlow]:
    """The flows that `ovs-ofctl dump-flows` printed. Lines that are none are ignored."""
    return [
        OpenFlow(
            table=int(found["table"]),
            priority=int(found["priority"]),
            cookie=found["cookie"],
            packets=int(found["packets"]),
            match=found["match"] or "",
            actions=found["actions"].strip(),
        )
        for line in text.splitlines()
        if (found := _FLOW.fullmatch(line))
    ]
