"""Checks of memory, processors, disks and networks that several providers use.

At the end: the lines that are shown about memory and disks when a check finds nothing.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network

from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, size
from labctl.i18n import tr, tr_list, tr_n
from labctl.operating_system.architecture import ARCHITECTURES, architecture_of


def architecture(facts: HostFacts) -> Iterator[Finding]:
    """The host must have an architecture that nodes can have, which is then theirs."""
    if architecture_of(facts.machine) is not None:
        return
    yield Finding(
        "architecture", "error", "machine",
        tr("this machine is {machine}, and nodes can be {architectures}",
           machine=facts.machine or "?", architectures=tr_list(sorted(ARCHITECTURES))),
        impact=tr("nodes would not start"),
        fix=tr("make the lab on a machine with an Intel, AMD or 64-bit Arm processor, or on a"
               " virtual server"),
    )  # fmt: skip


def memory(facts: HostFacts, case: Case, need: int, *, machines: bool) -> Iterator[Finding]:
    """The host must have `need` MiB of memory (else an error), and free (else a warning).

    `machines`: whether the nodes are virtual machines.
    """
    if not facts.memory_mib:
        return
    smaller = (
        tr("give the nodes less `memory:` in lab.yaml, or take fewer of them; `stack: ovn` needs"
           " 512 MiB a node")
        if machines
        else tr("take fewer computes; `stack: ovn` needs 150 MiB a node")
    )  # fmt: skip
    if need > facts.memory_mib:
        yield Finding(
            "memory", "error", "machine",
            tr("the lab takes {need} of memory, and this machine has {total}",
               need=size(need), total=size(facts.memory_mib)),
            impact=tr("nodes are killed or crawl as soon as the services start"),
            fix=smaller,
        )  # fmt: skip
    elif facts.available_mib is not None and need > facts.available_mib and not case.here.exists:
        yield Finding(
            "memory-free", "warning", "machine",
            tr("the lab takes {need} of memory, and {free} is free now",
               need=size(need), free=size(facts.available_mib)),
            impact=tr("the machine swaps, and steps run into their time limits"),
            fix=tr("close other programs, or: {smaller}", smaller=smaller),
        )  # fmt: skip


def processors(
    facts: HostFacts, case: Case, *, machines: bool, emulated: bool = False
) -> Iterator[Finding]:
    """Warnings about too few processors: a lab works with them, but slowly.

    `machines`: whether the nodes are virtual machines; `emulated`: without KVM.
    """
    if not facts.cpus:
        return
    most = max(case.topology.nodes, key=lambda node: node.spec.cpus)
    if machines and most.spec.cpus > facts.cpus:
        yield Finding(
            "cpus", "warning", "machine",
            tr("{node} is to have {cpus} CPUs, and this machine has {host}",
               node=most.name, cpus=most.spec.cpus, host=facts.cpus),
            impact=tr("its virtual CPUs wait for one another; the lab is slower than with fewer"),
            fix=tr("write `cpus: {host}` in lab.yaml", host=facts.cpus),
        )  # fmt: skip
    elif emulated and (total := sum(node.spec.cpus for node in case.topology.nodes)) > facts.cpus:
        # Probably the cause of a node that hung once: see docs/providers.md.
        yield Finding(
            "cpus", "warning", "machine",
            tr("the nodes have {cpus} emulated CPUs together, and this machine has {host}",
               cpus=total, host=facts.cpus),
            impact=tr("the CPUs of a node wait for one another; at worst the node hangs"),
            fix=tr("write `cpus: {host}` in lab.yaml", host=1),
        )  # fmt: skip
    elif facts.cpus < 2:
        yield Finding(
            "cpus", "warning", "machine",
            tr("this machine has one CPU"),
            impact=tr("create takes two to three times as long, and may meet its time limits"),
        )  # fmt: skip


def disks(
    facts: HostFacts,
    needs: Mapping[str, tuple[int, str]],
    more_room: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """Every disk must have enough free space. Places on the same device share it.

    `needs`: place -> (MiB, what for). `more_room`: place -> how to get more space there, for places
    that only one provider has.
    """
    by_device: dict[str, list[str]] = {}
    for place in needs:
        if place in facts.disks:
            by_device.setdefault(facts.disks[place].device, []).append(place)
    for places in by_device.values():
        need = sum(needs[place][0] for place in places)
        largest = max(places, key=lambda place: needs[place][0])
        disk = facts.disks[largest]
        if need > disk.free_mib:
            purposes = tr_list(needs[place][1] for place in places if needs[place][0])
            yield Finding(
                "disk", "error", "disk",
                tr("{path} has {free} free, and the lab needs {need}",
                   path=disk.path, free=size(disk.free_mib), need=size(need)),
                impact=tr("create fails when the disk is full ({parts})", parts=purposes),
                fix=(more_room or {}).get(largest) or _more_room(largest),
            )  # fmt: skip


def _more_room(place: str) -> str:
    match place:
        case "cache":
            return tr("free some, or set LABCTL_CACHE to a directory on a larger disk")
        case "boxes":
            return tr("free some, or set VAGRANT_HOME to a directory on a larger disk")
        case _:
            return tr("free some, or make the lab on a larger disk")


def overlaps(
    facts: HostFacts, networks: Mapping[str, IPv4Network], ours: tuple[str, ...]
) -> Iterator[Finding]:
    """The lab's networks on the host must not overlap others that the host reaches.

    `networks`: key in lab.yaml -> network. `ours`: how the names of the lab's own devices begin.
    """
    for key, network in networks.items():
        for route in facts.routes:
            if route.device.startswith(ours) or not network.overlaps(IPv4Network(route.network)):
                continue
            yield Finding(
                "overlap", "error", "network",
                tr("{key} {network} overlaps {route}, which this machine reaches by {device}",
                   key=key, network=network, route=route.network, device=route.device),
                impact=tr("the host would have two ways to the same addresses: the hypervisor"
                          " refuses the network, or the host loses the other one"),
                fix=tr("choose another network for {key} in lab.yaml", key=key),
            )  # fmt: skip
            break


def machine_summary(facts: HostFacts, need: int) -> str:
    """A line about processors and memory of the host; `need`: MiB that the lab takes."""
    free = facts.memory_mib if facts.available_mib is None else facts.available_mib
    return tr_n(
        "{n} CPU; {total} of memory, {free} free; the lab takes about {need}",
        "{n} CPUs; {total} of memory, {free} free; the lab takes about {need}",
        n=facts.cpus,
        total=size(facts.memory_mib),
        free=size(free),
        need=size(need),
    )


def disk_summary(facts: HostFacts, *places: str) -> list[str]:
    """Lines about the free space of the disks of these places."""
    return [
        tr("{path}: {free} free", path=disk.path, free=size(disk.free_mib))
        for disk in (facts.disks[place] for place in places if place in facts.disks)
    ]
