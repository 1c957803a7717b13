"""What VirtualBox leaves behind: masters of linked clones, and directories of machines."""

from pathlib import Path

import pytest

from labctl.providers.virtualbox.hypervisor import VirtualBox
from labctl.providers.virtualbox.linked_clones import clones, masters
from tests.unit.fakes import topology

MASTER = "f17a1dfa-775f-4041-81d8-47d34e2a82de"
OTHER = "9831adad-e51f-4237-b567-7e49037c12bf"
# A master with its snapshot `base`, and a linked clone of that.
DISKS = """\
UUID:           92e7d98b-bbe2-4751-a1bc-fc7647631793
Parent UUID:    base
State:          created
Type:           normal (base)
Location:       /home/u/VirtualBox VMs/m/labctl-tiny-disk001.vmdk
Storage format: VMDK
Format variant: dynamic default
Capacity:       48 MBytes
Size on disk:   11 MBytes
Encryption:     disabled
Property:       BootSector=
                Partitions=
                RawDrive=
                Relative=
In use by VMs:  m (UUID: f17a1dfa-775f-4041-81d8-47d34e2a82de) [base (UUID: f23dfc28-1b49-42e9-b989-fa9e2a5cb68b)]
Child UUIDs:    d0753213-d422-41f7-907f-333ae0b35ed6
                2903ead9-82a0-4153-b2b3-adec1cf8dcb9

UUID:           d0753213-d422-41f7-907f-333ae0b35ed6
Parent UUID:    92e7d98b-bbe2-4751-a1bc-fc7647631793
State:          created
Type:           normal (differencing)
Auto-Reset:     off
Location:       /home/u/VirtualBox VMs/m/Snapshots/{d0753213-d422-41f7-907f-333ae0b35ed6}.vmdk
Storage format: VMDK
Format variant: differencing default
Capacity:       48 MBytes
Size on disk:   0 MBytes
Encryption:     disabled
Property:       BootSector=
                Partitions=
                RawDrive=
                Relative=
In use by VMs:  m (UUID: f17a1dfa-775f-4041-81d8-47d34e2a82de)

UUID:           2903ead9-82a0-4153-b2b3-adec1cf8dcb9
Parent UUID:    92e7d98b-bbe2-4751-a1bc-fc7647631793
State:          created
Type:           normal (differencing)
Auto-Reset:     off
Location:       /home/u/VirtualBox VMs/other/Snapshots/{2903ead9-82a0-4153-b2b3-adec1cf8dcb9}.vmdk
Storage format: VMDK
Format variant: differencing default
Capacity:       48 MBytes
Size on disk:   0 MBytes
Encryption:     disabled
Property:       BootSector=
                Partitions=
                RawDrive=
                Relative=
In use by VMs:  other (UUID: 9831adad-e51f-4237-b567-7e49037c12bf)
"""  # noqa: E501


def test_a_clone_stands_on_its_masters_disk() -> None:
    assert clones(DISKS, MASTER) == ["other"]


def test_its_own_snapshots_are_no_clones() -> None:
    alone = "\n\n".join(block for block in DISKS.split("\n\n") if "  other (UUID" not in block)
    assert clones(alone, MASTER) == []


def test_a_clone_is_nobodys_master() -> None:
    assert clones(DISKS, OTHER) == []
    assert clones("", MASTER) == []


def test_a_box_that_was_never_cloned_has_no_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # nobody is asked
    assert masters(tmp_path, "debian/trixie64") == []


def test_directories_of_machines_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of this lab's, only of machines VirtualBox does not know, only without disks.

    VirtualBox 7 lists in the user's language, unless it is told another.
    """
    lab = topology()
    parent, fake = tmp_path / "VirtualBox VMs", tmp_path / "VBoxManage"
    names = [f"labctl-{lab.lab}-{node.name}" for node in lab.nodes]
    assert len(names) >= 2
    for name in (*names, "labctl-another-node"):
        (parent / name).mkdir(parents=True)
        (parent / name / f"{name}-1.19-linux.vbox").touch()
    fake.write_text(
        f'#!/bin/sh\n[ "$2" = vms ] && echo \'"{names[0]}" {{id}}\' && exit\n'
        'case $LC_ALL in C.UTF-8) what="Default machine folder" ;; *) what=預設機器資料夾 ;; esac\n'
        f'echo "$what:          {parent}"\n',
        encoding="utf-8",
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("LC_ALL", "zh_TW.UTF-8")

    (parent / names[1] / "disk.vmdk").touch()
    VirtualBox().destroy_network(lab)
    assert len(list(parent.iterdir())) == len(names) + 1
    (parent / names[1] / "disk.vmdk").unlink()
    VirtualBox().destroy_network(lab)
    assert sorted(path.name for path in parent.iterdir()) == ["labctl-another-node", names[0]]
