"""What the networks, addresses and names of a lab.yaml must have in common."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from labctl.i18n import tr
from labctl.spec.defaults import metadata_port
from labctl.spec.fields import INSTANCE_NAME
from labctl.spec.model import LabSpec
from labctl.spec.problems import Path, dotted, quoted
from labctl.spec.verdicts import NAT, PRIVATE, TENANT, Judge, inside, no_host, taken

INTERNET_HOST = IPv4Address("8.8.8.8")
"""The host the lessons ping to show that the Internet is reached."""

_MOST_DNS_SERVERS = 5  # neutron.conf's max_dns_nameservers


def _subnets(spec: LabSpec, judge: Judge) -> None:
    networks: dict[Path, IPv4Network] = {
        NAT: spec.nat.subnet,
        PRIVATE: spec.private.subnet,
        TENANT: spec.tenant.cidr,
    }
    for one, two in combinations(networks, 2):
        if networks[one].overlaps(networks[two]):
            at, other = judge.later_first(two, one)
            judge.say(
                at,
                tr(
                    "{network} overlaps {key} {other}",
                    network=networks[at],
                    key=dotted(other),
                    other=networks[other],
                ),
                tr("choose a network apart from it, such as {network}", network=_apart(networks)),
                also=[other],
            )
    for at, network in networks.items():
        if INTERNET_HOST in network:
            judge.say(
                at,
                tr(
                    "{network} covers {address}, the Internet host that lessons ping",
                    network=network,
                    address=INTERNET_HOST,
                ),
                tr("choose a private network, such as {network}", network=_apart(networks)),
            )


def _apart(networks: Mapping[Path, IPv4Network]) -> IPv4Network:
    """A network that overlaps none of the lab's."""
    candidates = (IPv4Network((0xC0A80000 + (n << 8), 24)) for n in range(33, 256))
    free = (c for c in candidates if not any(c.overlaps(used) for used in networks.values()))
    return next(free, IPv4Network("172.31.200.0/24"))


def _nat(spec: LabSpec, judge: Judge) -> None:
    gateway: Path = ("nat", "gateway")
    address: Path = ("nat", "address")
    subnet = spec.nat.subnet
    for at, value in ((gateway, spec.nat.gateway), (address, spec.nat.address)):
        if wrong := no_host(value, subnet):
            judge.say(at, wrong, inside(subnet), also=[NAT])
    if spec.nat.gateway == spec.nat.address:
        at, other = judge.later_first(address, gateway)
        judge.say(
            at,
            tr("{address} is already {key}", address=spec.nat.address, key=dotted(other)),
            judge.another(NAT, subnet),
            also=[other],
        )


def _pool(spec: LabSpec, judge: Judge) -> None:
    pool, subnet = spec.external.pool, spec.nat.subnet
    start: Path = ("external", "pool", "start")
    end: Path = ("external", "pool", "end")
    outside = False
    for at, value in ((start, pool.start), (end, pool.end)):
        if wrong := no_host(value, subnet, "nat.subnet "):
            outside = True
            judge.say(at, wrong, inside(subnet), also=[NAT])
    if outside:
        return
    if pool.start > pool.end:
        at, _ = judge.later_first(end, start)
        judge.say(
            at,
            tr(
                "the pool ends at {end}, before it starts at {start}",
                end=pool.end,
                start=pool.start,
            ),
            tr("swap start and end")
            if start in judge.source.lines
            else tr("choose an address behind it"),
            also=[start, end],
        )
        return
    if pool.start == pool.end:
        at, _ = judge.later_first(end, start)
        judge.say(
            at,
            tr("the pool holds only {address}", address=pool.start),
            tr("make room for two addresses: the router's gateway port and one floating IP"),
            also=[start, end],
        )
    for key, value in (("gateway", spec.nat.gateway), ("address", spec.nat.address)):
        if pool.start <= value <= pool.end:
            span = f"{pool.start}-{pool.end}"
            at, _ = judge.later_first(start, end)
            at, _ = judge.later_first(at, ("nat", key))
            judge.say(
                at,
                tr("the pool {pool} covers the gateway {address}", pool=span, address=value)
                if key == "gateway"
                else tr(
                    "the pool {pool} covers eth0's address {address}", pool=span, address=value
                ),
                tr("choose a range without it"),
                also=[start, end, NAT, ("nat", key)],
            )


def _tenant(spec: LabSpec, judge: Judge) -> None:
    tenant, gateway_at, dns_at = spec.tenant, ("tenant", "gateway"), ("tenant", "dns")
    if wrong := no_host(tenant.gateway, tenant.cidr):
        judge.say(gateway_at, wrong, inside(tenant.cidr), also=[TENANT])
    for position, server in enumerate(tenant.dns):
        if server in tenant.dns[:position]:
            judge.say(
                (*dns_at, position),
                tr("{value} is given twice", value=server),
                tr("keep one of them"),
            )
    if len(tenant.dns) > _MOST_DNS_SERVERS:
        judge.say(
            dns_at,
            tr("Neutron takes at most {n} DNS servers", n=_MOST_DNS_SERVERS),
            tr("remove the others"),
        )
    _instances(spec, judge)


def _instances(spec: LabSpec, judge: Judge) -> None:
    cidr, gateway = spec.tenant.cidr, spec.tenant.gateway
    another = judge.another(TENANT, cidr)
    owners: dict[IPv4Address, str] = {}
    if not spec.instances:
        judge.say(("instances",), tr("is empty"), tr("leave it out for vm_1 of the tutorial"))
    for name, instance in spec.instances.items():
        address = instance.address
        if not re.fullmatch(INSTANCE_NAME, name):
            judge.say_key(
                ("instances", name),
                tr("cannot name an instance"),
                tr(
                    "use up to 64 letters, digits, dots, hyphens and underscores, "
                    "beginning with a letter, digit or underscore"
                ),
            )
        at: Path = ("instances", name, "address")
        if wrong := no_host(address, cidr):
            judge.say(at, wrong, inside(cidr), also=[TENANT])
        elif address == gateway:
            judge.say(
                at,
                tr("{address} is the address of tenant.gateway", address=address),
                another,
                also=[TENANT, ("tenant", "gateway")],
            )
        elif spec.stack == "openstack" and address == metadata_port(cidr, gateway):
            judge.say(
                at,
                tr(
                    "{address} is the address Neutron gives to OVN's DHCP and metadata port",
                    address=address,
                ),
                another,
                also=[TENANT, ("tenant", "gateway")],
            )
        if (owner := owners.setdefault(address, name)) != name:
            at, other = judge.later_first(at, ("instances", owner, "address"))
            judge.say(at, taken(address, other[1]), another, also=[other])


def _names(spec: LabSpec, judge: Judge) -> None:
    for key in ("network", "subnet"):
        external: Path = ("external", key)
        tenant: Path = ("tenant", key)
        name = getattr(spec.external, key)
        if name == getattr(spec.tenant, key):
            at, other = judge.later_first(tenant, external)
            judge.say(
                at,
                tr("{name} is already the name of {key}", name=quoted(name), key=dotted(other)),
                tr("choose another name: the openstack command could not tell them apart"),
                also=[other],
            )
    if spec.security_group.lower() == "default":
        judge.say(
            ("security_group",),
            tr("Neutron makes a group of that name in every project"),
            tr("choose another name"),
        )


RULES = (_subnets, _nat, _pool, _tenant, _names)
