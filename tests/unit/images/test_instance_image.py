"""The scripts of the image that instances run, in a real shell."""

import os
import subprocess
from pathlib import Path

import pytest

from labctl.assets import assets

UDHCPC = assets() / "provision/image/instance/udhcpc.sh"


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        ({"dns": "192.0.2.53"}, "nameserver 192.0.2.53\n"),
        (
            {"dns": "192.0.2.53 192.0.2.54", "domain": "lab.example"},
            "search lab.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n",
        ),
        (
            {"domain": "lab.example", "search": "a.example b.example"},
            "search a.example b.example\n",
        ),
        ({}, ""),
    ],
)
def test_the_dhcp_client_writes_names_and_servers(
    offered: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "ip").write_text("#!/bin/sh\n")  # no interface is there to be configured
    (tmp_path / "ip").chmod(0o755)
    resolv = tmp_path / "resolv.conf"
    script = tmp_path / "udhcpc.sh"
    script.write_text(UDHCPC.read_text().replace("/etc/resolv.conf", str(resolv)))
    lease = {"interface": "eth0", "ip": "192.0.2.9", "mask": "24", "router": "192.0.2.1"}
    subprocess.run(
        ["sh", script, "bound"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **lease, **offered},
        check=True,
    )
    assert resolv.read_text() == wanted
