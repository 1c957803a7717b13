"""What is broken in a node, or with it: power, MTU, space, clock; and in OVN's database."""

import time
from dataclasses import asdict

from labctl.access.ovsdb import Row, list_command, parse_table
from labctl.access.ovsdb_edit import Change, make, plan_delete, take_back
from labctl.errors import LabError
from labctl.faults.model import Mechanism, Plan
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.boot import start_steps
from labctl.provisioning.node_health import MTU
from labctl.topology import Node


class PowerCut(Mechanism):
    """A node without power."""

    on_host = True
    node_down = True

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """End the node at once, without a shutdown."""
        lab.provider.stop(node, deadline=0)

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Boot it, and wait until the lab works again, as `up` does."""
        if not lab.provider.running(node):
            steps = start_steps(lab)
            lab.run(tr("start {lab}", lab=lab.topology.lab), steps).raise_if_failed()

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether the node is down."""
        return not lab.provider.running(node)


class WrongMtu(Mechanism):
    """eth1 with another MTU than the network's."""

    def __init__(self, mtu: int) -> None:
        """`mtu` in bytes."""
        self._mtu = mtu

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Set the wrong MTU."""
        self._set(lab, node, self._mtu)

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Set the right one."""
        self._set(lab, node, MTU)

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether it is not the right one."""
        now = lab.provider.guest(node).run(["cat", "/sys/class/net/eth1/mtu"], timeout=15).stdout
        return now.strip() != str(MTU)

    def _set(self, lab: Lab, node: Node, mtu: int) -> None:
        lab.provider.guest(node).run(["ip", "link", "set", "eth1", "mtu", str(mtu)], timeout=15)


class NoSpace(Mechanism):
    """/run is full.

    Not the root file system: that of a container lies on this host's own disk. /run is in memory,
    and is made smaller before it is filled, so that the host does not lose any.
    """

    _FILE = "/run/labctl-fault.fill"

    def plan(self, lab: Lab, node: Node) -> Plan:
        """How large /run is, as the option of mount(8) that makes it so."""
        options = lab.provider.guest(node).run(["findmnt", "-no", "OPTIONS", "/run"], timeout=15)
        sizes = [word for word in options.stdout.strip().split(",") if word.startswith("size=")]
        return {"size": sizes[0] if sizes else "size=50%"}  # Linux: half of the memory

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Leave a little room, and fill it."""
        lab.provider.guest(node).run(
            "set -e; used=$(df -k --output=used /run | tail -n 1);"
            " mount -o remount,size=$((used + 512))k /run;"
            f" cat /dev/zero >{self._FILE} 2>/dev/null || true",
            timeout=30,
        )

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Remove the file, and give /run its size back."""
        lab.provider.guest(node).run(
            f"rm -f {self._FILE} && mount -o remount,{plan['size']} /run", timeout=30
        )

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether the file that fills it is there."""
        asked = ["test", "-e", self._FILE]
        return lab.provider.guest(node).run(asked, check=False, timeout=15).ok


class WrongClock(Mechanism):
    """A clock an hour ahead. A container has none of its own: Linux' namespaces of time are for
    the time since the boot only (time_namespaces(7))."""

    _HOUR = 3600

    def refusal(self, lab: Lab, node: Node) -> str:
        """Containers read this host's clock."""
        if lab.provider.features.own_clock:
            return ""
        return tr("the nodes of this lab have no clocks of their own: they read this host's")

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Set the clock an hour ahead."""
        self._shift(lab, node, self._HOUR)

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Set it back, unless somebody has set it right."""
        if self.present(lab, node, plan):
            self._shift(lab, node, -self._HOUR)

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether it is ahead of this host's by more than half an hour."""
        now = lab.provider.guest(node).run(["date", "+%s"], timeout=15).stdout
        return float(now) - time.time() > self._HOUR / 2

    def _shift(self, lab: Lab, node: Node, seconds: int) -> None:
        shift = f"date -s @$(($(date +%s) + {seconds}))"
        lab.provider.guest(node).run(shift, timeout=15)


class NatRow(Mechanism):
    """A NAT rule deleted from the northbound database, which Neutron does not notice."""

    gone_at_boot = False
    _columns = ("type", "external_ip", "logical_ip")

    def plan(self, lab: Lab, node: Node) -> Plan:
        """A floating IP's rule, else any. Raises LabError if there is none."""
        kinds = ("dnat_and_snat", "snat")
        rules = [rule for rule in self._rules(lab, node) if rule[0] in kinds]
        rule = min(rules, key=lambda rule: kinds.index(rule[0]), default=None)
        if rule is not None:

            def wanted(row: Row) -> bool:
                return [row[column] for column in self._columns] == rule

            change = plan_delete(lab.provider.guest(node), "OVN_Northbound", "NAT", wanted)
            if change is not None:
                return {"change": asdict(change), "rule": rule}
        lesson = "floating-ip" if lab.topology.stack == "openstack" else "ovn-snat-dnat"
        raise LabError(
            tr("OVN has no NAT rule yet that could be deleted"),
            hint=tr("a lesson makes some: {command}", command=f"labctl replay {lesson}"),
        )

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Delete the row."""
        make(lab.provider.guest(node), Change(**plan["change"]))

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Put the row back, unless somebody has made one like it."""
        if self.present(lab, node, plan):
            take_back(lab.provider.guest(node), Change(**plan["change"]))

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether no rule is like the one that was deleted."""
        return plan["rule"] not in self._rules(lab, node)

    def _rules(self, lab: Lab, node: Node) -> list[list[str]]:
        columns = ",".join(self._columns)
        asked = list_command("ovn-nbctl", "NAT", columns, leader_only=False, timeout=5)
        rows = parse_table(lab.provider.guest(node).run(asked, timeout=15).stdout)
        return [[row[column] for column in self._columns] for row in rows]
