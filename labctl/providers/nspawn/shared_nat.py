"""`nat.shared: true`: one NAT network that every node's eth0 is on, as a bridge in a namespace.

The bridge itself, nat0, has the gateway's address. So what is behind it is the same as behind the
NAT network of a single node (see `uplink`).
"""

import hashlib
import json

from labctl.providers import netns
from labctl.run import run
from labctl.topology import Topology

DEVICE = "nat0"
"""The bridge; where every node has a NAT network of its own, the end of eth0's veth pair."""


def port(number: int) -> str:
    """The bridge's port that leads to the eth0 of node `number` of the topology."""
    return f"port{number}"


def ensure(namespace: str, topology: Topology) -> None:
    """Make namespace and bridge. Safe to run again."""
    netns.ensure(namespace)
    if not netns.has_link(namespace, DEVICE):
        # A bridge without an address of its own takes that of a port, another with each port more:
        # what the nodes have learned of their gateway by ARP would be wrong then.
        digest = hashlib.sha256(f"{topology.lab}/nat".encode()).digest()
        mac = "52:54:00:" + digest[:3].hex(":")
        run(["ip", "-n", namespace, "link", "add", DEVICE, "address", mac, "type", "bridge"])
    run(["ip", "-n", namespace, "link", "set", DEVICE, "up"])


def plug(namespace: str, number: int) -> None:
    """Make the end of node `number`'s cable a port of the bridge."""
    run(["ip", "-n", namespace, "link", "set", port(number), "master", DEVICE])


def mac(namespace: str, device: str) -> str:
    """The MAC address of a device in the namespace."""
    (link,) = json.loads(run(["ip", "-j", "-n", namespace, "link", "show", device]).stdout)
    return str(link["address"])
