"""`nat.shared: true`: one NAT network that every node's eth0 is on, as a bridge in a namespace.

The bridge itself, nat0, has the gateway's address. So what is behind it is the same as behind the
NAT network of a single node (see `uplink`).
"""

from labctl.providers.nspawn import bridges
from labctl.topology import Topology

DEVICE = "nat0"
"""The bridge; where every node has a NAT network of its own, the end of eth0's veth pair."""


def port(number: int) -> str:
    """The bridge's port that leads to the eth0 of node `number` of the topology."""
    return f"port{number}"


def ensure(namespace: str, topology: Topology) -> None:
    """Make namespace and bridge. Safe to run again."""
    bridges.ensure(namespace, DEVICE, f"{topology.lab}/nat")


def plug(namespace: str, number: int) -> None:
    """Make the end of node `number`'s cable a port of the bridge."""
    bridges.plug(namespace, port(number), DEVICE)
