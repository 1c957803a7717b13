"""Whether a lab is whole: checked after every restore, before labctl returns to the prompt."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import Any

from labctl.access.guest import GuestError
from labctl.access.instance import (
    ConsoleInUseError,
    InstanceGuest,
    agent_answers,
    instance_guest,
)
from labctl.access.ovsdb import list_command, parse_table, parse_tables, tables_script
from labctl.engine.steps import Step, StepContext
from labctl.engine.wait import NotYet, WaitTimeout, wait_until
from labctl.errors import LabError
from labctl.i18n import tr, tr_list
from labctl.lab import Lab
from labctl.provisioning.boot import start_steps
from labctl.provisioning.node_health import ask_node, node_troubles
from labctl.provisioning.ovn_ready import chassis_ready
from labctl.snapshots.live import live_snapshots
from labctl.topology import Machine, Node

_DEADLINE = 90
"""Seconds in which everything has to come true, times the timeout factor."""
_INTERVAL = 0.3
"""Seconds between two looks."""


# -- comparing (pure) ------------------------------------------------------------------------------
def disagreements(neutron: Mapping[str, set[str]], ovn: Mapping[str, set[str]]) -> list[str]:
    """A message for each kind of object that one side has and the other lacks; {kind: names}."""
    messages = []
    for kind, names in neutron.items():
        for side, only in (
            ("Neutron", names - ovn.get(kind, set())), ("OVN", ovn.get(kind, set()) - names)
        ):  # fmt: skip
            if only:
                some = tr_list(sorted(only)[:3]) + (" …" if len(only) > 3 else "")
                messages.append(
                    tr("{kind} only in {side}: {names}", kind=kind, side=side, names=some)
                )
    return messages


def expected_in_ovn(output: str) -> dict[str, set[str]]:
    """The objects that OVN must have, {kind: names}, from what `_NEUTRON` prints.

    Raises ValueError when a line is not KIND, tab, NAME.
    """
    expected: dict[str, set[str]] = {kind: set() for kind in _NEUTRON_QUERIES}
    for line in output.splitlines():
        kind, _, name = line.partition("\t")
        if kind not in expected:
            raise ValueError(tr("MariaDB answered {line}", line=repr(line)))
        expected[kind].add(name)
    return expected


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


_NEUTRON_QUERIES = {
    "network": "CONCAT('neutron-', id) FROM networks",
    # OVN has no port for a floating IP.
    "port": "id FROM ports WHERE device_owner <> 'network:floatingip'",
    "router": "CONCAT('neutron-', id) FROM routers",
    "floating IP": "floating_ip_address FROM floatingips WHERE fixed_port_id IS NOT NULL",
    "security group": "CONCAT('pg_', REPLACE(id, '-', '_')) FROM securitygroups",
}
"""{kind: what selects the names that Neutron's OVN driver gives (neutron/common/ovn/utils.py)}.

From Neutron's database: its only worker takes half a second for the same five lists by the API.
"""
_NEUTRON = [
    "mariadb",
    "--batch",
    "--skip-column-names",
    "neutron",
    "--execute",
    " UNION ALL ".join(f"SELECT '{kind}', {names}" for kind, names in _NEUTRON_QUERIES.items()),
]

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

_NAT = list_command("ovn-nbctl", "NAT", "external_ip", leader_only=False, timeout=5)
_ADDRESSES = ["ip", "-4", "-o", "address", "show"]


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
AGENT_SECONDS = 40
"""Until an agent must have answered. OVN's agents put off what they answer Neutron by up to half of
its agent_down_time (75 s), and Neutron calls one dead that owes it two answers: source of Neutron
2025.1, agent/ovn/metadata/agent.py and ml2/drivers/ovn/agent/neutron_agent.py."""


class SilentAgent(NotYet):
    """An agent that Neutron takes for dead; it may only be slow."""


def trouble(check: Callable[[], None]) -> str:
    """What a check finds wrong, in words; "" for nothing. Agents get AGENT_SECONDS to answer."""
    from labctl.access.cloud import API_ERRORS

    until = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            check()
        except SilentAgent as why:
            if time.monotonic() > until:
                return str(why)
            time.sleep(1)
        except (NotYet, LabError, ValueError, *API_ERRORS) as why:
            return str(why)
        else:
            return ""


class _HealthCheck:
    """Checks nodes, OVN, Neutron, Nova and instances at the same time.

    The checks raise NotYet with what is wrong; `wait` repeats them until they pass.
    """

    def __init__(self, lab: Lab, snapshot: str = "") -> None:
        self._lab = lab
        self._snapshot = snapshot
        self._asking = Lock()
        self._asked = -math.inf
        self._found: list[Any] = []

    def wait(self, context: StepContext) -> None:
        """Return when the lab is whole. Raises LabError naming what is not."""
        topology = self._lab.topology
        checks: dict[str, Callable[[], None]] = {
            node.name: partial(self._check_node, node) for node in topology.machines
        }
        checks |= self._services()
        if topology.stack == "openstack":
            checks |= {
                instance.name: partial(self._check_instance, instance.name)
                for instance in topology.instances
            }
        if self._snapshot:
            checks[self._snapshot] = self._check_answers
        with ThreadPoolExecutor(max_workers=len(checks)) as pool:
            futures = [
                pool.submit(self._await, name, check, context) for name, check in checks.items()
            ]
        for future in futures:
            future.result()

    def look(self) -> list[str]:
        """What is wrong now with the services that the nodes make together, in words."""
        checks: list[Callable[[], None]] = [*self._services().values(), self._check_addresses]
        if self._lab.topology.stack == "openstack":
            checks.append(self._check_seed)
        with ThreadPoolExecutor(max_workers=len(checks)) as pool:
            return [why for why in pool.map(trouble, checks) if why]

    def wait_until_alive(self, context: StepContext) -> None:
        """Return when Neutron's agents and Nova's services say again that they live.

        Raises LabError naming those that do not.
        """
        self._await("Neutron", self._check_agents, context)
        # Nova goes on calling a service "up" for a minute, and then "down" until it reports.
        booted = int(self._lab.controller.run("stat -c %Y /proc/1").stdout)
        self._await("Nova", partial(self._check_services_of_nova, booted), context)

    def _services(self) -> dict[str, Callable[[], None]]:
        checks: dict[str, Callable[[], None]] = {"OVN": self._check_chassis}
        if self._lab.topology.stack == "openstack":
            checks |= {"Neutron": self._check_neutron, "Nova": self._check_nova}
        return checks

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
            interval=_INTERVAL,
            cancelled=context.cancelled,
        )
        context.progress(
            tr("{name} is whole, after {seconds} s", name=name,
               seconds=f"{time.monotonic() - began:.1f}")
        )  # fmt: skip

    def _check_node(self, node: Machine) -> None:
        nodes = self._lab.topology.nodes
        health = ask_node(self._lab.provider.guest(node), node, self._lab.topology, nodes)
        if troubles := list(node_troubles(health, node, self._lab.topology, nodes)):
            raise NotYet(node.name + tr(": ") + tr_list(troubles))

    def _check_chassis(self) -> None:
        chassis_ready(self._lab.topology, self._lab.controller, self._lab.cloud)

    def _check_answers(self) -> None:
        # Floating IPs and routers: a learner goes on with a ping to one of them.
        if silent := live_snapshots(self._lab).silent(self._snapshot):
            raise NotYet(tr("no answer yet from {addresses}", addresses=tr_list(silent)))

    def _ask(
        self, nodes: Sequence[Node], command: Sequence[str], *, timeout: float
    ) -> list[tuple[Node, str]]:
        """Each node with what the command prints on it; all are asked at the same time."""

        def ask(node: Node) -> str:
            return self._lab.provider.guest(node).run(command, timeout=timeout).stdout

        with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
            return list(zip(nodes, pool.map(ask, nodes), strict=True))

    def _check_addresses(self) -> None:
        """No node has an address that OVN answers for: then two would answer ARP."""
        rules = self._lab.controller.run(_NAT, timeout=15).stdout
        virtual = {row["external_ip"] for row in parse_table(rules)}
        for node, shown in self._ask(self._lab.topology.nodes, _ADDRESSES, timeout=15):
            for line in shown.splitlines():
                interface, address = line.split()[1], line.split()[3].partition("/")[0]
                if address in virtual:
                    raise NotYet(
                        tr("{node} has the address {address} on {interface}, which is OVN's",
                           node=node.name, address=address, interface=interface)
                    )  # fmt: skip

    def _check_seed(self) -> None:
        """The router and the network that `create` made are there."""
        network, topology = self._lab.cloud().network, self._lab.topology
        found: dict[str, Iterable[object]] = {
            tr("router {name}", name=topology.router): network.routers(name=topology.router),
        }
        found |= {
            tr("network {name}", name=tenant.name): network.networks(name=tenant.name)
            for tenant in topology.tenant_networks
        }
        if missing := [name for name, rows in found.items() if not list(rows)]:
            raise NotYet(tr("deleted: {names}", names=tr_list(missing)))

    def _check_neutron(self) -> None:
        controller = self._lab.controller
        expected = expected_in_ovn(controller.run(_NEUTRON, timeout=30).stdout)
        found = found_in_ovn(controller.run(_NORTHBOUND, timeout=30).stdout)
        if troubles := disagreements(expected, found):
            raise NotYet(tr("; ").join(troubles))
        self._check_agents()

    def _check_agents(self) -> None:
        network = self._lab.cloud().network
        dead = [f"{agent.agent_type} {agent.host}" for agent in network.agents()
                if not agent.is_alive]  # fmt: skip
        if dead:
            raise SilentAgent(tr("not alive: {agents}", agents=tr_list(sorted(dead))))

    def _check_services_of_nova(self, since: float = 0) -> None:
        """Services are up, and said so since then (seconds since the epoch, controller's clock)."""
        compute = self._lab.cloud().compute
        down = [f"{service.binary} {service.host}" for service in compute.services()
                if service.state != "up" or _seconds(service.updated_at) < since]  # fmt: skip
        if down:
            raise NotYet(tr("not alive: {agents}", agents=tr_list(sorted(down))))

    def _servers(self) -> list[Any]:
        """All instances of all projects; asked for once where many checks ask at the same time."""
        with self._asking:
            if time.monotonic() - self._asked >= _INTERVAL:
                self._found = list(self._lab.cloud().compute.servers(all_projects=True))
                self._asked = time.monotonic()
            return self._found

    def _check_nova(self) -> None:
        self._check_services_of_nova()
        running: dict[str, set[str]] = {node.name: set() for node in self._lab.topology.computes}
        for server in self._servers():
            if server.status == "ERROR":
                raise NotYet(tr("instance {name} is in ERROR", name=server.name))
            if server.task_state is not None:
                raise NotYet(f"{server.name}: {server.task_state}")
            if server.status == "ACTIVE":
                running[server.compute_host].add(server.instance_name)
        domains = ["virsh", "list", "--name"]
        for node, names in self._ask(self._lab.topology.computes, domains, timeout=30):
            if set(names.split()) != running[node.name]:
                raise NotYet(tr("{node} runs other instances than Nova knows", node=node.name))

    def _check_instance(self, name: str) -> None:
        # It answers pings of its floating IP, or its agent answers, or else it runs a command.
        lab = self._lab
        project = lab.cloud().current_project_id
        ours = (server for server in self._servers() if server.project_id == project)
        server = next((server for server in ours if server.name == name), None)
        if server is None or server.status != "ACTIVE":
            return  # it did not run when the snapshot was made: nothing to wait for
        floating = [
            address["addr"]
            for addresses in server.addresses.values()
            for address in addresses
            if address.get("OS-EXT-IPS:type") == "floating"
        ]
        for address in floating:
            ping = lab.controller.run(
                ["ping", "-c", "1", "-W", "1", address], check=False, timeout=10
            )
            if ping.ok:
                return
        # Where it is, the agent needs; its port and addresses are two more calls of the API.
        if agent_answers(server.instance_name, lab.guest(server.compute_host)):
            return
        inside = instance_guest(name, lab.topology, lab.cloud, lab.guest)
        if not answers(inside, partial(lab.note, "warning")):
            raise NotYet(tr("{name} does not answer", name=name))


def _seconds(moment: str | None) -> float:
    """Nova's moments have no time zone: they are UTC."""
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() if moment else 0.0


def troubles_between_nodes(lab: Lab) -> list[str]:
    """What is wrong with OVN, Neutron and Nova, in words; the nodes' own troubles are known."""
    return _HealthCheck(lab).look()


def wait_until_healthy(lab: Lab, context: StepContext, snapshot: str = "") -> None:
    """Return when the lab is whole. Raises LabError naming what is not.

    With `snapshot`, what answered when that was saved must answer again.
    """
    _HealthCheck(lab, snapshot).wait(context)


def health_step(lab: Lab, needs: tuple[str, ...], snapshot: str = "") -> Step:
    """`wait_until_healthy` as a step that follows `needs`."""
    check = partial(wait_until_healthy, lab, snapshot=snapshot)
    return Step("health", tr("the lab is whole"), check, needs)


def alive_steps(lab: Lab, steps: Sequence[Step]) -> list[Step]:
    """After `steps`, which boot the nodes: agents and services of OpenStack are heard of again.

    They are known by when they last said so, which was before the nodes went down. Those that say
    nothing make nothing fail: a learner may have stopped them.
    """
    if lab.topology.stack != "openstack":
        return []

    def wait(context: StepContext) -> None:
        try:
            _HealthCheck(lab).wait_until_alive(context)
        except WaitTimeout as late:
            lab.note("warning", late.message)

    title = tr("services and agents of OpenStack are alive")
    return [Step("alive", title, wait, tuple(step.id for step in steps))]


def start_lab(lab: Lab, *, restored: str = "") -> None:
    """Boot the nodes and wait until they are up.

    `restored` is the snapshot whose files they have; then wait until `wait_until_healthy` passes,
    too. Raises LabError.
    """
    steps = start_steps(lab)
    if restored:
        steps = [*steps, health_step(lab, tuple(step.id for step in steps), restored)]
    lab.run(tr("start {lab}", lab=lab.topology.lab), steps).raise_if_failed()
