"""Which of the field's tests are run, by the names that the field gives them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Tests that are run together."""

    what: str
    """For people."""
    regex: str
    exclude: tuple[str, ...] = ()
    workers: int = 2
    """How many tests at once. Instances without KVM are slow enough alone."""


_NOT_NETWORK = (
    "tempest.api.volume",
    "tempest.api.compute.volumes",
    "tempest.api.image",
    "tempest.api.compute.images",
    "tempest.api.object_storage",
    "tempest.api.identity",
    r"tempest\.scenario\.test_encrypted_cinder_volumes\.TestEncryptedCinderVolumes\."
    "(test_encrypted_cinder_volumes_luks|test_encrypted_cinder_volumes_luks2|test_encrypted_cinder_volumes_cryptsetup)",
    r"tempest\.scenario\.test_object_storage_basic_ops\.TestObjectStorageBasicOps\."
    "(test_swift_basic_ops|test_swift_acl_anonymous_download)",
    r"tempest\.scenario\.test_volume_boot_pattern\.TestVolumeBootPattern\."
    "(test_boot_server_from_encrypted_volume_luks|test_boot_server_from_encrypted_volume_luks2|test_image_defined_boot_from_volume|test_create_server_from_volume_snapshot)",
)
"""What Tempest's list for integrated-network leaves out: of Cinder, Glance, Keystone and Swift."""
_OTHER_PROJECTS = (
    "neutron_tempest_plugin.(bgpvpn|fwaas|neutron_dynamic_routing|sfc|tap_as_a_service|vpnaas)",
)
"""Projects of their own, whose tests travel with the plugin."""

# The regular expressions of `smoke` and `integrated-network` are those of Tempest's tox.ini.
SELECTIONS = {
    "smoke": Selection(
        "Tempest's `smoke`: what Tempest calls the least of every service", r"\[.*\bsmoke\b.*\]",
        _OTHER_PROJECTS,
    ),
    "integrated-network": Selection(
        "the first part of Tempest's `integrated-network`: the APIs of Neutron and Nova",
        r"(?!.*\[.*\bslow\b.*\])(^tempest\.api)", _NOT_NETWORK,
    ),
    "integrated-network-scenario": Selection(
        "its second part: Tempest's scenarios, with instances",
        r"(?!.*\[.*\bslow\b.*\])(^tempest\.scenario)|(^tempest\.serial_tests)", _NOT_NETWORK,
        workers=1,
    ),
    "plugin-api": Selection(
        "neutron-tempest-plugin: Neutron's API", r"^neutron_tempest_plugin\.api", _OTHER_PROJECTS
    ),
    "plugin-scenario": Selection(
        "neutron-tempest-plugin: its scenarios, with instances",
        r"^neutron_tempest_plugin\.scenario", _OTHER_PROJECTS,
    ),
    "api-network": Selection(
        "Tempest's tests of Neutron's API, part of `integrated-network`", r"^tempest\.api\.network"
    ),
    "short": Selection(
        "a part of all: smoke tests of the network, one scenario of each kind",
        r"(^tempest\.(api\.network|scenario\.test_network_basic_ops).*\[.*\bsmoke\b.*\])"
        r"|(^neutron_tempest_plugin\.scenario\.("
        r"test_basic\.NetworkBasicTest"
        r"|test_floatingip\.FloatingIpSameNetwork\.test_east_west_1"
        r"|test_internal_dns\.InternalDNSTest\.test_dns_domain_and_name"
        r"|test_port_forwardings\.PortForwardingTestJSON\.test_port_forwarding_to_2_servers"
        r"|test_portsecurity\.PortSecurityTest\.test_port_security_removed_added_stateful_sg"
        r"|test_qos\.QoSTest\.test_qos_basic_and_update"
        r"|test_trunk\.TrunkTest\.test_subport_connectivity\b"
        r"))",
    ),
}  # fmt: skip
WHOLE = (
    "smoke",
    "integrated-network",
    "integrated-network-scenario",
    "plugin-api",
    "plugin-scenario",
)
"""What `make tempest` runs."""
