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
    """Write the Vagrantfile into the lab's state directory; where it is."""
    if lab.state.built_spec.exists():
        # A lab's machines are found by this file: it must not begin to name others.
        refuse_other_topology(lab)
    path = lab.state.vagrant / "Vagrantfile"
    text = vagrantfile(lab)
    lab.state.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, text)
    return path
