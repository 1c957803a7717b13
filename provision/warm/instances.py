"""Instances of a compute node: their disks and definitions, kept and put back.

One that goes on running as it did is left alone. What has to start again is only made ready here;
Nova starts it, because it also plugs the ports.
"""

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import libvirt

DIRECTORY = Path("/var/lib/nova/instances")
# Never changed once they are there: another name is enough. The rest is copied.
SHARED = "_base"
LEFT = ("locks", "compute_nodes")
# Written by the emulator, never read.
LOGS = ("console.log",)


def connect():
    libvirt.registerErrorHandler(lambda _, error: None, None)
    return libvirt.open("qemu:///system")


def definition(domain):
    """A domain's XML as it would start, without what Nova notes about it."""
    tree = ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    for metadata in tree.findall("metadata"):
        tree.remove(metadata)
    return ElementTree.tostring(tree, encoding="unicode")


def files(uuid):
    """{name: what tells whether the file was written to}"""
    place = DIRECTORY / uuid
    return {
        str(path.relative_to(place)): [path.stat().st_mtime_ns, path.stat().st_size]
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name not in LOGS
    }


def look(domain):
    state, _ = domain.state()
    return {
        "name": domain.name(),
        "running": state == libvirt.VIR_DOMAIN_RUNNING,
        "active": bool(domain.isActive()),
        "definition": definition(domain),
        "files": files(domain.UUIDString()),
    }


def everyone(connection):
    return {domain.UUIDString(): look(domain) for domain in connection.listAllDomains()}


def decide(kept, now):
    """What one instance needs: leave, prepare (its files and definition), or reboot besides. Pure.

    `now` is None when there is no such instance any more.
    """
    same = (
        now is not None
        and now["definition"] == kept["definition"]
        and now["files"] == kept["files"]
    )
    if same and now["running"] == kept["running"] and now["active"] == kept["active"]:
        return "leave"
    return "reboot" if kept["running"] else "prepare"


def copy(source, target):
    subprocess.run(
        ["cp", "--archive", "--reflink=auto", "--sparse=always", source, target],
        check=True, capture_output=True, text=True,
    )  # fmt: skip


def save(place):
    kept = place / "instances"
    kept.mkdir()
    connection = connect()
    found = everyone(connection)
    for domain in connection.listAllDomains():
        its = found[domain.UUIDString()]
        its["xml"] = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    for uuid in found:
        if (DIRECTORY / uuid).is_dir():
            shutil.copytree(
                DIRECTORY / uuid, kept / uuid, copy_function=copy, ignore=lambda _, names: LOGS
            )
    base = DIRECTORY / SHARED
    (kept / SHARED).mkdir()
    for image in base.iterdir() if base.is_dir() else ():
        if image.is_file():
            os.link(image, kept / SHARED / image.name)
    (place / "instances.json").write_text(json.dumps(found, indent=1))


def restore(place):
    """Make all instances ready; the UUIDs of those that Nova is to start."""
    kept = json.loads((place / "instances.json").read_text())
    connection = connect()
    now = everyone(connection)
    shared(place)
    # libvirt looks only every fifth of a second whether an emulator has ended.
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(partial(remove, connection), sorted(now.keys() - kept.keys())))
    for path in DIRECTORY.iterdir():
        if path.name not in (*kept, SHARED, *LEFT) and path.is_dir():
            shutil.rmtree(path)
    reboot = []
    for uuid, its in kept.items():
        what = decide(its, now.get(uuid))
        if what == "leave":
            continue
        remove(connection, uuid)
        prepare(place, uuid)
        connection.defineXML(its["xml"])
        if what == "reboot":
            reboot.append(uuid)
    return reboot


def shared(place):
    (DIRECTORY / SHARED).mkdir(exist_ok=True)
    shutil.chown(DIRECTORY / SHARED, "nova", "nova")
    for image in (place / "instances" / SHARED).iterdir():
        there = DIRECTORY / SHARED / image.name
        if not there.exists():
            os.link(image, there)


def prepare(place, uuid):
    source, target = place / "instances" / uuid, DIRECTORY / uuid
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        copy(source, target)


def remove(connection, uuid):
    try:
        domain = connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError:
        return
    if domain.isActive():
        domain.destroyFlags(0)
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    )
    domain.undefineFlags(flags)
