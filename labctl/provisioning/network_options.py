"""What lab.yaml switches on in Neutron and OVN, as variables for provision/. Pure."""

from labctl.topology import Node, Topology

_EXTENSION_DRIVERS = {"qos": "qos", "dns": "dns"}
"""ML2 extension drivers that a plugin of lab.yaml needs; the names are Neutron's entry points."""
_NO_PLUGINS = ("dns",)
"""What lab.yaml calls a service plugin, and is an extension driver alone."""
_DEFAULT_DNS_DOMAIN = "openstacklocal"  # of neutron.conf; with it ports get no names
_DNS_DOMAIN = "lab.test."


def network_options(topology: Topology, node: Node) -> dict[str, str]:
    """{variable: value} for one node's lab.env."""
    neutron = topology.spec.neutron
    plugins = [name for name in neutron.service_plugins if name not in _NO_PLUGINS]
    drivers = [
        driver for name, driver in _EXTENSION_DRIVERS.items() if name in neutron.service_plugins
    ]
    vlans = [
        ":".join(filter(None, (network.physical_network, network.vlans)))
        for network in topology.spec.networks.values()
        if network.physical_network
    ]
    return {
        "HAS_BR_EX": "yes" if node.has_br_ex else "no",
        "BRIDGE_MAPPINGS": ",".join(bridge_mappings(topology, node)),
        # Lines of NAME MAC ADDRESS BRIDGE, with - for what there is not.
        "EXTRA_NICS": "\n".join(
            f"{nic.name} {nic.mac} {nic.address or '-'} {nic.bridge or '-'}" for nic in node.extra
        ),
        "NEUTRON_TYPES": f"local,flat,{'vlan,' if vlans else ''}geneve",
        "NEUTRON_VLANS": ",".join(vlans),
        "CMS_OPTIONS": _cms_options(node),
        "OVN_OPTIONS": " ".join(topology.spec.ovn.options),
        "NEUTRON_PLUGINS": ",".join(["ovn-router", *plugins]),
        "NEUTRON_EXTENSIONS": ",".join(["port_security", *drivers]),
        "NEUTRON_DISTRIBUTED": "true" if neutron.distributed_floating_ip else "false",
        "NEUTRON_MTU": str(neutron.mtu),
        "NEUTRON_DNS_DOMAIN": _DNS_DOMAIN if "dns" in drivers else _DEFAULT_DNS_DOMAIN,
    }


def bridge_mappings(topology: Topology, node: Node) -> list[str]:
    """What the node's chassis maps: `PHYSICAL_NETWORK:BRIDGE` for each of its bridges."""
    outside = [f"{topology.physical_network}:br-ex"] if node.has_br_ex else []
    return outside + [f"{nic.physical_network}:{nic.bridge}" for nic in node.extra if nic.bridge]


def _cms_options(node: Node) -> str:
    """What Neutron reads of a chassis: whether routers may be there, and in which zone it is."""
    options = ["enable-chassis-as-gw"] if node.is_gateway else []
    if node.spec.availability_zone:
        options.append(f"availability-zones={node.spec.availability_zone}")
    return ",".join(options)
