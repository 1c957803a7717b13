"""The rules that need several values of a lab.yaml: the list of all, and those about nodes."""

from collections.abc import Collection
from ipaddress import IPv4Address

from labctl.i18n import tr
from labctl.spec import network_rules
from labctl.spec.defaults import LEAST_MEMORY
from labctl.spec.model import FlavorSpec, LabSpec
from labctl.spec.more_networks import more_networks
from labctl.spec.problems import KeyPath, Problem, printable
from labctl.spec.source import YamlSource
from labctl.spec.verdicts import PRIVATE, STACK, RuleReport, fix_in_subnet, taken_by, why_no_host

# MiB.
_LEAST_CONTROLLER_MEMORY = 2048  # it uses about 1700 (docs/performance.md)
MOST_NODES = 100
"""One machine runs them all: 100 containers of OVN alone use about 10 GB (docs/performance.md)."""
MOST_INSTANCES = 100
_RESERVED_HOST_MEMORY = 512  # default of reserved_host_memory_mb in nova.conf


def broken_rules(
    spec: LabSpec, source: YamlSource, invalid_paths: Collection[KeyPath] = ()
) -> list[Problem]:
    """A problem for every rule that the spec breaks, at the line to change.

    `invalid_paths` are values that were reported already; see `RuleReport`.
    """
    report = RuleReport(source, invalid_paths)
    for rule in (_nodes, _roles, _eth1, _macs, _sizes, *network_rules.RULES, more_networks):
        rule(spec, report)
    return report.problems


def _nodes(spec: LabSpec, report: RuleReport) -> None:
    if not spec.nodes:
        report.add(("nodes",), tr("is empty"), tr("leave it out for the two nodes of the tutorial"))
    for section, most in (("nodes", MOST_NODES), ("instances", MOST_INSTANCES)):
        if (count := len(getattr(spec, section))) > most:
            message = tr("{value} is too large: the most is {most}", value=count, most=most)
            report.add((section,), message)
    for name in spec.nodes:
        path: KeyPath = ("nodes", name)
        if not report.is_host_name(path, name):
            continue
        if name.isdecimal():
            address = IPv4Address(int(name) % 2**32)
            report.add_for_key(
                path,
                tr("would be read as the address {address}", address=address),
                tr("add a letter"),
            )
        elif name == "localhost":
            report.add_for_key(
                path, tr("is what every machine calls itself"), tr("choose another name")
            )


def _roles(spec: LabSpec, report: RuleReport) -> None:
    if not report.roles_known() or not spec.nodes:
        return
    by_role: dict[str, list[str]] = {"controller": [], "gateway": [], "compute": []}
    for name, node in spec.nodes.items():
        path: KeyPath = ("nodes", name, "roles")
        if not node.roles:
            report.add(path, tr("is empty"), tr("give the node a role, or leave roles out"))
        elif {"controller", "compute"} <= set(node.roles):
            report.add(
                path,
                tr("a node is either controller or compute for now"),
                tr("remove compute here and add a node such as compute-01:"),
            )
        for role in set(node.roles):
            by_role[role].append(name)
    controllers, gateways, computes = by_role["controller"], by_role["gateway"], by_role["compute"]
    if not controllers:
        report.add(
            ("nodes",),
            tr("no node has the role {role}", role="controller"),
            tr("give one node [controller, gateway]"),
        )
    for name in controllers[1:]:
        report.add(
            ("nodes", name, "roles"),
            tr(
                "{node} is the controller already, and a lab has one",
                node=printable(controllers[0]),
            ),
            tr("make this node [compute]"),
        )
    if controllers and not gateways:
        report.add(
            ("nodes", controllers[0], "roles"),
            tr("no node has the role {role}", role="gateway"),
            tr(
                "write {value}, or add a node such as {node}",
                value="[controller, gateway]",
                node="gateway-01: {roles: [gateway]}",
            ),
        )
    if not computes:
        report.add(
            ("nodes",),
            tr("no node has the role {role}", role="compute"),
            tr("add a node for instances: compute-01:"),
        )


def _eth1(spec: LabSpec, report: RuleReport) -> None:
    subnet = spec.private.subnet
    owners: dict[IPv4Address, str] = {}
    for name, node in spec.nodes.items():
        path: KeyPath = ("nodes", name, "eth1")
        if reason := why_no_host(node.eth1, subnet):
            report.add(path, reason, fix_in_subnet(subnet), other_paths=[PRIVATE])
        elif node.eth1 == subnet[1]:
            report.add(
                path,
                tr(
                    "{address} is the host's own address on VirtualBox's and libvirt's networks",
                    address=node.eth1,
                ),
                tr("choose another address in {subnet}", subnet=subnet),
                other_paths=[PRIVATE],
            )
        if (owner := owners.setdefault(node.eth1, name)) != name:
            path, other = report.later_then_earlier(path, ("nodes", owner, "eth1"))
            report.add(
                path,
                taken_by(node.eth1, other[1]),
                report.fix_other_address(PRIVATE, subnet),
                other_paths=[other],
            )


def _macs(spec: LabSpec, report: RuleReport) -> None:
    owners: dict[str, tuple[str, ...]] = {}
    for name, node in spec.nodes.items():
        for nic, mac in (("eth0", node.mac.eth0), ("eth1", node.mac.eth1)):
            path = ("nodes", name, "mac", nic)
            if mac is not None and (owner := owners.setdefault(mac, path)) != path:
                report.add(
                    path,
                    tr(
                        "{mac} is already the MAC address of {node}'s {nic}",
                        mac=mac,
                        node=printable(owner[1]),
                        nic=owner[3],
                    ),
                    tr("choose another, or leave it out and one is made"),
                    other_paths=[owner],
                )


def _sizes(spec: LabSpec, report: RuleReport) -> None:
    openstack = spec.stack == "openstack"
    for name, node in spec.nodes.items():
        path: KeyPath = ("nodes", name, "memory")
        least = LEAST_MEMORY["ovn" if set(node.roles) == {"gateway"} else spec.stack]
        if openstack and "controller" in node.roles and node.memory < _LEAST_CONTROLLER_MEMORY:
            report.add(
                path,
                tr("{memory} MiB is too little for the controller", memory=node.memory),
                tr("give it {least} or more", least=_LEAST_CONTROLLER_MEMORY),
                other_paths=[("nodes", name, "roles"), STACK],
            )
        elif node.memory < least:
            small = tr("{value} is too small: the least is {least}", value=node.memory, least=least)
            report.add(path, small, other_paths=[("nodes", name, "roles"), STACK])
    if openstack and report.all_valid(STACK) and report.roles_known():
        _flavor(spec, report, ("flavor",), spec.flavor)
        for name, flavor in spec.flavors.items():
            _flavor(spec, report, ("flavors", name), flavor)


def _flavor(spec: LabSpec, report: RuleReport, path: KeyPath, flavor: FlavorSpec) -> None:
    computes = {n: node for n, node in spec.nodes.items() if "compute" in node.roles}
    if not computes:
        return
    # An instance runs on one node, and Nova gives it no more CPUs than that node has, not even
    # with overcommitment.
    cpus = max(node.cpus for node in computes.values())
    if flavor.vcpus > cpus:
        report.add(
            (*path, "vcpus"),
            tr(
                "{vcpus} vCPUs fit on no compute: the largest has {cpus}",
                vcpus=flavor.vcpus,
                cpus=cpus,
            ),
            tr("ask for {cpus} or fewer, or give a compute more cpus", cpus=cpus),
            other_paths=[("nodes", name, "cpus") for name in computes],
        )
    room = max(node.memory for node in computes.values()) - _RESERVED_HOST_MEMORY
    # Computes with too little memory have been reported already.
    small = any(node.memory < LEAST_MEMORY[spec.stack] for node in computes.values())
    if flavor.memory > room and not small:
        report.add(
            (*path, "memory"),
            tr(
                "{memory} MiB fit on no compute: the largest has {room} for instances",
                memory=flavor.memory,
                room=room,
            ),
            tr("ask for {room} or less, or give a compute more memory", room=room),
            other_paths=[("nodes", name, "memory") for name in computes],
        )
