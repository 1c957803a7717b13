"""Rules of `networks`: the further cards of the nodes, eth2 and up."""

from ipaddress import IPv4Network

from labctl.i18n import tr
from labctl.spec.model import LabSpec
from labctl.spec.problems import KeyPath, dotted
from labctl.spec.verdicts import INTERNET, NAT, PRIVATE, RuleReport

NAMES = tuple(f"eth{number}" for number in range(2, 8))
"""VirtualBox's default chipset has eight network cards (its manual, "Virtual networking")."""
_FIRST_VLAN, _LAST_VLAN = 1, 4094


def more_networks(spec: LabSpec, report: RuleReport) -> None:
    """Names, physical networks, VLAN ranges and subnets of the further networks."""
    owners: dict[str, KeyPath] = {
        spec.external.physical_network: ("external", "physical_network"),
    }
    subnets: dict[KeyPath, IPv4Network] = {NAT: spec.nat.subnet, PRIVATE: spec.private.subnet}
    if spec.internet.clients:
        subnets[INTERNET] = spec.internet.subnet
    for name, network in spec.networks.items():
        path: KeyPath = ("networks", name)
        if name not in NAMES:
            report.add_for_key(
                path,
                tr("is no further card of the nodes"),
                tr("use {first} to {last}", first=NAMES[0], last=NAMES[-1]),
            )
        physical: KeyPath = (*path, "physical_network")
        if network.vlans and not network.physical_network:
            report.add(
                (*path, "vlans"),
                tr("VLANs need a physical network"),
                tr("write {value} here", value="physical_network: physnet1"),
                other_paths=[physical],
            )
        first, _, last = network.vlans.partition(":")
        if network.vlans and not _FIRST_VLAN <= int(first) <= int(last) <= _LAST_VLAN:
            report.add(
                (*path, "vlans"),
                tr("{value} is no range of VLANs", value=network.vlans),
                tr("write FIRST:LAST, from 1 to 4094"),
            )
        if network.physical_network:
            other = owners.setdefault(network.physical_network, physical)
            if other != physical:
                report.add(
                    physical,
                    tr("{name} is already {key}", name=network.physical_network, key=dotted(other)),
                    tr("choose another name"),
                    other_paths=[other],
                )
        if network.subnet is not None:
            _subnet(spec, report, (*path, "subnet"), network.subnet, subnets)


def _subnet(
    spec: LabSpec,
    report: RuleReport,
    path: KeyPath,
    subnet: IPv4Network,
    others: dict[KeyPath, IPv4Network],
) -> None:
    for other, taken in others.items():
        if subnet.overlaps(taken):
            report.add(
                path,
                tr("{network} overlaps {key} {other}",
                   network=subnet, key=dotted(other), other=taken),
                tr("choose another network"),
                other_paths=[other],
            )  # fmt: skip
    # Each node has the same host number there as on eth1.
    if subnet.prefixlen != spec.private.subnet.prefixlen:
        report.add(
            path,
            tr("{network} is not as large as private.subnet {other}",
               network=subnet, other=spec.private.subnet),
            tr("write it with /{length}", length=spec.private.subnet.prefixlen),
            other_paths=[PRIVATE],
        )  # fmt: skip
    others[path] = subnet
