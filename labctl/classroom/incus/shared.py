"""What the machines of a class share in Incus: a profile, a network, and who may reach whom.

The profile changes nothing in a machine. It is there because the server lists who uses it even
while a member of the cluster is lost, whose machines have no labels then.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from labctl.classroom.incus.api import IncusAPI, IncusError
from labctl.classroom.keys import other_teacher
from labctl.classroom.labels import CLASS, resource_name
from labctl.classroom.model import ClassSpec
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

PREFIX = "user."
"""What the keys begin with that Incus keeps and does not look at."""
LABEL = PREFIX + CLASS
_TEACHER = PREFIX + "labctl-teacher"
_ALONE = {"security.port_isolation": "true"}
"""For a NIC on a bridge: no frame goes to another such NIC."""
_HONEST = {
    "security.mac_filtering": "true",
    "security.ipv4_filtering": "true",
    "security.ipv6_filtering": "true",
}
"""For a NIC with an address of its own: no frame leaves with another sender."""


def network_name(name: str) -> str:
    """Of the network of a class: Linux has 15 characters for it."""
    return "labctl" + hashlib.sha256(name.encode()).hexdigest()[:8]


def instance_in(url: str) -> str:
    """The instance of /1.0/instances/NAME?project=…; "" for anything else."""
    parts = urlsplit(url).path.split("/")
    return unquote(parts[3]) if parts[:3] == ["", "1.0", "instances"] and len(parts) == 4 else ""


def rules(cidr: str, servers: Iterable[str]) -> list[dict[str, str]]:
    """What a machine may not send to: others of the network by way of the host, and the servers.

    There the ports of the others are. Everything else may go out.
    """
    taken = sorted({*servers, cidr})
    return [{"action": "reject", "state": "enabled", "destination": ",".join(taken)}]


class SharedParts:
    """Finds, makes and removes them; each carries the label of the class."""

    def __init__(self, spec: ClassSpec, api: IncusAPI, host: str) -> None:
        """`host` is that of the remote's URL, empty for a Unix socket."""
        self._spec, self._api, self._host = spec, api, host
        self.name = resource_name(spec.name)
        """Of the profile and of the ACL."""
        self.network = network_name(spec.name)
        self._addresses: dict[str, str] | None = None

    def users(self) -> set[str]:
        """The instances that use the profile, those of lost members, too."""
        profile = self._api.find("profiles", self.name)
        if profile is None or profile["config"].get(LABEL) != self._spec.name:
            return set()
        return {instance_in(url) for url in profile.get("used_by") or ()} - {""}

    def addresses(self) -> dict[str, str]:
        """{member: the address of its own at which ports are opened}; "none" without a cluster."""
        if self._addresses is None:
            environment = self._api.get()["environment"]
            if environment.get("server_clustered"):
                members = self._api.get("cluster", "members", recursion=1)
                urls = {member["server_name"]: member["url"] for member in members}
                self._addresses = {name: urlsplit(url).hostname or "" for name, url in urls.items()}
            else:
                listening = [_host_of(place) for place in environment.get("addresses") or ()]
                own = [host for host in listening if _is_ipv4(host)]
                host = self._host if _is_ipv4(self._host) else next(iter(own), "")
                self._addresses = {"none": host}
            if chosen := self._spec.incus.listen:
                self._addresses = dict.fromkeys(self._addresses, str(chosen))
        return self._addresses

    def address_of(self, member: str) -> str:
        """Where the ports of a member's machines are opened. Raises LabError if it has no IPv4."""
        addresses = self.addresses()
        address = addresses.get(member, addresses.get("none", ""))
        if not _is_ipv4(address):
            raise LabError(
                tr("it is not known at which IPv4 address the server {member} opens ports",
                   member=member),
                hint=tr("write it into class.yaml: {key}", key="incus.listen"),
                code=EXIT_USAGE,
            )  # fmt: skip
        return address

    def needed(self) -> dict[str, int]:
        """{limit of the project: how much of it what is not there yet needs}."""
        own = self._spec.incus.access == "port"
        return {"networks": 1} if own and self._api.find("networks", self.network) is None else {}

    # -- making ------------------------------------------------------------------------------------
    def prepare(self, public_key: str) -> None:
        """Have them all; what a killed create has left half made is completed."""
        key = " ".join(public_key.split()[:2])
        config = {LABEL: self._spec.name, _TEACHER: key}
        profile = self._have("profiles", {"name": self.name, "config": config, "devices": {}})
        if profile["config"].get(_TEACHER) != key:
            raise other_teacher()
        if self._spec.incus.access == "port":
            self._have_acl()
            self._have_network()

    def _have(self, kind: str, wanted: Mapping[str, Any]) -> Any:
        """What is there under that name with our label, made if there is none."""
        there = self._api.find(kind, wanted["name"])
        if there is None:
            self._api.change("POST", kind, body=wanted)
            there = self._api.get(kind, wanted["name"])
        self._require_own(there)
        return there

    def _require_own(self, part: Mapping[str, Any]) -> None:
        if part["config"].get(LABEL) != self._spec.name:
            raise LabError(
                tr("Incus has a {name} that labctl did not make for this class", name=part["name"]),
                hint=tr("rename it, or give the class another name"),
                code=EXIT_USAGE,
            )

    def _have_acl(self) -> None:
        servers = [address for address in self.addresses().values() if _is_ipv4(address)]
        egress = rules(str(self._spec.incus.cidr), servers)
        config = {LABEL: self._spec.name}
        there = self._have("network-acls", {
            "name": self.name, "config": config, "egress": egress, "ingress": [],
        })  # fmt: skip
        if [_rule(rule) for rule in there["egress"]] != [_rule(rule) for rule in egress]:
            changed = {"config": config, "egress": egress, "ingress": []}
            self._api.change("PUT", "network-acls", self.name, body=changed)

    def _have_network(self) -> None:
        there = self._api.find("networks", self.network)
        if there is not None and there["status"] == "Created":
            self._require_own(there)
            return
        members = [name for name in self.addresses() if name != "none"]
        for member in sorted(set(members) - set((there or {}).get("locations") or ())):
            body = {"name": self.network, "type": "bridge"}
            self._api.change("POST", "networks", body=body, target=member)
        cidr = self._spec.incus.cidr
        config = {
            LABEL: self._spec.name,
            "ipv4.address": f"{next(cidr.hosts())}/{cidr.prefixlen}",
            "ipv4.nat": "true",
            "ipv6.address": "none",
            "security.acls": self.name,
            "security.acls.default.egress.action": "allow",
            "security.acls.default.ingress.action": "allow",
        }
        wanted = {"name": self.network, "type": "bridge", "config": config}
        self._api.change("POST", "networks", body=wanted)

    def nic(self, address: IPv4Address) -> dict[str, str]:
        """The network device of a machine; `address` counts with access port."""
        if self._spec.incus.access == "port":
            return {"type": "nic", "name": "eth0", "network": self.network,
                    "ipv4.address": str(address), **_ALONE, **_HONEST}  # fmt: skip
        name = str(self._spec.incus.network)
        network = self._api.find("networks", name)
        if network is None:
            raise LabError(
                tr("Incus has no network {name}", name=repr(name)),
                hint=tr("name the network in class.yaml: {key}", key="incus.network"),
                code=EXIT_USAGE,
            )
        nic = {"type": "nic", "name": "eth0"}
        nic |= {"network": name} if network["managed"] else {"nictype": "bridged", "parent": name}
        return nic | (_ALONE if network["type"] == "bridge" else {})

    # -- removing ----------------------------------------------------------------------------------
    def clear(self) -> int:
        """Remove all that carry the label; how many."""
        removed = 0
        for kind in ("networks", "network-acls", "profiles"):
            for part in self._api.get(kind, recursion=1):
                if self._is_own(kind, part):
                    self._remove(kind, part["name"])
                    removed += 1
        for image in self._api.get("images", recursion=1):
            if image["properties"].get(CLASS) == self._spec.name:
                self._api.change("DELETE", "images", image["fingerprint"])
                removed += 1
        return removed

    def _is_own(self, kind: str, part: Mapping[str, Any]) -> bool:
        if part["config"].get(LABEL) == self._spec.name:
            return True
        # A network gets its label in the last of the calls that make it.
        return kind == "networks" and part["name"] == self.network and part["status"] == "Pending"

    def _remove(self, kind: str, name: str) -> None:
        try:
            self._api.change("DELETE", kind, name)
        except IncusError as error:
            if error.status == 404:
                return
            if "in use" in error.text:
                error.hint = tr("something that labctl did not make uses {name}; remove that,"
                                " then run the same command again", name=name)  # fmt: skip
            raise


def _rule(rule: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two rules the same."""
    fields = ("action", "state", "source", "destination", "protocol", "destination_port")
    return tuple(str(rule.get(field) or "") for field in fields)


def _host_of(place: str) -> str:
    """The host of HOST:PORT or [HOST]:PORT."""
    return urlsplit(f"//{place}").hostname or ""


def _is_ipv4(text: str) -> bool:
    try:
        return ip_address(text).version == 4
    except ValueError:
        return False


def taken_ports(devices: Iterable[Mapping[str, str]]) -> Sequence[tuple[str, int]]:
    """(address, port) of all proxies among devices that listen by TCP at one port."""
    found = []
    for device in devices:
        kind, _, place = device.get("listen", "").partition(":")
        if device.get("type") == "proxy" and kind == "tcp":
            address, _, port = place.rpartition(":")
            if port.isascii() and port.isdigit():
                found.append((address.strip("[]"), int(port)))
    return found
