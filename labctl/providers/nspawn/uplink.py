"""What is behind a node's eth0: a simulated Internet, or the host's real uplink.

Simulated (the default): the NAT namespace has the gateway's address and that of a well-known host,
8.8.8.8, which answers ping and HTTP. No packet leaves the machine, so it needs no network. With
`nat.uplink: host` the namespace is a router behind the host instead.
"""

from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from labctl.engine.wait import wait_until
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.providers import netns
from labctl.run import python_module, run, spawn
from labctl.spec.defaults import INTERNET_HOST
from labctl.topology import Topology

INTERNET_PORT = 80
_TRANSIT = IPv4Network("100.127.0.0/16")
"""For the links between the host and NAT namespaces: a part of RFC 6598's shared address space,
which private networks seldom use."""


def ensure(nat: str, topology: Topology, *, number: int, lab_id: str, log: Path) -> None:
    """Give the NAT namespace its addresses, and its HTTP server or its route. Safe to run again.

    `number` is the node's in the topology. Raises LabError.
    """
    gateway = f"{topology.nat_gateway}/{topology.nat.prefixlen}"
    run(["ip", "-n", nat, "addr", "replace", gateway, "dev", "nat0"])
    if topology.uplink == "host":
        _join_host(nat, topology, number, lab_id)
        return
    run(["ip", "-n", nat, "addr", "replace", f"{INTERNET_HOST}/32", "dev", "lo"])
    if not running(nat, topology):
        spawn(
            ["ip", "netns", "exec", nat,
             *python_module("labctl.providers.nspawn.internet",
                            str(INTERNET_HOST), str(INTERNET_PORT), nat)],
            log=log,
            unit=nat,
        )  # fmt: skip
        wait_until(
            tr("{address} answers inside {namespace}", address=INTERNET_HOST, namespace=nat),
            lambda: running(nat, topology),
            deadline=20,
            hint=tr("see {log}", log=log),
            interval=0.1,
        )


def running(nat: str, topology: Topology) -> bool:
    """Whether the HTTP server answers, or with `nat.uplink: host` whether the route is there."""
    if not netns.exists(nat):
        return False
    if topology.uplink == "host":
        return netns.has_link(nat, "up0")
    try:
        netns.dial(nat, str(INTERNET_HOST), INTERNET_PORT, timeout=2).close()
    except (OSError, LabError):
        return False
    return True


def resolver(topology: Topology) -> str:
    """The content of a node's /etc/resolv.conf: the host's name servers that nodes can reach."""
    if topology.uplink != "host":
        return "# No names on the simulated Internet; nodes know each other by /etc/hosts.\n"
    for file in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if file.is_file():
            lines = file.read_text().splitlines()
            # A resolver on the host's own loopback cannot be reached from a node.
            servers = [
                line for line in lines if line.startswith("nameserver ") and " 127." not in line
            ]
            if servers:
                return "\n".join(servers) + "\n"
    return "nameserver 8.8.8.8\n"


def _transit(lab_id: str, number: int) -> tuple[str, str]:
    """Addresses (host end, NAT end) of the link between the host and one NAT namespace.

    Each link has four addresses (/30); a lab has room for eight links. The lab's ID decides which,
    so two labs on one host get the same addresses in 1 of 2048 cases.
    """
    block = (int(lab_id, 16) * 8 + number) % 2**14
    network = IPv4Network((int(_TRANSIT.network_address) + 4 * block, 30))
    return str(network[1]), str(network[2])


def _join_host(nat: str, topology: Topology, number: int, lab_id: str) -> None:
    host_end, nat_end = _transit(lab_id, number)
    device = f"lab{lab_id[:6]}{number}"
    if not netns.has_link(nat, "up0"):
        run(["ip", "link", "add", device, "type", "veth", "peer", "name", "up0", "netns", nat])
    run(["ip", "addr", "replace", f"{host_end}/30", "dev", device])
    run(["ip", "link", "set", device, "up"])
    run(["ip", "-n", nat, "addr", "replace", f"{nat_end}/30", "dev", "up0"])
    run(["ip", "-n", nat, "link", "set", "up0", "up"])
    run(["ip", "-n", nat, "route", "replace", "default", "via", host_end])
    run(["ip", "netns", "exec", nat, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    # Addresses are translated twice, as with VirtualBox: by the NAT network, then by the host.
    _masquerade(["ip", "netns", "exec", nat], "labctl", str(topology.nat), "up0")
    # `remove` leaves this on: other software of the host may rely on it by then.
    run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    _masquerade([], f"labctl_{lab_id}", str(_TRANSIT), None)


def _masquerade(prefix: list[str], table: str, source: str, device: str | None) -> None:
    out = f'oifname "{device}" ' if device else f"ip daddr != {_TRANSIT} "
    rules = f"""
table ip {table}
delete table ip {table}
table ip {table} {{
    chain postrouting {{
        type nat hook postrouting priority 100;
        ip saddr {source} {out}masquerade
    }}
}}
"""
    run(
        [*prefix, "nft", "-f", "-"],
        input=rules,
        hint=tr("`nat.uplink: host` needs nftables: {command}", command="apt install nftables"),
    )


def remove(lab_id: str) -> None:
    """Remove what `nat.uplink: host` has added to the host itself."""
    links = run(["ip", "-br", "link", "show", "type", "veth"], check=False).stdout
    for line in links.splitlines():
        name = line.split("@")[0].split()[0]
        if name.startswith(f"lab{lab_id[:6]}"):
            run(["ip", "link", "delete", name], check=False)
    with suppress(LabError):  # no nftables, so no table either
        run(["nft", "delete", "table", "ip", f"labctl_{lab_id}"], check=False)
