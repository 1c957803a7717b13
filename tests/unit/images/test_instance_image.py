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


def test_the_dhcp_client_leaves_the_addresses_of_ipv6_alone(tmp_path: Path) -> None:
    """The address of link scope is there before the lease: without it no router is asked."""
    asked = tmp_path / "asked"
    (tmp_path / "ip").write_text(f'#!/bin/sh\necho "$*" >>{asked}\n')
    (tmp_path / "ip").chmod(0o755)
    script = tmp_path / "udhcpc.sh"
    script.write_text(UDHCPC.read_text().replace("/etc/resolv.conf", str(tmp_path / "resolv.conf")))
    lease = {"interface": "eth0", "ip": "192.0.2.9", "mask": "24", "router": "192.0.2.1"}
    for event in ("bound", "renew"):
        subprocess.run(
            ["sh", script, event],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **lease},
            check=True,
        )
    calls = asked.read_text().splitlines()
    assert [call for call in calls if "flush" in call] == ["-4 addr flush dev eth0"] * 2
    assert calls.count("addr add 192.0.2.9/24 dev eth0") == 2
