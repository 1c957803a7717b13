"""What the doctor asks about Vagrant, and how it reads the answers."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labctl.host.facts import HostFacts, Vagrant, VagrantBox
from labctl.host.questions import Host, trouble
from labctl.run import Completed


def look(host: Host, facts: HostFacts) -> HostFacts:
    """Adds to the facts where Vagrant is, and whether it is the distribution's package."""
    if facts.vagrant is not None:
        return facts  # two providers ask
    path = host.which("vagrant")
    # HashiCorp's packages also have /usr/bin/vagrant, but put everything else below /opt/vagrant.
    distribution = path == "/usr/bin/vagrant" and not Path("/opt/vagrant").is_dir()
    return replace(facts, vagrant=Vagrant(path, distribution=distribution) if path else None)


def boxes_directory(env: Mapping[str, str]) -> Path:
    """Where Vagrant keeps its boxes."""
    return Path(env.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")


def vagrant_questions(vagrant: Vagrant | None) -> dict[str, list[str]]:
    """The questions to Vagrant that every provider needs; {} if it is not installed."""
    if vagrant is None:
        return {}
    boxes = [vagrant.path, "box", "list", "--machine-readable"]
    return {"vagrant": [vagrant.path, "--version"], "boxes": boxes}


def vagrant_from_answers(
    vagrant: Vagrant | None, answers: Mapping[str, Completed]
) -> Vagrant | None:
    """Vagrant with what its answers tell."""
    if vagrant is None:
        return None
    version = re.search(r"^Vagrant (\d\S*)", answers["vagrant"].stdout, re.MULTILINE)
    plugins = answers.get("plugins")
    boxes = answers["boxes"]
    return replace(
        vagrant,
        version=version[1] if version else None,
        trouble="" if version else trouble(answers["vagrant"]),
        # A command that failed tells nothing: it does not mean that there are no plugins.
        plugins=vagrant_plugins(plugins.stdout)
        if plugins and plugins.returncode == 0
        else vagrant.plugins,
        boxes=vagrant_boxes(boxes.stdout) if boxes.returncode == 0 else None,
    )


# -- reading the answers: pure -------------------------------------------------------------------
def vagrant_plugins(text: str) -> tuple[str, ...]:
    """Names from `vagrant plugin list`: `vagrant-libvirt (0.11.2, system)`, with details below."""
    return tuple(re.findall(r"^([\w.-]+) \(\d[^)]*\)", text, re.MULTILINE))


def vagrant_boxes(text: str) -> tuple[VagrantBox, ...]:
    """`vagrant box list --machine-readable`: a line for each value; `box-name` begins a box."""
    boxes: list[dict[str, str]] = []
    for line in text.splitlines():
        key, value = [*line.split(",", 3), "", "", "", ""][2:4]
        if key == "box-name":
            boxes.append({})
        if key.startswith("box-") and boxes:
            boxes[-1].setdefault(key.removeprefix("box-"), value)
    return tuple(
        VagrantBox(box["name"], box.get("version", ""), box.get("provider", "")) for box in boxes
    )
