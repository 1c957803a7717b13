"""What is special about libvirt."""

import os
import re
from functools import cached_property
from pathlib import Path
from xml.sax.saxutils import quoteattr

from labctl.errors import LabError
from labctl.i18n import mark, tr
from labctl.providers.kvm import kvm_works
from labctl.providers.libvirt import NAME
from labctl.providers.provider import Features
from labctl.providers.timeout_factor import timeout_factor_from
from labctl.providers.vagrant.hypervisor import EMULATION_SLOWDOWN
from labctl.providers.vagrant.vagrantfile import machine_name, machine_names, vagrant_prefix
from labctl.run import run
from labctl.topology import Machine, Topology


class Libvirt:
    """Machines of libvirt and QEMU, all eth0 on one NAT network of the lab."""

    name = NAME
    features = Features(
        needs_root=False,
        # libvirt refuses two networks of the same range, so the nodes share one.
        shared_nat=True,
        own_clock=True,
        machines=True,
        image=mark("Vagrant box"),
        network=mark("Vagrantfile, keys, libvirt networks"),
    )
    boots_together = True

    @property
    def timeout_factor(self) -> int:
        """LABCTL_PATIENCE, or 3 with KVM, as with VirtualBox, or much more where QEMU emulates.

        Raises LabError if LABCTL_PATIENCE is no usable number.
        """
        return timeout_factor_from(os.environ) or (3 if self._kvm else EMULATION_SLOWDOWN)

    @cached_property
    def _kvm(self) -> bool:
        return kvm_works()  # starts a process, so it is asked once

    @property
    def emulated(self) -> bool:
        """Whether QEMU runs without KVM."""
        return not self._kvm

    def resolver(self, topology: Topology) -> str:
        """libvirt's dnsmasq, at the gateway's address."""
        return str(topology.nat_gateway)

    def environment(self) -> dict[str, str]:
        """Without KVM: QEMU's emulation, and half an hour for a boot, which takes minutes then."""
        if self._kvm:
            return {}
        return {"LABCTL_LIBVIRT_DRIVER": "qemu", "LABCTL_BOOT_SECONDS": "1800"}

    def require_answer(self) -> None:
        """Nothing to do: a libvirtd that hangs was not met yet."""

    def _virsh(self, *words: str, check: bool = True, input: str | None = None) -> str:
        hint = tr(
            "is libvirtd running, and are you in the group libvirt? `labctl doctor` tells more"
        )
        argv = ["virsh", "--quiet", "-c", "qemu:///system", *words]
        return run(argv, check=check, input=input, hint=hint).stdout

    def _networks(self, topology: Topology) -> dict[str, str]:
        """{name: definition as XML} of the lab's networks."""
        prefix = vagrant_prefix(topology)
        return {
            f"{prefix}-nat": nat_network(topology, f"{prefix}-nat"),
            f"{prefix}-private": private_network(topology, f"{prefix}-private"),
            **{
                f"{prefix}-{card}": isolated_network(f"{prefix}-{card}")
                for card in topology.spec.networks
            },
        }

    def network_ready(self, topology: Topology) -> bool:
        """Whether both networks run."""
        running = set(self._virsh("net-list", "--name").split())
        return set(self._networks(topology)) <= running

    def create_network(self, topology: Topology) -> None:
        """Define and start both networks. By Vagrant the gateway's address could not be chosen."""
        defined = set(self._virsh("net-list", "--all", "--name").split())
        running = set(self._virsh("net-list", "--name").split())
        for name, xml in self._networks(topology).items():
            if name not in defined:
                self._virsh("net-define", "/dev/stdin", input=xml)
            if name not in running:
                self._virsh("net-start", name)

    def destroy_network(self, topology: Topology) -> None:
        """Stop and undefine both networks."""
        defined = set(self._virsh("net-list", "--all", "--name").split())
        for name in self._networks(topology):
            if name in defined:
                self._virsh("net-destroy", name, check=False)
                self._virsh("net-undefine", name)

    def power_off(self, topology: Topology, node: Machine) -> bool:
        """Power a running machine off by force."""
        # Not by `vagrant halt --force`: it first asks the guest to shut down by ACPI, and fails if
        # that takes longer than a minute.
        self._virsh("destroy", machine_name(topology, node))
        return True

    def address(self, node: Machine, host: str, port: int) -> tuple[str, int]:
        """The node's own address: the host is on its NAT network."""
        return str(node.eth0.address.ip), 22

    def clean_up(self, topology: Topology, node: Machine) -> None:
        """Delete disks that a killed Vagrant left without a machine: they block a new one."""
        name = machine_name(topology, node)
        if disks := _disks(self._volumes(name), name):
            if name in self._virsh("list", "--all", "--name").split():
                return
            for disk in disks:
                self._virsh("vol-delete", "--pool", "default", disk)

    def unknown(self) -> str:
        """Never: a virsh that fails is an error wherever it is asked."""
        return ""

    def leftovers(self, topology: Topology) -> list[str]:
        """Domains, networks and volumes with the names of the lab's."""
        names = machine_names(topology)
        domains = set(self._virsh("list", "--all", "--name", check=False).split())
        networks = set(self._virsh("net-list", "--all", "--name", check=False).split())
        volumes = self._volumes("")
        return [
            *(tr("libvirt domain {name}", name=name) for name in names if name in domains),
            *(tr("libvirt network {name}", name=name)
              for name in self._networks(topology) if name in networks),
            *(tr("libvirt volume {name}", name=disk)
              for name in names for disk in _disks(volumes, name)),
        ]  # fmt: skip

    def _volumes(self, prefix: str) -> list[str]:
        lines = self._virsh("vol-list", "default", check=False).splitlines()
        names = [line.split()[0] for line in lines if line.strip()]
        return [name for name in names if name.startswith(prefix)]

    def _images(self, box: str) -> list[str]:
        """vagrant-libvirt's copies of the box, on which the disks of all labs are based."""
        return self._volumes(box.replace("/", "-VAGRANTSLASH-") + "_vagrant_box_image_")

    def cached(self, home: Path, box: str) -> list[str]:
        """The volumes with the box."""
        return [tr("libvirt volume {name}", name=name) for name in self._images(box)]

    def purge(self, home: Path, box: str) -> None:
        """Delete those volumes. Raises LabError while disks of another lab are based on one."""
        used = self._backing()
        for name in self._images(box):
            if name in used:
                raise LabError(
                    tr("disks of another lab are based on the volume {name}", name=name),
                    hint=tr("destroy that lab first"),
                )
            self._virsh("vol-delete", "--pool", "default", name)

    def _backing(self) -> set[str]:
        """Names of the volumes that others are based on; libvirt would delete them all the same."""
        dumps = [
            self._virsh("vol-dumpxml", "--pool", "default", name, check=False)
            for name in self._volumes("")
        ]
        matches = (re.findall(r"<backingStore>\s*<path>(.*?)</path>", xml) for xml in dumps)
        return {path.rpartition("/")[2] for paths in matches for path in paths}


def _disks(volumes: list[str], machine: str) -> list[str]:
    """Those of the volumes that vagrant-libvirt has made for this machine."""
    pattern = re.compile(re.escape(machine) + r"((_\d+)?\.img|-vd[a-z]\..+)")
    return [volume for volume in volumes if pattern.fullmatch(volume)]


def nat_network(topology: Topology, name: str) -> str:
    """The network of all eth0, as libvirt's XML: NAT, the lab's gateway, one address per node.

    The leases never expire: vagrant-libvirt finds a machine by its lease, and a node does not renew
    it, because provision/ gives it the same address without DHCP.
    """
    hosts = "".join(
        f"<host mac={quoteattr(node.eth0.mac)} ip={quoteattr(str(node.eth0.address.ip))}>"
        "<lease expiry='0'/></host>"
        for node in topology.nodes
    )
    return (
        f"<network><name>{name}</name><forward mode='nat'/><bridge stp='off' delay='0'/>"
        f"<ip address={quoteattr(str(topology.nat_gateway))}"
        f" netmask={quoteattr(str(topology.nat.netmask))}><dhcp>{hosts}</dhcp></ip></network>\n"
    )


def isolated_network(name: str) -> str:
    """The network of a further card, as libvirt's XML: a bridge that the host has no address on."""
    return f"<network><name>{name}</name><bridge stp='off' delay='0'/></network>\n"


def private_network(topology: Topology, name: str) -> str:
    """The network of all eth1, as libvirt's XML; if `attach` is hostonly the host is on it."""
    ip = ""
    if topology.attach == "hostonly":
        ip = (
            # No node has the first address: the rules of lab.yaml refuse that.
            f"<ip address={quoteattr(str(topology.private[1]))}"
            f" netmask={quoteattr(str(topology.private.netmask))}/>"
        )
    return f"<network><name>{name}</name><bridge stp='off' delay='0'/>{ip}</network>\n"
