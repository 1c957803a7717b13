"""Keeps the state of a running node, and puts it back: what labctl runs on a node over SSH.

usage: main.py save NAME ROLES UNITS KNOWN     keep the state; forget all but KNOWN
       main.py check NAME SHA256               whether what was kept is whole
       main.py restore NAME ROLES UNITS        put it back
       main.py silent NAME                     what answered then and does not answer now
       main.py forget NAME

ROLES, UNITS and KNOWN are words with commas between them. What is to be told is one JSON object on
stdout. Needs nothing but what a node has: Python's library, and on the nodes with those roles
PyMySQL and libvirt's binding, which OpenStack brings along.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import answers
import files
import flows
import ovsdb

KEPT = Path("/var/lib/labctl/snapshots")


def digest(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content(place):
    """{relative name: digest} of all files below a directory but the index itself."""
    return {
        str(path.relative_to(place)): digest(path)
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != "index.json"
    }


class Stopwatch:
    def __init__(self):
        self.laps = {}
        self._began = time.monotonic()

    def lap(self, name):
        now = time.monotonic()
        self.laps[name] = round(now - self._began, 3)
        self._began = now


def wake():
    """Let processes of services go on that SIGSTOP has stopped; systemd calls them active."""
    said = subprocess.run(["ps", "-eo", "pid=,stat=,unit="], capture_output=True, text=True)
    stopped = [line.split() for line in said.stdout.splitlines()]
    woken = {}
    for pid, state, unit in (words for words in stopped if len(words) == 3):
        if state.startswith("T") and unit.endswith(".service"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGCONT)
                woken[unit.removesuffix(".service")] = True
    return list(woken)


def start(units):
    """Start what is not active; what has crashed too. The names of those."""
    said = subprocess.run(["systemctl", "is-active", *units], capture_output=True, text=True)
    down = [
        unit for unit, state in zip(units, said.stdout.split(), strict=False) if state != "active"
    ]
    if down:
        subprocess.run(["systemctl", "reset-failed", *down], capture_output=True)
        subprocess.run(["systemctl", "start", *down], check=True, capture_output=True, text=True)
    return down


def save(name, roles, units, known):
    watch, final = Stopwatch(), KEPT / name
    place = KEPT / f".{name}"
    KEPT.mkdir(parents=True, exist_ok=True)
    KEPT.chmod(0o700)
    for other in KEPT.iterdir():
        if other.name not in known or other == final:
            shutil.rmtree(other)
    place.mkdir()
    files.save(place)
    watch.lap("files")
    if "client" not in roles:  # it has no Open vSwitch
        ovsdb.save_switch(place)
        watch.lap("openvswitch")
        flows.save(place)
        watch.lap("flows")
    if "controller" in roles:
        ovsdb.save_northbound(place)
        watch.lap("northbound")
    if "database" in roles:
        import sql

        sql.save(place)
        watch.lap("sql")
        files.save_images(place)
        watch.lap("images")
    if "instances" in roles:
        import instances

        instances.save(place)
        watch.lap("instances")
    answers.save(place)
    watch.lap("answers")
    index = place / "index.json"
    index.write_text(json.dumps(content(place), indent=1))
    proof = {"size": size(place), "sha256": digest(index)}
    place.rename(final)
    watch.lap("checksums")
    return {**proof, "seconds": watch.laps}


def size(place):
    """Bytes on the disk that are not anybody else's too."""
    stats = [path.lstat() for path in place.rglob("*")]
    return sum(one.st_blocks * 512 for one in stats if one.st_nlink == 1)


def check(name, wanted):
    place = KEPT / name
    index = place / "index.json"
    if not index.is_file():
        return {"trouble": "what the node kept is gone"}
    if digest(index) != wanted:
        return {"trouble": "what the node kept was altered"}
    found = content(place)
    for file, its in json.loads(index.read_text()).items():
        if found.get(file) != its:
            return {"trouble": f"{file} is missing or was altered"}
    return {"trouble": ""}


def restore(name, roles, units):
    watch, place = Stopwatch(), KEPT / name
    reboot = []
    woken = wake()
    started = start(units)
    watch.lap("services")
    changed = files.restore(place)
    watch.lap("files")
    told = {"woken": woken, "started": started, "files": changed[:20]}
    if "client" not in roles:
        told["openvswitch"] = ovsdb.restore_switch(place)
    files.remove_namespaces(place)
    if files.addresses_differ(place) or files.links_differ(place):
        subprocess.run(
            ["/usr/local/sbin/labctl-network"], check=True, capture_output=True, text=True
        )
        told["addresses"] = True
    watch.lap("openvswitch")
    if "client" not in roles:
        told["flows"] = flows.restore(place)
        watch.lap("flows")
    if "instances" in roles:
        import instances

        reboot = instances.restore(place)
        watch.lap("instances")
    if "database" in roles:
        import sql

        files.restore_images(place)
        watch.lap("images")
        told["sql"] = sql.restore(place)
        sql.flush_cache()
        watch.lap("sql")
    if "controller" in roles:
        told["northbound"] = ovsdb.restore_northbound(place)
        watch.lap("northbound")
    told["restarted"] = files.restart(changed, units)
    watch.lap("restarts")
    if "workloads" in roles:
        subprocess.run(
            ["systemctl", "restart", "labctl-workloads"], check=True, capture_output=True
        )
        watch.lap("workloads")
    return {**told, "reboot": reboot, "seconds": watch.laps}


def words(text):
    return [word for word in text.split(",") if word]


def main(argv):
    verb, name = argv[0], argv[1]
    if verb == "save":
        return save(name, words(argv[2]), words(argv[3]), words(argv[4]))
    if verb == "check":
        return check(name, argv[2])
    if verb == "restore":
        return restore(name, words(argv[2]), words(argv[3]))
    if verb == "silent":
        return {"silent": answers.silent(KEPT / name)}
    shutil.rmtree(KEPT / name, ignore_errors=True)
    return {}


try:
    answer = main(sys.argv[1:])
except subprocess.CalledProcessError as error:
    said = (error.stderr or error.stdout or "").strip().splitlines()[-2:]
    sys.exit(f"{' '.join(error.cmd[:3])} failed: {' / '.join(said)}")
print(json.dumps(answer))
