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
    if path is None:
        return facts
    file = home_vagrantfile(host.env)
    vagrant = Vagrant(
        path,
        distribution=distribution,
        home_file=str(file or ""),
        home_settings=settings_in(_text(file)) if file else (),
    )
    return replace(facts, vagrant=vagrant)


def home_vagrantfile(env: Mapping[str, str]) -> Path | None:
    """The Vagrantfile of Vagrant's home directory; None if there is none, or an empty one."""
    # Vagrant takes either name, in this order.
    files = [boxes_directory(env) / name for name in ("Vagrantfile", "vagrantfile")]
    return next((file for file in files if _text(file).strip()), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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


_SETTING = re.compile(r"\b(?:config|c)\.(?P<name>(?:vm|ssh|winrm|trigger)\.\w+)")
_OF_PROVIDER = re.compile(
    r"\.(?P<name>customize|gui|memory|cpus|network_adapter|linked_clone|default_nic_type)\b"
)
_HARMLESS = frozenset({"vm.provider", "vm.box_check_update", "vm.post_up_message"})
"""`vm.provider` only begins a block; the others change no machine."""


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


def settings_in(vagrantfile: str) -> tuple[str, ...]:
    """The settings of machines in a Vagrantfile, each once: `vm.network`, `gui`, …

    By their look: Ruby can hide them, and they can stand in a block that is never run.
    """
    code = "\n".join(line.partition("#")[0] for line in vagrantfile.splitlines())
    names = [
        match["name"] for pattern in (_SETTING, _OF_PROVIDER) for match in pattern.finditer(code)
    ]
    return tuple(name for name in dict.fromkeys(names) if name not in _HARMLESS)
