"""Checks for containers: root, programs, a file system for overlays, the image, other labs."""

from collections.abc import Iterator

from labctl.host.checks import (
    architecture,
    disk_summary,
    disks,
    machine_summary,
    memory,
    processors,
)
from labctl.host.facts import HostFacts
from labctl.host.findings import Case, Finding, Group, install, with_package_manager
from labctl.i18n import tr, tr_list
from labctl.providers.nspawn import TRANSIT

# Command -> (Debian's package, Fedora's).
_TOOLS = {
    "systemd-nspawn": ("systemd-container", "systemd-container"),
    "ip": ("iproute2", "iproute"),
    "unshare": ("util-linux", "util-linux"),
    "setpriv": ("util-linux", "util-linux"),
    "mount": ("mount", "util-linux"),
    "ethtool": ("ethtool", "ethtool"),
}
_FOR_THE_IMAGE = {"mmdebstrap": ("mmdebstrap", "mmdebstrap")}
_FOR_THE_UPLINK = {"nft": ("nftables", "nftables"), "sysctl": ("procps", "procps-ng")}
_FOR_PEOPLE = {"ssh": ("openssh-client", "openssh-clients")}
PROGRAMS = (*_TOOLS, *_FOR_THE_IMAGE, *_FOR_THE_UPLINK, *_FOR_PEOPLE)
"""Programs that the checks look for."""
# File systems that cannot be the writable layer of an overlay (filesystems/overlayfs.rst in Linux:
# it needs extended attributes and d_type).
_NO_OVERLAY = ("overlay", "nfs", "cifs", "smb", "9p", "fuse", "vboxsf", "vfat", "exfat", "ntfs",
               "msdos", "ecryptfs", "afs", "ceph")  # fmt: skip
_PACKAGES, _BAKED, _UPPER = 5120, 1024, 1024
"""MiB on disk: the two layers of the image, and what the nodes of a lab write above them."""
# Memory in MiB, as measured: PSS of a node's processes after a cold boot, by kind of node;
# _INSTANCE is what QEMU takes besides the memory of an emulated instance.
_CONTROLLER, _COMPUTE, _INSTANCE, _OVN_NODE, _CLIENT = 1500, 950, 100, 150, 20


def container_memory(case: Case) -> int:
    """MiB of memory that the lab takes as containers."""
    topology = case.topology
    clients = _CLIENT * len(topology.clients)
    if topology.stack == "ovn":
        return _OVN_NODE * len(topology.nodes) + clients
    instances = sum(instance.flavor.memory + _INSTANCE for instance in topology.instances)
    gateways = sum(node.roles == {"gateway"} for node in topology.nodes)
    nodes = _CONTROLLER + _COMPUTE * len(topology.computes) + _OVN_NODE * gateways
    return nodes + instances + clients


def usable(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether labctl can run containers here, whatever lab they belong to."""
    if facts.family not in ("linux", "wsl"):
        yield Finding(
            "nspawn-linux",
            "error",
            "programs",
            tr("containers are for Linux hosts"),
            impact=tr("there is nothing that could run the nodes"),
            fix=tr("take another provider, or a Linux machine"),
        )
        return
    yield from architecture(facts)
    if not (facts.root or facts.sudo):
        yield Finding(
            "nspawn-root",
            "error",
            "programs",
            tr("containers need root, and there is no sudo"),
            impact=tr("labctl can make no namespace and mount no file system"),
            fix=tr("run labctl as root, or install sudo"),
        )
    if not facts.containers_allowed:
        yield Finding(
            "nspawn-confined",
            "error",
            "machine",
            tr(
                "this is a container, and its root lacks rights: it cannot make network namespaces"
                " or mount overlays"
            ),
            impact=tr("labctl can make no namespace and mount no file system"),
            fix=tr("run labctl on the machine itself, or in a privileged container"),
        )
    if not facts.tun:
        yield Finding(
            "nspawn-tun",
            "error",
            "machine",
            tr("there is no /dev/net/tun"),
            impact=tr("no container starts: Open vSwitch and QEMU need it inside"),
            fix=tr("load the module"),
            commands=("sudo modprobe tun",),
        )
    yield from _tools(facts, case)


def fits(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Whether this lab can be made of containers here."""
    yield from memory(facts, case, container_memory(case), machines=False)
    yield from processors(facts, case, machines=False)
    yield from _file_system(facts)
    needs = {"lab": (0 if case.here.exists else _UPPER, tr("the nodes' own files: 1 GB"))}
    if facts.image in ("packages", "none"):
        image = _BAKED if facts.image == "packages" else _PACKAGES
        needs["cache"] = (image, tr("the image: {size} GB", size=image // 1024))
    yield from disks(facts, needs)
    if facts.image == "none":
        yield Finding(
            "image-download",
            "note",
            "image",
            tr(
                "the image is not in the cache: create builds it first, from 400 MB of Debian"
                " packages, in three minutes and more"
            ),
            fix=tr(
                "once it is there no lab needs the Internet; LABCTL_MIRROR chooses a Debian mirror"
            ),
        )
    if facts.kvm.works is False and case.topology.stack == "openstack":
        yield Finding(
            "instances-emulated",
            "note",
            "machine",
            tr(
                "no usable /dev/kvm: instances are emulated, which the built-in image does not mind"
                " and larger ones do"
            ),
        )
    if case.topology.uplink == "host":
        yield from _forwarding(facts)
    yield from _others(facts, case)


def _tools(facts: HostFacts, case: Case) -> Iterator[Finding]:
    needed = dict(_TOOLS)
    if facts.image == "none":
        needed |= _FOR_THE_IMAGE
    if case.topology.uplink == "host":
        needed |= _FOR_THE_UPLINK
    missing = [name for name in needed if name not in facts.commands]
    if missing:
        yield _missing(
            facts, "nspawn-tools", "error", missing, needed, tr("labctl calls them to make the lab")
        )
    if "ssh" not in facts.commands:
        yield _missing(
            facts,
            "nspawn-ssh",
            "warning",
            ["ssh"],
            _FOR_PEOPLE,
            tr("`labctl ssh` cannot log you in"),
        )


def _missing(
    facts: HostFacts,
    id: str,
    level: str,
    missing: list[str],
    packages: dict[str, tuple[str, str]],
    impact: str,
) -> Finding:
    apt = dict.fromkeys(packages[name][0] for name in missing)
    dnf = dict.fromkeys(packages[name][1] for name in missing)
    commands = install(facts, apt, dnf)
    return Finding(
        id,
        "error" if level == "error" else "warning",
        "programs",
        tr("not installed: {names}", names=tr_list(missing)),
        impact=impact,
        fix=tr("install what is missing") if commands else with_package_manager(apt),
        commands=commands,
    )


def _file_system(facts: HostFacts) -> Iterator[Finding]:
    """Whether overlays can be made where the nodes and, unless it is there, the image will be."""
    fixes = {
        "lab": (
            tr("the nodes' file systems cannot be mounted"),
            tr("put lab.yaml on a local file system such as ext4, xfs or btrfs"),
        ),
        "cache": (
            tr("the image of the nodes cannot be made"),
            tr("set LABCTL_CACHE to a directory on a local file system such as ext4, xfs or btrfs"),
        ),
    }
    for place, (impact, fix) in fixes.items():
        disk = facts.disks.get(place)
        if disk is None or (place == "cache" and facts.image == "baked"):
            continue
        if disk.read_only:
            text = tr("{path} is on a file system that is mounted read-only", path=disk.path)
        elif disk.kind.startswith(_NO_OVERLAY):
            text = tr(
                "{path} is on {kind}, which overlayfs cannot write to",
                path=disk.path,
                kind=disk.kind,
            )
        else:
            continue
        id = "nspawn-overlay" if place == "lab" else "nspawn-cache"
        yield Finding(id, "error", "disk", text, impact=impact, fix=fix)


def _forwarding(facts: HostFacts) -> Iterator[Finding]:
    """Whether the firewall lets through what the host forwards for `nat.uplink: host`."""
    if facts.forward_drops:
        table, chain = facts.forward_drops[0]
        what = tr(
            "chain {chain} of the table `{table}` drops what this machine forwards, unless a rule"
            " accepts it",
            chain=chain,
            table=table,
        )
    elif facts.forward_drops is None and facts.docker:
        what = tr("Docker is here: it sets the policy of the firewall's chain FORWARD to DROP")
    else:
        return
    chain = "DOCKER-USER" if facts.docker else "FORWARD"
    yield Finding(
        "uplink-forward",
        "warning",
        "network",
        what,
        impact=tr("create fails where `nat.uplink: host` leads through that chain"),
        fix=tr(
            "accept what comes from the lab and goes to it, by these or in your firewall's own"
            " language; or leave nat.uplink at `simulated`"
        ),
        commands=tuple(
            f"sudo iptables -I {chain} {way} {TRANSIT} -j ACCEPT" for way in ("-s", "-d")
        ),
    )


def _others(facts: HostFacts, case: Case) -> Iterator[Finding]:
    """Other labs of containers on this host: they use its memory."""
    here = facts.disks["lab"].path if "lab" in facts.disks else ""
    for other in facts.containers:
        if other.lab_id == case.here.lab_id or (other.directory == here and not other.gone):
            continue
        if other.gone:
            yield Finding(
                "leftover-containers",
                "warning",
                "labs",
                tr("a lab still runs whose files in {path} were deleted", path=other.directory),
                impact=tr("it still uses memory, and `labctl destroy` cannot find it any more"),
                fix=tr("end its processes, remove its namespaces, unmount its nodes"),
                commands=(
                    f"for n in $(ls /run/netns | grep ^labctl-{other.lab_id}-); do sudo ip netns"
                    " pids $n | xargs -r sudo kill -9; sudo ip netns delete $n; done",
                    f"findmnt -nlo TARGET -S labctl-{other.lab_id} | xargs -r -d '\\n' sudo umount",
                ),
            )
        elif other.directory:
            yield Finding(
                "other-lab",
                "note",
                "labs",
                tr("another lab runs on this machine: {path}", path=other.directory),
            )


def why_auto(facts: HostFacts) -> str:
    """Why `auto` chooses containers."""
    return tr("containers are what works here without a hypervisor")


def summary(facts: HostFacts, case: Case) -> dict[Group, list[str]]:
    """What was found good, as lines for each group of the report."""
    root = tr("you are root") if facts.root else tr("root by sudo")
    image = {
        "baked": [tr("the image is in the cache: create needs no Internet")],
        "packages": [tr("the packages are in the cache; create bakes the image in a minute")],
        "unknown": [tr("only root can see whether the image is in the cache")],
        "none": [],
    }
    return {
        "programs": [
            tr("{root}; systemd-nspawn, ip and what else is called are installed", root=root)
        ],
        "machine": [machine_summary(facts, container_memory(case))],
        "disk": disk_summary(facts, "lab", "cache"),
        "network": [tr("all networks are inside namespaces: none can meet one of this machine")],
        "image": image[facts.image],
    }
