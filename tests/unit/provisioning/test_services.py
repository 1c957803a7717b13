"""What a node must run is what the scripts of provision/ start there."""

import re

import pytest

from labctl.provisioning.services import units_of
from labctl.provisioning.stages import scripts_of
from tests.unit.fakes import topology
from tests.unit.provisioning.test_node_env import text_of

NOT_ASKED = {
    "ovn-central",  # these two start the units that are asked for, and end
    "ovn-host",
    "virtlogd",  # libvirtd starts it when an instance boots
}
UP = re.compile(r"^\s*up ([a-z][a-z -]*)$", re.MULTILINE)


@pytest.mark.parametrize("stack", ["openstack", "ovn"])
def test_every_service_that_a_script_starts_must_be_active(stack: str) -> None:
    lab = topology(f"name: x\nstack: {stack}\n")
    for node in lab.nodes:
        started = {
            unit
            for script in scripts_of(node, stack)
            for units in UP.findall(text_of(script.file))
            for unit in units.split()
        }
        assert started
        forgotten = started - NOT_ASKED - set(units_of(node, stack))
        assert forgotten == set(), "put them into labctl/provisioning/services.py"
