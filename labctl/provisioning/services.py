"""The systemd units that a node must run for its roles, and whether they are active."""

import shlex
from itertools import chain

from labctl.access.guest import Guest
from labctl.topology import Machine, Node

STOPPED_UNITS = "ps -eo stat=,unit= | awk '$1 ~ /^T/ { print $2 }' | sort -u"
"""Prints the units that have a process which SIGSTOP has stopped (state T of ps(1))."""

_OPENSTACK = {
    "controller": (
        "mariadb", "rabbitmq-server", "memcached", "keystone", "glance-api", "placement-api",
        "nova-api", "nova-api-metadata", "nova-conductor", "nova-scheduler", "neutron-api",
        "neutron-ovn-maintenance-worker",
    ),
    "compute": ("libvirtd", "nova-compute", "neutron-ovn-metadata-agent"),
}  # fmt: skip
_OVN = {"controller": ("ovn-northd", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb")}
# Workloads in namespaces, instead of instances (provision/42-workloads.sh).
_WITHOUT_OPENSTACK = ("labctl-workloads",)
_OF_CLIENTS = ("labctl-network",)
_EVERYWHERE = ("ovs-vswitchd", "ovsdb-server", "ovn-controller")


def units_of(node: Machine, stack: str) -> list[str]:
    """The systemd units that must be active on a machine of a lab with this stack."""
    if not isinstance(node, Node):
        return list(_OF_CLIENTS)
    openstack = stack == "openstack"
    tables = (_OVN, _OPENSTACK) if openstack else (_OVN,)
    of_roles = (units for table in tables for role, units in table.items() if role in node.roles)
    everywhere = _EVERYWHERE if openstack else _EVERYWHERE + _WITHOUT_OPENSTACK
    return [*everywhere, *chain.from_iterable(of_roles)]


def inactive_units(guest: Guest, node: Machine, stack: str) -> dict[str, str]:
    """{unit: state} of the units of a node that should be active and are not. Raises GuestError.

    One with a process that SIGSTOP has stopped is `stopped`: systemd calls it active.
    """
    units = units_of(node, stack)
    command = f"systemctl is-active {shlex.join(units)}; echo stopped; {STOPPED_UNITS}"
    answer = guest.run(command, check=False, timeout=15)
    active, _, stopped = answer.stdout.partition("stopped\n")
    states = dict(zip(units, active.split(), strict=False))
    states |= {unit: "stopped" for unit in units if f"{unit}.service" in stopped.split()}
    return {unit: states.get(unit, "unknown") for unit in units if states.get(unit) != "active"}
