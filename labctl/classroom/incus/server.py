"""A class on an Incus server or cluster: the verbs of `engine.Engine`.

A learner costs two calls and what waits for their operations; a look at all machines is one call
for the instances, one for the profile, and one for what is being made.
"""

import hashlib
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from labctl.classroom.engine import Machine, State
from labctl.classroom.first_boot import first_boot_of_a_bare_image
from labctl.classroom.incus import room
from labctl.classroom.incus.api import IncusAPI, IncusError
from labctl.classroom.incus.remotes import Remote, image_source
from labctl.classroom.incus.shared import PREFIX, SharedParts, instance_in, taken_ports
from labctl.classroom.labels import (
    CLASS,
    ENDS,
    description,
    end_in,
    end_text,
    learner_in,
    metadata,
    resource_name,
)
from labctl.classroom.model import ClassSpec
from labctl.engine.wait import wait_until
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

NESTING: Mapping[str, str] = {
    "security.nesting": "true",
    "security.syscalls.intercept.mknod": "true",
    "security.syscalls.intercept.setxattr": "true",
}
"""What a container needs for a lab of systemd-nspawn in it; docs/class.md says what each opens."""
ARCHIVES = (".tar", ".tar.gz", ".tar.xz", ".tar.zst")
"""What the path of an image ends with."""
_STATES: dict[int, State] = {103: "running", 113: "running", 105: "building", 106: "building"}
"""Incus' status code -> ours: Running and Ready, Pending and Starting; else it does not run."""
_ERROR, _STOPPED = 112, 102
_NEVER = "1980"
"""`last_used_at` of what never ran is before: 1970 of an instance, the year 1 of a lost one."""
_SSH = "labctl-ssh"
"""The device that opens a machine's port."""
_LOG_LINES = 200
_FIRST_ADDRESS = 2
"""In the class's network: its own, and the first, which is the router's, are taken."""
_TYPES = {"vm": "virtual-machine", "container": "container"}
_KINDS = {"vm": "virtual-machines", "container": "containers"}
_FULL = ("no space left", "disk quota exceeded", "not enough space", "out of space")


class IncusEngine:
    """The machines of one class in one project of a server or cluster."""

    def __init__(self, spec: ClassSpec, directory: Path, api: IncusAPI, remote: Remote) -> None:
        """`directory` is where class.yaml is: paths of image files are relative to it."""
        self._spec, self._incus = spec, spec.incus
        self._directory = directory
        self._api = api
        self._shared = SharedParts(spec, api, remote.host)
        self._source: dict[str, str] = {}
        self._pool = ""
        self._teacher = ""
        self._lock = threading.Lock()
        self._ordering = threading.Lock()
        self._names: dict[str, str] = {}
        self._members: dict[str, str] = {}
        self._lost: set[str] = set()
        self._on: set[str] = set()
        self._others: set[str] = set()
        self._taken: set[int] = set()
        self._slots: dict[str, int] = {}
        self._places: dict[str, str] = {}
        self._reasons: dict[str, str] = {}

    @property
    def calls(self) -> int:
        """Requests to Incus."""
        return self._api.calls

    # -- before machines ---------------------------------------------------------------------------
    def require_room(self, machines: int) -> None:
        """Compare what so many machines need with the limits of the project."""
        size = self._spec.size
        needed = {
            "instances": machines,
            _KINDS[self._incus.type]: machines,
            "cpu": machines * size.cpus,
            "memory": machines * size.memory,
            "disk": machines * size.disk * 1024,
            **self._shared.needed(),
        }
        state = self._api.get("projects", self._api.project, "state")
        room.require(state.get("resources") or {}, needed, machines)

    def image(self) -> None:
        """Find the image, or upload the file; and the pool for the disks."""
        self._pool = self._incus.pool or self._default_pool()
        wanted = self._incus.image
        if wanted.endswith(ARCHIVES):
            fingerprint = self._uploaded(self._directory / Path(wanted).expanduser())
        elif ":" in wanted:
            self._source = {"type": "image", **image_source(wanted)}
            return
        else:
            alias = self._api.find("images", "aliases", wanted)
            fingerprint = alias["target"] if alias else wanted
        image = self._api.find("images", fingerprint)
        if image is None:
            raise LabError(
                tr("Incus has no image {name}", name=repr(wanted)),
                hint=tr("look with {command}", command="incus image list"),
                code=EXIT_USAGE,
            )
        if image["type"] != _TYPES[self._incus.type]:
            raise LabError(
                tr("the image {name} is for {type}, and class.yaml wants another type: {key}",
                   name=repr(wanted), type=image["type"], key=f"incus.type: {self._incus.type}"),
                code=EXIT_USAGE,
            )  # fmt: skip
        self._source = {"type": "image", "fingerprint": image["fingerprint"]}

    def _uploaded(self, file: Path) -> str:
        """The fingerprint of an image file, which the server has afterwards."""
        if not file.is_file():
            raise LabError(tr("there is no file {path}", path=file), code=EXIT_USAGE)
        with file.open("rb") as stream:
            # Incus names an image of one file by this sum.
            fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()
            if self._api.find("images", fingerprint) is None:
                stream.seek(0)
                headers = {
                    "Content-Type": "application/octet-stream",
                    "X-Incus-Public": "0",
                    "X-Incus-Filename": file.name,
                    "X-Incus-Properties": urlencode({CLASS: self._spec.name}),
                }
                self._api.upload(stream, headers)
        return fingerprint

    def _default_pool(self) -> str:
        """The pool of the profile `default`, or the only one there is."""
        profile = self._api.find("profiles", "default") or {}
        for device in (profile.get("devices") or {}).values():
            if device.get("type") == "disk" and device.get("path") == "/" and device.get("pool"):
                return str(device["pool"])
        pools = self._api.get("storage-pools", recursion=1)
        if len(pools) != 1:
            raise LabError(
                tr("Incus has {n} storage pools, and none is the default", n=len(pools)),
                hint=tr("name the pool in class.yaml: {key}", key="incus.pool"),
                code=EXIT_USAGE,
            )
        return str(pools[0]["name"])

    def prepare(self, public_key: str) -> None:
        """A profile, and with access port a network and what keeps its machines apart."""
        key = " ".join(public_key.split()[:2])
        self._teacher = f"{key} {description(self._spec.name)}"
        self._shared.prepare(public_key)

    # -- machines ----------------------------------------------------------------------------------
    def machines(self) -> list[Machine]:
        """Those that carry the label, and those of lost members that use the class's profile."""
        depth = 1 if self._incus.access == "port" else 2
        instances = self._api.get("instances", recursion=depth)
        users = self._shared.users() if any(_is_lost(each) for each in instances) else set()
        learners = {resource_name(self._spec.name, name): name for name in self._spec.learners}
        labelled = [each for each in instances if self._learner(each) is not None]
        made = self._being_made() if any(_never_ran(each) for each in labelled) else set()
        found = []
        with self._lock:
            self._lost.clear()
            self._on.clear()
            self._others.clear()
            self._taken.clear()
            for instance in instances:
                name = instance["name"]
                learner = self._learner(instance)
                if learner is not None:
                    machine = self._machine(instance, learner, name in made)
                    self._on |= set() if instance["status_code"] == _STOPPED else {name}
                elif _is_lost(instance) and name in users:
                    prefix = resource_name(self._spec.name, "x")[:-1]
                    learner = learners.get(name, name.removeprefix(prefix))
                    machine = Machine(name, learner, "stopped", reason=_lost(instance))
                    self._lost.add(name)
                else:
                    self._others.add(name)
                    devices = (instance.get("devices") or {}).values()
                    self._taken |= {port for _, port in taken_ports(devices)}
                    continue
                self._names[machine.id] = name
                self._members[machine.id] = instance.get("location") or "none"
                found.append(machine)
        return found

    def _learner(self, instance: Mapping[str, Any]) -> str | None:
        labels = {key.removeprefix(PREFIX): value
                  for key, value in (instance.get("config") or {}).items()}  # fmt: skip
        return learner_in(labels, self._spec.name)

    def _being_made(self) -> set[str]:
        """The instances that an operation is working on."""
        operations = self._api.get("operations", recursion=1) or {}
        return {
            instance_in(url)
            for operation in operations.get("running") or ()
            for url in (operation.get("resources") or {}).get("instances") or ()
        }

    def _machine(self, instance: Mapping[str, Any], learner: str, made: bool) -> Machine:
        config, devices = instance["config"], instance.get("devices") or {}
        state = _STATES.get(instance["status_code"], "stopped")
        reason, address, port = "", "", 22
        if _never_ran(instance):
            state = "building" if made else "failed"
            reason = self._reasons.get(learner) or tr("it was made, and did not start")
        elif instance["status_code"] == _ERROR:
            reason = _lost(instance)
        if self._incus.access == "port":
            if opened := taken_ports([devices.get(_SSH, {})]):
                address, port = opened[0]
                self._slots[learner] = port - self._incus.first_port
        elif state == "running":
            address = _address_in(instance.get("state") or {})
        if state in ("running", "stopped"):
            self._places[learner] = instance.get("location") or ""
        return Machine(
            id=config.get("volatile.uuid") or instance["name"],
            learner=learner,
            state=state,
            address=address,
            reason=reason,
            port=port,
            ends=end_in(config.get(PREFIX + ENDS)),
        )

    def launch(self, learner: str, authorized: str, ends: datetime | None) -> None:
        """Make the instance and start it; returns once it runs."""
        name = resource_name(self._spec.name, learner)
        if name in self._others:
            raise LabError(tr("Incus has a {name} that labctl did not make for this class",
                              name=name))  # fmt: skip
        labels = metadata(self._spec.name, learner, ends)
        script = first_boot_of_a_bare_image(self._spec.user, learner, [self._teacher, authorized])
        size = self._spec.size
        root = {"type": "disk", "path": "/", "pool": self._pool}
        body = {
            "name": name,
            "type": _TYPES[self._incus.type],
            "source": self._source,
            "start": True,
            "profiles": [self._shared.name],
            "config": {
                **{PREFIX + key: value for key, value in labels.items()},
                "limits.cpu": str(size.cpus),
                "limits.memory": f"{size.memory}MiB",
                "cloud-init.user-data": script,
                **(NESTING if self._incus.type == "container" else {}),
            },
            "devices": {
                "root": {**root, "size": f"{size.disk}GiB"} if size.disk else root,
                "eth0": self._shared.nic(self._address(self._slot(learner))),
            },
        }
        # A learner's new machine is where the old one was: the address is the member's.
        target = self._incus.target or self._places.get(learner, "")
        place = {"target": target} if target not in ("", "none") else {}
        try:
            # A cluster counts the machines of its members, and those being made, when it chooses:
            # orders that come at the same moment would all choose the same.
            with self._ordering:
                order = self._api.begin("POST", "instances", body=body, **place)
            self._api.finish(order)
        except IncusError as error:
            there = self._api.find("instances", name)
            if "UNIQUE" in error.text and there and self._learner(there) == learner:
                return  # another run of labctl was faster
            if any(words in error.text.lower() for words in _FULL):
                error.message = tr("the pool {pool} is full: {text}", pool=self._pool,
                                   text=error.text)  # fmt: skip
            # The instance may be there and not start; its state does not say why.
            self._reasons[learner] = error.message
            raise

    def _slot(self, learner: str) -> int:
        """Which address and port: the present ones, else the learner's place in class.yaml.

        A place that another has, because the list was changed, is passed over.
        """
        with self._lock:
            others = {slot for name, slot in self._slots.items() if name != learner}
            taken = others | {port - self._incus.first_port for port in self._taken}
            if learner not in self._slots or self._slots[learner] in taken:
                slot = self._spec.learners.index(learner)
                while slot in taken:
                    slot += 1
                self._slots[learner] = slot
            return self._slots[learner]

    def _address(self, slot: int) -> IPv4Address:
        cidr = self._incus.cidr
        if self._incus.access == "port" and slot >= cidr.num_addresses - _FIRST_ADDRESS - 1:
            raise LabError(tr("{network} has no address left", network=cidr))
        return cidr.network_address + (_FIRST_ADDRESS + slot) % cidr.num_addresses

    def extend(self, machine: Machine, ends: datetime) -> None:
        """One call."""
        body = {"config": {PREFIX + ENDS: end_text(ends)}}
        self._api.change("PATCH", "instances", self._name(machine), body=body)

    def address(self, machine: Machine) -> str:
        """Open the machine's port at its member; with access fixed wait until it has an address."""
        if machine.address:
            return machine.address
        name = self._name(machine)
        if self._incus.access == "fixed":
            address = wait_until(
                tr("{name} has an address", name=machine.learner),
                lambda: _address_in(self._api.get("instances", name, "state")),
                deadline=60 * self._spec.minutes, interval=2,
                hint=tr("is there a DHCP server on the network, and does the machine boot? look"
                        " with {command}", command=f"labctl class log {machine.learner}"),
            )  # fmt: skip
            return str(address)
        address = self._shared.address_of(self._members[machine.id])
        devices = self._api.get("instances", name)["devices"]
        inside = devices["eth0"]["ipv4.address"]
        slot = int(IPv4Address(inside)) - int(self._address(0))
        port = self._incus.first_port + slot
        devices[_SSH] = {
            "type": "proxy",
            "nat": "true",
            "listen": f"tcp:{address}:{port}",
            "connect": f"tcp:{inside}:22",
        }
        self._api.change("PATCH", "instances", name, body={"devices": devices})
        return f"{address}:{port}"

    def console_log(self, machine: Machine) -> str:
        """The last 200 lines."""
        text = self._api.text("instances", self._name(machine), "console")
        return "\n".join(text.splitlines()[-_LOG_LINES:])

    def delete(self, machine: Machine) -> None:
        """Stop it without asking it, and remove it."""
        name = self._name(machine)
        if name in self._on:
            stop = {"action": "stop", "force": True, "timeout": -1}
            # One that stopped meanwhile is as good; of any other the next call tells why not.
            with suppress(IncusError):
                self._api.change("PUT", "instances", name, "state", body=stop)
        try:
            self._api.change("DELETE", "instances", name)
        except IncusError as error:
            if error.status != 404:
                raise

    def _name(self, machine: Machine) -> str:
        """Of its instance. Raises LabError for one whose member is lost."""
        name = self._names[machine.id]
        if name in self._lost:
            raise LabError(machine.reason)
        return name

    def clear(self) -> int:
        """Network, ACL, profile and uploaded image."""
        return self._shared.clear()


def _is_lost(instance: Mapping[str, Any]) -> bool:
    """Whether nothing is known of it but its name: its member does not answer."""
    return instance["status_code"] == _ERROR and not instance.get("config")


def _lost(instance: Mapping[str, Any]) -> str:
    return tr("the cluster member {member} does not answer", member=instance.get("location", ""))


def _never_ran(instance: Mapping[str, Any]) -> bool:
    return bool(instance["status_code"] == _STOPPED and instance["last_used_at"] < _NEVER)


def _address_in(state: Mapping[str, Any]) -> str:
    """The first IPv4 address that others may reach; empty without one."""
    for name, interface in sorted((state.get("network") or {}).items()):
        for address in interface.get("addresses") or () if name != "lo" else ():
            if address["family"] == "inet" and address["scope"] == "global":
                return str(address["address"])
    return ""
