"""The whole lab in emulated machines, to the floating IP that answers: half an hour."""

from collections.abc import Callable

import pytest

from tests.e2e.cli import claims
from tests.vm.conftest import VmCli

pytestmark = [pytest.mark.timeout(4 * 3600), pytest.mark.openstack]

SPEC = """
name: vm-tutorial
provider: libvirt
"""


def test_the_floating_ip_answers(make_vm_lab: Callable[[str], VmCli]) -> None:
    lab = make_vm_lab(SPEC)
    done = lab.run("create", timeout=3 * 3600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    report = lab.json("replay", "floating-ip", expect=(0, 3))
    proved = claims(report)
    assert len(proved) >= 30
    assert {id: claim["seen"] for id, claim in proved.items() if not claim["holds"]} == {}
