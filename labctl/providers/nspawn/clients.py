"""Clients on the simulated Internet: a network of their own, behind the far end of the gateway's
eth0.

The far end routes between that network and the external one, and translates nothing. So whoever is
behind a floating IP sees the client's own address, and a TTL that is one less.
"""

from collections.abc import Mapping
from pathlib import Path

from labctl.providers import netns
from labctl.providers.nspawn import bridges
from labctl.run import run
from labctl.topology import Client, Topology

DEVICE = "clients"
"""The bridge in the NAT namespace, which has the address of the clients' gateway."""
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def port(number: int) -> str:
    """The bridge's port that leads to the eth0 of client `number` of the topology."""
    return f"client{number}"


def ensure(nat: str, topology: Topology, spaces: Mapping[Client, str]) -> None:
    """Connect the clients, each with a namespace in `spaces`. Safe to run again."""
    if not spaces:
        return
    bridges.ensure(nat, DEVICE, f"{topology.lab}/clients")
    for number, (client, space) in enumerate(spaces.items()):
        gateway = f"{client.eth0.gateway}/{client.eth0.address.network.prefixlen}"
        run(["ip", "-n", nat, "addr", "replace", gateway, "dev", DEVICE])
        netns.ensure(space)
        netns.cable((space, "eth0"), client.eth0.mac, (nat, port(number)))
        bridges.plug(nat, port(number), DEVICE)
    # The setting is that of the network namespace of the thread that writes it.
    netns.run_in(nat, lambda: _FORWARDING.write_text("1", encoding="utf-8"))


def ready(nat: str, spaces: Mapping[Client, str]) -> bool:
    """Whether `ensure` has nothing to do."""
    if not spaces:
        return True
    return (
        netns.exists(nat)
        and netns.run_in(nat, lambda: _FORWARDING.read_text(encoding="utf-8").strip()) == "1"
        and netns.link_ready(nat, DEVICE)
        and all(
            netns.link_ready(space, "eth0") and netns.link_ready(nat, port(number), master=DEVICE)
            for number, space in enumerate(spaces.values())
        )
    )
