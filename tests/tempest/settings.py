"""tempest.conf, written from the facts of a lab."""

from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from labctl.lab import Lab


@dataclass(frozen=True)
class LabFacts:
    """What Tempest is told of a lab."""

    keystone: str
    """URL of the identity service, with its version."""
    password: str
    """Of the user admin."""
    external_network: str
    external_network_id: str
    image_id: str
    other_image_id: str
    flavor_id: str
    other_flavor_id: str
    user: str
    """Whom the image lets in by SSH."""
    computes: int
    """How many nodes run instances."""
    extensions: tuple[str, ...]
    """Aliases of what Neutron's API can do."""
    physical_networks: tuple[str, ...]
    """Those that VLAN networks may be made on."""
    internet_host: str
    """An address outside that answers ping."""


def make_external_network(lab: Lab) -> None:
    """What a learner makes on the tutorial's day with `openstack`; nothing if it is there.

    Raises LabError when OpenStack's APIs do not answer.
    """
    spec, network = lab.topology.spec, lab.cloud().network
    if network.find_network(spec.external.network) is not None:
        return
    external = network.create_network(
        name=spec.external.network,
        is_router_external=True,
        provider_network_type="flat",
        provider_physical_network=spec.external.physical_network,
    )
    pool = spec.external.pool
    network.create_subnet(
        name=spec.external.subnet,
        network_id=external.id,
        ip_version=4,
        cidr=str(spec.nat.subnet),
        gateway_ip=str(spec.nat.gateway),
        allocation_pools=[{"start": str(pool.start), "end": str(pool.end)}],
        is_dhcp_enabled=False,
    )


def look_at(lab: Lab) -> LabFacts:
    """The facts of a lab that is up. Raises LabError when OpenStack's APIs do not answer."""
    spec, cloud = lab.topology.spec, lab.cloud()
    others = [name for name in spec.images if name != spec.image.name]
    other_flavors = [name for name in spec.flavors if name != spec.flavor.name]

    def image(name: str) -> str:
        return str(cloud.image.find_image(name, ignore_missing=False).id)

    def flavor(name: str) -> str:
        return str(cloud.compute.find_flavor(name, ignore_missing=False).id)

    external = cloud.network.find_network(lab.topology.external_network, ignore_missing=False)
    return LabFacts(
        keystone=f"http://{lab.topology.controller.eth1.address.ip}:5000/v3",
        password=lab.state.secrets().admin,
        external_network=external.name,
        external_network_id=external.id,
        image_id=image(spec.image.name),
        other_image_id=image(others[0] if others else spec.image.name),
        flavor_id=flavor(spec.flavor.name),
        other_flavor_id=flavor(other_flavors[0] if other_flavors else spec.flavor.name),
        user=spec.image.user,
        computes=len(lab.topology.computes),
        extensions=tuple(sorted(extension.alias for extension in cloud.network.extensions())),
        physical_networks=tuple(
            network.physical_network
            for network in spec.networks.values()
            if network.physical_network and network.vlans
        ),
        internet_host="8.8.8.8",
    )


# What no lab of labctl has, and what Nova is not set up for: Tempest assumes otherwise.
_NOT_IN_A_LAB = {
    "service_available": ("cinder", "swift", "horizon"),
    "compute-feature-enabled": (
        "attach_encrypted_volume",
        "cold_migration",  # the computes have no SSH to each other
        "live_migration",
        "resize",
        "swap_volume",
        "vnc_console",
        "spice_console",
        "serial_console",
    ),
    "identity-feature-enabled": ("api_v2", "api_v2_admin", "security_compliance"),
}
_IN_A_LAB = {
    "service_available": ("glance", "neutron", "nova"),
    "network-feature-enabled": ("ipv6", "ipv6_subnet_attributes", "port_security", "floating_ips"),
    # Since 2023.2 these are the services' own defaults.
    "enforce_scope": ("glance", "neutron", "nova", "placement"),
}
_FILTERS = ("ComputeFilter", "ComputeCapabilitiesFilter", "ImagePropertiesFilter")
"""Of Nova's scheduler; provision/files/nova-controller.conf."""


def tempest_conf(facts: LabFacts, directory: Path, image_file: Path) -> str:
    """The content of tempest.conf. It holds the password of the lab's admin: mode 0600.

    `directory` is for locks and the log; `image_file` is the instance image, which some tests
    upload.
    """
    geneve = [
        f'{{"provider:network_type":"geneve","mtu":{mtu},"cidr":"10.{number}.0.0/16"}}'
        for mtu, number in ((1200, 100), (1300, 200))
    ]
    values: dict[str, dict[str, str]] = {
        "DEFAULT": {"debug": "true", "log_file": str(directory / "tempest.log")},
        "oslo_concurrency": {"lock_path": str(directory / "locks")},
        "auth": {
            "admin_username": "admin",
            "admin_password": facts.password,
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
            "tempest_roles": "member",
        },
        "identity": {"uri_v3": facts.keystone, "auth_version": "v3", "region": "RegionOne"},
        "compute": {
            "image_ref": facts.image_id,
            "image_ref_alt": facts.other_image_id,
            "flavor_ref": facts.flavor_id,
            "flavor_ref_alt": facts.other_flavor_id,
            "min_compute_nodes": str(facts.computes),
        },
        "compute-feature-enabled": {"scheduler_enabled_filters": ",".join(_FILTERS)},
        "network": {
            "public_network_id": facts.external_network_id,
            "floating_network_name": facts.external_network,
        },
        "network-feature-enabled": {
            "api_extensions": ",".join(facts.extensions),
            # ML2/OVN of 2025.1 has none; upstream's own job says the same.
            "available_features": "",
        },
        "validation": {
            "image_ssh_user": facts.user,
            "image_alt_ssh_user": facts.user,
            "network_for_ssh": facts.external_network,
        },
        "scenario": {"img_file": str(image_file), "dhcp_client": "udhcpc"},
        "neutron_plugin_options": {
            "available_type_drivers": ",".join(
                ["local", "flat", *(["vlan"] if facts.physical_networks else []), "geneve"]
            ),
            "provider_vlans": ",".join(facts.physical_networks),
            "firewall_driver": "ovn",
            "global_ip_address": facts.internet_host,
            "test_mtu_networks": f"[{','.join(geneve)}]",
            # The one image is both: its nc is CirrOS's, its ping and its VLANs are Debian's.
            "advanced_image_ref": facts.image_id,
            "advanced_image_flavor_ref": facts.flavor_id,
            "advanced_image_ssh_user": facts.user,
        },
    }
    for names, value in ((_NOT_IN_A_LAB, "false"), (_IN_A_LAB, "true")):
        for section, options in names.items():
            values.setdefault(section, {}).update(dict.fromkeys(options, value))
    return _ini(values)


def _ini(values: Mapping[str, Mapping[str, str]]) -> str:
    parser = ConfigParser(interpolation=None, default_section="")
    # oslo.config substitutes $name.
    parser.read_dict(
        {
            section: {name: value.replace("$", "$$") for name, value in options.items()}
            for section, options in values.items()
        }
    )
    text = StringIO()
    parser.write(text)
    return text.getvalue()
