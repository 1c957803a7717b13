"""Verdicts on several values of a lab.yaml, and the silence where one of them is doubtful.

A rule names the values it looks at. Where one is mistyped or given twice, the rule keeps silent:
its verdict would only repeat or blur what is said about that.
"""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network

from labctl.i18n import tr
from labctl.spec.problems import Path, Problem, shown
from labctl.spec.source import YamlSource

STACK: Path = ("stack",)
NAT: Path = ("nat", "subnet")
PRIVATE: Path = ("private", "subnet")
TENANT: Path = ("tenant", "cidr")


class Judge:
    """Collects verdicts and leaves out those that rest on doubtful values."""

    def __init__(self, source: YamlSource, doubtful: Collection[Path]) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._doubtful = frozenset(doubtful)
        self._around = {doubt[:depth] for doubt in doubtful for depth in range(len(doubt))}

    def say(self, at: Path, message: str, mend: str = "", also: Sequence[Path] = ()) -> None:
        """A rule is broken at this path; `also` are the other paths it looked at."""
        if self.trusts(at, *also):
            self.problems.append(self.source.problem(at, message, mend))

    def say_key(self, at: Path, message: str, mend: str) -> None:
        """The key itself is wrong, whatever is behind it."""
        self.problems.append(self.source.problem(at, message, mend))

    def trusts(self, *paths: Path) -> bool:
        """Whether nothing at, in or around these paths is doubtful."""
        return not any(
            path in self._around
            or any(path[:depth] in self._doubtful for depth in range(len(path) + 1))
            for path in paths
        )

    def roles_known(self) -> bool:
        """Whether it is certain which nodes there are and what roles they have."""
        return not any(
            doubt[:1] == ("nodes",) and (len(doubt) < 3 or doubt[2] == "roles")
            for doubt in self._doubtful
        )

    def another(self, path: Path, subnet: IPv4Network) -> str:
        """The mend for an address; it names the subnet unless that is doubtful itself."""
        if self.trusts(path):
            return tr("choose another address in {subnet}", subnet=subnet)
        return tr("choose another address")

    def later_first(self, one: Path, other: Path) -> tuple[Path, Path]:
        """The two in the order to complain: at the one written, or else written last."""

        def place(path: Path) -> tuple[bool, int]:
            return path in self.source.lines, self.source.line(path)

        return (one, other) if place(one) > place(other) else (other, one)


def no_host(address: IPv4Address, subnet: IPv4Network, name: str = "") -> str | None:
    """Why no machine can have this address in this subnet, or None."""
    called = f"{name}{subnet}"
    if address not in subnet:
        return tr("{address} is not in {subnet}", address=address, subnet=called)
    if address == subnet.network_address:
        return tr("{address} is the network address of {subnet}", address=address, subnet=called)
    if address == subnet.broadcast_address:
        return tr("{address} is the broadcast address of {subnet}", address=address, subnet=called)
    return None


def inside(subnet: IPv4Network) -> str:
    """The mend for an address outside its subnet."""
    return tr("choose an address in {subnet}", subnet=subnet)


def taken(address: IPv4Address, owner: str | int) -> str:
    """That another machine has the address."""
    return tr("{address} is already the address of {owner}", address=address, owner=shown(owner))
