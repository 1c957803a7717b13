"""`make tempest`: a lab, Tempest in its network namespace, a result for each test, and the tables.

    sudo .venv/bin/python -m tests.tempest.run [SELECTION …] [--minutes N] [--keep] [--document]

Everything it makes is below build/tempest; the lab is destroyed at the end unless --keep. Tempest
runs on this machine, inside the network namespace of the lab's first gateway, which is also the
controller: from there the APIs answer on eth1 and floating IPs on br-ex.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labctl.lab import Lab
from labctl.providers.nspawn.provider import NspawnProvider
from labctl.state import write_atomic
from tests.tempest.results import (
    NOBODY,
    as_json,
    figures,
    plain_name,
    read_junit,
    read_verdicts,
    tables,
)
from tests.tempest.selections import SELECTIONS, WHOLE, Selection
from tests.tempest.settings import look_at, make_external_network, tempest_conf

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "tempest"
DOCUMENT = ROOT / "docs" / "tests-of-others.md"
FIGURES = HERE / "figures.json"
BEGIN, END = (
    "<!-- figures: written by tests/tempest/run.py, do not edit -->",
    "<!-- end of figures -->",
)
TEST_SECONDS = 900
"""For one test; each instance without KVM takes half a minute."""
GRACE_SECONDS = 20
SYNC = (
    "neutron-ovn-db-sync-util --config-file /etc/neutron/neutron.conf"
    " --config-file /etc/neutron/plugins/ml2/ml2_conf.ini --ovn-neutron_sync_mode log 2>&1"
)


class Tools:
    """The environment that Tempest is installed in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def program(self, name: str) -> str:
        """The path of a program of the environment."""
        return str(self._directory / "bin" / name)

    def install(self) -> None:
        """Install what requirements.txt pins, unless it is there. Raises CalledProcessError."""
        wanted, stamp = HERE / "requirements.txt", self._directory / "installed.txt"
        if stamp.is_file() and stamp.read_text("utf-8") == wanted.read_text("utf-8"):
            return
        print("installing Tempest and its plugin")
        subprocess.run([sys.executable, "-m", "venv", self._directory], check=True)
        pip = [self.program("python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "-r", wanted], check=True)
        stamp.write_text(wanted.read_text("utf-8"), "utf-8")

    @property
    def packages(self) -> Path:
        """Where Python packages are."""
        (found,) = self._directory.glob("lib/python3*/site-packages")
        return found


class Workspace:
    """The directory that Tempest runs in, for one lab."""

    def __init__(self, directory: Path, tools: Tools, lab: Lab) -> None:
        self._directory, self._tools, self._lab = directory, tools, lab
        self._conf = directory / "tempest.conf"

    def prepare(self) -> None:
        """Write tempest.conf and what stestr wants. Raises LabError."""
        provider, controller = self._lab.provider, self._lab.topology.controller
        if not isinstance(provider, NspawnProvider) or not controller.is_gateway:
            sys.exit("make tempest needs a lab of containers whose controller is the gateway.")
        self._namespace = provider.namespace(controller)
        (self._directory / "locks").mkdir(parents=True, exist_ok=True)
        image = self._directory / "instance.qcow2"
        image.write_bytes(self._lab.controller.get("/usr/share/labctl/instance.qcow2"))
        text = tempest_conf(look_at(self._lab), self._directory, image)
        write_atomic(self._conf, text, 0o600)
        packages = self._tools.packages
        (self._directory / ".stestr.conf").write_text(
            f"[DEFAULT]\ntest_path={packages}/tempest/test_discover\ntop_dir={packages}\n"
            "group_regex=([^\\.]*\\.)*\n",
            "utf-8",
        )
        if not (self._directory / ".stestr").is_dir():
            subprocess.run([self._tools.program("stestr"), "init"], cwd=self._directory, check=True)

    def _command(self, selection: Selection, *more: str) -> list[str]:
        exclude = self._directory / "exclude.txt"
        exclude.write_text("".join(f"{line}\n" for line in selection.exclude), "utf-8")
        excluding = ["--exclude-list", str(exclude)] if selection.exclude else []
        return [
            self._tools.program("tempest"), "run", "--config-file", str(self._conf),
            "--regex", selection.regex, *excluding,
            *more,
        ]  # fmt: skip

    @property
    def _environment(self) -> dict[str, str]:
        # A proxy of this machine cannot reach the lab.
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        limits = {"OS_TEST_TIMEOUT": str(TEST_SECONDS), "LC_ALL": "C.UTF-8"}
        return {**kept, **limits, "PYTHONUNBUFFERED": "1"}

    def listed(self, selection: Selection) -> list[str]:
        """The names of the selection's tests. Raises CalledProcessError."""
        out = subprocess.run(
            self._command(selection, "--list-tests"),
            cwd=self._directory, env=self._environment, check=True,
            stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        return [line for line in out.splitlines() if re.match(r"(neutron_)?tempest", line)]

    def run(self, name: str, selection: Selection, seconds: float) -> str:
        """Run the tests for at most so long; JUnit XML of those that ended.

        Tempest's exit code says no more than its results do.
        """
        stream = self._directory / f"{name}.subunit"
        command = [
            "ip", "netns", "exec", self._namespace,
            *self._command(selection, "--subunit", "--concurrency", str(selection.workers)),
        ]  # fmt: skip
        with stream.open("wb") as out, (self._directory / f"{name}.log").open("wb") as errors:
            process = subprocess.Popen(
                command, cwd=self._directory, env=self._environment, stdout=out, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                print(f"{name}: the time is over; what has not run is counted as such")
            finally:
                _end(process)
        with stream.open("rb") as content:
            return subprocess.run(
                [self._tools.program("subunit2junitxml"), "--no-passthrough"],
                stdin=content, stdout=subprocess.PIPE, check=False, text=True,
            ).stdout  # fmt: skip


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End Tempest with its workers: they are a process group of their own."""
    for signal in (15, 9):
        try:
            os.killpg(process.pid, signal)
            process.wait(timeout=GRACE_SECONDS)
            time.sleep(1)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def inventory(lab: Lab) -> set[tuple[str, str]]:
    """(kind, name or ID) of everything in the lab's OpenStack, of all projects."""
    cloud = lab.connect()
    kinds: dict[str, Callable[[], Any]] = {
        "project": cloud.list_projects,
        "user": cloud.list_users,
        "network": cloud.network.networks,
        "router": cloud.network.routers,
        "floating IP": cloud.network.ips,
        "port": cloud.network.ports,
        "security group": cloud.network.security_groups,
        "QoS policy": cloud.network.qos_policies,
        "trunk": cloud.network.trunks,
        "instance": lambda: cloud.compute.servers(all_projects=True),
        "flavor": cloud.compute.flavors,
        "image": cloud.image.images,
    }
    return {
        (kind, thing.name or thing.id if kind != "port" else thing.id)
        for kind, things in kinds.items()
        for thing in things()
    }


def differences(lab: Lab) -> list[str]:
    """What neutron-ovn-db-sync-util finds different between Neutron and OVN, in log mode.

    Raises GuestError when it cannot be run.
    """
    out = lab.controller.run(SYNC, timeout=300).stdout
    return [line for line in out.splitlines() if " WARNING " in line or " ERROR " in line]


def labctl(directory: Path, *words: str) -> None:
    """Run a verb of labctl in the lab's directory. Raises CalledProcessError."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "labctl", *words], cwd=directory, env=environment, check=True
    )


def document() -> None:
    """Write the tables into docs/tests-of-others.md, from figures.json."""
    kept = json.loads(FIGURES.read_text("utf-8"))
    text = DOCUMENT.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    what = {name: selection.what for name, selection in SELECTIONS.items()}
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{tables(kept, what)}\n{END}{after}", "utf-8")


def keep_figures(name: str, run: dict[str, Any]) -> None:
    """Add a run to figures.json; the selections stay in their order."""
    kept = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    kept[name] = run
    ordered = {name: kept[name] for name in SELECTIONS if name in kept}
    FIGURES.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", "utf-8")


def run_one(name: str, workspace: Workspace, end: float) -> dict[str, Any]:
    """Run a selection until `end` at the latest, and keep what came of it; its figures."""
    listed = workspace.listed(SELECTIONS[name])
    print(f"{name}: {len(listed)} tests")
    began = time.monotonic()
    xml = workspace.run(name, SELECTIONS[name], max(0.0, end - began))
    minutes = (time.monotonic() - began) / 60
    (BUILD / f"{name}.xml").write_text(xml, "utf-8")
    (BUILD / f"{name}.run").write_text(json.dumps({"listed": listed, "minutes": minutes}), "utf-8")
    return judge(name)


def judge(name: str) -> dict[str, Any]:
    """The figures of the last run of a selection, by the verdicts of today; writes NAME.json.

    Raises FileNotFoundError when it was never run.
    """
    run = json.loads((BUILD / f"{name}.run").read_text("utf-8"))
    results = read_junit((BUILD / f"{name}.xml").read_text("utf-8"), run["listed"])
    (BUILD / f"{name}.json").write_text(json.dumps(as_json(results), indent=1), "utf-8")
    verdicts = read_verdicts((HERE / "verdicts.toml").read_text("utf-8"))
    names = {plain_name(test) for test in run["listed"]} | {result.test for result in results}
    kept = figures(results, verdicts, selected=len(names), minutes=run["minutes"])
    print(
        f"{name}: {kept['passed']} passed, {kept['failed']} failed, {kept['skipped']} skipped,"
        f" {kept['minutes']} minutes"
    )
    for group in kept["not_passed"]:
        if group["outcome"] == "failed" or group["whose"] == NOBODY:
            print(f"  {group['outcome']} ({group['whose']}): {group['why']}")
            print("".join(f"    {test}\n" for test in group["tests"]), end="")
    return kept


def run_all(names: list[str], lab: Lab, tools: Tools, minutes: float, record: bool) -> list[str]:
    """Run the selections; what was wrong, for people. Raises LabError."""
    make_external_network(lab)
    before, clean = inventory(lab), differences(lab)
    workspace = Workspace(BUILD / "workspace", tools, lab)
    workspace.prepare()
    end = time.monotonic() + minutes * 60
    wrong = [f"before the first test: {line}" for line in clean]
    for name in names:
        run = run_one(name, workspace, end)
        wrong += [
            f"{name}: {test}: {group['why']}"
            for group in run["not_passed"]
            for test in group["tests"]
            if group["outcome"] == "failed"
        ]
        if record:
            keep_figures(name, run)
    left = sorted(inventory(lab) - before)
    wrong += [f"left in the lab: {kind} {name}" for kind, name in left]
    wrong += [f"Neutron and OVN differ: {line}" for line in differences(lab)]
    return wrong


def main() -> int:
    """0: every test passed or was skipped, and nothing was left. 1: something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "selections",
        nargs="*",
        default=list(WHOLE),
        metavar="SELECTION",
        help=f"of {', '.join(SELECTIONS)}; default: the whole",
    )
    parser.add_argument("--minutes", type=float, default=600, help="for all tests together")
    parser.add_argument(
        "--keep", action="store_true", help="leave the lab, and take it if it is there"
    )
    parser.add_argument("--document", action="store_true", help="record the figures in docs/")
    parser.add_argument(
        "--judge", action="store_true", help="run nothing: record the last run by today's verdicts"
    )
    options = parser.parse_args()
    if unknown := sorted(set(options.selections) - set(SELECTIONS)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SELECTIONS)}")
    if options.judge:
        for name in options.selections:
            keep_figures(name, judge(name))
        document()
        return 0
    if os.geteuid() != 0:
        parser.error("root is needed: the lab is of containers")
    directory = BUILD / "lab"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "lab.yaml").write_text((HERE / "lab.yaml").read_text("utf-8"), "utf-8")
    tools = Tools(BUILD / "venv")
    tools.install()
    try:
        labctl(directory, "create")
        lab = Lab(directory / "lab.yaml")
        wrong = run_all(options.selections, lab, tools, options.minutes, options.document)
    finally:
        if not options.keep:
            labctl(directory, "destroy")
    if options.document:
        document()
    print("".join(f"{line}\n" for line in wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
