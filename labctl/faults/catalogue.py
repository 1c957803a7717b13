"""The faults there are: one entry each. docs/faults.md has what a real lab said of every one."""

import random
from collections.abc import Iterator

from labctl.errors import EXIT_USAGE, LabError
from labctl.faults.cables import Cut, DuplicateAddress, Loss, Queue
from labctl.faults.model import Fault, Place
from labctl.faults.nodes import NatRow, NoSpace, PowerCut, WrongClock, WrongMtu
from labctl.faults.services import Freeze, Kill
from labctl.i18n import mark, tr, tr_list
from labctl.lab import Lab
from labctl.spec.model import Stack
from labctl.spec.problems import did_you_mean
from labctl.topology import Node

RANDOM = "random"
"""Stands for any fault that `labctl check` can tell, and that can be mended by hand."""

_START = mark("`systemctl start {unit}` on the node")
_CONTINUE = mark("`systemctl kill --signal=CONT {unit}` on the node")
_KILLED = mark("kills {unit} with SIGKILL, and systemd does not start it again")
_FROZEN = mark("stops {unit} with SIGSTOP: it is there, and does nothing")


def _service(
    unit: str,
    killed: str,
    frozen: str,
    *,
    place: Place = "controller",
    stack: Stack | None = None,
    exercise: bool = False,
    then: tuple[str, ...] = (),
) -> Iterator[Fault]:
    """Two faults of a service; `killed` and `frozen` are what a learner sees of each."""
    words = {"unit": unit}
    yield Fault(f"{unit}-killed", Kill(unit, then), _KILLED, killed, _START,
                place, stack, exercise, words)  # fmt: skip
    yield Fault(f"{unit}-frozen", Freeze(unit), _FROZEN, frozen, _CONTINUE,
                place, stack, exercise, words)  # fmt: skip


FAULTS: tuple[Fault, ...] = (
    Fault(
        "power-cut",
        PowerCut(),
        mark("ends a node at once, as if its power had failed"),
        mark("what ran on the node is gone; the other nodes lose their tunnel to it"),
        mark("`labctl up`"),
        exercise=True,
    ),
    Fault(
        "eth1-cut",
        Cut(),
        mark("pulls the cable of a node's eth1 out of its switch"),
        mark("eth1 has no carrier; tunnels, databases and APIs do not reach the node"),
        mark("only `labctl fault clear`: the other end of the cable is outside of the nodes"),
    ),
    Fault(
        "slow-link",
        Queue("tbf", "rate", "128kbit", "burst", "4kb", "latency", "2s"),
        mark("lets 128 kbit/s through to a node's eth1 (tc tbf)"),
        mark("single packets pass; whatever is larger crawls, and may not finish in time"),
        mark("only `labctl fault clear`: the other end of the cable is outside of the nodes"),
    ),
    Fault(
        "late-link",
        Queue("netem", "delay", "200ms"),
        mark("delays what goes to a node's eth1 by 200 ms (tc netem)"),
        mark("everything works, and is late: a ping over eth1 takes 200 ms more"),
        mark("only `labctl fault clear`: the other end of the cable is outside of the nodes"),
    ),
    Fault(
        "lossy-link",
        Loss(50),
        mark("loses half of the packets that a node sends from eth1, chosen at random"),
        mark("pings get some answers; TCP goes on, slowly, after retransmissions"),
        mark("only `labctl fault clear`: the other end of the cable is outside of the nodes"),
    ),
    Fault(
        "wrong-mtu",
        WrongMtu(1400),
        mark("sets the MTU of a node's eth1 to 1400"),
        mark("small packets pass, full ones do not: `ping` works and `scp` hangs"),
        mark("`ip link set eth1 mtu 1500` on the node"),
    ),
    Fault(
        "no-space",
        NoSpace(),
        mark("fills /run of a node, the file system in memory"),
        mark("what runs goes on; what writes there fails: \"No space left on device\""),
        mark("find the file and delete it: `df -h /run`, `du -a /run`"),
        exercise=True,
    ),
    Fault(
        "wrong-clock",
        WrongClock(),
        mark("sets a node's clock an hour ahead"),
        mark("tokens and certificates are not valid yet or any more; logs do not match"),
        mark("`date -s` on the node"),
    ),
    Fault(
        "duplicate-address",
        DuplicateAddress(),
        mark("gives an address of the lab to another host of the external network: a floating IP,"
             " else the router's, else that of the gateway node"),
        mark("two hosts answer ARP for it, and who wins changes; from outside the lab seems dead"),
        mark("only `labctl fault clear`: the other host is outside of the nodes"),
        place="gateway",
    ),
    Fault(
        "nat-row",
        NatRow(),
        mark("deletes a NAT rule from OVN's northbound database, behind Neutron's back"),
        mark("the floating IP is there for OpenStack, and does not answer"),
        mark("`neutron-ovn-db-sync-util`, or `ovn-nbctl lr-nat-add` on the controller"),
        place="controller",
        exercise=True,
    ),
    *_service(
        "ovn-controller",
        mark("the flows of the node stay as they are; nothing new reaches it"),
        mark("the flows of the node stay as they are; nothing new reaches it, and nobody says so"),
        place="node",
    ),
    *_service(
        "ovs-vswitchd",
        mark("no bridge of the node forwards: no tunnel, and on a gateway no external network"),
        mark("flows in the kernel go on; in user space nothing is forwarded"),
        place="node",
        exercise=True,
        then=("labctl-network", "labctl-workloads"),
    ),
    *_service(
        "ovn-northd",
        mark("what is written to the northbound database comes to nothing"),
        mark("what is written to the northbound database comes to nothing, and nobody says so"),
        exercise=True,
    ),
    *_service(
        "ovn-ovsdb-server-nb",
        mark("`ovn-nbctl` and Neutron cannot connect; packets pass as before"),
        mark("`ovn-nbctl` and Neutron wait for an answer; packets pass as before"),
    ),
    *_service(
        "ovn-ovsdb-server-sb",
        mark("every ovn-controller keeps its flows, and learns nothing new"),
        mark("every ovn-controller keeps its flows, and learns nothing new; `ovn-sbctl` hangs"),
    ),
    *_service(
        "mariadb",
        mark("every API answers with an error of the server (500, 503)"),
        mark("every API takes a request and does not answer"),
        stack="openstack",
        exercise=True,
    ),
    *_service(
        "rabbitmq-server",
        mark("APIs answer; a new instance stays in BUILD, and services count as down in a while"),
        mark("APIs answer; a new instance stays in BUILD, and services count as down in a while"),
        stack="openstack",
    ),
    *_service(
        "neutron-api",
        mark("`openstack network list` cannot connect; packets pass as before"),
        mark("`openstack network list` hangs; packets pass as before"),
        stack="openstack",
        exercise=True,
    ),
)  # fmt: skip


def faults_of(lab: Lab) -> list[Fault]:
    """The faults that the stack of this lab has, whether or not its provider can have them."""
    return [fault for fault in FAULTS if fault.stack in (None, lab.topology.stack)]


def find_fault(name: str) -> Fault:
    """A fault by its name. Raises LabError (wrong use)."""
    for fault in FAULTS:
        if fault.id == name:
            return fault
    known = [*(fault.id for fault in FAULTS), RANDOM]
    meant = did_you_mean(name, known)
    hint = (
        tr("did you mean {meant}?", meant=meant)
        if meant
        else tr("known are {names}", names=tr_list(known))
    )
    raise LabError(tr("there is no fault '{name}'", name=name), hint=hint, code=EXIT_USAGE)


def node_for(fault: Fault, lab: Lab, name: str = "") -> Node:
    """The node of a fault; "": the one that is broken where none is named.

    Raises LabError (wrong use) when the lab has no such node, or the fault cannot be there, or the
    lab cannot have the fault at all.
    """
    if fault.stack not in (None, lab.topology.stack):
        raise LabError(
            tr("{fault} is for labs with `stack: {stack}`", fault=fault.id, stack=fault.stack),
            code=EXIT_USAGE,
        )
    nodes = fault.nodes(lab.topology)
    wanted = lab.node(name).name if name else nodes[0].name
    node = next((node for node in nodes if node.name == wanted), None)
    if node is None:
        names = tr_list(node.name for node in nodes)
        raise LabError(
            tr("{fault} cannot be on {node}", fault=fault.id, node=wanted),
            hint=tr("it can be on {names}", names=names),
            code=EXIT_USAGE,
        )
    if why := fault.mechanism.refusal(lab, node):
        raise LabError(
            tr("{fault} cannot be injected here: {why}", fault=fault.id, why=why),
            hint=tr("`labctl fault list` shows those that can"),
            code=EXIT_USAGE,
        )
    return node


def shuffled(lab: Lab, name: str, dice: random.Random) -> Iterator[tuple[Fault, Node]]:
    """The faults that `random` may choose here, in random order; `name` is a node, or ""."""
    chosen = [fault for fault in faults_of(lab) if fault.exercise]
    dice.shuffle(chosen)
    for fault in chosen:
        wanted = lab.node(name).name if name else dice.choice(fault.nodes(lab.topology)).name
        for node in fault.nodes(lab.topology):
            if node.name == wanted and not fault.mechanism.refusal(lab, node):
                yield fault, node
