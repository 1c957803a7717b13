"""The problems that the rules find, without those that follow from an invalid value.

A rule names the paths of all values it looked at. If one of these values is invalid (of the wrong
type, or given twice), that problem is reported already, and the rule reports nothing.
"""

import re
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network

from labctl.i18n import tr
from labctl.spec.fields import NODE_NAME
from labctl.spec.problems import KeyPath, Problem, printable
from labctl.spec.source import YamlSource

STACK: KeyPath = ("stack",)
NAT: KeyPath = ("nat", "subnet")
PRIVATE: KeyPath = ("private", "subnet")
TENANT: KeyPath = ("tenant", "cidr")
INTERNET: KeyPath = ("internet", "subnet")


class RuleReport:
    """Collects what the rules find, and leaves out what rests on an invalid value."""

    def __init__(self, source: YamlSource, invalid_paths: Collection[KeyPath]) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._invalid = frozenset(invalid_paths)
        self._contains_invalid = {
            path[:depth] for path in invalid_paths for depth in range(len(path))
        }

    def add(
        self, path: KeyPath, message: str, fix: str = "", other_paths: Sequence[KeyPath] = ()
    ) -> None:
        """Report the value at this path; `other_paths` are the other values the rule looked at."""
        if self.all_valid(path, *other_paths):
            self.problems.append(self.source.problem(path, message, fix))

    def add_for_key(self, path: KeyPath, message: str, fix: str) -> None:
        """Report the key itself, whether its value is valid or not."""
        self.problems.append(self.source.problem(path, message, fix))

    def is_host_name(self, path: KeyPath, name: str) -> bool:
        """Whether that key is a host name; one that is none is reported."""
        if re.fullmatch(NODE_NAME, name):
            return True
        self.add_for_key(
            path,
            tr("is not a host name"),
            tr(
                "use up to 40 small letters, digits and hyphens, "
                "with a letter or digit at both ends"
            ),
        )
        return False

    def all_valid(self, *paths: KeyPath) -> bool:
        """Whether nothing is invalid at these paths, inside them, or around them."""
        return not any(
            path in self._contains_invalid
            or any(path[:depth] in self._invalid for depth in range(len(path) + 1))
            for path in paths
        )

    def roles_known(self) -> bool:
        """Whether the names of all nodes and their roles are valid."""
        return not any(
            path[:1] == ("nodes",) and (len(path) < 3 or path[2] == "roles")
            for path in self._invalid
        )

    def fix_other_address(self, path: KeyPath, subnet: IPv4Network) -> str:
        """How to fix an address; it names the subnet, at `path`, if that is valid."""
        if self.all_valid(path):
            return tr("choose another address in {subnet}", subnet=subnet)
        return tr("choose another address")

    def later_then_earlier(self, first: KeyPath, second: KeyPath) -> tuple[KeyPath, KeyPath]:
        """Of two values that contradict, the one to report, and the other.

        To report is the value that is in the file; if both are, the one on the later line.
        """

        def position(path: KeyPath) -> tuple[bool, int]:
            return path in self.source.lines, self.source.line(path)

        return (first, second) if position(first) > position(second) else (second, first)


def why_no_host(address: IPv4Address, subnet: IPv4Network, name: str = "") -> str | None:
    """Why no machine can have this address in this subnet, or None. `name` goes before it."""
    named = f"{name}{subnet}"
    if address not in subnet:
        return tr("{address} is not in {subnet}", address=address, subnet=named)
    if address == subnet.network_address:
        return tr("{address} is the network address of {subnet}", address=address, subnet=named)
    if address == subnet.broadcast_address:
        return tr("{address} is the broadcast address of {subnet}", address=address, subnet=named)
    return None


def fix_in_subnet(subnet: IPv4Network) -> str:
    """How to fix an address outside its subnet."""
    return tr("choose an address in {subnet}", subnet=subnet)


def taken_by(address: IPv4Address, owner: str | int) -> str:
    """The message that another machine has the address."""
    return tr(
        "{address} is already the address of {owner}", address=address, owner=printable(owner)
    )
