"""What is special about VirtualBox."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from labctl.i18n import mark, tr
from labctl.operating_system.programs import find
from labctl.providers.provider import Features
from labctl.providers.timeout_factor import timeout_factor_from
from labctl.providers.vagrant.vagrantfile import machine_names
from labctl.providers.virtualbox import NAME
from labctl.providers.virtualbox.linked_clones import machines, masters, remove, vboxmanage
from labctl.topology import Machine, Topology

ANSWER_SECONDS = 10
"""Seconds for VBoxSVC to start and to list its machines, times the timeout factor."""


class VirtualBox:
    """Machines of VirtualBox, each with a NAT of its own behind eth0."""

    name = NAME
    features = Features(
        needs_root=False,
        shared_nat=False,
        own_clock=True,
        machines=True,
        image=mark("Vagrant box"),
        network=mark("Vagrantfile and keys"),
    )
    # Vagrant boots VirtualBox's machines one after the other, and two Vagrants at the same time get
    # in each other's way.
    boots_together = False
    emulated = False  # without VT-x or AMD-V it starts no machine

    @property
    def timeout_factor(self) -> int:
        """LABCTL_PATIENCE, or 3. Raises LabError if that is no usable number."""
        return timeout_factor_from(os.environ) or 3

    def resolver(self, topology: Topology) -> str:
        """Address 3 of the NAT network, such as 10.0.2.3 (VirtualBox's manual, 6.3)."""
        return str(topology.nat[3])

    def environment(self) -> dict[str, str]:
        """None are needed."""
        return {}

    def require_answer(self) -> None:
        """Raise LabError, with the cure, if VirtualBox's service VBoxSVC does not answer."""
        if find("VBoxManage") is not None:
            vboxmanage("list", "vms", check=False, timeout=ANSWER_SECONDS * self.timeout_factor)

    def network_ready(self, topology: Topology) -> bool:
        """Always: Vagrant makes the networks with the machines."""
        return True

    def create_network(self, topology: Topology) -> None:
        """Nothing to do: only host-only networks need a definition, and Vagrant makes those."""

    def destroy_network(self, topology: Topology) -> None:
        """Remove the directories of deleted machines.

        VirtualBox may have left a copy of a machine's settings in an older format there. Because of
        it no new machine of that name could be made.
        """
        if find("VBoxManage") is None:
            return
        properties = vboxmanage("list", "systemproperties", check=False)
        parent = re.search(r"^Default machine folder: +(.+)$", properties.stdout, flags=re.M)
        known = machines()
        if parent is None or known is None:
            return
        for name in machine_names(topology):
            folder = Path(parent[1]) / name
            disks = [path for kind in ("vdi", "vmdk", "vhd") for path in folder.rglob(f"*.{kind}")]
            if name not in known.values() and not disks:
                shutil.rmtree(folder, ignore_errors=True)
        # An import that failed leaves the empty directory of its machine, which Vagrant names after
        # the OVF's, the time and a number.
        for folder in Path(parent[1]).glob("labctl-lab_*_*"):
            if re.fullmatch(r"labctl-lab_\d+_\d+", folder.name):
                with suppress(OSError):  # rmdir: never one that holds anything
                    folder.rmdir()

    def power_off(self, topology: Topology, node: Machine) -> bool:
        """Never: Vagrant does it."""
        return False

    def address(self, node: Machine, host: str, port: int) -> tuple[str, int]:
        """The forwarded port as Vagrant gives it: it takes another if the planned one is used."""
        return host, port

    def clean_up(self, topology: Topology, node: Machine) -> None:
        """Nothing to do: VirtualBox deletes disks with their machine."""

    def unknown(self) -> str:
        """Whether VBoxManage is there and lists machines; in WSL it is called VBoxManage.exe."""
        if find("VBoxManage") is None:
            return tr("the command {command!r} is not installed", command="VBoxManage")
        if machines() is None:
            return tr("`VBoxManage list vms` fails")
        return ""

    def leftovers(self, topology: Topology) -> list[str]:
        """Machines of VirtualBox with the names of the lab's."""
        if find("VBoxManage") is None:
            return []  # not installed, so it has no machines
        known = set((machines() or {}).values())
        names = [name for name in machine_names(topology) if name in known]
        return [tr("VirtualBox machine {name}", name=name) for name in names]

    def cached(self, home: Path, box: str) -> list[str]:
        """The machines that the lab's were linked clones of."""
        return [tr("VirtualBox machine {name}", name=master.name) for master in masters(home, box)]

    def purge(self, home: Path, box: str) -> None:
        """Delete those machines. Raises LabError while another lab has clones of them."""
        for master in masters(home, box):
            remove(master)
