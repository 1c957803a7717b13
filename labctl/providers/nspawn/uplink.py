"""What is behind a node's eth0: a simulated Internet, or the host's real uplink.

Simulated (the default): the NAT namespace has the gateway's address and that of a well-known host,
8.8.8.8, which answers ping, HTTP and DNS. No packet leaves the machine, so it needs no network.
With `nat.uplink: host` the namespace is a router behind the host instead.
"""

from pathlib import Path

from labctl.engine.wait import wait_until
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.providers import netns
from labctl.providers.nspawn import host_uplink
from labctl.run import python_module, run, spawn
from labctl.spec.defaults import INTERNET_HOST
from labctl.topology import Topology

INTERNET_PORT = 80


def ensure(nat: str, topology: Topology, *, number: int, lab_id: str, log: Path) -> None:
    """Give the NAT namespace its addresses, and its HTTP server or its route. Safe to run again.

    `number` is the node's in the topology. Raises LabError.
    """
    gateway = f"{topology.nat_gateway}/{topology.nat.prefixlen}"
    run(["ip", "-n", nat, "addr", "replace", gateway, "dev", "nat0"])
    if topology.uplink == "host":
        host_uplink.join(nat, topology, number=number, lab_id=lab_id)
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
    """Whether the HTTP server, which starts last, answers.

    With `nat.uplink: host`: whether the route is there.
    """
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
    """The content of a node's /etc/resolv.conf.

    Simulated: the one host, asked once, so that a node whose eth0 is broken does not wait long for
    a name. Otherwise the host's name servers that nodes can reach.
    """
    if topology.uplink != "host":
        return f"nameserver {INTERNET_HOST}\noptions timeout:1 attempts:1\n"
    # What the host itself serves, on its loopback interface or elsewhere, no node can reach.
    own = host_uplink.own_addresses()
    for file in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if file.is_file():
            lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
            servers = [words[1] for words in lines if words[:1] == ["nameserver"] and words[1:]]
            if reachable := [
                server for server in servers if server not in own and not server.startswith("127.")
            ]:
                return "".join(f"nameserver {address}\n" for address in reachable)
    return "nameserver 8.8.8.8\n"
