"""What is well, a line or two for each group: shown where a check found nothing."""

from labctl.doctor.checks import Case, Group, size
from labctl.doctor.checks.host import container_memory, machine_memory
from labctl.doctor.checks.vagrant import box_cached, box_name
from labctl.doctor.facts import HostFacts
from labctl.i18n import tr, tr_n


def well(provider: str, facts: HostFacts, case: Case) -> dict[Group, list[str]]:
    """Group -> what this host has of it, for the lab and its provider."""
    return {
        "programs": [_programs(provider, facts)],
        "machine": [_machine(provider, facts, case)],
        "disk": _disk(provider, facts),
        "network": _network(provider, case),
        "image": [line for line in [_image(provider, facts, case)] if line],
        "labs": [] if case.here.unreadable else [tr("nothing of another lab is in the way")],
    }


def _programs(provider: str, facts: HostFacts) -> str:
    vagrant = (facts.vagrant and facts.vagrant.version) or "?"
    match provider:
        case "virtualbox":
            version = (facts.virtualbox and facts.virtualbox.version) or "?"
            return tr("VirtualBox {version}, Vagrant {vagrant}", version=version, vagrant=vagrant)
        case "libvirt":
            return tr("libvirt and QEMU, Vagrant {vagrant} with its plugin", vagrant=vagrant)
        case _:
            root = tr("you are root") if facts.root else tr("root by sudo")
            return tr("{root}; systemd-nspawn, ip and what else is called are installed", root=root)


def _machine(provider: str, facts: HostFacts, case: Case) -> str:
    need = container_memory(case) if provider == "nspawn" else machine_memory(case)
    free = facts.memory_mib if facts.available_mib is None else facts.available_mib
    return tr_n(
        "{n} CPU; {total} of memory, {free} free; the lab takes about {need}",
        "{n} CPUs; {total} of memory, {free} free; the lab takes about {need}",
        n=facts.cpus,
        total=size(facts.memory_mib),
        free=size(free),
        need=size(need),
    )


def _disk(provider: str, facts: HostFacts) -> list[str]:
    places = {"nspawn": ("lab", "cache")}.get(provider, (provider, "boxes"))
    return [
        tr("{path}: {free} free", path=disk.path, free=size(disk.free_mib))
        for disk in (facts.disks[place] for place in places if place in facts.disks)
    ]


def _network(provider: str, case: Case) -> list[str]:
    topology = case.topology
    if provider == "nspawn":
        return [tr("all networks are inside namespaces: none can meet one of this machine")]
    if provider == "libvirt":
        return [tr("{network} is not in use here", network=topology.nat)]
    ports = [forward.host for node in topology.nodes for forward in node.forwards]
    lines = [tr("ports {first} to {last} of 127.0.0.1 are free", first=min(ports), last=max(ports))]
    if topology.attach == "hostonly":
        lines.append(tr("VirtualBox allows {network}", network=topology.private))
    return lines


def _image(provider: str, facts: HostFacts, case: Case) -> str:
    if provider == "nspawn":
        return {
            "baked": tr("the image is in the cache: create needs no Internet"),
            "packages": tr("the packages are in the cache; create bakes the image in a minute"),
            "none": "",
        }[facts.image]
    if box_cached(facts, case, provider):
        return tr("Vagrant has the box {box}", box=box_name(facts, case, provider))
    return ""
