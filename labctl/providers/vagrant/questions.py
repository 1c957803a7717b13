"""What is asked of a host about Vagrant, and what the answers mean."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import HostFacts, Vagrant, VagrantBox
from labctl.host.questions import Host, trouble
from labctl.run import Completed


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Whether there is a Vagrant, and whose."""
    path = host.which("vagrant")
    # Its maker's packages put everything below /opt/vagrant.
    distribution = path == "/usr/bin/vagrant" and not Path("/opt/vagrant").is_dir()
    return replace(facts, vagrant=Vagrant(path, distribution=distribution) if path else None)


def boxes_directory(env: Mapping[str, str]) -> Path:
    """Where Vagrant keeps its boxes."""
    return Path(env.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")


def vagrant_questions(vagrant: Vagrant | None) -> dict[str, list[str]]:
    """What Vagrant is asked whatever the provider: none if there is no Vagrant."""
    if vagrant is None:
        return {}
    boxes = [vagrant.path, "box", "list", "--machine-readable"]
    return {"vagrant": [vagrant.path, "--version"], "boxes": boxes}


def vagrant_told(vagrant: Vagrant | None, said: Mapping[str, Completed]) -> Vagrant | None:
    """Vagrant, with what it said."""
    if vagrant is None:
        return None
    version = re.search(r"^Vagrant (\d\S*)", said["vagrant"].stdout, re.MULTILINE)
    plugins = said.get("plugins")
    boxes = said["boxes"]
    return replace(
        vagrant,
        version=version[1] if version else None,
        trouble="" if version else trouble(said["vagrant"]),
        # What failed told nothing: no plugin in its answer does not mean that there is none.
        plugins=vagrant_plugins(plugins.stdout)
        if plugins and plugins.returncode == 0
        else vagrant.plugins,
        boxes=vagrant_boxes(boxes.stdout) if boxes.returncode == 0 else None,
    )


# -- what the answers mean: pure -----------------------------------------------------------------
def vagrant_plugins(text: str) -> tuple[str, ...]:
    """`vagrant plugin list`: `vagrant-libvirt (0.11.2, system)`, and lines of details below."""
    return tuple(re.findall(r"^([\w.-]+) \(\d[^)]*\)", text, re.MULTILINE))


def vagrant_boxes(text: str) -> tuple[VagrantBox, ...]:
    """`vagrant box list --machine-readable`: a line for each value, a box begins with its name."""
    boxes: list[dict[str, str]] = []
    for line in text.splitlines():
        key, value = [*line.split(",", 3), "", "", "", ""][2:4]
        if key == "box-name":
            boxes.append({})
        if key.startswith("box-") and boxes:
            boxes[-1].setdefault(key.removeprefix("box-"), value)
    return tuple(
        VagrantBox(one["name"], one.get("version", ""), one.get("provider", "")) for one in boxes
    )
