"""OVSDB databases: kept as rows, put back by one transaction that changes only what differs.

Rows keep their UUIDs, deleted ones get theirs back. So what is as it was is not even noticed by
those who watch the database: their flows stay. `ovsdb-client restore` makes every row anew.
"""

import json
import socket

NORTHBOUND = "/run/ovn/ovnnb_db.sock"
SWITCH = "/run/openvswitch/db.sock"

# What daemons write, and nobody decides. "*": in every table.
THEIRS = {
    "NB_Global": {"nb_cfg", "nb_cfg_timestamp", "sb_cfg", "sb_cfg_timestamp", "hv_cfg",
                  "hv_cfg_timestamp", "connections", "ssl"},
    "Logical_Switch_Port": {"up", "dynamic_addresses"},
    "Logical_Router_Port": {"status"},
    "BFD": {"status"},
    "Open_vSwitch": {"cur_cfg", "next_cfg", "statistics", "ovs_version", "db_version",
                     "system_type", "system_version", "datapath_types", "iface_types",
                     "dpdk_initialized", "dpdk_version", "datapaths"},
    "Bridge": {"status", "rstp_status", "datapath_id", "datapath_version"},
    "Port": {"status", "statistics", "rstp_status", "rstp_statistics"},
    "Interface": {"ofport", "ifindex", "statistics", "status", "error", "mac_in_use"},
}  # fmt: skip
# Daemons keep a few keys among those that people set.
THEIR_KEYS = (
    "ovn-installed", "ct-zone-", "ovn-nb-cfg", "ovn-cleanup", "neutron:liveness_check_at",
)  # fmt: skip
# Tables that are only theirs.
SKIPPED = {"Connection", "SSL", "Datapath", "CT_Zone", "CT_Timeout_Policy", "Copp"}


class Server:
    """One OVSDB server, on its socket; speaks JSON-RPC."""

    def __init__(self, path, database):
        self._database = database
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(path)
        self._rest = ""
        self._decoder = json.JSONDecoder()

    def call(self, method, *params):
        asked = {"method": method, "params": list(params), "id": 1}
        self._socket.sendall(json.dumps(asked).encode())
        while True:
            answer = self._next()
            if answer.get("method") == "echo":
                told = {"id": answer["id"], "result": answer["params"], "error": None}
                self._socket.sendall(json.dumps(told).encode())
            elif answer.get("id") == 1:
                if answer.get("error"):
                    raise SystemExit(f"{self._database}: {answer['error']}")
                return answer["result"]

    def _next(self):
        while True:
            try:
                found, end = self._decoder.raw_decode(self._rest)
            except ValueError:
                more = self._socket.recv(1 << 20)
                if not more:
                    raise SystemExit(f"{self._database}: the server hung up") from None
                self._rest += more.decode()
                continue
            self._rest = self._rest[end:].lstrip()
            return found

    def schema(self):
        return self.call("get_schema", self._database)["tables"]

    def transact(self, operations):
        result = self.call("transact", self._database, *operations)
        for one in result:
            if one and one.get("error"):
                raise SystemExit(f"{self._database}: {one['error']}: {one.get('details', '')}")
        return result

    def rows(self, columns):
        """{table: {uuid: {column: value}}}"""
        asked = [
            {"op": "select", "table": table, "where": [], "columns": ["_uuid", *names]}
            for table, names in columns.items()
        ]
        found = {}
        for table, answer in zip(columns, self.transact(asked), strict=True):
            found[table] = {row.pop("_uuid")[1]: row for row in answer["rows"]}
        return found


def chosen(schema):
    """{table: columns that are kept}"""
    return {
        table: [
            column
            for column, its in sorted(about["columns"].items())
            if not its.get("ephemeral") and column not in THEIRS.get(table, ())
        ]
        for table, about in sorted(schema.items())
        if table not in SKIPPED
    }


def plain(value):
    """Without the order of sets and maps, and without the keys that daemons keep."""
    if isinstance(value, list) and len(value) == 2:
        if value[0] == "map":
            pairs = [p for p in value[1] if not str(p[0]).startswith(THEIR_KEYS)]
            return ["map", sorted(pairs, key=json.dumps)]
        if value[0] == "set":
            # A set of one is written as its element.
            return value[1][0] if len(value[1]) == 1 else ["set", sorted(value[1], key=json.dumps)]
    return value


def with_their_keys(wanted, current):
    """A map as it was, with the keys daemons keep as they are."""
    if isinstance(wanted, list) and wanted[:1] == ["map"] and isinstance(current, list):
        theirs = [p for p in current[1] if str(p[0]).startswith(THEIR_KEYS)]
        mine = [p for p in wanted[1] if not str(p[0]).startswith(THEIR_KEYS)]
        return ["map", [*mine, *theirs]]
    return wanted


def difference(saved, current):
    """The operations that make the current rows what the saved ones are."""
    operations = []
    for table, rows in saved.items():
        now = current.get(table, {})
        for uuid, row in rows.items():
            if uuid not in now:
                row = {column: with_their_keys(its, ["map", []]) for column, its in row.items()}
                operations.append({"op": "insert", "table": table, "uuid": uuid, "row": row})
                continue
            changed = {
                column: with_their_keys(value, now[uuid].get(column))
                for column, value in row.items()
                if plain(value) != plain(now[uuid].get(column))
            }
            if changed:
                where = [["_uuid", "==", ["uuid", uuid]]]
                operations.append({"op": "update", "table": table, "where": where, "row": changed})
        operations += [
            {"op": "delete", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]]}
            for uuid in now
            if uuid not in rows
        ]
    return operations


def bring_back(server, saved):
    """Change what differs; how many rows that were."""
    operations = difference(saved, server.rows(chosen(server.schema())))
    if operations:
        server.transact(operations)
    return len(operations)


# -- northbound ----------------------------------------------------------------------------------
def save_northbound(place):
    server = Server(NORTHBOUND, "OVN_Northbound")
    rows = server.rows(chosen(server.schema()))
    (place / "northbound.json").write_text(json.dumps(rows, separators=(",", ":")))


def restore_northbound(place):
    saved = json.loads((place / "northbound.json").read_text())
    return bring_back(Server(NORTHBOUND, "OVN_Northbound"), saved)


# -- Open vSwitch ----------------------------------------------------------------------------------
def save_switch(place):
    server = Server(SWITCH, "Open_vSwitch")
    rows = server.rows(chosen(server.schema()))
    (place / "openvswitch.json").write_text(json.dumps(rows, separators=(",", ":")))


def external(row, key):
    return dict(row.get("external_ids", ["map", []])[1]).get(key)


def owned(name, row):
    """Whether an interface comes and goes with OVN, Nova or the metadata agent."""
    # A lesson's own workload is an internal port, whatever its name.
    return (
        (name.startswith(("tap", "patch-")) and row.get("type") != "internal")
        or external(row, "ovn-chassis-id") is not None
        or row.get("type") == "geneve"
    )


def elements(value):
    return value[1] if value[:1] == ["set"] else [value]


def parted(rows):
    """Rows without the ports that others own, and the UUIDs of those ports with their names."""
    interfaces, ports = rows["Interface"], rows["Port"]
    theirs = {}
    for uuid, port in ports.items():
        mine = [one[1] for one in elements(port["interfaces"])]
        if any(
            one in interfaces and owned(interfaces[one]["name"], interfaces[one]) for one in mine
        ):
            theirs[uuid] = (port["name"], mine)
    hidden = {one for _, mine in theirs.values() for one in mine}
    rest = dict(rows)
    rest["Port"] = {uuid: row for uuid, row in ports.items() if uuid not in theirs}
    rest["Interface"] = {uuid: row for uuid, row in interfaces.items() if uuid not in hidden}
    rest["Bridge"] = {
        uuid: {
            **row,
            "ports": ["set", [one for one in elements(row["ports"]) if one[1] not in theirs]],
        }
        for uuid, row in rows["Bridge"].items()
    }
    return rest, theirs


def foreign_taps(saved, current):
    """UUIDs of ports that Nova has plugged since: instances that are not to be there."""
    had = {name for name, _ in parted(saved)[1].values()}
    interfaces = current["Interface"]
    return {
        uuid
        for uuid, (name, mine) in parted(current)[1].items()
        if name not in had and any(external(interfaces[one], "vm-uuid") for one in mine)
    }


def restore_switch(place):
    """Make all of Open vSwitch what it was, but the ports that others plug; how many rows."""
    saved = json.loads((place / "openvswitch.json").read_text())
    server = Server(SWITCH, "Open_vSwitch")
    current = server.rows(chosen(server.schema()))
    drop = foreign_taps(saved, current)
    wanted, _ = parted(saved)
    now, theirs = parted(current)
    for uuid, row in now["Bridge"].items():
        if uuid in wanted["Bridge"]:
            keep = [
                one
                for one in elements(current["Bridge"][uuid]["ports"])
                if one[1] in theirs and one[1] not in drop
            ]
            its = wanted["Bridge"][uuid]
            wanted["Bridge"][uuid] = {**its, "ports": ["set", [*its["ports"][1], *keep]]}
            now["Bridge"][uuid] = {**row, "ports": current["Bridge"][uuid]["ports"]}
    operations = difference(wanted, now)
    if operations:
        server.transact(operations)
    return len(operations)
