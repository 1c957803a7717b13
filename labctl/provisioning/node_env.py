"""The file that the scripts of provision/ read on a node. Pure: no file, no clock."""

import shlex

from labctl.provisioning.network_options import network_options
from labctl.state import Secrets
from labctl.topology import Node, Topology


def lab_env(
    topology: Topology, node: Node, secrets: Secrets, *, timeout_factor: int = 1, resolver: str = ""
) -> str:
    """The content of `/etc/labctl/lab.env` of one node, each value quoted for the shell.

    A node without the role controller gets no password of the database or of OpenStack's admin.
    `timeout_factor`: how many times as long as in a container a script may wait. `resolver`: the
    address of a DNS server; "" leaves the node's /etc/resolv.conf as it is.
    """
    controller = topology.controller
    values = {
        "LAB_NAME": topology.lab,
        "LAB_STACK": topology.stack,
        "PATIENCE": str(timeout_factor),
        "RESOLVER": resolver,
        "NODE_NAME": node.name,
        "NODE_ROLES": " ".join(sorted(node.roles)),
        "NODE_ADDRESS": str(node.eth1.address.ip),
        "CONTROLLER_NAME": controller.name,
        "CONTROLLER_ADDRESS": str(controller.eth1.address.ip),
        "ETH0_ADDRESS": str(node.eth0.address),
        "ETH0_GATEWAY": str(node.eth0.gateway),
        "ETH0_MAC": node.eth0.mac,
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
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    return "# Written by labctl; `labctl create` writes it anew.\n" + "\n".join(lines) + "\n"
