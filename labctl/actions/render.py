"""`labctl render`: the Vagrantfile that follows from lab.yaml."""

from pathlib import Path

from labctl.actions.create import refuse_other_topology
from labctl.assets import assets
from labctl.lab import Lab
from labctl.providers.vagrant.vagrantfile import lab_vagrantfile
from labctl.state import write_atomic
from labctl.topology import build_topology


def vagrantfile(lab: Lab) -> str:
    """The Vagrantfile that follows from lab.yaml. Raises SpecError."""
    return lab_vagrantfile(build_topology(lab.spec), lab.state, assets() / "Vagrantfile.j2")


def render(lab: Lab) -> Path:
    """Write the Vagrantfile into the lab's state directory; returns its path."""
    if lab.state.usable and lab.state.built_spec.exists():
        # Vagrant finds the machines of a lab by this file. If it named others, the machines that
        # exist could not be halted or destroyed any more.
        refuse_other_topology(lab)
    path = lab.state.vagrant / "Vagrantfile"
    text = vagrantfile(lab)
    lab.state.make_root()
    write_atomic(path, text)
    return path
