"""What several values of a lab.yaml must have in common: all rules, and those of the nodes."""

import re
from collections.abc import Collection
from ipaddress import IPv4Address

from labctl.i18n import tr
from labctl.spec import network_rules
from labctl.spec.defaults import LEAST_MEMORY
from labctl.spec.fields import NODE_NAME
from labctl.spec.model import LabSpec
from labctl.spec.problems import Path, Problem, shown
from labctl.spec.source import YamlSource
from labctl.spec.verdicts import PRIVATE, STACK, Judge, inside, no_host, taken

_LEAST_CONTROLLER_MEMORY = 2048
_RESERVED_HOST_MEMORY = 512  # nova.conf's reserved_host_memory_mb


def broken_rules(
    spec: LabSpec, source: YamlSource, doubtful: Collection[Path] = ()
) -> list[Problem]:
    """Every rule the spec breaks, each told at the line where it is best mended."""
    judge = Judge(source, doubtful)
    for rule in (_nodes, _roles, _eth1, _macs, _sizes, *network_rules.RULES):
        rule(spec, judge)
    return judge.problems


def _nodes(spec: LabSpec, judge: Judge) -> None:
    if not spec.nodes:
        judge.say(("nodes",), tr("is empty"), tr("leave it out for the two nodes of the tutorial"))
    for name in spec.nodes:
        at: Path = ("nodes", name)
        if not re.fullmatch(NODE_NAME, name):
            judge.say_key(
                at,
                tr("is not a host name"),
                tr(
                    "use up to 40 small letters, digits and hyphens, "
                    "with a letter or digit at both ends"
                ),
            )
        elif name.isdecimal():
            address = IPv4Address(int(name) % 2**32)
            judge.say_key(
                at,
                tr("would be read as the address {address}", address=address),
                tr("add a letter"),
            )
        elif name == "localhost":
            judge.say_key(at, tr("is what every machine calls itself"), tr("choose another name"))


def _roles(spec: LabSpec, judge: Judge) -> None:
    if not judge.roles_known() or not spec.nodes:
        return
    where: dict[str, list[str]] = {"controller": [], "gateway": [], "compute": []}
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "roles")
        if not node.roles:
            judge.say(at, tr("is empty"), tr("give the node a role, or leave roles out"))
        elif {"controller", "compute"} <= set(node.roles):
            judge.say(
                at,
                tr("a node is either controller or compute for now"),
                tr("remove compute here and add a node such as compute-01:"),
            )
        for role in set(node.roles):
            where[role].append(name)
    controllers, gateways, computes = where["controller"], where["gateway"], where["compute"]
    if not controllers:
        judge.say(
            ("nodes",),
            tr("no node has the role {role}", role="controller"),
            tr("give one node [controller, gateway]"),
        )
    for name in controllers[1:]:
        judge.say(
            ("nodes", name, "roles"),
            tr("{node} is the controller already, and a lab has one", node=shown(controllers[0])),
            tr("make this node [compute]"),
        )
    if controllers and not gateways:
        judge.say(
            ("nodes", controllers[0], "roles"),
            tr("no node has the role {role}", role="gateway"),
            tr("write {value}", value="[controller, gateway]"),
        )
    for name in gateways:
        if controllers and name not in controllers:
            judge.say(
                ("nodes", name, "roles"),
                tr("for now the controller is the only gateway a lab can have"),
                tr("give the role gateway to {node} alone", node=shown(controllers[0])),
            )
    if not computes:
        judge.say(
            ("nodes",),
            tr("no node has the role {role}", role="compute"),
            tr("add a node for instances: compute-01:"),
        )


def _eth1(spec: LabSpec, judge: Judge) -> None:
    subnet = spec.private.subnet
    owners: dict[IPv4Address, str] = {}
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "eth1")
        if wrong := no_host(node.eth1, subnet):
            judge.say(at, wrong, inside(subnet), also=[PRIVATE])
        elif node.eth1 == subnet[1]:
            judge.say(
                at,
                tr(
                    "{address} is the host's own address on VirtualBox's and libvirt's networks",
                    address=node.eth1,
                ),
                tr("choose another address in {subnet}", subnet=subnet),
                also=[PRIVATE],
            )
        if (owner := owners.setdefault(node.eth1, name)) != name:
            at, other = judge.later_first(at, ("nodes", owner, "eth1"))
            judge.say(
                at,
                taken(node.eth1, other[1]),
                judge.another(PRIVATE, subnet),
                also=[other],
            )


def _macs(spec: LabSpec, judge: Judge) -> None:
    owners: dict[str, tuple[str, ...]] = {}
    for name, node in spec.nodes.items():
        for nic, mac in (("eth0", node.mac.eth0), ("eth1", node.mac.eth1)):
            at = ("nodes", name, "mac", nic)
            if mac is not None and (owner := owners.setdefault(mac, at)) != at:
                judge.say(
                    at,
                    tr(
                        "{mac} is already the MAC address of {node}'s {nic}",
                        mac=mac,
                        node=shown(owner[1]),
                        nic=owner[3],
                    ),
                    tr("choose another, or leave it out and one is made"),
                    also=[owner],
                )


def _sizes(spec: LabSpec, judge: Judge) -> None:
    least, openstack = LEAST_MEMORY[spec.stack], spec.stack == "openstack"
    for name, node in spec.nodes.items():
        at: Path = ("nodes", name, "memory")
        if openstack and "controller" in node.roles and node.memory < _LEAST_CONTROLLER_MEMORY:
            judge.say(
                at,
                tr("{memory} MiB is too little for the controller", memory=node.memory),
                tr("give it {least} or more", least=_LEAST_CONTROLLER_MEMORY),
                also=[("nodes", name, "roles"), STACK],
            )
        elif node.memory < least:
            small = tr("{value} is too small: the least is {least}", value=node.memory, least=least)
            judge.say(at, small, also=[STACK])
    if openstack and judge.trusts(STACK) and judge.roles_known():
        _flavor(spec, judge)


def _flavor(spec: LabSpec, judge: Judge) -> None:
    computes = {n: node for n, node in spec.nodes.items() if "compute" in node.roles}
    if not computes:
        return
    # Nova places an instance on one node whole: overcommitting does not help a single one.
    cpus = max(node.cpus for node in computes.values())
    if spec.flavor.vcpus > cpus:
        judge.say(
            ("flavor", "vcpus"),
            tr(
                "{vcpus} vCPUs fit on no compute: the largest has {cpus}",
                vcpus=spec.flavor.vcpus,
                cpus=cpus,
            ),
            tr("ask for {cpus} or fewer, or give a compute more cpus", cpus=cpus),
            also=[("nodes", name, "cpus") for name in computes],
        )
    room = max(node.memory for node in computes.values()) - _RESERVED_HOST_MEMORY
    # A compute that is too small for itself has been complained about already.
    small = any(node.memory < LEAST_MEMORY[spec.stack] for node in computes.values())
    if spec.flavor.memory > room and not small:
        judge.say(
            ("flavor", "memory"),
            tr(
                "{memory} MiB fit on no compute: the largest has {room} for instances",
                memory=spec.flavor.memory,
                room=room,
            ),
            tr("ask for {room} or less, or give a compute more memory", room=room),
            also=[("nodes", name, "memory") for name in computes],
        )
