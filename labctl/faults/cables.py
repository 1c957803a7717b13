"""What is broken outside the nodes: the cables of eth1, and the network beyond eth0.

Only where labctl makes the cables itself: the other end of each is then an interface on this host,
in a network namespace of the lab. A hypervisor does not show its own.
"""

import ipaddress
import json

from labctl.access.ovsdb import list_command, parse_table
from labctl.errors import LabError
from labctl.faults.model import Mechanism, Plan
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.providers import HostEnd
from labctl.run import run
from labctl.topology import Node


class _OnCable(Mechanism):
    """Something at the host's end of a node's cable."""

    gone_at_boot = False
    on_host = True
    card = "eth1"

    def _end(self, lab: Lab, node: Node) -> HostEnd | None:
        return lab.provider.host_end(node, self.card)

    def refusal(self, lab: Lab, node: Node) -> str:
        """The cable is not labctl's, or there is none yet."""
        if self._end(lab, node) is None:
            return tr("the cables of this lab belong to {provider}, and labctl cannot reach them",
                      provider=lab.provider_name)  # fmt: skip
        return ""

    def plan(self, lab: Lab, node: Node) -> Plan:
        """Where the cable ends."""
        end = self._end(lab, node)
        if end is None:
            raise LabError(self.refusal(lab, node))
        return {"namespace": end.namespace, "device": end.device}


class Cut(_OnCable):
    """The cable of eth1 is pulled out of its switch."""

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Set the switch's port down; the node sees that it has no carrier."""
        run(["ip", "-n", plan["namespace"], "link", "set", plan["device"], "down"])

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Set the port up."""
        run(["ip", "-n", plan["namespace"], "link", "set", plan["device"], "up"])

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether the port is down."""
        show = ["ip", "-j", "-n", plan["namespace"], "link", "show", plan["device"]]
        (link,) = json.loads(run(show).stdout)
        return "UP" not in link["flags"]


class Queue(_OnCable):
    """A queueing discipline of tc(8) for everything that goes to the node."""

    def __init__(self, kind: str, *parameters: str) -> None:
        self._kind = kind
        self._parameters = parameters

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Put the discipline in. Raises LabError where this kernel has none of that kind."""
        change = ["tc", "-n", plan["namespace"], "qdisc", "replace", "dev", plan["device"], "root",
                  self._kind, *self._parameters]  # fmt: skip
        done = run(change, check=False)
        if "kind is unknown" in done.stderr:
            raise LabError(
                tr("this host's kernel has no {kind}", kind=f"sch_{self._kind}"),
                hint=tr("`modprobe {module}` loads it, where the kernel comes with it",
                        module=f"sch_{self._kind}"),
            )  # fmt: skip
        if done.returncode != 0:
            raise LabError(done.stderr.strip())

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Take the discipline out; there is an error if there is none."""
        end = ["tc", "-n", plan["namespace"], "qdisc", "delete", "dev", plan["device"], "root"]
        run(end, check=False)

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether the device has such a discipline."""
        show = ["tc", "-n", plan["namespace"], "qdisc", "show", "dev", plan["device"], "root"]
        return run(show).stdout.startswith(f"qdisc {self._kind} ")


class Loss(_OnCable):
    """Some of the packets that a node sends are lost, chosen at random by nftables.

    That is what every kernel has that can forward for a lab; netem is often left out.
    """

    def __init__(self, percent: int) -> None:
        self._percent = percent

    def _nft(self, plan: Plan, command: str, *, check: bool = True) -> str:
        enter = ["ip", "netns", "exec", plan["namespace"]]
        return run([*enter, "nft", command], check=check).stdout

    def _table(self, plan: Plan) -> str:
        return f"netdev labctl_fault_{plan['device']}"

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Drop packets as they come in at the switch."""
        table = self._table(plan)
        hook = f'type filter hook ingress device "{plan["device"]}" priority 0;'
        self._nft(
            plan,
            f"add table {table}; add chain {table} loss {{ {hook} }};"
            f" flush chain {table} loss;"
            f" add rule {table} loss numgen random mod 100 < {self._percent} drop",
        )

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Remove the table; there is an error if there is none."""
        self._nft(plan, f"delete table {self._table(plan)}", check=False)

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether the table is there."""
        return self._table(plan) in self._nft(plan, "list tables")


class DuplicateAddress(_OnCable):
    """Another host of the external network has an address of the lab."""

    card = "eth0"

    def plan(self, lab: Lab, node: Node) -> Plan:
        """A floating IP, else what the router translates to, else the node's own eth0."""
        wanted = list_command("ovn-nbctl", "NAT", "external_ip,type", leader_only=False, timeout=5)
        rows = sorted(
            parse_table(lab.controller.run(wanted, timeout=15).stdout),
            key=lambda row: str(row["type"]) != "dnat_and_snat",
        )
        address = str(rows[0]["external_ip"]) if rows else str(node.eth0.address.ip)
        return {**super().plan(lab, node), "address": str(ipaddress.IPv4Address(address))}

    def inject(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Give the address to the far end of the gateway's eth0."""
        self._address("replace", plan)
        self._forget_neighbours(lab, plan)

    def undo(self, lab: Lab, node: Node, plan: Plan) -> None:
        """Take it away, and let nobody remember where it was."""
        self._address("delete", plan, check=False)
        self._forget_neighbours(lab, plan)

    def present(self, lab: Lab, node: Node, plan: Plan) -> bool:
        """Whether it has the address."""
        show = ["ip", "-4", "-o", "-n", plan["namespace"], "address", "show", plan["device"]]
        return f" {plan['address']}/32 " in run(show).stdout

    def _address(self, verb: str, plan: Plan, *, check: bool = True) -> None:
        run(["ip", "-n", plan["namespace"], "address", verb, f"{plan['address']}/32",
             "dev", plan["device"]], check=check)  # fmt: skip

    def _forget_neighbours(self, lab: Lab, plan: Plan) -> None:
        for node in lab.topology.nodes:
            if lab.provider.running(node):
                forget = ["ip", "neighbour", "flush", "to", plan["address"]]
                lab.provider.guest(node).run(forget, check=False, timeout=15)
