"""Checks for VirtualBox: its version and driver, the processor, networks, the box, leftovers."""

from collections.abc import Iterator, Mapping

from labctl.host.checks import (
    architecture,
    disk_summary,
    disks,
    machine_summary,
    memory,
    overlaps,
    processors,
)
from labctl.host.facts import HostFacts, VirtualBox, numbers
from labctl.host.findings import Case, Finding, Group, install
from labctl.i18n import tr, tr_list
from labctl.operating_system.architecture import ARM64, architecture_of
from labctl.providers.vagrant.checks import (
    DOWNLOAD,
    box,
    box_summary,
    clients,
    disk_needs,
    dotted,
    leftovers,
    machine_memory,
    vagrant,
    vagrant_version,
)
from labctl.providers.vagrant.vagrantfile import machine_names
from labctl.providers.virtualbox import NAME, hyperv
from labctl.providers.virtualbox.network_checks import (
    VIRTUALBOX_DOWNLOAD,
    host_only,
    nat,
    ports,
    shared_nat,
)
from labctl.providers.virtualbox.service import end_service, hanging_fix

PROGRAMS = ("vboxconfig",)
"""Programs that the checks look for."""

# Series of VirtualBox -> the first Vagrant that supports it. Vagrant refuses a VirtualBox that is
# not in its list. From Vagrant's change log; 7.2: hashicorp/vagrant pull request 13709.
_KNOWN_FROM: Mapping[tuple[int, ...], tuple[int, ...]] = {
    (6, 1): (2, 2, 7),
    (7, 0): (2, 3, 2),
    (7, 1): (2, 4, 2),
    (7, 2): (2, 4, 9),
}


def usable(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether VirtualBox can run machines here, whatever lab they belong to."""
    if facts.family == "wsl":
        # 127.0.0.1: hashicorp/vagrant issues 11716 and 12081, microsoft/WSL issues 4619 and 7971.
        yield Finding(
            "wsl-virtualbox",
            "error",
            "programs",
            tr("in WSL labctl cannot use the VirtualBox of Windows"),
            impact=tr(
                "Windows forwards the nodes' ports to its own 127.0.0.1, which is not that of"
                " WSL 2; Vagrant asks for a vagrant.exe of the same version; and VBoxManage is"
                " called VBoxManage.exe here"
            ),
            fix=tr(
                "make the lab of containers: write `provider: nspawn`; or use labctl in Windows"
                " itself, in PowerShell"
            ),
        )
        return
    yield from architecture(facts)
    yield from vagrant(facts)
    box = facts.virtualbox
    if box is None:
        yield Finding(
            "virtualbox-missing",
            "error",
            "programs",
            tr("VirtualBox is not installed: there is no VBoxManage"),
            impact=tr("there is nothing that could run the nodes"),
            fix=tr("install it: {url}", url=VIRTUALBOX_DOWNLOAD),
        )
        return
    if box.trouble and (facts.vboxdrv or facts.family != "linux"):
        yield Finding(
            "virtualbox-broken",
            "error",
            "programs",
            tr("VBoxManage does not run: {said}", said=box.trouble),
            impact=tr("Vagrant makes every machine by VBoxManage"),
            fix=tr("run it by hand and mend what it complains of"),
            commands=("VBoxManage list vms",),
        )
    if box.hangs:
        yield Finding(
            "virtualbox-hangs",
            "error",
            "programs",
            tr("VirtualBox hangs: `VBoxManage list vms` does not answer"),
            impact=tr("labctl and Vagrant would wait for every answer of its service, VBoxSVC"),
            fix=hanging_fix(),
            commands=(end_service(facts.family), "VBoxManage list vms"),
        )
    yield from _arm(facts, box)
    yield from _versions(facts, box)
    yield from _driver(facts)
    yield from _processor(facts, numbers(box.version))


def fits(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether this lab can be made in VirtualBox here."""
    topology = case.topology
    version = numbers(facts.virtualbox.version) if facts.virtualbox else ()
    yield from memory(facts, case, machine_memory(case), machines=True)
    yield from processors(facts, case, machines=True)
    yield from disks(facts, disk_needs(facts, case, NAME), {NAME: _more_room()})
    yield from nat(version)
    yield from shared_nat(topology)
    yield from clients(case)
    if topology.attach == "hostonly":
        yield from host_only(facts, topology.private, version)
        # An existing host-only interface with this network is no overlap: VirtualBox uses it.
        yield from overlaps(facts, {"private.subnet": topology.private}, ("vboxnet",))
    yield from ports(facts, case)
    yield from box(facts, case, NAME)
    if facts.virtualbox:
        remove = (
            "VBoxManage controlvm {name} poweroff",
            "VBoxManage unregistervm {name} --delete",
        )
        yield from leftovers(case, facts.virtualbox.machines, remove)
        yield from _folders(facts, facts.virtualbox, case)
    if topology.nested and facts.hyperv:
        yield Finding(
            "nested",
            "warning",
            "machine",
            tr("lab.yaml asks for `nested: true`, and Hyper-V holds the processor"),
            impact=tr("instances are emulated: they boot in a minute instead of seconds"),
            fix=tr("write `nested: false`, or switch Hyper-V off"),
        )


def _folders(facts: HostFacts, box: VirtualBox, case: Case) -> Iterator[Finding]:
    """Directories of this lab's machines that VirtualBox has no machine for."""
    known = {machine.name for machine in box.machines or ()}
    wanted = set(machine_names(case.topology))
    lost = [name for name in box.folders if name in wanted - known]
    if not lost or box.machines is None or NAME not in facts.disks:
        return
    parent = facts.disks[NAME].path
    yield Finding(
        "leftover-folders",
        "error",
        "labs",
        tr(
            "in {path} there are files of machines that VirtualBox does not know: {names}",
            path=parent,
            names=tr_list(lost),
        ),
        impact=tr("VirtualBox makes no machine where such a directory is"),
        fix=tr("look whether you need them, and remove them"),
        commands=tuple(f"rm -r '{parent}/{name}'" for name in lost),
    )


def _versions(facts: HostFacts, box: VirtualBox) -> Iterator[Finding]:
    """Whether Vagrant supports this version of VirtualBox."""
    series = numbers(box.version)[:2]
    tool = facts.vagrant
    if not series or tool is None or not tool.version:
        return
    needed = _KNOWN_FROM.get(series)
    if needed is None:
        newer = series > max(_KNOWN_FROM)
        yield Finding(
            "virtualbox-untried",
            "warning",
            "programs",
            tr("labctl was never tried with VirtualBox {version}", version=box.version),
            impact=tr("Vagrant refuses a VirtualBox that it does not know")
            if newer
            else tr("it is too old: it gets no fixes any more"),
            fix=tr(
                "if Vagrant refuses it, install VirtualBox {known}", known=dotted(max(_KNOWN_FROM))
            ),
        )
    elif numbers(tool.version) < needed:
        packaged = tr(" (your distribution's package stays at 2.3)") if tool.distribution else ""
        yield Finding(
            "vagrant-too-old",
            "error",
            "programs",
            tr(
                "Vagrant {vagrant} does not know VirtualBox {series}: that takes Vagrant {needed}",
                vagrant=tool.version,
                series=dotted(series),
                needed=dotted(needed),
            ),
            impact=tr(
                "Vagrant says “version of VirtualBox installed that is not supported”, and makes"
                " nothing"
            ),
            fix=tr(
                "install Vagrant {needed} or newer{packaged}: {url}",
                needed=dotted(needed),
                packaged=packaged,
                url=DOWNLOAD,
            ),
        )


def _arm(facts: HostFacts, box: VirtualBox) -> Iterator[Finding]:
    """Whether this VirtualBox runs on Arm: 7.1 is the first that does (its change log)."""
    version = numbers(box.version)
    if architecture_of(facts.machine) != ARM64 or not version or version >= (7, 1):
        return
    yield Finding(
        "virtualbox-arm",
        "error",
        "programs",
        tr("VirtualBox {version} starts no machine on an Arm processor", version=box.version),
        impact=tr("there is nothing that could run the nodes"),
        fix=tr("install VirtualBox {known} for Arm: {url}",
               known=dotted(max(_KNOWN_FROM)), url=VIRTUALBOX_DOWNLOAD),
    )  # fmt: skip


def _driver(facts: HostFacts) -> Iterator[Finding]:
    """Whether the kernel has VirtualBox's driver (Linux only)."""
    if facts.family != "linux" or facts.vboxdrv:
        return
    if facts.secure_boot:
        fix = tr(
            "Secure Boot lets only signed modules in: build it, sign it (the package asks for"
            " a password), reboot, and choose “Enroll MOK”"
        )
    else:
        fix = tr("build and load it, for the kernel that runs now")
    debian = install(facts, ("virtualbox-dkms", "linux-headers-$(uname -r)"))
    oracle = ("sudo /sbin/vboxconfig",)
    yield Finding(
        "vboxdrv",
        "error",
        "programs",
        tr("VirtualBox's kernel module vboxdrv is not loaded: there is no /dev/vboxdrv"),
        impact=tr("no machine starts (VERR_VM_DRIVER_NOT_INSTALLED)"),
        fix=fix,
        # Oracle's packages have vboxconfig; the distribution's packages use DKMS.
        commands=oracle if "vboxconfig" in facts.commands or not debian else debian,
    )


def _processor(facts: HostFacts, version: tuple[int, ...]) -> Iterator[Finding]:
    """Whether VirtualBox can use the processor's virtualization."""
    if facts.virtualization == "" and facts.family == "linux":
        yield Finding(
            "no-virtualization",
            "error",
            "machine",
            tr("the processor offers neither VT-x nor AMD-V"),
            impact=tr("VirtualBox starts no machine without it"),
            fix=tr(
                "switch it on in the firmware's setup (“Intel Virtualization Technology”,"
                " “SVM Mode”); inside a cloud server there may be none:"
                " then write `provider: nspawn`"
            ),
        )
    yield from hyperv.findings(facts)
    yield from _kvm(facts, version)


def _kvm(facts: HostFacts, version: tuple[int, ...]) -> Iterator[Finding]:
    """Whether KVM leaves VT-x or AMD-V to VirtualBox.

    Since Linux 6.12 KVM occupies them as soon as its module is loaded. Since Linux 6.16 it can lend
    them, and VirtualBox borrows them since 7.2.2; 7.2.10 worked only if KVM had occupied them.
    (VirtualBox/virtualbox issues 81, 188, 222, 711, 713.) The driver of 7.2.22 makes a virtual
    machine of KVM's for each of its own, for which KVM occupies them. It starts machines with
    enable_virt_at_load=0, as Debian's virtualbox-dkms sets it (tests/vm/test_virtualbox_full.py).
    Which release between the two was the first to do so was not found out.
    """
    kernel = numbers(facts.kernel)
    module = next((name for name in ("kvm_intel", "kvm_amd") if name in facts.modules), None)
    if facts.family != "linux" or module is None or kernel < (6, 12) or not version:
        return
    held = facts.kvm.virt_at_load is not False
    if kernel >= (6, 16) and version >= (7, 2, 2):
        if (7, 2, 10) <= version < (7, 2, 22) and not held:
            yield Finding(
                "kvm-off",
                "error",
                "machine",
                tr(
                    "KVM is told not to take the processor when it is loaded, and"
                    " VirtualBox {version} borrows it from KVM",
                    version=dotted(version),
                ),
                impact=tr("no machine starts (on AMD: VERR_SVM_HOST_SVME_NOT_ENABLED)"),
                fix=tr(
                    "remove the line `options kvm enable_virt_at_load=0` from the file that"
                    " this finds, or unload KVM"
                ),
                commands=(
                    "grep -rs virt_at_load /etc/modprobe.d /usr/lib/modprobe.d /proc/cmdline",
                    f"sudo modprobe -r {module}",
                ),
            )
        return
    if held:
        code = "VERR_VMX_IN_VMX_ROOT_MODE" if module == "kvm_intel" else "VERR_SVM_IN_USE"
        yield Finding(
            "kvm-holds-processor",
            "error",
            "machine",
            tr(
                "the kernel module {module} holds the processor's virtualization, as it does since"
                " Linux 6.12",
                module=module,
            ),
            impact=tr("VirtualBox starts no machine ({code})", code=code),
            fix=tr("unload it now, and tell it for the next boot to wait until it is needed"),
            commands=(
                f"sudo modprobe -r {module}",
                "echo 'options kvm enable_virt_at_load=0' | sudo tee -a /etc/modprobe.d/kvm.conf",
            ),
        )


def _more_room() -> str:
    return tr("free some, or choose another folder:"
              " `VBoxManage setproperty machinefolder DIRECTORY`")  # fmt: skip


def _version(facts: HostFacts) -> str:
    return (facts.virtualbox and facts.virtualbox.version) or "?"


def why_auto(facts: HostFacts) -> str:
    """Why `auto` chooses VirtualBox."""
    return tr(
        "VirtualBox {virtualbox} and Vagrant {vagrant} are installed",
        virtualbox=_version(facts),
        vagrant=vagrant_version(facts),
    )


def summary(facts: HostFacts, case: Case) -> dict[Group, list[str]]:
    """What was found good, as lines for each group of the report."""
    topology = case.topology
    forwards = [forward.host for node in topology.nodes for forward in node.forwards]
    first, last = min(forwards), max(forwards)
    network = [tr("ports {first} to {last} of 127.0.0.1 are free", first=first, last=last)]
    if topology.attach == "hostonly":
        network.append(tr("VirtualBox allows {network}", network=topology.private))
    return {
        "programs": [
            tr(
                "VirtualBox {version}, Vagrant {vagrant}",
                version=_version(facts),
                vagrant=vagrant_version(facts),
            )
        ],
        "machine": [machine_summary(facts, machine_memory(case))],
        "disk": disk_summary(facts, NAME, "boxes"),
        "network": network,
        "image": box_summary(facts, case, NAME),
    }
