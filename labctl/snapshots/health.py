"""Whether a lab is whole: what is asked after every restore, before the prompt comes back."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from labctl.access.guest import GuestError
from labctl.access.instance import instance_guest
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
"""How far a node's clock may be from ours."""
_DEADLINE = 90
"""Seconds in which everything has to come true, times the timeout factor."""
_PORTS = "network:floatingip"
"""Owner of ports that Neutron has and OVN has not."""


# -- what decides --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Look:
    """What one node says of itself."""

    late: float
    """Seconds by which its clock is behind ours; negative: ahead."""
    inactive: Mapping[str, str]
    """{unit: state} of those that are not active."""
    tunnels: frozenset[str]
    """Far ends of its Geneve tunnels."""


def node_troubles(look: Look, peers: frozenset[str]) -> Iterator[str]:
    """What is wrong with a node that should have tunnels to all `peers` and to nobody else."""
    if abs(look.late) > CLOCK_SECONDS:
        yield tr("its clock is {seconds} s off", seconds=f"{look.late:.1f}")
    for unit, state in look.inactive.items():
        yield f"{unit} {state}"
    for address in sorted(peers - look.tunnels):
        yield tr("no tunnel to {address}", address=address)
    for address in sorted(look.tunnels - peers):
        yield tr("a tunnel to {address}, where no node is", address=address)


def disagreements(neutron: Mapping[str, set[str]], ovn: Mapping[str, set[str]]) -> list[str]:
    """What only one of the two has, by kind."""
    found = []
    for kind, names in neutron.items():
        for side, only in (
            ("Neutron", names - ovn.get(kind, set())), ("OVN", ovn.get(kind, set()) - names)
        ):  # fmt: skip
            if only:
                some = ", ".join(sorted(only)[:3]) + (" …" if len(only) > 3 else "")
                found.append(tr("{kind} only in {side}: {names}", kind=kind, side=side, names=some))
    return found


def wanted_of_ovn(
    *,
    networks: Sequence[Any],
    ports: Sequence[Any],
    routers: Sequence[Any],
    floating: Sequence[Any],
    groups: Sequence[Any],
) -> dict[str, set[str]]:
    """What OVN must have for what Neutron has, by the names that Neutron's driver gives."""
    return {
        "network": {f"neutron-{one.id}" for one in networks},
        "port": {one.id for one in ports if one.device_owner != _PORTS},
        "router": {f"neutron-{one.id}" for one in routers},
        "floating IP": {one.floating_ip_address for one in floating if one.port_id},
        "security group": {"pg_" + one.id.replace("-", "_") for one in groups},
    }


def found_in_ovn(output: str) -> dict[str, set[str]]:
    """The same from what `_NORTHBOUND` prints. Raises ValueError when a table is missing."""
    tables = parse_tables(output, _NORTHBOUND_TABLES)
    names = {
        table: {row[column] for row in tables[table]}
        for table, (column, *_) in _NORTHBOUND_TABLES.items()
    }
    return {
        "network": {name for name in names["Logical_Switch"] if name.startswith("neutron-")},
        # A provider network's way out has no port in Neutron.
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
"""By table the column that is compared, and the condition for a row to count."""
_NORTHBOUND = tables_script(
    {
        table: list_command("ovn-nbctl", table, column, *condition, leader_only=False)
        for table, (column, *condition) in _NORTHBOUND_TABLES.items()
    }
)

_NODE = f"""date +%s.%N
systemctl is-active "$@" | tr '\\n' ' '; echo
{shlex.join(list_command("ovs-vsctl", "Interface", "options", "type=geneve"))}"""


def understand(output: str, units: Sequence[str], late: Callable[[float], float]) -> Look:
    """What `_NODE` prints; `late` knows how far a node's time is behind ours."""
    lines = output.splitlines()
    states = dict(zip(units, lines[1].split(), strict=False))
    return Look(
        late=late(float(lines[0])),
        inactive={u: states.get(u, "unknown") for u in units if states.get(u) != "active"},
        tunnels=frozenset(row["options"].get("remote_ip", "") for row in parse_table(lines[2])),
    )


# -- what asks -----------------------------------------------------------------------------------
class _HealthCheck:
    """Looks at a lab from all sides at once."""

    def __init__(self, lab: Lab) -> None:
        """Nothing is asked yet."""
        self._lab = lab

    def wait(self, context: StepContext) -> None:
        """Return when the lab is whole. Raises LabError naming what is not."""
        topology = self._lab.topology
        looks: dict[str, Callable[[], None]] = {
            node.name: partial(self._node, node) for node in topology.nodes
        }
        looks["OVN"] = self._chassis
        if topology.stack == "openstack":
            looks |= {"Neutron": self._network, "Nova": self._compute}
            looks |= {one.name: partial(self._answers, one.name) for one in topology.instances}
        with ThreadPoolExecutor(max_workers=len(looks)) as pool:
            ended = [pool.submit(self._await, name, look, context) for name, look in looks.items()]
        for one in ended:
            one.result()

    def _await(self, name: str, look: Callable[[], None], context: StepContext) -> None:
        from labctl.access.cloud import API_ERRORS

        def whole() -> bool:
            try:
                look()
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

    def _node(self, node: Node) -> None:
        topology = self._lab.topology
        guest = self._lab.provider.guest(node)
        units = units_of(node, topology.stack)
        began = time.time()
        said = guest.run(["bash", "-c", _NODE, "bash", *units], timeout=30).stdout
        ended = time.time()

        def late(its: float) -> float:
            # The time it told is from between the two.
            return began - its if its < began else min(0.0, ended - its)

        look = understand(said, units, late)
        peers = {str(one.eth1.address.ip) for one in topology.nodes if one is not node}
        if troubles := list(node_troubles(look, frozenset(peers))):
            raise NotYet(f"{node.name}: " + ", ".join(troubles))

    def _chassis(self) -> None:
        chassis_ready(self._lab.topology, self._lab.controller, self._lab.cloud)

    def _network(self) -> None:
        network = self._lab.cloud().network
        wanted = wanted_of_ovn(
            networks=list(network.networks()),
            ports=list(network.ports()),
            routers=list(network.routers()),
            floating=list(network.ips()),
            groups=list(network.security_groups()),
        )
        found = found_in_ovn(self._lab.controller.run(_NORTHBOUND, timeout=30).stdout)
        if troubles := disagreements(wanted, found):
            raise NotYet("; ".join(troubles))
        if dead := [f"{one.agent_type} {one.host}" for one in network.agents() if not one.is_alive]:
            raise NotYet(tr("not alive: {agents}", agents=", ".join(sorted(dead))))

    def _compute(self) -> None:
        compute = self._lab.cloud().compute
        if down := [f"{one.binary} {one.host}" for one in compute.services() if one.state != "up"]:
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
            said = self._lab.provider.guest(node).run(["virsh", "list", "--name"], timeout=30)
            if set(said.stdout.split()) != running[node.name]:
                raise NotYet(tr("{node} runs other instances than Nova knows", node=node.name))

    def _answers(self, name: str) -> None:
        """Whether an instance answers by its floating IP, or else on its console."""
        cloud = self._lab.cloud()
        server = next(iter(cloud.compute.servers(name=f"^{name}$")), None)
        if server is None or server.status != "ACTIVE":
            return  # as it was when the snapshot was made
        addresses = [
            one["addr"]
            for its in server.addresses.values()
            for one in its
            if one.get("OS-EXT-IPS:type") == "floating"
        ]
        for address in addresses:
            ping = self._lab.controller.run(
                ["ping", "-c", "1", "-W", "1", address], check=False, timeout=10
            )
            if ping.ok:
                return
        inside = instance_guest(name, self._lab.topology, self._lab.cloud, self._lab.guest)
        if not inside.run("true", timeout=30, check=False).ok:
            raise NotYet(tr("{name} does not answer", name=name))


def wait_until_healthy(lab: Lab, context: StepContext) -> None:
    """Return when the lab is whole. Raises LabError naming what is not."""
    _HealthCheck(lab).wait(context)


def health_step(lab: Lab, needs: tuple[str, ...]) -> Step:
    """`wait_until_healthy` as the last step of a restore."""
    return Step("gate", tr("the lab is whole"), partial(wait_until_healthy, lab), needs)


def start_lab(lab: Lab, *, checked: bool = False) -> None:
    """Boot the nodes and wait until the lab works; `checked`: until it is whole from all sides."""
    steps = start_steps(lab)
    if checked:
        steps = [*steps, health_step(lab, tuple(step.id for step in steps))]
    lab.run(tr("start {lab}", lab=lab.topology.lab), steps).raise_if_failed()
