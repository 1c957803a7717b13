"""Checks of what virtual machines have in common: Vagrant, the box, machines of an earlier lab."""

from collections.abc import Iterator

from labctl.host.facts import HostFacts, Machine, Vagrant, numbers
from labctl.host.findings import Case, Finding
from labctl.i18n import tr, tr_list, tr_n
from labctl.providers.vagrant.vagrantfile import machine_names
from labctl.spec.fields import OWN_BOX

DOWNLOAD = "https://developer.hashicorp.com/vagrant/install"
LEAST_VAGRANT = (2, 3, 4)
"""That of Debian 12, the oldest that labctl was run with."""

_VM_OVERHEAD = 100
"""MiB of memory that a hypervisor takes for each machine besides the machine's own."""
_BOX = 3072
"""MiB on disk of the unpacked box."""
_NODE_DISK = {("openstack", True): 2048, ("openstack", False): 6144,
              ("ovn", True): 1024, ("ovn", False): 2048}  # fmt: skip
"""MiB on disk that a node writes, by (stack, whether its packages are in the box)."""


def machine_memory(case: Case) -> int:
    """MiB that the lab takes as virtual machines."""
    return sum(node.spec.memory + _VM_OVERHEAD for node in case.topology.nodes)


def vagrant(facts: HostFacts) -> Iterator[Finding]:
    """Whether Vagrant is installed, runs, and is new enough."""
    installed = facts.vagrant
    if installed is None:
        yield Finding(
            "vagrant-missing",
            "error",
            "programs",
            tr("Vagrant is not installed"),
            impact=tr("labctl makes virtual machines by Vagrant"),
            fix=tr("install it: {url}", url=DOWNLOAD),
        )
    elif installed.trouble:
        yield Finding(
            "vagrant-broken",
            "error",
            "programs",
            tr("Vagrant does not run: {said}", said=installed.trouble),
            impact=tr("labctl makes virtual machines by Vagrant"),
            fix=tr(
                "run it by hand and mend what it complains of, or install it anew: {url}",
                url=DOWNLOAD,
            ),
            commands=("vagrant --version",),
        )
    elif installed.version and numbers(installed.version) < LEAST_VAGRANT:
        yield Finding(
            "vagrant-old",
            "warning",
            "programs",
            tr(
                "Vagrant {version} is older than any that labctl was tried with",
                version=installed.version,
            ),
            impact=tr("it may not know what labctl asks it for"),
            fix=tr("install {least} or newer: {url}", least=dotted(LEAST_VAGRANT), url=DOWNLOAD),
        )
    yield from _home_vagrantfile(installed)


def _home_vagrantfile(installed: Vagrant | None) -> Iterator[Finding]:
    """Whether the user has a Vagrantfile that Vagrant merges into every lab's."""
    if installed is None or not installed.home_settings:
        return
    yield Finding(
        "home-vagrantfile",
        "warning",
        "programs",
        tr(
            "Vagrant merges {path} into every lab; it sets {settings}",
            path=installed.home_file,
            settings=tr_list(installed.home_settings),
        ),
        impact=tr(
            "labctl's own settings come later and count, but not all can be taken back: networks,"
            " shared folders, triggers and settings of SSH are added to the nodes"
        ),
        fix=tr("if a node does not boot, move the file away and create the lab again"),
    )


def dotted(version: tuple[int, ...]) -> str:
    """(7, 2, 8) -> `7.2.8`."""
    return ".".join(map(str, version))


def box_cached(facts: HostFacts, case: Case, provider: str) -> bool | None:
    """Whether Vagrant has that box; None when that is not known."""
    if facts.vagrant is None or facts.vagrant.boxes is None:
        return None
    return _cached(facts, case.topology.box.name, case.topology.box.version, provider)


def _cached(facts: HostFacts, name: str, version: str, provider: str) -> bool:
    boxes = (facts.vagrant.boxes if facts.vagrant else None) or ()
    return any(
        box.name == name and box.provider == provider and version in ("", box.version)
        for box in boxes
    )


def box(facts: HostFacts, case: Case, provider: str) -> Iterator[Finding]:
    """Whether Vagrant has the box, or where it can come from."""
    if box_cached(facts, case, provider) is not False or case.here.machines:
        return
    name = case.topology.box.name
    version = case.topology.box.version
    boxes = (facts.vagrant.boxes if facts.vagrant else None) or ()
    others = sorted({box.provider for box in boxes if box.name == name} - {provider})
    elsewhere = tr("; it has one for {providers}", providers=tr_list(others)) if others else ""
    missing = (
        tr("Vagrant has no box {box} for {provider} yet",
           box=_named(name, version), provider=provider) + elsewhere
    )  # fmt: skip
    if name != OWN_BOX:
        yield Finding(
            "box-registry",
            "warning",
            "image",
            missing,
            impact=tr(
                "create looks for it in Vagrant's public registry, which closes on 2026-12-31;"
                " after that such a name is found nowhere"
            ),
            fix=tr(
                "write `box: {name}` into lab.yaml: labctl makes that box itself",
                name=f"{{name: {OWN_BOX}}}",
            ),
        )
    elif not version:
        yield Finding(
            "box-make",
            "warning",
            "image",
            missing,
            impact=tr(
                "create makes it first, from Debian's cloud image: that needs the Internet (1 GB)"
                " and, once on this machine, a quarter of an hour to an hour"
            ),
            fix=tr("nothing has to be done; or add one that somebody made"),
            commands=("labctl box add FILE",),
        )
    else:
        yield Finding(
            "box-missing",
            "error",
            "image",
            missing,
            impact=tr("nobody offers this box in a registry"),
            fix=tr("make it, on a Linux machine, or add one that somebody made"),
            commands=("labctl box build", "labctl box add FILE"),
        )


def clients(case: Case) -> Iterator[Finding]:
    """Only the far end that labctl makes itself leads to somebody."""
    if case.topology.clients:
        yield Finding(
            "vagrant-clients",
            "error",
            "network",
            tr(
                "lab.yaml has clients outside the lab (internet.clients), and nobody comes in"
                " through the NAT network of a virtual machine"
            ),
            impact=tr("no client would reach a floating IP or a forwarded port"),
            fix=tr("write `provider: nspawn`, or leave the clients out"),
        )


def leftovers(
    case: Case, machines: tuple[Machine, ...] | None, remove: tuple[str, ...]
) -> Iterator[Finding]:
    """Machines named as this lab's that were not made from this directory.

    `remove` are the commands that remove one, with {name} in them.
    """
    foreign = [
        machine
        for machine in machines or ()
        if machine.name in machine_names(case.topology) and machine.id not in case.here.machines
    ]
    # In a lab made by root, .labctl cannot be read: the machines may be this lab's own.
    if not foreign or case.here.unreadable:
        return
    names = tr_list(machine.name for machine in foreign)
    yield Finding(
        "leftover-machines",
        "error",
        "labs",
        tr("machines of another lab of this name are there: {names}", names=names),
        impact=tr("the hypervisor makes no second machine of the same name"),
        fix=tr(
            "run `labctl destroy` in the directory they were made from, give this lab another"
            " `name:`, or, if that directory is gone, remove them"
        ),
        commands=tuple(
            command.format(name=machine.name) for machine in foreign for command in remove
        ),
    )


def _named(name: str, version: str) -> str:
    return f"{name} {version}" if version else name


def disk_needs(facts: HostFacts, case: Case, provider: str) -> dict[str, tuple[int, str]]:
    """{place: (MiB on disk, what for)} that is still to be written, not what is there already."""
    nodes = len(case.topology.nodes)
    needs: dict[str, tuple[int, str]] = {}
    # Without labctl's own box every node downloads and installs its packages.
    own = case.topology.box.name == OWN_BOX
    node = _NODE_DISK[case.topology.stack, own]
    if not case.here.machines:
        # All nodes share one copy of the box's disk (VirtualBox: linked clones; libvirt: overlays).
        mib = _BOX + node * nodes
        disks = tr_n(
            "disk of {n} node: {size} GB",
            "disks of {n} nodes: {size} GB",
            n=nodes,
            size=mib // 1024,
        )
        needs[provider] = (mib, disks)
    if box_cached(facts, case, provider) is False:
        needs["boxes"] = (_BOX, tr("the box: {size} GB", size=_BOX // 1024))
    return needs


def vagrant_version(facts: HostFacts) -> str:
    """Vagrant's version as text, `?` if it is not known."""
    return (facts.vagrant and facts.vagrant.version) or "?"


def box_summary(facts: HostFacts, case: Case, provider: str) -> list[str]:
    """A line that Vagrant has the box, if it has it."""
    if not box_cached(facts, case, provider):
        return []
    return [tr("Vagrant has the box {box}", box=case.topology.box.name)]
