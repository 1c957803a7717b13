#!/usr/bin/env python3
"""The figures of snapshots: `sudo .venv/bin/python scripts/measure-reset.py [--computes N] …`.

Makes a lab in a temporary directory, changes it, takes it back, and prints Markdown: seconds of
every reset, and with --rounds what grew over that many rounds of replay and reset. Nothing is left.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What `dump` and information_schema say, as {"table": rows}. Runs on the nodes.
FACTS = r"""
import json, os, subprocess, sys
def said(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
def tables(prefix, socket):
    found = {}
    for line in said("ovsdb-client", "-f", "json", "dump", "unix:" + socket).splitlines():
        if line.startswith("{"):
            table = json.loads(line)
            found[prefix + " " + table["caption"].split()[0]] = len(table["data"])
    return found
facts = tables("OVS", "/run/openvswitch/db.sock")
ports = said("ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "type=geneve").split()
facts["Geneve ports"] = len(ports)
if os.path.exists("/run/ovn/ovnnb_db.sock"):
    facts |= tables("OVN", "/run/ovn/ovnnb_db.sock") | tables("OVN", "/run/ovn/ovnsb_db.sock")
    names = said("mariadb", "-N", "-e", "select concat(table_schema, '.', table_name) from"
        " information_schema.tables where table_type = 'BASE TABLE' and table_schema in"
        " ('neutron', 'nova', 'nova_api', 'nova_cell0', 'glance', 'placement', 'keystone')").split()
    query = " union all ".join(f"select '{name}', count(*) from {name}" for name in names)
    for line in said("mariadb", "-N", "-e", query).splitlines():
        table, rows = line.split("\t")
        facts["SQL " + table] = int(rows)
    facts["RabbitMQ queues"] = len(said("rabbitmqctl", "-q", "list_queues", "name").split()) - 1
facts["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
facts["open files"] = 0
total = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        facts["open files"] += len(os.listdir(f"/proc/{pid}/fd"))
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    except OSError:
        pass
facts["memory, MiB"] = total // 1024
for place in ("/var/lib/mysql", "/var/lib/ovn", "/etc/openvswitch", "/var/lib/nova",
              "/var/lib/glance", "/var/lib/labctl", "/var/log"):
    if os.path.exists(place):
        facts["disk " + place + ", MiB"] = int(said("du", "-sm", place).split()[0])
print(json.dumps(facts))
"""
MANY = 30
# Placement lets a node with two processors have eight of one each: not enough for MANY.
CROWD = """
import openstack
cloud = openstack.connect()
for provider in cloud.placement.resource_providers():
    url = f"/resource_providers/{provider.id}/inventories/VCPU"
    inventory = cloud.placement.get(url, microversion="1.26").json() | {"allocation_ratio": 64.0}
    cloud.placement.put(url, json=inventory, microversion="1.26")
"""


class Lab:
    """labctl on one directory."""

    def __init__(self, directory: Path, computes: int) -> None:
        self.directory = directory
        self.controller = "network-controller"
        self.nodes = [self.controller, *(f"compute-{one:02}" for one in range(1, computes + 1))]
        nodes = "".join(f"  {name}:\n" for name in self.nodes)
        (directory / "lab.yaml").write_text(f"name: measure\nnodes:\n{nodes}", encoding="utf-8")

    def __call__(self, *words: str, input: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "labctl", *words],
            cwd=self.directory,
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(
                f"labctl {' '.join(words)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout

    def timed(self, *words: str) -> float:
        """Seconds of one command."""
        began = time.monotonic()
        self(*words)
        return time.monotonic() - began

    def run(self, script: str) -> str:
        """A script on the controller, with the credentials."""
        return self("ssh", self.controller, "--", "bash", "-lc", script)

    def facts(self) -> dict[str, int]:
        """What may grow, by node and name."""
        found: dict[str, int] = {}
        for node in self.nodes:
            said: dict[str, int] = json.loads(self("ssh", node, "--", "python3", "-", input=FACTS))
            found |= {f"{node}: {name}": value for name, value in said.items()}
        files = self.directory / ".labctl"
        said_du = subprocess.run(["du", "-smx", files], capture_output=True, text=True, check=True)
        return found | {"host: .labctl, MiB": int(said_du.stdout.split()[0])}

    def last(self) -> str:
        """The steps of the last run with their seconds."""
        log = (self.directory / ".labctl" / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in log]
        start = max(i for i, event in enumerate(events) if event["event"] == "run_started")
        return ", ".join(
            f"{event['id']} {event['seconds']:.1f}"
            for event in events[start:]
            if event["event"] == "step_finished" and event["outcome"] == "done"
        )


@contextmanager
def lab(computes: int) -> Iterator[Lab]:
    """A lab, created; destroyed at the end."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="labctl-measure-") as scratch:
        made = Lab(Path(scratch), computes)
        try:
            made("create")
            yield made
        finally:
            made("destroy")


def resets(one: Lab, instances: bool, settle: float) -> None:
    """Print how long it takes to come back from what, `settle` seconds after it was done."""
    ports = "for i in $(seq {n}); do openstack port create --network n1 p$i >/dev/null; done"
    servers = (
        "openstack quota set --instances -1 --cores -1 --ram -1 admin; python3 - <<'E'\n"
        + CROWD
        + "E\nopenstack server create --image cirros --flavor m1.nano --network n1"
        " --min {n} --max {n} --wait many >/dev/null || true;"
        " for i in $(seq 120); do sleep 5;"
        " openstack server list -f value -c Status | grep -q BUILD || break; done;"
        " openstack server list -f value -c Status | sort | uniq -c"
    )
    works = {
        "nothing": "",
        "1 port": ports.format(n=1),
        f"{MANY} ports": ports.format(n=MANY),
        "1 instance": servers.replace("{n}", "1"),
        "`vm_1` and its image deleted": "openstack server delete --wait vm_1;"
        " openstack image delete cirros",
    }
    if instances:
        works[f"{MANY} instances"] = servers.replace("{n}", str(MANY))
    print("| since the snapshot | seconds | of which | load |\n|---|---|---|---|")
    for what, script in works.items():
        said = one.run(script).split() if script else []
        time.sleep(settle)
        load = os.getloadavg()[0]
        seconds = one.timed("reset", "--to", "base")
        made = f" ({' '.join(said)})" if said else ""
        print(f"| {what}{made} | {seconds:.1f} | {one.last()} | {load:.1f} |", flush=True)
    seconds = one.timed("reset", "--to", "base", "--cold")
    print(f"| nothing, `--cold` | {seconds:.1f} | {one.last()} | |", flush=True)
    seconds = one.timed("snapshot", "save", "measured")
    row: dict[str, Any] = next(
        row for row in json.loads(one("snapshot", "list", "--json")) if row["name"] == "measured"
    )
    print(f"| `snapshot save`: {row['size'] / 1e6:.0f} MB | {seconds:.1f} | {one.last()} | |")


def rounds(one: Lab, count: int) -> None:
    """Print what grew over that many rounds of replay and reset."""
    one("replay", "floating-ip")  # what is made lazily, once
    one("reset", "--to", "base")
    before, proved = one.facts(), set[str]()
    took: list[tuple[float, float]] = []
    for number in range(count):
        began = time.monotonic()
        report = json.loads(one("replay", "floating-ip", "--json"))
        claims = [claim for step in report["checkpoints"] for claim in step["claims"]]
        proved.add(f"{sum(claim['holds'] for claim in claims)} of {len(claims)}")
        took.append((time.monotonic() - began, one.timed("reset", "--to", "base")))
        print(
            f"{number + 1}: {took[-1][0]:.1f} s, {took[-1][1]:.1f} s", file=sys.stderr, flush=True
        )
    after = one.facts()
    print(f"\n{count} rounds; claims that held: {', '.join(sorted(proved))}")
    for place, what in enumerate(("replay", "reset")):
        seconds = [pair[place] for pair in took]
        tenth = max(1, count // 10)
        print(
            f"{what}: {min(seconds):.1f} to {max(seconds):.1f} s; the first {tenth} on average"
            f" {sum(seconds[:tenth]) / tenth:.1f}, the last {sum(seconds[-tenth:]) / tenth:.1f}"
        )
    print("\n| what | before | after |\n|---|---|---|")
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            print(f"| {name} | {before.get(name)} | {after.get(name)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--computes", type=int, default=1)
    parser.add_argument("--instances", action="store_true", help=f"also with {MANY} instances")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--settle", type=float, default=0, help="seconds to wait before each reset")
    wanted = parser.parse_args()
    with lab(wanted.computes) as one:
        resets(one, wanted.instances, wanted.settle)
        if wanted.rounds:
            rounds(one, wanted.rounds)


if __name__ == "__main__":
    main()
