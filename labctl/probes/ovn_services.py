"""Probes of what OVN does besides forwarding: ACL logs, conntrack, load balancers, DHCP, DNS.

Each is a command and a pure parser, as in ovn.py.
"""

import re
import shlex
from collections.abc import Callable, Mapping

from labctl.access.guest import Guest
from labctl.access.ovsdb import Row, Rows, as_list
from labctl.probes.context import Probe, ProbeContext, entering
from labctl.probes.in_instance import instance_of, run_in_instance


def _names_by_row(owners: Rows, column: str) -> Callable[[Row], list[str]]:
    """For a row of the table that `column` refers to: the names of the owners that do."""
    return lambda row: sorted(
        owner["name"] for owner in owners if row["_uuid"] in as_list(owner[column])
    )


# -- ACLs and conntrack ----------------------------------------------------------------------------
_TUPLE = re.compile(r"(orig|reply)=\(([^)]*)\)")


def parse_conntrack(text: str) -> Rows:
    """The rows of `ovs-appctl dpctl/dump-conntrack`, one for each line about IPv4."""
    rows = []
    for line in text.splitlines():
        sides = {
            side: dict(pair.split("=", 1) for pair in inside.split(","))
            for side, inside in _TUPLE.findall(line)
        }
        if sides.keys() != {"orig", "reply"} or ":" in sides["orig"].get("src", ":"):
            continue
        original, reply = sides["orig"], sides["reply"]
        rows.append(
            {
                "protocol": line.partition(",")[0],
                "src": original["src"],
                "dst": original["dst"],
                "source_port": original.get("sport"),
                "destination_port": original.get("dport"),
                "reply_src": reply["src"],
                "reply_dst": reply["dst"],
                "reply_port": reply.get("sport"),
                "zone": _first(r"\bzone=(\d+)", line),
                "mark": _first(r"\bmark=(\w+)", line),
                "state": _first(r"\bstate=(\w+)", line),
            }
        )
    return rows


def _first(pattern: str, line: str) -> str | None:
    found = re.search(pattern, line)
    return found[1] if found else None


def conntrack(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """protocol, src, dst, source_port, destination_port, reply_src, reply_dst, reply_port, zone,
    mark, state: connections that the Open vSwitch of `from`, a node, remembers.

    `reply_src` and `reply_port` are where answers come from; not `dst` if that was translated.
    """
    guest = context.guest(arguments["from"])
    return parse_conntrack(guest.run(["ovs-appctl", "dpctl/dump-conntrack"], timeout=15).stdout)


# The local time zone of a node is not asked: ovn-controller writes UTC, with a Z.
_READ_LOG = (
    'since=$(date -u -d "-$0 seconds" +%Y-%m-%dT%H:%M:%S); '
    "tail -n 4000 /var/log/ovn/ovn-controller.log | "
    "awk -v since=\"$since\" '/\\|acl_log\\(/ && $0 >= since'"
)
_LOGGED = re.compile(
    r'name="(?P<name>[^"]*)", verdict=(?P<verdict>\w+), severity=(?P<severity>\w+), '
    r"direction=(?P<direction>[a-z-]+): (?P<protocol>\w+),"
)


def parse_acl_log(text: str) -> Rows:
    """The rows of ovn-controller's log that ACLs wrote about IPv4 packets."""
    rows = []
    for line in text.splitlines():
        if not (found := _LOGGED.search(line)):
            continue
        packet = dict(re.findall(r"(\w+)=([^,\s]+)", line[found.end() :]))
        if "nw_src" not in packet:
            continue
        rows.append(
            {
                **found.groupdict(),
                "src": packet["nw_src"],
                "dst": packet["nw_dst"],
                "source_port": packet.get("tp_src"),
                "destination_port": packet.get("tp_dst"),
                "flags": packet.get("tcp_flags"),
            }
        )
    return rows


def acl_log(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """name, verdict, severity, direction, protocol, src, dst, source_port, destination_port,
    flags: what ACLs with `log` wrote on `from`, a node, in the last `seconds` (20).

    `name` is the ACL's; `flags` are those of tcp in words, as `syn|ack`.
    """
    seconds = str(int(arguments.get("seconds", "20")))
    guest = context.guest(arguments["from"])
    return parse_acl_log(guest.run(["bash", "-c", _READ_LOG, seconds], timeout=15).stdout)


# -- load balancers --------------------------------------------------------------------------------
def load_balancers(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, vip, backends (a list), protocol, switches, routers (lists of names), health_checks:
    a row for each virtual address of a load balancer.

    `health_checks` is how many the load balancer has.
    """
    switches = _names_by_row(
        context.table("ovn-nbctl", "Logical_Switch", "name,load_balancer"), "load_balancer"
    )
    routers = _names_by_row(
        context.table("ovn-nbctl", "Logical_Router", "name,load_balancer"), "load_balancer"
    )
    return [
        {
            "name": row["name"],
            "vip": vip,
            "backends": [backend for backend in backends.split(",") if backend],
            "protocol": row["protocol"] or "tcp",
            "switches": switches(row),
            "routers": routers(row),
            "health_checks": len(as_list(row["health_check"])),
        }
        for row in context.table(
            "ovn-nbctl", "Load_Balancer", "_uuid,name,vips,protocol,health_check"
        )
        for vip, backends in sorted(row["vips"].items())
    ]


def service_monitors(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """port, address, service_port, protocol, status: backends that OVN asks whether they answer.

    `port` is the logical port of the backend; `status` is empty until it was asked.
    """
    columns = "logical_port,ip,port,protocol,status"
    return [
        {
            "port": row["logical_port"],
            "address": row["ip"],
            "service_port": row["port"],
            "protocol": row["protocol"],
            "status": row["status"],
        }
        for row in context.table("ovn-sbctl", "Service_Monitor", columns)
    ]


# -- DNS, and what a workload has ------------------------------------------------------------------
def dns_records(context: ProbeContext, _: Mapping[str, str]) -> Rows:
    """name, addresses (a list), switches (a list of names): what OVN answers in DNS."""
    switches = _names_by_row(
        context.table("ovn-nbctl", "Logical_Switch", "name,dns_records"), "dns_records"
    )
    return [
        {"name": name, "addresses": addresses.split(), "switches": switches(row)}
        for row in context.table("ovn-nbctl", "DNS", "_uuid,records")
        for name, addresses in sorted(row["records"].items())
    ]


def _run(context: ProbeContext, arguments: Mapping[str, str], *command: str) -> str:
    """What a command prints on the node `from`, in its `namespace` if one is named.

    `from` may be an instance where the probe allows it. A command that fails prints what it prints:
    there may be no such namespace yet.
    """
    if (instance := instance_of(context, arguments["from"])) is not None:
        return run_in_instance(context, shlex.join(command), instance=instance).stdout
    guest: Guest = context.guest(arguments["from"])
    return guest.run([*entering(arguments), *command], timeout=60, check=False).stdout


def addresses(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """interface, mac, address, scope, mtu: the addresses on `from`, a node, in its `namespace`, or
    in an instance; of the `family` ipv4, or ipv6.

    `address` has its prefix length; `scope` is `link` of a link-local one. No row when there is no
    such namespace.
    """
    family = "-6" if arguments.get("family") == "ipv6" else "-4"
    text = _run(context, arguments, "ip", "-o", "link", "show")
    text += _run(context, arguments, "ip", "-o", family, "address", "show")
    links = {
        found[1]: {"mac": found[3], "mtu": found[2]}
        for found in re.finditer(
            r"^\d+: ([^:@\s]+)(?:@\S+)?: .* mtu (\d+) .*link/\w+ (\S+)", text, re.MULTILINE
        )
    }
    return [
        {
            "interface": name,
            "address": address,
            "scope": scope,
            **links.get(name, {"mac": None, "mtu": None}),
        }
        for name, address, scope in re.findall(
            r"^\d+: (\S+) +inet6? (\S+) .*?\bscope (\S+)", text, re.MULTILINE
        )
    ]


def lookup(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """name, address: what the resolver on `from`, a node, says of a `name`; in its `namespace`.

    The resolver is glibc's: /etc/resolv.conf, in a namespace /etc/netns/NAMESPACE/resolv.conf if
    that exists. No row when there is no such name.
    """
    text = _run(context, arguments, "timeout", "10", "getent", "ahostsv4", arguments["name"])
    found = dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip())
    return [{"name": arguments["name"], "address": address} for address in found]


_REQUESTS = r"""
missed=0
for n in $(seq "$1"); do
    answer=$(curl -sS -m 2 -w '\n%{http_code}' "$0" 2>/dev/null | tr -d '\r')
    status=$((10#${answer##*$'\n'}))
    if [ "$status" = 0 ]; then echo 0; else echo "$status ${answer%%$'\n'*}"; fi
    if [ "$status" = 0 ]; then missed=$((missed + 1)); else missed=0; fi
    [ "$missed" -lt 2 ] || break
done
"""


def http(context: ProbeContext, arguments: Mapping[str, str]) -> Rows:
    """url, status, body: `count` (1) requests, each by a connection of its own; `from` a node,
    `url` as curl takes it, in its `namespace`.

    `body` is the first line; `status` is 0 when nobody answered within two seconds. After two
    such requests in a row no more are sent.
    """
    count = str(int(arguments.get("count", "1")))
    text = _run(context, arguments, "bash", "-c", _REQUESTS, arguments["url"], count)
    answers = (line.partition(" ") for line in text.splitlines())
    return [
        {"url": arguments["url"], "status": status, "body": body} for status, _, body in answers
    ]


PROBES: dict[str, Probe] = {
    "ovn.conntrack": conntrack,
    "ovn.acl_log": acl_log,
    "ovn.load_balancers": load_balancers,
    "ovn.service_monitors": service_monitors,
    "ovn.dns_records": dns_records,
    "wire.addresses": addresses,
    "wire.lookup": lookup,
    "wire.http": http,
}
