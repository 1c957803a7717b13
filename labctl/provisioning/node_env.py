"""The file that the scripts of provision/ read on a node. Pure: no file, no clock."""

import shlex

from labctl.provisioning.network_options import network_options
from labctl.state import Secrets
from labctl.topology import Machine, Node, Topology


def lab_env(
    topology: Topology,
    machine: Machine,
    secrets: Secrets,
    *,
    timeout_factor: int = 1,
    resolver: str = "",
) -> str:
    """The content of `/etc/labctl/lab.env` of one machine, each value quoted for the shell.

    A node without the role controller gets no password of the database or of OpenStack's admin, and
    a client, which is outside, none at all.
    `timeout_factor`: how many times as long as in a container a script may wait. `resolver`: the
    address of a DNS server; "" leaves the node's /etc/resolv.conf as it is.
    """
    values = {
        "LAB_NAME": topology.lab,
        "LAB_STACK": topology.stack,
        "PATIENCE": str(timeout_factor),
        "RESOLVER": resolver,
        "NODE_NAME": machine.name,
        "NODE_ROLES": " ".join(sorted(machine.roles)),
        "CONTROLLER_NAME": topology.controller.name,
        "ETH0_ADDRESS": str(machine.eth0.address),
        "ETH0_GATEWAY": str(machine.eth0.gateway),
        "ETH0_MAC": machine.eth0.mac,
        "HOSTS": f"{machine.eth0.address.ip} {machine.name}",
    }
    if isinstance(machine, Node):
        values |= _of_node(topology, machine, secrets)
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    return "# Written by labctl; `labctl create` writes it anew.\n" + "\n".join(lines) + "\n"


def _of_node(topology: Topology, node: Node, secrets: Secrets) -> dict[str, str]:
    """What only nodes are told."""
    values = {
        "NODE_ADDRESS": str(node.eth1.address.ip),
        "CONTROLLER_ADDRESS": str(topology.controller.eth1.address.ip),
        "ETH1_ADDRESS": str(node.eth1.address),
        "ETH1_MAC": node.eth1.mac,
        **network_options(topology, node),
        "HOSTS": "\n".join(f"{peer.eth1.address.ip} {peer.name}" for peer in topology.nodes),
        "SECRET_RABBIT": secrets.rabbit,
        "SECRET_SERVICE": secrets.service,
        "SECRET_METADATA": secrets.metadata,
    }
    if node.is_controller:
        values["SECRET_ADMIN"] = secrets.admin
        values["SECRET_DATABASE"] = secrets.database
    return values
