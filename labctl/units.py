"""The systemd units that make a node what its roles say, and whether they are active."""

from itertools import chain

from labctl.guest import Guest
from labctl.topology import Node

UNITS = {
    "controller": (
        "mariadb", "rabbitmq-server", "memcached", "keystone", "glance-api", "placement-api",
        "nova-api", "nova-api-metadata", "nova-conductor", "nova-scheduler", "neutron-api",
        "neutron-ovn-maintenance-worker", "ovn-northd", "ovn-ovsdb-server-nb",
        "ovn-ovsdb-server-sb",
    ),
    "compute": ("libvirtd", "nova-compute", "neutron-ovn-metadata-agent"),
}  # fmt: skip
EVERYWHERE = ("ovs-vswitchd", "ovsdb-server", "ovn-controller")


def units_of(node: Node) -> list[str]:
    """The systemd units that must be active on a node."""
    of_roles = (units for role, units in UNITS.items() if role in node.roles)
    return [*EVERYWHERE, *chain.from_iterable(of_roles)]


def inactive_units(guest: Guest, node: Node) -> dict[str, str]:
    """{unit: state} of those units of a node that are not active. Raises GuestError."""
    units = units_of(node)
    seen = guest.run(["systemctl", "is-active", *units], check=False, timeout=15)
    states = dict(zip(units, seen.stdout.split(), strict=False))
    return {unit: states.get(unit, "unknown") for unit in units if states.get(unit) != "active"}
