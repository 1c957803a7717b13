"""What VirtualBox does in its own way."""

import os
import re
import shutil
from pathlib import Path

from labctl.i18n import mark, tr
from labctl.providers.provider import Features
from labctl.providers.timeout_factor import timeout_factor_from
from labctl.providers.vagrant.vagrantfile import machine_names
from labctl.providers.virtualbox import NAME
from labctl.providers.virtualbox.linked_clones import machines, masters, remove, vboxmanage
from labctl.topology import Node, Topology


class VirtualBox:
    """Machines of VirtualBox, each with a NAT of its own behind eth0."""

    name = NAME
    features = Features(
        needs_root=False,
        shared_nat=False,
        own_clock=True,
        image=mark("Vagrant box"),
        network=mark("Vagrantfile and keys"),
    )
    # Vagrant's provider boots one after the other, and two Vagrants at once race.
    boots_together = False

    @property
    def timeout_factor(self) -> int:
        """LABCTL_PATIENCE, or 3. Raises LabError if that is no usable number."""
        return timeout_factor_from(os.environ) or 3

    def resolver(self, topology: Topology) -> str:
        """Host 3 of the NAT (VirtualBox's manual, 6.3)."""
        return str(topology.nat[3])

    def environment(self) -> dict[str, str]:
        """Nothing."""
        return {}

    def network_ready(self, topology: Topology) -> bool:
        """Networks come with the machines."""
        return True

    def create_network(self, topology: Topology) -> None:
        """Nothing: NAT and internal networks need no definition, host-only ones Vagrant makes."""

    def destroy_network(self, topology: Topology) -> None:
        """The directories of machines that are gone.

        VirtualBox may have kept a copy of a machine's settings in an older format there. It does
        not delete that with the machine, and a new machine of that name could not be made.
        """
        if shutil.which("VBoxManage") is None:
            return
        told = vboxmanage("list", "systemproperties", check=False)
        parent = re.search(r"^Default machine folder: +(.+)$", told.stdout, flags=re.M)
        known = machines()
        if parent is None or known is None:
            return
        for name in machine_names(topology):
            folder = Path(parent[1]) / name
            disks = [path for kind in ("vdi", "vmdk", "vhd") for path in folder.rglob(f"*.{kind}")]
            if name not in known.values() and not disks:
                shutil.rmtree(folder, ignore_errors=True)

    def power_off(self, topology: Topology, node: Node) -> bool:
        """Cut a running machine's power; False if that is to be left to Vagrant."""
        return False

    def address(self, node: Node, host: str, port: int) -> tuple[str, int]:
        """The forwarded port, which Vagrant may have had to move."""
        return host, port

    def clean_up(self, topology: Topology, node: Node) -> None:
        """Nothing: disks come and go with their machine."""

    def leftovers(self, topology: Topology) -> list[str]:
        """Machines of VirtualBox that bear the names of the lab's."""
        if shutil.which("VBoxManage") is None:
            return []  # no VirtualBox, no machine of it
        known = set((machines() or {}).values())
        names = [name for name in machine_names(topology) if name in known]
        return [tr("VirtualBox machine {name}", name=name) for name in names]

    def cached(self, home: Path, box: str) -> list[str]:
        """The machine that the lab's were clones of."""
        return [tr("VirtualBox machine {name}", name=one.name) for one in masters(home, box)]

    def purge(self, home: Path, box: str) -> None:
        """That machine gone. Raises LabError while another lab has clones of it."""
        for master in masters(home, box):
            remove(master)
