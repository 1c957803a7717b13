"""Checks for libvirt: Vagrant's plugin, the daemon, KVM, networks, the box, leftovers."""

from collections.abc import Iterator

from labctl.host.checks import (
    architecture,
    disk_summary,
    disks,
    machine_summary,
    memory,
    overlaps,
    processors,
)
from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, Group, install
from labctl.i18n import tr, tr_list
from labctl.operating_system.architecture import AMD64, ARM64, architecture_of
from labctl.providers.libvirt import NAME
from labctl.providers.vagrant.checks import (
    box,
    box_summary,
    clients,
    disk_needs,
    leftovers,
    machine_memory,
    vagrant,
    vagrant_version,
)
from labctl.providers.vagrant.vagrantfile import vagrant_prefix

PROGRAMS = ("virsh", AMD64.qemu, ARM64.qemu, "libvirtd", "virtqemud")
"""Programs that the checks look for."""


def usable(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether Vagrant and libvirt can run machines here, whatever lab they belong to."""
    if facts.family in ("macos", "windows"):
        yield Finding(
            "libvirt-linux",
            "error",
            "programs",
            tr("the provider libvirt is for Linux hosts"),
            impact=tr("there is nothing that could run the nodes"),
            fix=tr("take another provider, or a Linux machine"),
        )
        return
    yield from architecture(facts)
    yield from vagrant(facts)
    yield from _plugin(facts)
    if "virsh" not in facts.commands:
        yield Finding(
            "virsh-missing",
            "error",
            "programs",
            tr("libvirt's command virsh is not installed"),
            impact=tr("labctl makes the lab's networks by it"),
            fix=tr("install it"),
            commands=install(facts, ("libvirt-clients",), ("libvirt-client",)),
        )
    own = architecture_of(facts.machine) or AMD64
    if own.qemu not in facts.commands:
        yield Finding(
            "qemu-missing",
            "error",
            "programs",
            tr("QEMU is not installed: there is no {program}", program=own.qemu),
            impact=tr("there is nothing that could run the nodes"),
            fix=tr("install it"),
            commands=install(facts, own.qemu_packages, ("qemu-kvm",)),
        )
    yield from _daemon(facts)


def accelerated(facts: HostFacts) -> Iterator[Finding]:
    """Whether KVM works. Without it QEMU emulates machines, so `auto` does not choose libvirt."""
    kvm = facts.kvm
    if kvm.works:
        return
    if not kvm.device:
        what = tr("there is no /dev/kvm")
        commands: tuple[str, ...] = ()
        fix = tr("switch virtualization on in the firmware's setup and load the module")
        if architecture_of(facts.machine) == ARM64:  # KVM is no module in its kernels
            fix = tr("let the firmware, or the hypervisor that this machine runs on, offer it")
        else:
            intel = facts.virtualization != "svm"
            commands = (f"sudo modprobe {'kvm_intel' if intel else 'kvm_amd'}",)
    elif not kvm.accessible:
        what = tr("this user may not open /dev/kvm")
        fix = tr("join the group kvm, then log out and in again")
        commands = ("sudo usermod --append --groups kvm $USER",)
    elif kvm.works is None:
        return
    else:
        what = tr("/dev/kvm exists, but no virtual machine starts with it: a trial failed")
        fix = tr(
            "a host that is a virtual machine itself needs nested virtualization from its own"
            " host; without it, `provider: nspawn` is the fast way"
        )
        commands = ()
    yield Finding(
        "kvm",
        "warning",
        "machine",
        what,
        impact=tr(
            "QEMU emulates the nodes: ten times slower and more. `stack: ovn` takes minutes,"
            " OpenStack about an hour"
        ),
        fix=fix,
        commands=commands,
    )


def fits(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether this lab can be made with libvirt here."""
    topology = case.topology
    yield from accelerated(facts)
    yield from memory(facts, case, machine_memory(case), machines=True)
    yield from processors(facts, case, machines=True, emulated=not facts.kvm.works)
    yield from disks(facts, disk_needs(facts, case, NAME))
    networks = {"nat.subnet": topology.nat}
    if topology.attach == "hostonly":
        networks["private.subnet"] = topology.private
    known = (facts.libvirt.networks if facts.libvirt else None) or ()
    ours = tuple(bridge for name, bridge in known if bridge and name.startswith(_prefix(case)))
    yield from overlaps(facts, networks, ours)
    yield from clients(case)
    yield from box(facts, case, NAME)
    if facts.libvirt:
        virsh = "virsh -c qemu:///system"
        remove = (f"{virsh} destroy {{name}}", f"{virsh} undefine {{name}} --remove-all-storage")
        yield from leftovers(case, facts.libvirt.machines, remove)
    yield from _networks(case, known)
    if topology.nested and facts.kvm.works and facts.kvm.nested is False:
        # Never on arm64, whose KVM has no such switch: there `nested` is None.
        module = "kvm_amd" if facts.virtualization == "svm" else "kvm_intel"
        yield Finding(
            "nested",
            "warning",
            "machine",
            tr(
                "lab.yaml asks for `nested: true`, and {module} does not pass virtualization on",
                module=module,
            ),
            impact=tr("instances are emulated: they boot in a minute instead of seconds"),
            fix=tr("switch it on, with no virtual machine running"),
            commands=(
                f"echo 'options {module} nested=1' | sudo tee -a /etc/modprobe.d/kvm.conf",
                f"sudo modprobe -r {module} && sudo modprobe {module}",
            ),
        )


def _networks(case: Case, known: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    """Networks with this lab's name that an earlier lab left, perhaps with other addresses."""
    names = [name for name, _ in known if name.startswith(_prefix(case))]
    if not names or case.here.exists or case.here.unreadable:
        return
    virsh = "virsh -c qemu:///system"
    yield Finding(
        "leftover-networks",
        "warning",
        "labs",
        tr("libvirt has networks of another lab of this name: {names}", names=tr_list(names)),
        impact=tr("the lab would join them as they are, whatever addresses they have"),
        fix=tr(
            "run `labctl destroy` where that lab was made, give this one another `name:`, or,"
            " if nothing uses them, remove them"
        ),
        commands=tuple(
            f"{virsh} {verb} {name}" for name in names for verb in ("net-destroy", "net-undefine")
        ),
    )


def _plugin(facts: HostFacts) -> Iterator[Finding]:
    installed = facts.vagrant
    if installed is None or installed.plugins is None or "vagrant-libvirt" in installed.plugins:
        return
    packaged = install(facts, ("vagrant-libvirt",)) if installed.distribution else ()
    yield Finding(
        "vagrant-libvirt-missing",
        "error",
        "programs",
        tr("Vagrant's plugin vagrant-libvirt is not installed"),
        impact=tr("Vagrant does not know libvirt without it"),
        fix=tr("install it"),
        commands=packaged or ("vagrant plugin install vagrant-libvirt",),
    )


def _daemon(facts: HostFacts) -> Iterator[Finding]:
    daemon = facts.libvirt
    if daemon is None or daemon.reachable:
        return
    if daemon.denied and not facts.root:
        yield Finding(
            "libvirt-denied",
            "error",
            "programs",
            tr("this user may not use libvirt"),
            impact=tr("Vagrant can make no machine"),
            fix=tr("join the group libvirt, then log out and in again"),
            commands=("sudo usermod --append --groups libvirt $USER",),
        )
        return
    installed = "libvirtd" in facts.commands or "virtqemud" in facts.commands
    yield Finding(
        "libvirt-down",
        "error",
        "programs",
        tr("libvirt's daemon does not answer at qemu:///system") + _because(daemon.trouble),
        impact=tr("Vagrant can make no machine"),
        fix=tr("start it") if installed else tr("install it and start it"),
        commands=(
            *(() if installed else install(facts, ("libvirt-daemon-system",), ("libvirt",))),
            "sudo systemctl enable --now libvirtd",
        ),
    )


def _because(trouble: str) -> str:
    return f" ({trouble})" if trouble else ""


def _prefix(case: Case) -> str:
    """What the names of this lab's machines and networks begin with."""
    return vagrant_prefix(case.topology) + "-"


def why_auto(facts: HostFacts) -> str:
    """Why `auto` chooses libvirt."""
    return tr("libvirt answers, Vagrant has its plugin, and KVM works")


def summary(facts: HostFacts, case: Case) -> dict[Group, list[str]]:
    """What was found good, as lines for each group of the report."""
    version = vagrant_version(facts)
    return {
        "programs": [tr("libvirt and QEMU, Vagrant {vagrant} with its plugin", vagrant=version)],
        "machine": [machine_summary(facts, machine_memory(case))],
        "disk": disk_summary(facts, NAME, "boxes"),
        "network": [tr("{network} is not in use here", network=case.topology.nat)],
        "image": box_summary(facts, case, NAME),
    }
