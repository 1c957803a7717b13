"""Checks of VirtualBox's networks: known bugs of its NAT, host-only ranges, forwarded ports."""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding
from labctl.i18n import tr
from labctl.providers.vagrant.checks import dotted
from labctl.topology import Topology

VIRTUALBOX_DOWNLOAD = "https://www.virtualbox.org/wiki/Downloads"
# The range of host-only networks that VirtualBox allows without networks.conf (its manual, 6.7).
_ALLOWED = (IPv4Network("192.168.56.0/21"),)


def nat(version: tuple[int, ...]) -> Iterator[Finding]:
    """Known bugs of VirtualBox's NAT (VirtualBox/virtualbox issues 232, 621)."""
    if (7, 2) <= version < (7, 2, 4):
        yield Finding(
            "virtualbox-forwards",
            "warning",
            "network",
            tr(
                "VirtualBox {version} loses NAT when a machine has several forwarded ports, as the"
                " controller has",
                version=dotted(version),
            ),
            impact=tr("SSH into the controller may fail, and create with it"),
            fix=tr(
                "install VirtualBox {fixed} or newer: {url}",
                fixed="7.2.8",
                url=VIRTUALBOX_DOWNLOAD,
            ),
        )
    elif (7, 2, 4) <= version < (7, 2, 8):
        yield Finding(
            "virtualbox-resets",
            "warning",
            "network",
            tr(
                "the NAT of VirtualBox {version} resets TCP connections now and then",
                version=dotted(version),
            ),
            impact=tr("downloads and SSH sessions of the nodes break off"),
            fix=tr(
                "install VirtualBox {fixed} or newer: {url}",
                fixed="7.2.8",
                url=VIRTUALBOX_DOWNLOAD,
            ),
        )
    elif version and version < (7, 1):
        yield Finding(
            "virtualbox-guest-ip",
            "note",
            "network",
            tr(
                "VirtualBox {version} sends a forwarded port to whoever spoke ARP last; labctl pins"
                " it to eth0's address",
                version=dotted(version),
            ),
        )


def shared_nat(topology: Topology) -> Iterator[Finding]:
    """VirtualBox's NAT is a network of one machine, and Vagrant needs it as the first adapter."""
    if topology.spec.nat.shared:
        yield Finding(
            "virtualbox-nat-shared",
            "error",
            "network",
            tr(
                "lab.yaml says `nat.shared: true`, and VirtualBox gives each machine a NAT network"
                " of its own"
            ),
            impact=tr("no node would reach another by eth0, with one gateway behind them all"),
            fix=tr("write `provider: nspawn`, or `libvirt`, or leave out nat.shared"),
        )


def host_only(
    facts: HostFacts, network: IPv4Network, version: tuple[int, ...]
) -> Iterator[Finding]:
    """Whether VirtualBox allows the private network as a host-only network.

    It allows only certain ranges since 6.1.28 on Linux, and on macOS before 7.0. Vagrant finds out
    late, after it has imported the box.
    """
    free_choice = facts.family == "windows" or (facts.family == "macos" and version >= (7,))
    if free_choice or (version and version < (6, 1, 28)):
        return
    allowed, wrong = _allowed(facts.networks_conf)
    # networks.conf replaces the default range, so a new file must name that range too.
    wanted = f"* {_ALLOWED[0]} {network}" if facts.networks_conf is None else f"* {network}"
    free = next((range_ for range_ in allowed if isinstance(range_, IPv4Network)), None)
    add = (
        "sudo mkdir -p /etc/vbox",
        f"echo '{wanted}' | sudo tee -a /etc/vbox/networks.conf",
    )
    if wrong:
        yield Finding(
            "networks-conf",
            "error",
            "network",
            tr("/etc/vbox/networks.conf: {word} is no network", word=wrong),
            impact=tr("Vagrant stops with an error when it makes the private network"),
            fix=tr("write each as in `{line}`", line=wanted),
        )
    elif not any(
        isinstance(range_, IPv4Network) and network.subnet_of(range_) for range_ in allowed
    ):
        yield Finding(
            "networks-conf",
            "error",
            "network",
            tr(
                "VirtualBox allows no host-only network {network}: {where}",
                network=network,
                where=tr("without /etc/vbox/networks.conf only {range}", range=_ALLOWED[0])
                if facts.networks_conf is None
                else tr("/etc/vbox/networks.conf does not name it"),
            ),
            impact=tr(
                "Vagrant refuses, after it has copied the box (“not within the allowed ranges”)"
            ),
            fix=tr(
                "allow it, or write `private.attach: internal`: the laptop itself then has no"
                " address there"
            )
            + (tr("; or choose a network in {range}", range=free) if free else ""),
            commands=add,
        )


def _allowed(conf: str | None) -> tuple[list[IPv4Network | IPv6Network], str]:
    """The ranges that networks.conf allows, and the first word in it that is no range, or ""."""
    if conf is None:
        return list(_ALLOWED), ""
    ranges: list[IPv4Network | IPv6Network] = []
    for line in conf.splitlines():
        if line.strip().startswith("*"):
            for word in line.strip()[1:].split():
                try:
                    ranges.append(ip_network(word, strict=False))
                except ValueError:
                    return ranges, word
    return ranges, ""


def ports(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether the forwarded ports of the nodes are free."""
    if case.here.machines:
        return  # this lab's own machines have taken them
    taken = {port.number: port.process for port in facts.ports}
    lines = [
        tr(
            "{port} for {service} of {node}, by {owner}",
            port=forward.host,
            service=forward.id,
            node=node.name,
            owner=taken[forward.host] or tr("another program"),
        )
        for node in case.topology.nodes
        for forward in node.forwards
        if forward.host in taken
    ]
    if lines:
        yield Finding(
            "ports-taken",
            "warning",
            "network",
            tr("ports of 127.0.0.1 are taken: {ports}", ports="; ".join(lines)),
            impact=tr(
                "Vagrant takes others, from 2200 on: labctl finds them, but your own notes and"
                " bookmarks do not"
            ),
            fix=tr("end that program, or give the lab another `name:`, which moves its ports"),
        )
