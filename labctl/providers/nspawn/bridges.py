"""Bridges in a namespace of the host, with a MAC address of their own."""

import hashlib
import json

from labctl.providers import netns
from labctl.run import run


def ensure(namespace: str, device: str, name: str) -> None:
    """Make namespace and bridge, whose MAC address is made from `name`. Safe to run again."""
    netns.ensure(namespace)
    if not netns.has_link(namespace, device):
        # A bridge without an address of its own takes that of a port, another with each port more:
        # what machines have learned of their gateway by ARP would be wrong then.
        digest = hashlib.sha256(name.encode()).digest()
        address = "52:54:00:" + digest[:3].hex(":")
        run(["ip", "-n", namespace, "link", "add", device, "address", address, "type", "bridge"])
    run(["ip", "-n", namespace, "link", "set", device, "up"])


def plug(namespace: str, port: str, device: str) -> None:
    """Make the end of a cable a port of the bridge."""
    run(["ip", "-n", namespace, "link", "set", port, "master", device])


def mac(namespace: str, device: str) -> str:
    """The MAC address of a device in the namespace."""
    (link,) = json.loads(run(["ip", "-j", "-n", namespace, "link", "show", device]).stdout)
    return str(link["address"])
