"""`labctl render`: the Vagrantfile that follows from lab.yaml."""

from pathlib import Path

from labctl.actions.create import refuse_other_topology
from labctl.assets import assets
from labctl.lab import Lab
from labctl.providers.vagrant.provider import file_for
from labctl.state import write_atomic
from labctl.topology import build_topology


def vagrantfile(lab: Lab) -> str:
    """The Vagrantfile that follows from lab.yaml. Raises SpecError."""
    return file_for(build_topology(lab.spec), lab.state, assets() / "Vagrantfile.j2")


def render(lab: Lab) -> Path:
    """Write the Vagrantfile into the lab's state directory; where it is."""
    if lab.state.usable and lab.state.built_spec.exists():
        # A lab's machines are found by this file: it must not begin to name others.
        refuse_other_topology(lab)
    path = lab.state.vagrant / "Vagrantfile"
    text = vagrantfile(lab)
    lab.state.make_root()
    write_atomic(path, text)
    return path
