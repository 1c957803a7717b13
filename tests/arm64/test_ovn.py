"""An OVN-only lab in two machines with an Arm processor that QEMU emulates, box and all."""

from collections.abc import Callable

import pytest

from tests.arm64.conftest import ArmCli
from tests.e2e.cli import claims

pytestmark = pytest.mark.timeout(4 * 3600)

SPEC = """
name: arm-week
provider: libvirt
stack: ovn
nodes:
  network-controller: {cpus: 1}
  compute-01: {cpus: 1}
"""


@pytest.fixture(scope="module")
def lab(make_arm_lab: Callable[[str], ArmCli]) -> ArmCli:
    cli = make_arm_lab(SPEC)
    cli("create", timeout=2 * 3600)
    return cli


def test_the_machines_are_arms_and_have_the_kernels_datapath(lab: ArmCli) -> None:
    for node in ("network-controller", "compute-01"):
        assert lab("ssh", node, "--", "uname", "-m").strip() == "aarch64"
        assert lab("ssh", node, "--", "test", "-d", "/sys/firmware/efi") == ""
        kind = lab("ssh", node, "--", "ovs-vsctl", "get", "bridge", "br-int", "datapath_type")
        assert kind.strip() == "system"


def test_the_lab_is_up(lab: ArmCli) -> None:
    report = lab.json("status")
    assert report["state"] == "up"
    assert all(node["running"] and node["chassis"] for node in report["nodes"])


def test_snat_and_dnat_hold(lab: ArmCli) -> None:
    proved = claims(lab.json("replay", "ovn-snat-dnat", expect=(0, 3)))
    assert len(proved) >= 25
    assert {id: claim["seen"] for id, claim in proved.items() if not claim["holds"]} == {}


def test_they_come_back(lab: ArmCli) -> None:
    lab("halt")
    lab("up", timeout=3600)
    assert lab.json("status")["state"] == "up"
