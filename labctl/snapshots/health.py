"""Whether a lab is whole: checked after every restore, before labctl returns to the prompt."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from labctl.access.guest import GuestError
from labctl.access.instance import ConsoleInUseError, InstanceGuest, instance_guest
from labctl.access.ovsdb import list_command, parse_table, parse_tables, tables_script
from labctl.engine.steps import Step, StepContext
from labctl.engine.wait import NotYet, wait_until
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.boot import start_steps
from labctl.provisioning.ovn_ready import chassis_ready
from labctl.provisioning.services import units_of
from labctl.topology import Node

CLOCK_SECONDS = 2.0
"""How far a node's clock may be from this host's. Our choice: a clock that was not set after its
machine was suspended is off by more."""
_DEADLINE = 90
"""Seconds in which everything has to come true, times the timeout factor."""
_FLOATING_IP_PORT = "network:floatingip"
"""`device_owner` of the port that Neutron makes for a floating IP; OVN has no such port."""


# -- comparing (pure) ------------------------------------------------------------------------------
@dataclass(frozen=True)
class NodeHealth:
    """What one node reports about itself."""

    clock_behind: float
    """Seconds by which its clock is behind this host's; negative: ahead."""
    inactive: Mapping[str, str]
    """{unit: state} of the systemd units that are not active."""
    tunnels: frozenset[str]
    """Remote addresses of its Geneve tunnels."""


def node_troubles(health: NodeHealth, peers: frozenset[str]) -> Iterator[str]:
    """What is wrong with a node that must have a tunnel to each of `peers`, and no other tunnel."""
    if abs(health.clock_behind) > CLOCK_SECONDS:
        yield tr("its clock is {seconds} s off", seconds=f"{health.clock_behind:.1f}")
    for unit, state in health.inactive.items():
        yield f"{unit} {state}"
    for address in sorted(peers - health.tunnels):
        yield tr("no tunnel to {address}", address=address)
    for address in sorted(health.tunnels - peers):
        yield tr("a tunnel to {address}, where no node is", address=address)


def disagreements(neutron: Mapping[str, set[str]], ovn: Mapping[str, set[str]]) -> list[str]:
    """A message for each kind of object that one side has and the other lacks; {kind: names}."""
    messages = []
    for kind, names in neutron.items():
        for side, only in (
            ("Neutron", names - ovn.get(kind, set())), ("OVN", ovn.get(kind, set()) - names)
        ):  # fmt: skip
            if only:
                some = ", ".join(sorted(only)[:3]) + (" …" if len(only) > 3 else "")
                messages.append(
                    tr("{kind} only in {side}: {names}", kind=kind, side=side, names=some)
                )
    return messages


def expected_in_ovn(
    *,
    networks: Sequence[Any],
    ports: Sequence[Any],
    routers: Sequence[Any],
    floating: Sequence[Any],
    groups: Sequence[Any],
) -> dict[str, set[str]]:
    """The objects that OVN must have, {kind: names}, as computed from Neutron's objects.

    The names are those that Neutron's OVN driver gives (neutron/common/ovn/utils.py).
    """
    return {
        "network": {f"neutron-{network.id}" for network in networks},
        "port": {port.id for port in ports if port.device_owner != _FLOATING_IP_PORT},
        "router": {f"neutron-{router.id}" for router in routers},
        "floating IP": {address.floating_ip_address for address in floating if address.port_id},
        "security group": {"pg_" + group.id.replace("-", "_") for group in groups},
    }


def found_in_ovn(output: str) -> dict[str, set[str]]:
    """The objects that OVN has, {kind: names}, from what `_NORTHBOUND` prints.

    Raises ValueError when a table is missing.
    """
    tables = parse_tables(output, _NORTHBOUND_TABLES)
    names = {
        table: {row[column] for row in tables[table]}
        for table, (column, *_) in _NORTHBOUND_TABLES.items()
    }
    return {
        "network": {name for name in names["Logical_Switch"] if name.startswith("neutron-")},
        # A localnet port, which connects a provider network, is no port in Neutron.
        "port": {name for name in names["Logical_Switch_Port"] if not name.startswith("provnet-")},
        "router": {name for name in names["Logical_Router"] if name.startswith("neutron-")},
        "floating IP": names["NAT"],
        "security group": names["Port_Group"] - {"neutron_pg_drop"},
    }


_NORTHBOUND_TABLES = {
    "Logical_Switch": ("name",),
    "Logical_Switch_Port": ("name",),
    "Logical_Router": ("name",),
    "NAT": ("external_ip", "type=dnat_and_snat"),
    "Port_Group": ("name",),
}
"""{table: (the column that is compared, and the condition that selects rows, if any)}."""
_NORTHBOUND = tables_script(
    {
        table: list_command("ovn-nbctl", table, column, *condition, leader_only=False)
        for table, (column, *condition) in _NORTHBOUND_TABLES.items()
    }
)

_NODE = f"""date +%s.%N
systemctl is-active "$@" | tr '\\n' ' '; echo
{shlex.join(list_command("ovs-vsctl", "Interface", "options", "type=geneve"))}"""
"""Prints three lines: the time in seconds since the epoch, the state of each unit, the tunnels."""


def parse_node_health(
    output: str, units: Sequence[str], clock_behind: Callable[[float], float]
) -> NodeHealth:
    """What `_NODE` prints; `clock_behind` turns the node's time into seconds behind this host."""
    lines = output.splitlines()
    states = dict(zip(units, lines[1].split(), strict=False))
    return NodeHealth(
        clock_behind=clock_behind(float(lines[0])),
        inactive={
            unit: states.get(unit, "unknown") for unit in units if states.get(unit) != "active"
        },
        tunnels=frozenset(row["options"].get("remote_ip", "") for row in parse_table(lines[2])),
    )


def answers(inside: InstanceGuest, warn: Callable[[str], None]) -> bool:
    """Whether an instance runs a command. It is not known, so True, when its console is in use.

    Raises GuestError when no way leads into it.
    """
    try:
        return inside.run("true", timeout=30, check=False).ok
    except ConsoleInUseError as error:
        # A window in which somebody works is no fault of the lab.
        warn(tr("{name} was not asked: {why}", name=inside.name, why=error.message))
        return True


# -- asking the lab --------------------------------------------------------------------------------
class _HealthCheck:
    """Checks nodes, OVN, Neutron, Nova and instances at the same time.

    The checks raise NotYet with what is wrong, and are repeated until they pass.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def wait(self, context: StepContext) -> None:
        """Return when the lab is whole. Raises LabError naming what is not."""
        topology = self._lab.topology
        checks: dict[str, Callable[[], None]] = {
            node.name: partial(self._check_node, node) for node in topology.nodes
        }
        checks["OVN"] = self._check_chassis
        if topology.stack == "openstack":
            checks |= {"Neutron": self._check_neutron, "Nova": self._check_nova}
            checks |= {
                instance.name: partial(self._check_instance, instance.name)
                for instance in topology.instances
            }
        with ThreadPoolExecutor(max_workers=len(checks)) as pool:
            futures = [
                pool.submit(self._await, name, check, context) for name, check in checks.items()
            ]
        for future in futures:
            future.result()

    def _await(self, name: str, check: Callable[[], None], context: StepContext) -> None:
        from labctl.access.cloud import API_ERRORS

        def whole() -> bool:
            try:
                check()
            except NotYet as why:
                context.progress(str(why))
                raise
            return True

        began = time.monotonic()
        wait_until(
            tr("{name} is whole", name=name),
            whole,
            deadline=_DEADLINE * self._lab.provider.timeout_factor,
            hint=tr("`labctl status` names what is missing; `labctl reset --cold` begins anew"),
            transient=(GuestError, ValueError, *API_ERRORS),
            interval=0.3,
            cancelled=context.cancelled,
        )
        context.progress(
            tr("{name} is whole, after {seconds} s", name=name,
               seconds=f"{time.monotonic() - began:.1f}")
        )  # fmt: skip

    def _check_node(self, node: Node) -> None:
        topology = self._lab.topology
        guest = self._lab.provider.guest(node)
        units = units_of(node, topology.stack)
        began = time.time()
        output = guest.run(["bash", "-c", _NODE, "bash", *units], timeout=30).stdout
        ended = time.time()

        def clock_behind(node_time: float) -> float:
            # The node read its clock between `began` and `ended`: any time between is right.
            return began - node_time if node_time < began else min(0.0, ended - node_time)

        health = parse_node_health(output, units, clock_behind)
        peers = {str(peer.eth1.address.ip) for peer in topology.nodes if peer is not node}
        if troubles := list(node_troubles(health, frozenset(peers))):
            raise NotYet(node.name + tr(": ") + tr(", ").join(troubles))

    def _check_chassis(self) -> None:
        chassis_ready(self._lab.topology, self._lab.controller, self._lab.cloud)

    def _check_neutron(self) -> None:
        network = self._lab.cloud().network
        expected = expected_in_ovn(
            networks=list(network.networks()),
            ports=list(network.ports()),
            routers=list(network.routers()),
            floating=list(network.ips()),
            groups=list(network.security_groups()),
        )
        found = found_in_ovn(self._lab.controller.run(_NORTHBOUND, timeout=30).stdout)
        if troubles := disagreements(expected, found):
            raise NotYet(tr("; ").join(troubles))
        dead = [f"{agent.agent_type} {agent.host}" for agent in network.agents()
                if not agent.is_alive]  # fmt: skip
        if dead:
            raise NotYet(tr("not alive: {agents}", agents=", ".join(sorted(dead))))

    def _check_nova(self) -> None:
        compute = self._lab.cloud().compute
        down = [f"{service.binary} {service.host}" for service in compute.services()
                if service.state != "up"]  # fmt: skip
        if down:
            raise NotYet(tr("not alive: {agents}", agents=", ".join(sorted(down))))
        running: dict[str, set[str]] = {node.name: set() for node in self._lab.topology.computes}
        for server in compute.servers(all_projects=True):
            if server.status == "ERROR":
                raise NotYet(tr("instance {name} is in ERROR", name=server.name))
            if server.task_state is not None:
                raise NotYet(f"{server.name}: {server.task_state}")
            if server.status == "ACTIVE":
                running[server.compute_host].add(server.instance_name)
        for node in self._lab.topology.computes:
            domains = self._lab.provider.guest(node).run(["virsh", "list", "--name"], timeout=30)
            if set(domains.stdout.split()) != running[node.name]:
                raise NotYet(tr("{node} runs other instances than Nova knows", node=node.name))

    def _check_instance(self, name: str) -> None:
        # An instance answers pings of its floating IP, or else runs a command.
        cloud = self._lab.cloud()
        server = next(iter(cloud.compute.servers(name=f"^{name}$")), None)
        if server is None or server.status != "ACTIVE":
            return  # it did not run when the snapshot was made: nothing to wait for
        floating = [
            address["addr"]
            for addresses in server.addresses.values()
            for address in addresses
            if address.get("OS-EXT-IPS:type") == "floating"
        ]
        for address in floating:
            ping = self._lab.controller.run(
                ["ping", "-c", "1", "-W", "1", address], check=False, timeout=10
            )
            if ping.ok:
                return
        inside = instance_guest(name, self._lab.topology, self._lab.cloud, self._lab.guest)
        if not answers(inside, partial(self._lab.note, "warning")):
            raise NotYet(tr("{name} does not answer", name=name))


def wait_until_healthy(lab: Lab, context: StepContext) -> None:
    """Return when the lab is whole. Raises LabError naming what is not."""
    _HealthCheck(lab).wait(context)


def health_step(lab: Lab, needs: tuple[str, ...]) -> Step:
    """`wait_until_healthy` as a step that follows `needs`."""
    return Step("health", tr("the lab is whole"), partial(wait_until_healthy, lab), needs)


def start_lab(lab: Lab, *, checked: bool = False) -> None:
    """Boot the nodes and wait until they are up; `checked`: until `wait_until_healthy` passes.

    Raises LabError.
    """
    steps = start_steps(lab)
    if checked:
        steps = [*steps, health_step(lab, tuple(step.id for step in steps))]
    lab.run(tr("start {lab}", lab=lab.topology.lab), steps).raise_if_failed()
