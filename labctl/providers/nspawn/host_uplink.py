"""`nat.uplink: host`: the way from a lab's NAT namespaces through this machine to the Internet.

Each NAT namespace gets a link of its own to the host, its transit link. The host forwards what
comes from there, and translates it. A table of nftables, named after the lab, holds the rules:
nothing of the lab reaches the host's own services, and nobody else reaches the transit links.
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path

from labctl.engine.lock import hold_when_free
from labctl.engine.wait import WaitTimeout, wait_until
from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.own_directory import open_text
from labctl.providers import netns
from labctl.providers.nspawn import TRANSIT
from labctl.run import run
from labctl.state import write_atomic
from labctl.topology import Topology

_SETTINGS = Path("/proc/sys/net/ipv4")
_FORWARDING = _SETTINGS / "ip_forward"
_MEMORY = Path("/run/labctl")
"""What the host's settings were. It is gone after a reboot, as the settings are."""
_LOCK_SECONDS = 10
"""Who holds the lock reads and writes a few files, which takes milliseconds."""
_PROBE_TARGET, _PROBE_PORT = "8.8.8.8", 9
"""Where the packet of `check_forwarding` goes; the lab's own rules drop it before it leaves."""


def join(nat: str, topology: Topology, *, number: int, lab_id: str) -> None:
    """Link the NAT namespace of node `number` with the host. Safe to run again."""
    host_end, nat_end = _link(lab_id, number)
    device = f"{_devices(lab_id)}{number}"
    if not netns.has_link(nat, "up0"):
        run(["ip", "link", "add", device, "type", "veth", "peer", "name", "up0", "netns", nat])
    # No address of IPv6, behind which services of the host could be reached.
    run(["ip", "link", "set", device, "addrgenmode", "none"])
    _nft(_host_rules(topology, lab_id))  # before the link is up
    run(["ip", "addr", "replace", f"{host_end}/30", "dev", device])
    run(["ip", "link", "set", device, "up"])
    run(["ip", "-n", nat, "addr", "replace", f"{nat_end}/30", "dev", "up0"])
    run(["ip", "-n", nat, "link", "set", "up0", "up"])
    run(["ip", "-n", nat, "route", "replace", "default", "via", host_end])
    run(["ip", "netns", "exec", nat, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    # Addresses are translated twice, as with VirtualBox: by the NAT network, then by the host.
    _nft(_nat_rules(topology), "ip", "netns", "exec", nat)
    _switch_forwarding_on()


def check_forwarding(nat: str, lab_id: str) -> None:
    """Send one packet from the NAT namespace to the Internet and see that the host forwards it.

    It never leaves the host: the last chain it meets is the lab's own, which counts and drops it.
    Raises LabError that names the chain of the host's firewall that dropped it before.
    """
    if run(["ip", "route", "get", _PROBE_TARGET], check=False).returncode != 0:
        return  # a machine without a network now: there is no way that a firewall could close
    before = _passed(lab_id)

    def through() -> bool:
        netns.run_in(nat, _send_probe)
        return _passed(lab_id) > before

    def forwarded() -> bool:
        with suppress(WaitTimeout):
            return wait_until(
                tr("the machine forwards the lab's packets"), through, deadline=1, hint=""
            )
        return False

    if forwarded():
        return
    with ThreadPoolExecutor(max_workers=1) as pool:  # again, with a look at each rule it meets
        watching = pool.submit(_trace)
        if forwarded():
            return
        trace = watching.result()
    chains = run(["nft", "list", "chains"], check=False).stdout
    raise LabError(
        tr("this machine's firewall drops what the lab sends to the Internet: {where}",
           where=dropping_chain(trace, own=_table(lab_id))
           or tr("no nftables chain counted the packet; a rule of iptables-legacy may drop it")),
        hint=tr(
            "`nat.uplink: host` needs a firewall that forwards from and to {network}:"
            " `iptables -I {chain} -s {network} -j ACCEPT` and the same with -d, or a rule in your"
            " firewall's own language; or leave nat.uplink at `simulated`",
            network=TRANSIT, chain="DOCKER-USER" if "chain DOCKER-USER" in chains else "FORWARD"),
    )  # fmt: skip


def dropping_chain(trace: str, *, own: str) -> str:
    """The chain that dropped the packet in the output of `nft monitor trace`, "" if none did.

    `own` is the name of the lab's own table, which drops the packet last.
    """
    verdict = re.compile(
        r"^trace id \S+ (\w+) (\S+) (\S+) (?:rule .*\(verdict (?:drop|stolen)\)|policy drop)", re.M
    )
    for family, table, chain in verdict.findall(trace):
        if table != own:
            return tr(
                "chain {chain} of the table `{table}`", chain=chain, table=f"{family} {table}"
            )
    return ""


def own_addresses() -> set[str]:
    """The IPv4 and IPv6 addresses of the host itself, which the lab does not reach."""
    shown = run(["ip", "-o", "addr", "show"]).stdout
    return set(re.findall(r"\binet6? ([^ /]+)", shown))


def remove(lab_id: str) -> None:
    """Remove what `join` added to the host, and restore its setting after the last lab."""
    links = run(["ip", "-br", "link", "show", "type", "veth"], check=False).stdout
    for line in links.splitlines():
        name = line.split("@")[0].split()[0]
        if name.startswith(_devices(lab_id)):
            run(["ip", "link", "delete", name], check=False)
    with suppress(LabError):  # no nftables, so no table either
        run(["nft", "delete", "table", "ip", _table(lab_id)], check=False)
    _restore_forwarding()


# -- names -----------------------------------------------------------------------------------------
def _table(lab_id: str) -> str:
    return f"labctl_{lab_id}"


def _devices(lab_id: str) -> str:
    """What the names of the host's ends of a lab's transit links begin with."""
    return f"lab{lab_id[:6]}"


def _network(lab_id: str, number: int) -> IPv4Network:
    block = (int(lab_id, 16) * 8 + number) % 2**14
    return IPv4Network((int(TRANSIT.network_address) + 4 * block, 30))


def _link(lab_id: str, number: int) -> tuple[str, str]:
    """Addresses (host end, NAT end) of the link between the host and one NAT namespace.

    Each link has four addresses (/30); a lab has room for eight links. The lab's ID decides which,
    so two labs on one host get the same addresses in 1 of 2048 cases.
    """
    network = _network(lab_id, number)
    return str(network[1]), str(network[2])


# -- rules -----------------------------------------------------------------------------------------
def _nft(rules: str, *prefix: str) -> None:
    run(
        [*prefix, "nft", "-f", "-"],
        input=rules,
        hint=tr("`nat.uplink: host` needs nftables: {command}", command="apt install nftables"),
    )


def _host_rules(topology: Topology, lab_id: str) -> str:
    table, ours = _table(lab_id), f'"{_devices(lab_id)}*"'
    networks = tr_list(str(_network(lab_id, n)) for n in range(len(topology.nodes)))
    probe = f"ip daddr {_PROBE_TARGET} udp sport {_PROBE_PORT} udp dport {_PROBE_PORT}"
    return f"""
table ip {table}
delete table ip {table}
table ip {table} {{
    counter probes {{ }}
    set transit {{ type ipv4_addr; flags interval; elements = {{ {networks} }} }}
    chain prerouting {{
        type filter hook prerouting priority -350;
        iifname {ours} {probe} meta nftrace set 1
    }}
    chain input {{
        type filter hook input priority 0;
        iifname {ours} ct state established,related accept
        iifname {ours} counter drop comment "a lab does not reach the host's own services"
        iifname != "lo" ip daddr @transit counter drop comment "nor others its transit links"
    }}
    chain forward {{
        type filter hook forward priority 0;
        oifname {ours} ct state established,related accept
        oifname {ours} counter drop comment "only answers go into a lab"
    }}
    chain probe {{
        type filter hook postrouting priority 99;
        ip saddr @transit {probe} counter name probes drop
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        ip saddr @transit ip daddr != @transit masquerade
    }}
}}
"""


def _nat_rules(topology: Topology) -> str:
    return f"""
table ip labctl
delete table ip labctl
table ip labctl {{
    chain postrouting {{
        type nat hook postrouting priority 100;
        ip saddr {topology.nat} oifname "up0" masquerade
    }}
}}
"""


# -- the packet that is sent through ---------------------------------------------------------------
def _send_probe() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("", _PROBE_PORT))
        sender.sendto(b"labctl", (_PROBE_TARGET, _PROBE_PORT))


def _passed(lab_id: str) -> int:
    """How many of these packets have come through since the table was made."""
    shown = run(["nft", "list", "counter", "ip", _table(lab_id), "probes"]).stdout
    found = re.search(r"\bpackets (\d+)", shown)
    return int(found[1]) if found else 0


def _trace() -> str:
    """What nftables tells about traced packets within two seconds."""
    return run(["timeout", "2", "stdbuf", "-oL", "nft", "monitor", "trace"], check=False).stdout


# -- the host's own setting ------------------------------------------------------------------------
def _record() -> Path:
    # By network namespace: the setting belongs to that, and not to the machine.
    return _MEMORY / f"ip_forward.{os.stat('/proc/self/ns/net').st_ino}"


@contextmanager
def _alone() -> Iterator[None]:
    """One labctl at a time: another lab may begin or end now. Raises WaitTimeout."""
    _MEMORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _MEMORY / "lock"
    description = tr("the lock is free: {path}", path=path)
    with hold_when_free(description, path, open_text, deadline=_LOCK_SECONDS):
        yield


def _switch_forwarding_on() -> None:
    with _alone():
        if _FORWARDING.read_text(encoding="utf-8").strip() != "0":
            return
        # The kernel changes these along with it, and not back: accept_redirects of a hardened
        # host would be 1 at the end.
        along = [_SETTINGS / "conf/all/accept_redirects", *_SETTINGS.glob("conf/*/forwarding")]
        values = {
            str(path.relative_to(_SETTINGS)): path.read_text(encoding="utf-8").strip()
            for path in along
        }
        write_atomic(_record(), json.dumps(values) + "\n", 0o600)
        _FORWARDING.write_text("1\n", encoding="utf-8")


def _restore_forwarding() -> None:
    """Forward no longer, if that was so before the first lab and this was the last one."""
    if not _record().exists():
        return
    with _alone():
        tables = run(["nft", "list", "tables", "ip"], check=False).stdout
        if "table ip labctl_" in tables or not _record().exists():
            return
        _FORWARDING.write_text("0\n", encoding="utf-8")
        for name, value in json.loads(_record().read_text(encoding="utf-8")).items():
            with suppress(FileNotFoundError):  # an interface that is gone
                if (_SETTINGS / name).read_text(encoding="utf-8").strip() != value:
                    (_SETTINGS / name).write_text(f"{value}\n", encoding="utf-8")
        _record().unlink()
