#!/usr/bin/env python3
"""The figures of SPECIFICATION.md, measured on a real lab: `make figures`.

Makes the lab of the repository's lab.yaml in a temporary directory and removes it; ten minutes on
two cores, root. Prints a table in Markdown, and ends with 1 if a promise is exceeded by a quarter.
--only start measures what needs no lab, --json is for programs, --output also writes the table.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SPECIFICATION = REPOSITORY / "SPECIFICATION.md"
TOLERANCE = 1.25
"""A figure fails above this many times its promise."""
ROUNDS = 3
CONTROLLER = "network-controller"

SERVICES = {
    "keystone": "keystone.server.flask.application, keystone.api",
    "glance-api": "glance.cmd.api, glance.api.v2.router",
    "placement-api": "placement.deploy, placement.handler",
    "nova-api": "nova.api.openstack.compute.routes, nova.api.openstack.wsgi_app",
    "nova-api-metadata": "nova.api.metadata.handler, nova.api.openstack.wsgi_app",
    "nova-conductor": "nova.cmd.conductor, nova.conductor.manager",
    "nova-scheduler": "nova.cmd.scheduler, nova.scheduler.manager",
    "neutron-api": "neutron.server, neutron.plugins.ml2.plugin,"
    " neutron.plugins.ml2.drivers.ovn.mech_driver.mech_driver",
    "neutron-ovn-maintenance-worker": "neutron.server, neutron.plugins.ml2.plugin,"
    " neutron.plugins.ml2.drivers.ovn.mech_driver.mech_driver",
    "nova-compute": "nova.cmd.compute, nova.compute.manager, nova.virt.libvirt.driver",
    "neutron-ovn-metadata-agent": "neutron.agent.ovn.metadata_agent,"
    " neutron.agent.ovn.metadata.agent",
}
"""{service of the lab: what it imports as it starts}. Every node has the packages of all."""

# Runs on a node. For each service: seconds until a process has imported it, and the PSS (kB) of
# that process then.
IMPORT = """
import json, subprocess, sys, time
END = '''
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line[:4] == "Pss:"))
'''
seconds, memory = 0.0, 0
for modules in json.loads(sys.argv[1]):
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", f"import {modules}" + END],
                          capture_output=True, text=True)
    seconds += time.monotonic() - began
    if done.returncode:
        sys.exit(done.stderr)
    memory += int(done.stdout.split()[-1])
print(json.dumps([seconds, memory]))
"""
# Runs on a node: the shortest of some starts of OpenStack's client, in seconds.
CLIENT = """
import subprocess, time
def start():
    began = time.monotonic()
    subprocess.run(["openstack", "--version"], capture_output=True, check=True)
    return time.monotonic() - began
print(min(start() for _ in range(5)))
"""
LIBRARIES = "import openstack.connection, paramiko, pydantic, typer"
"""What labctl imports for a verb that asks a running lab."""


# -- promises (pure) -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Promise:
    """One row of the table in SPECIFICATION.md."""

    figure: str
    at_most: float
    """The ratio that is promised."""
    test: str
    """`FILE::TEST` that fails when it is exceeded by a quarter."""


def promises(text: str) -> dict[str, Promise]:
    """{figure: promise} of the table in SPECIFICATION.md. Raises ValueError if there is none."""
    row = re.compile(
        r"^\| `(?P<figure>[a-z-]+)` \|.*\| (?P<at_most>[0-9.]+) \|[^|]*\| `(?P<test>[^`]+)` \|$",
        re.MULTILINE,
    )
    found = {
        match["figure"]: Promise(match["figure"], float(match["at_most"]), match["test"])
        for match in row.finditer(text)
    }
    if not found:
        raise ValueError("SPECIFICATION.md has no table of figures")
    return found


@dataclass(frozen=True)
class Figure:
    """What was measured, and what it is compared with, in the same unit."""

    figure: str
    value: float
    against: float
    unit: str = "s"
    load: float = 0.0
    """Of this machine, over the last minute, when it was measured."""

    @property
    def ratio(self) -> float:
        """What SPECIFICATION.md limits."""
        return self.value / self.against


def exceeded(figure: Figure, promise: Promise) -> bool:
    """Whether a figure is more than a quarter above its promise."""
    return figure.ratio > promise.at_most * TOLERANCE


def table(figures: Sequence[Figure], promised: Mapping[str, Promise]) -> list[str]:
    """The figures beside their promises, in Markdown."""
    lines = [
        "| figure | measured | against | ratio | promised | fails above | | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        promise = promised[figure.figure]
        lines.append(
            f"| `{figure.figure}` | {figure.value:.2f} {figure.unit} |"
            f" {figure.against:.2f} {figure.unit} | {figure.ratio:.2f} | {promise.at_most:g} |"
            f" {promise.at_most * TOLERANCE:.2f} |"
            f" {'EXCEEDED' if exceeded(figure, promise) else 'kept'} | {figure.load:.1f} |"
        )
    return lines


# -- without a lab ---------------------------------------------------------------------------------
def processor_seconds(argv: Sequence[str]) -> float:
    """What a command takes of the processor. Other processes on the machine do not lengthen it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, capture_output=True, check=True, cwd=REPOSITORY)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start() -> Figure:
    """`labctl --help` against importing typer alone, in turns: the round with the middle ratio.

    The least of each would compare a round on a quiet machine with one on a busy machine.
    """
    rounds = [
        Figure(
            "start",
            processor_seconds([sys.executable, "-m", "labctl", "--help"]),
            processor_seconds([sys.executable, "-c", "import typer"]),
            "s of CPU",
            os.getloadavg()[0],
        )
        for _ in range(9)
    ]
    return sorted(rounds, key=lambda figure: figure.ratio)[len(rounds) // 2]


# -- on a lab --------------------------------------------------------------------------------------
def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


class Lab:
    """labctl on one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / ".labctl"

    def __call__(self, *words: str, input: str = "") -> str:
        """Run it to its end; what it wrote to stdout. Exits with its message if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "labctl", *words],
            cwd=self.directory,
            input=input,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        if done.returncode != 0:
            sys.exit(f"labctl {' '.join(words)}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout

    def timed(self, *words: str) -> float:
        """Seconds of one command, from the start of Python to its end."""
        return seconds_of(lambda: self(*words))

    def on_controller(self, script: str, *words: str) -> Any:
        """What a Python script prints on the controller, as JSON."""
        return json.loads(
            self("ssh", CONTROLLER, "--", "python3", "-", *words, input=script).splitlines()[-1]
        )

    def imports(self) -> tuple[float, float]:
        """Seconds to import what the services import, one after the other; GB of them all then."""
        services = json.dumps(list(SERVICES.values()))
        seconds, kilobytes = self.on_controller(IMPORT, services)
        return seconds, kilobytes / 1e6

    def memory(self) -> float:
        """GB: proportional set size of every process of the lab."""
        lab_id = json.loads((self.state / "lab.json").read_text())["lab_id"]
        total = 0
        for space in Path("/run/netns").glob(f"labctl-{lab_id}-*"):
            pids = subprocess.run(
                ["ip", "netns", "pids", space.name], capture_output=True, text=True, check=True
            ).stdout.split()
            for pid in pids:
                try:
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                except OSError:
                    continue  # it has ended
                total += sum(int(line.split()[1]) for line in rollup if line[:4] == "Pss:")
        return total / 1e6

    def copying(self) -> float:
        """Seconds to read all that the nodes have written, and to write it into one file."""
        target = self.directory / "copy"
        layers = [str(path) for path in (self.state / "nodes").glob("*/upper")]
        argv = ["tar", "--create", "--absolute-names", "--file", target, *layers]
        try:
            return seconds_of(
                lambda: subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
            )  # fmt: skip
        finally:
            target.unlink(missing_ok=True)


def disk_usage(*paths: Path) -> float:
    """GB on the disk, of one file system."""
    argv = ["du", "-scxk", *paths]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1].split()[0]) * 1024 / 1e9


def own_seconds(total: float, report: Mapping[str, Any]) -> tuple[float, float]:
    """(labctl's own seconds, the commands') of a replay that took `total` seconds with its --json.

    The pings and logins that claims send are neither, nor is the time that claims took to come
    true.
    """
    claims = [claim for checkpoint in report["checkpoints"] for claim in checkpoint["claims"]]
    waits = sum(claim["waited"] for claim in claims)
    traffic = sum(
        claim["seconds"] - claim["waited"]
        for claim in claims
        if claim["probe"] in ("wire.ping", "wire.ssh")
    )
    commands = sum(command["seconds"] for command in _commands(report))
    return total - commands - traffic - waits, commands


def _commands(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [command for checkpoint in report["checkpoints"] for command in checkpoint["commands"]]


def on_a_lab(lab: Lab, note: Callable[[str], None]) -> Iterator[Figure]:
    """Every figure that needs a lab, as it is measured. The lab is destroyed by the caller."""

    def figure(name: str, value: float, against: float, unit: str = "s") -> Figure:
        found = Figure(name, value, against, unit, os.getloadavg()[0])
        note(f"{name}: {value:.2f} against {against:.2f} {unit}, load {found.load:.1f}")
        return found

    _bake(lab)
    lab("destroy", "--purge")  # also the templates of earlier labs
    create = lab.timed("create", "--quiet")
    imports, imported = lab.imports()
    yield figure("create", create, imports)

    image = json.loads((lab.state / "lab.json").read_text())["image"]
    yield figure("size", disk_usage(lab.state), _image_size(image), "GB")

    libraries = min(
        seconds_of(lambda: subprocess.run([sys.executable, "-c", LIBRARIES], check=True))
        for _ in range(ROUNDS)
    )
    lab("reset", "--to", "base")
    resets = [lab.timed("reset", "--to", "base") for _ in range(ROUNDS)]
    yield figure("reset-live", min(resets), libraries)

    client = lab.on_controller(CLIENT)
    began = time.monotonic()
    report = json.loads(lab("replay", "floating-ip", "--json"))
    replay = time.monotonic() - began
    yield figure("replay", replay, client * len(_commands(report)))
    yield figure("stepping", *own_seconds(replay, report))
    yield figure("memory", lab.memory(), imported, "GB")

    saves = [lab.timed("snapshot", "save", f"figure-{number}") for number in range(ROUNDS)]
    yield figure("save", min(saves), min(lab.copying() for _ in range(ROUNDS)))

    offline = lab.timed("reset", "--to", "base", "--cold")
    imports, _ = lab.imports()
    yield figure("reset-offline", offline, imports)

    lab("halt", "--quiet")
    up = lab.timed("up", "--quiet")
    imports, _ = lab.imports()
    yield figure("up", up, imports)

    again = lab.timed("destroy", "--quiet") + lab.timed("create", "--quiet")
    imports, _ = lab.imports()
    yield figure("create-again", again, imports)


def _bake(lab: Lab) -> None:
    """Make the image, if the cache has none: a lab that uses it is the way."""
    if _images().find() is None:
        lab("create", "--quiet")
        lab("destroy", "--quiet")


def _images() -> Any:
    from labctl.images.baked import ImageCache
    from labctl.state import cache_directory

    return ImageCache(cache_directory(roots=True), REPOSITORY / "provision")


def _image_size(key: str) -> float:
    """GB of a baked image: its two layers."""
    image = _images().find(key)
    if image is None:
        sys.exit(f"the image {key} is not in the cache")
    return disk_usage(*image.layers)


def measure(only: Sequence[str], note: Callable[[str], None]) -> list[Figure]:
    """The figures that are asked for; all if `only` is empty."""
    figures = [start()] if not only or "start" in only else []
    if only and set(only) <= {"start"}:
        return figures
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="labctl-figures-") as scratch:
        directory = Path(scratch) / "lab"
        directory.mkdir()
        (directory / "lab.yaml").write_text((REPOSITORY / "lab.yaml").read_text())
        lab = Lab(directory)
        try:
            figures += on_a_lab(lab, note)
        finally:
            lab("destroy", "--quiet")
    return [figure for figure in figures if not only or figure.figure in only]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 if every promise is kept, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="FIGURE")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table there")
    wanted = parser.parse_args(argv)
    promised = promises(SPECIFICATION.read_text(encoding="utf-8"))
    if unknown := sorted(set(wanted.only) - set(promised)):
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(promised)}")
    figures = measure(wanted.only, lambda text: print(text, file=sys.stderr, flush=True))
    lines = table(figures, promised)
    if wanted.output:
        wanted.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if wanted.json:
        print(
            json.dumps([asdict(figure) | {"ratio": figure.ratio} for figure in figures], indent=1)
        )
    else:
        print("\n".join(lines))
    broken = [promised[row.figure] for row in figures if exceeded(row, promised[row.figure])]
    for promise in broken:
        print(f"{promise.figure} is too high; it is held by {promise.test}", file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
