"""The Vagrantfile of a lab. Every value from lab.yaml is quoted for Ruby."""

import os
import re
from pathlib import Path

from labctl.state import LabState
from labctl.topology import Machine, Topology


def vagrant_prefix(topology: Topology) -> str:
    """What the names of all virtual machines and networks of a lab begin with."""
    return f"labctl-{topology.lab}"


def machine_name(topology: Topology, node: Machine) -> str:
    """The name of a node's machine, as Vagrantfile.j2 gives it."""
    return f"{vagrant_prefix(topology)}-{node.name}"


def machine_names(topology: Topology) -> list[str]:
    """The names of a lab's machines. A prefix is not enough: that of lab `a` also fits `a-b`."""
    return [machine_name(topology, node) for node in topology.nodes]


def lab_vagrantfile(topology: Topology, state: LabState, template: Path) -> str:
    """The Vagrantfile of the lab kept in `state`; `template` is Vagrantfile.j2."""
    # Vagrant runs in the directory of the Vagrantfile, so both paths are relative to that.
    key, logs = (
        Path(os.path.relpath(path, state.vagrant)).as_posix()
        for path in (state.ssh_key, state.logs)
    )
    return vagrantfile(topology, template, key, logs)


def vagrantfile(topology: Topology, template: Path, key: str, logs: str) -> str:
    """The Vagrantfile of a lab, the same bytes for the same topology.

    `template` is Vagrantfile.j2; `key` is the path of the lab's private SSH key and `logs` that of
    its logs, relative to the directory of the Vagrantfile, with slashes. Every text is a quoted
    Ruby literal, so no value of a lab.yaml can be run as code.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Ruby, not HTML: see the filters
    )
    environment.filters |= {"ruby": ruby, "comment": _comment, "bare_mac": _bare_mac}
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        lab=topology.lab,
        prefix=vagrant_prefix(topology),
        key=key,
        logs=logs,
        box=topology.box,
        nested=topology.nested,
        attach=topology.attach,
        nat=str(topology.nat),
        gateway=str(topology.nat_gateway),
        # VirtualBox gives this address to every machine. With libvirt only the gateway has it.
        nat_address=str(topology.gateways[0].eth0.address.ip),
        nodes=topology.nodes,
        node_number={node.name: number for number, node in enumerate(topology.nodes, 1)},
    )


def ruby(text: str) -> str:
    """A Ruby string literal, on one line.

    In single quotes Ruby has only the escapes \\\\ and \\'. Control and other invisible characters
    are written as \\u{…} in a double-quoted literal; Ruby joins literals that follow each other.
    """
    parts = re.split(r"([^ -~\u00a1-\U0010ffff]+)", text)
    literals = []
    for number, part in enumerate(parts):
        if number % 2:
            literals.append('"' + "".join(f"\\u{{{ord(char):x}}}" for char in part) + '"')
        elif part or len(parts) == 1:
            literals.append("'" + part.replace("\\", "\\\\").replace("'", "\\'") + "'")
    return " ".join(literals)


def _comment(text: str) -> str:
    """Text for a comment: without newlines, which would end the comment."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def _bare_mac(mac: str) -> str:
    """52:54:00:f9:f0:f0 -> 525400F9F0F0, as VirtualBox writes it."""
    return mac.replace(":", "").upper()
