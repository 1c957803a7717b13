"""What cloud-init is told at a machine's first boot: a small ISO 9660 disk, of plain Python.

The format is cloud-init's data source NoCloud: a file system with the label `cidata` and the files
`user-data` and `meta-data` (docs.cloud-init.io, Reference, Datasources, NoCloud). cloud-init finds
it on any disk, so it needs no CD drive, of which VirtualBox on ARM has another kind.
"""

import io
import json
from collections.abc import Sequence

LABEL = "cidata"


def seed_disk(name: str, keys: Sequence[str], instance: str) -> bytes:
    """The disk, for a machine of that name whose user `vagrant` lets in the public `keys`.

    `instance` names the machine: with another, cloud-init takes it for a new one.
    """
    # JSON is YAML, and quotes whatever is in a key.
    user_data = {
        "hostname": name,
        "ssh_pwauth": False,
        "disable_root": False,
        "users": [
            {
                "name": "vagrant",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(keys),
            }
        ],
        # The lab's scripts decide what is installed and when.
        "package_update": False,
        "package_upgrade": False,
    }
    meta_data = {"instance-id": instance, "local-hostname": name}
    return iso(
        {
            "user-data": "#cloud-config\n" + json.dumps(user_data, indent=1) + "\n",
            "meta-data": json.dumps(meta_data, indent=1) + "\n",
        }
    )


def iso(files: dict[str, str]) -> bytes:
    """An ISO 9660 file system, labelled `cidata`, with these texts as files of its root."""
    import pycdlib

    image = pycdlib.PyCdlib()
    # Rock Ridge for Linux, Joliet for who looks into it elsewhere: ISO 9660 alone knows no hyphen.
    image.new(interchange_level=3, vol_ident=LABEL, rock_ridge="1.09", joliet=3)
    for number, (name, text) in enumerate(files.items()):
        data = text.encode()
        image.add_fp(
            io.BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}"
        )
    sink = io.BytesIO()
    image.write_fp(sink)
    image.close()
    return sink.getvalue()
