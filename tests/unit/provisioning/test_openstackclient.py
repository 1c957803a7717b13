"""provision/files/openstackclient.sed, which mends what Debian's client sends to Nova."""

import subprocess
from pathlib import Path

from labctl.assets import assets

SCRIPT = assets() / "provision" / "files" / "openstackclient.sed"
DEBIANS = """
                if nic['v4-fixed-ip']:
                    network['fixed'] = nic['v4-fixed-ip']
                elif nic['v6-fixed-ip']:
                    network['fixed'] = nic['v6-fixed-ip']
                kwargs['fixed'] = nic
"""


def test_a_fixed_address_goes_by_novas_name(tmp_path: Path) -> None:
    client = tmp_path / "server.py"
    client.write_text(DEBIANS)
    for _ in range(2):
        subprocess.run(["sed", "-i", "-f", SCRIPT, client], check=True, timeout=30)
    assert client.read_text() == DEBIANS.replace("network['fixed']", "network['fixed_ip']")
