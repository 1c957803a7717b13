"""A cloud image as a Vagrant box: for VirtualBox made in plain Python, on any host.

The box has two disks: the system's, and the seed that cloud-init reads at the first boot. So the
machine lets the user `vagrant` in as that of any other box.
"""

import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from labctl.i18n import tr
from labctl.images.box_file import pack, text_files
from labctl.images.box_format import DISK_GIB, BoxFormat
from labctl.images.cloud import open_disk
from labctl.images.seed import seed_disk
from labctl.images.vmdk import Readable, write_vmdk

Convert = Callable[[Path, Path], None]
"""Writes the disk in a VMDK, the first file, in a provider's own format as the second."""
SEED = "box-disk002"
_UNIT = 64 * 2**10
"""Bytes of a grain: the size of a VMDK is a multiple of it."""
_STEP = 100 * 2**20
"""Bytes between two words on the progress."""


def make_cloud_box(
    image: Path,
    box: BinaryIO,
    target: Path,
    work: Path,
    *,
    format: BoxFormat,
    files: Path,
    architecture: str,
    version: str,
    key: str,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool],
    convert: Convert | None = None,
) -> None:
    """Write a box of a cloud image into `box`; `target` is the name of its file, for messages.

    `work` is a directory for the disks meanwhile, `files` is provision/image/box/files. A provider
    whose boxes hold no VMDK has `convert`. Raises LabError, OSError, Cancelled.
    """
    disk = work / format.disk
    seed = work / f"{SEED}{disk.suffix}"
    system_id, seed_id = (str(uuid.uuid4()) for _ in range(2))  # VirtualBox takes each ID once

    def tell(done: int, last: list[int] = [0]) -> None:  # noqa: B006
        if done - last[0] >= _STEP:
            last[0] = done
            progress(tr("{n} MB of the disk", n=done // 10**6))

    def write(source: Readable, file: Path, capacity: int, uuid: str, **more: Any) -> None:
        vmdk = file if convert is None else file.with_suffix(".partial.vmdk")
        try:
            with vmdk.open("wb") as sink:
                write_vmdk(source, sink, capacity=capacity, uuid=uuid, name=vmdk.name, **more)
            if convert is not None:
                convert(vmdk, file)
        finally:
            if vmdk != file:
                vmdk.unlink(missing_ok=True)

    try:
        with open_disk(image) as (source, size):
            # cloud-init enlarges the root file system to the size of the disk at the first boot.
            capacity = max(DISK_GIB * 2**30, -(-size // _UNIT) * _UNIT)
            write(source, disk, capacity, system_id, progress=tell, cancelled=cancelled)
        keys = [line for line in (files / "vagrant.pub").read_text(encoding="utf-8").splitlines()
                if line and not line.startswith("#")]  # fmt: skip
        data = seed_disk("labctl-lab", keys, f"labctl-{system_id}")
        seed_capacity = -(-len(data) // _UNIT) * _UNIT
        write(io.BytesIO(data), seed, seed_capacity, seed_id)
        texts = text_files(
            format, files, version=version, key=key, disk_size=disk.stat().st_size,
            disk_uuid=system_id, architecture=architecture,
        )  # fmt: skip
        if "box.ovf" in texts:
            texts["box.ovf"] = with_second_disk(
                texts["box.ovf"], seed.name, seed.stat().st_size, seed_capacity, seed_id
            )
        else:
            texts["metadata.json"] = with_disks(texts["metadata.json"], [disk.name, seed.name])
        pack(box, target, texts, [disk, seed], cancelled)
    finally:
        disk.unlink(missing_ok=True)
        seed.unlink(missing_ok=True)


def with_disks(metadata: str, names: list[str]) -> str:
    """metadata.json of a box of vagrant-libvirt with these disks, its "box format version 2"."""
    return json.dumps({**json.loads(metadata), "disks": [{"path": name} for name in names]}) + "\n"


def with_second_disk(ovf: str, name: str, size: int, capacity: int, uuid: str) -> str:
    """box.ovf with one more disk, at the second port of its controller.

    `size` is that of the disk's file, `capacity` that of the disk, both in bytes.
    """
    parts = {
        "  </References>": f'    <File ovf:id="file2" ovf:href="{name}" ovf:size="{size}"/>\n',
        "  </DiskSection>": f'    <Disk ovf:capacity="{capacity}" ovf:diskId="vmdisk2"'
        ' ovf:fileRef="file2" ovf:format="http://www.vmware.com/interfaces/specifications/'
        f'vmdk.html#streamOptimized" vbox:uuid="{uuid}"/>\n',
        "    </VirtualHardwareSection>": """\
      <Item>
        <rasd:AddressOnParent>1</rasd:AddressOnParent>
        <rasd:Caption>disk2</rasd:Caption>
        <rasd:Description>Disk Image</rasd:Description>
        <rasd:ElementName>disk2</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk2</rasd:HostResource>
        <rasd:InstanceID>6</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
""",
    }
    if "</StorageController>" in ovf:  # of VirtualBox's own part
        parts["          </StorageController>"] = f"""\
            <AttachedDevice type="HardDisk" hotpluggable="false" port="1" device="0">
              <Image uuid="{{{uuid}}}"/>
            </AttachedDevice>
"""
    for end, part in parts.items():
        before, found, after = ovf.partition(end)
        if not found:
            raise ValueError(f"box.ovf has no {end.strip()}")
        ovf = before + part + end + after
    return ovf
