"""The rules about networks, addresses and names in a lab.yaml."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from itertools import combinations

from labctl.i18n import tr
from labctl.spec.defaults import INTERNET_HOST
from labctl.spec.instance_rules import (
    images_and_flavors,
    instances,
    tenant_networks,
    tenant_subnets,
)
from labctl.spec.model import LabSpec
from labctl.spec.outside import clients
from labctl.spec.problems import KeyPath, dotted, quoted
from labctl.spec.verdicts import (
    INTERNET,
    NAT,
    PRIVATE,
    TENANT,
    RuleReport,
    fix_in_subnet,
    why_no_host,
)

_MOST_DNS_SERVERS = 5  # default of max_dns_nameservers in neutron.conf


def _subnets(spec: LabSpec, report: RuleReport) -> None:
    networks: dict[KeyPath, IPv4Network] = {
        NAT: spec.nat.subnet,
        PRIVATE: spec.private.subnet,
        **tenant_subnets(spec),
    }
    if spec.internet.clients:
        networks[INTERNET] = spec.internet.subnet
    for first, second in combinations(networks, 2):
        if networks[first].overlaps(networks[second]):
            path, other = report.later_then_earlier(second, first)
            report.add(
                path,
                tr(
                    "{network} overlaps {key} {other}",
                    network=networks[path],
                    key=dotted(other),
                    other=networks[other],
                ),
                tr("choose a network apart from it, such as {network}", network=_apart(networks)),
                other_paths=[other],
            )
    for path, network in networks.items():
        if INTERNET_HOST in network:
            report.add(
                path,
                tr(
                    "{network} covers {address}, the Internet host that lessons ping",
                    network=network,
                    address=INTERNET_HOST,
                ),
                tr("choose a private network, such as {network}", network=_apart(networks)),
            )


def _apart(networks: Mapping[KeyPath, IPv4Network]) -> IPv4Network:
    """A network that overlaps none of the lab's."""
    candidates = (IPv4Network(f"192.168.{number}.0/24") for number in range(33, 256))
    free = (
        candidate
        for candidate in candidates
        if not any(candidate.overlaps(used) for used in networks.values())
    )
    return next(free, IPv4Network("172.31.200.0/24"))


def _nat(spec: LabSpec, report: RuleReport) -> None:
    gateway: KeyPath = ("nat", "gateway")
    address: KeyPath = ("nat", "address")
    subnet = spec.nat.subnet
    for path, value in ((gateway, spec.nat.gateway), (address, spec.nat.address)):
        if reason := why_no_host(value, subnet):
            report.add(path, reason, fix_in_subnet(subnet), other_paths=[NAT])
    if spec.nat.gateway == spec.nat.address:
        path, other = report.later_then_earlier(address, gateway)
        report.add(
            path,
            tr("{address} is already {key}", address=spec.nat.address, key=dotted(other)),
            report.fix_other_address(NAT, subnet),
            other_paths=[other],
        )


def _shared_nat(spec: LabSpec, report: RuleReport) -> None:
    """With nat.shared every node has an address of its own, outside the pool."""
    pool, subnet = spec.external.pool, spec.nat.subnet
    if not spec.nat.shared or pool.start not in subnet or pool.end not in subnet:
        return
    pool_size = max(0, int(pool.end) - int(pool.start) + 1)
    # Besides the network's own two addresses the gateway's is taken, and that of a NAT's DNS.
    free = subnet.num_addresses - 4 - pool_size
    if free < len(spec.nodes):
        report.add(
            NAT,
            tr(
                "with nat.shared each node needs an address on eth0: {n} are needed, {free} are"
                " free in {subnet}",
                n=len(spec.nodes),
                free=max(0, free),
                subnet=subnet,
            ),
            tr("choose a larger network, or a smaller external.pool"),
            other_paths=[("external", "pool", "start"), ("external", "pool", "end")],
        )


def _pool(spec: LabSpec, report: RuleReport) -> None:
    pool, subnet = spec.external.pool, spec.nat.subnet
    start: KeyPath = ("external", "pool", "start")
    end: KeyPath = ("external", "pool", "end")
    outside = False
    for path, value in ((start, pool.start), (end, pool.end)):
        if reason := why_no_host(value, subnet, "nat.subnet "):
            outside = True
            report.add(path, reason, fix_in_subnet(subnet), other_paths=[NAT])
    if outside:
        return
    if pool.start > pool.end:
        path, _ = report.later_then_earlier(end, start)
        report.add(
            path,
            tr(
                "the pool ends at {end}, before it starts at {start}",
                end=pool.end,
                start=pool.start,
            ),
            tr("swap start and end")
            if start in report.source.lines
            else tr("choose an address behind it"),
            other_paths=[start, end],
        )
        return
    if pool.start == pool.end:
        path, _ = report.later_then_earlier(end, start)
        report.add(
            path,
            tr("the pool holds only {address}", address=pool.start),
            tr("make room for two addresses: the router's gateway port and one floating IP"),
            other_paths=[start, end],
        )
    for key, value in (("gateway", spec.nat.gateway), ("address", spec.nat.address)):
        if pool.start <= value <= pool.end:
            span = f"{pool.start}-{pool.end}"
            path, _ = report.later_then_earlier(start, end)
            path, _ = report.later_then_earlier(path, ("nat", key))
            report.add(
                path,
                tr("the pool {pool} covers the gateway {address}", pool=span, address=value)
                if key == "gateway"
                else tr(
                    "the pool {pool} covers eth0's address {address}", pool=span, address=value
                ),
                tr("choose a range without it"),
                other_paths=[start, end, NAT, ("nat", key)],
            )


def _tenant(spec: LabSpec, report: RuleReport) -> None:
    tenant, gateway_path, dns_path = spec.tenant, ("tenant", "gateway"), ("tenant", "dns")
    if reason := why_no_host(tenant.gateway, tenant.cidr):
        report.add(gateway_path, reason, fix_in_subnet(tenant.cidr), other_paths=[TENANT])
    for position, server in enumerate(tenant.dns):
        if server in tenant.dns[:position]:
            report.add(
                (*dns_path, position),
                tr("{value} is given twice", value=server),
                tr("keep one of them"),
            )
    if len(tenant.dns) > _MOST_DNS_SERVERS:
        report.add(
            dns_path,
            tr("Neutron takes at most {n} DNS servers", n=_MOST_DNS_SERVERS),
            tr("remove the others"),
        )


def _switches(spec: LabSpec, report: RuleReport) -> None:
    """Nothing of what is switched on in Neutron and OVN is given twice."""
    options = tuple(option.partition("=")[0] for option in spec.ovn.options)
    for path, names in (
        (("neutron", "service_plugins"), spec.neutron.service_plugins),
        (("ovn", "options"), options),
    ):
        for position, name in enumerate(names):
            if name in names[:position]:
                report.add(
                    (*path, position),
                    tr("{value} is given twice", value=name),
                    tr("keep one of them"),
                )
    for name, node in spec.nodes.items():
        if node.availability_zone and "gateway" not in node.roles:
            report.add(
                ("nodes", name, "availability_zone"),
                tr("only gateways are in an availability zone"),
                tr("add the role gateway, or leave it out"),
                other_paths=[("nodes", name, "roles")],
            )


def _names(spec: LabSpec, report: RuleReport) -> None:
    for key in ("network", "subnet"):
        external: KeyPath = ("external", key)
        tenant: KeyPath = ("tenant", key)
        name = getattr(spec.external, key)
        if name == getattr(spec.tenant, key):
            path, other = report.later_then_earlier(tenant, external)
            report.add(
                path,
                tr("{name} is already the name of {key}", name=quoted(name), key=dotted(other)),
                tr("choose another name: the openstack command could not tell them apart"),
                other_paths=[other],
            )
    if spec.security_group.lower() == "default":
        report.add(
            ("security_group",),
            tr("Neutron makes a group of that name in every project"),
            tr("choose another name"),
        )


RULES = (
    _subnets,
    _nat,
    _shared_nat,
    _pool,
    _tenant,
    tenant_networks,
    images_and_flavors,
    instances,
    _switches,
    _names,
    clients,
)
