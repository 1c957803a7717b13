"""Rules of instances, of the networks they are on, and of what they are made of."""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network

from labctl.i18n import tr, tr_list
from labctl.spec.defaults import metadata_port
from labctl.spec.fields import INSTANCE_NAME
from labctl.spec.model import LabSpec
from labctl.spec.problems import KeyPath, dotted, quoted
from labctl.spec.verdicts import TENANT, RuleReport, fix_in_subnet, taken_by, why_no_host


def tenant_subnets(spec: LabSpec) -> dict[KeyPath, IPv4Network]:
    """The subnets of all networks of instances, by their place in lab.yaml; the first is TENANT."""
    return {TENANT: spec.tenant.cidr} | {
        ("tenant", "networks", name, "cidr"): network.cidr
        for name, network in spec.tenant.networks.items()
    }


def tenant_networks(spec: LabSpec, report: RuleReport) -> None:
    """Names and gateways of the further networks."""
    names: dict[str, KeyPath] = {
        spec.external.network: ("external", "network"),
        spec.tenant.network: ("tenant", "network"),
    }
    for name, network in spec.tenant.networks.items():
        path: KeyPath = ("tenant", "networks", name)
        _name(report, path, tr("cannot name a network"))
        if other := names.get(name):
            report.add_for_key(
                path,
                tr("{name} is already the name of {key}", name=quoted(name), key=dotted(other)),
                tr("choose another name: the openstack command could not tell them apart"),
            )
        if reason := why_no_host(network.gateway, network.cidr):
            cidr: KeyPath = (*path, "cidr")
            report.add((*path, "gateway"), reason, fix_in_subnet(network.cidr), other_paths=[cidr])


def images_and_flavors(spec: LabSpec, report: RuleReport) -> None:
    """Names of further images and flavors: none is taken."""
    taken: dict[str, dict[str, KeyPath]] = {"images": {spec.image.name: ("image", "name")},
             "flavors": {spec.flavor.name: ("flavor", "name")}}  # fmt: skip
    for section, owners in taken.items():
        for key, item in getattr(spec, section).items():
            path: KeyPath = (section, key)
            _name(report, path, tr("cannot name an image or a flavor"))
            place: KeyPath = (*path, "name")
            other: KeyPath = owners.setdefault(item.name, place)
            if other != place:
                report.add(
                    place,
                    tr("{name} is already the name of {key}",
                       name=quoted(item.name), key=dotted(other)),
                    tr("choose another name"),
                    other_paths=[other],
                )  # fmt: skip


def instances(spec: LabSpec, report: RuleReport) -> None:
    """Names and addresses of the instances, and whether what they ask for is in lab.yaml."""
    if not spec.instances:
        report.add(("instances",), tr("is empty"), tr("leave it out for vm_1 of the tutorial"))
    computes = [name for name, node in spec.nodes.items() if "compute" in node.roles]
    networks = [spec.tenant.network, *spec.tenant.networks]
    owners: dict[tuple[str, IPv4Address], str] = {}
    for name, instance in spec.instances.items():
        path: KeyPath = ("instances", name)
        _name(report, path, tr("cannot name an instance"))
        _known(report, (*path, "network"), instance.network, networks)
        if report.roles_known():
            _known(report, (*path, "compute"), instance.compute, computes)
        _known(report, (*path, "image"), instance.image, spec.images)
        _known(report, (*path, "flavor"), instance.flavor, spec.flavors)
        further = instance.network in spec.tenant.networks
        network = instance.network if instance.network and further else ""
        _address(spec, report, name, network)
        address = instance.address
        if (owner := owners.setdefault((network, address), name)) != name:
            place, other = report.later_then_earlier(
                (*path, "address"), ("instances", owner, "address")
            )
            fix = report.fix_other_address(*_subnet(spec, network))
            report.add(place, taken_by(address, other[1]), fix, other_paths=[other])


def _subnet(spec: LabSpec, network: str) -> tuple[KeyPath, IPv4Network]:
    """The place and the subnet of one of tenant.networks; of tenant.network if it is ""."""
    if not network:
        return TENANT, spec.tenant.cidr
    return ("tenant", "networks", network, "cidr"), spec.tenant.networks[network].cidr


def _address(spec: LabSpec, report: RuleReport, name: str, network: str) -> None:
    place, cidr = _subnet(spec, network)
    gateway = spec.tenant.networks[network].gateway if network else spec.tenant.gateway
    gateway_path: KeyPath = (*place[:-1], "gateway")
    other_address = report.fix_other_address(place, cidr)
    address = spec.instances[name].address
    path: KeyPath = ("instances", name, "address")
    if reason := why_no_host(address, cidr):
        report.add(path, reason, fix_in_subnet(cidr), other_paths=[place])
    elif address == gateway:
        report.add(
            path,
            tr("{address} is the address of {key}", address=address, key=dotted(gateway_path)),
            other_address,
            other_paths=[place, gateway_path],
        )
    elif spec.stack == "openstack" and address == metadata_port(cidr, gateway):
        report.add(
            path,
            tr(
                "{address} is the address Neutron gives to OVN's DHCP and metadata port",
                address=address,
            ),
            other_address,
            other_paths=[place, gateway_path],
        )


def _name(report: RuleReport, path: KeyPath, message: str) -> None:
    if not re.fullmatch(INSTANCE_NAME, str(path[-1])):
        report.add_for_key(
            path,
            message,
            tr(
                "use up to 64 letters, digits, dots, hyphens and underscores, "
                "beginning with a letter, digit or underscore"
            ),
        )


def _known(report: RuleReport, path: KeyPath, name: str | None, known: Collection[str]) -> None:
    """Report a name that is none of those; None asks for nothing."""
    if name is None or name in known:
        return
    names = tr_list(known)
    report.add(
        path,
        tr("there is no {name}", name=quoted(name)),
        tr("known here: {names}", names=names) if names else tr("write it under {key}",
                                                               key=f"{path[-1]}s"),
    )  # fmt: skip
