"""Nodes as systemd-nspawn containers: the provider for hosts without a hypervisor.

Each node is an overlay on the baked image and boots systemd in a network namespace of its own. Its
interfaces are connected as VirtualBox would connect them: eth0 to a NAT network of the node's own,
eth1 to the private network of the lab. A client outside is a container too; its eth0 is behind the
NAT network of the first gateway.
"""

import os
import shutil
import signal
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from labctl.access import keys
from labctl.access.ssh import SSHGuest
from labctl.engine.wait import WaitTimeout, wait_until
from labctl.errors import LabError
from labctl.i18n import mark, tr
from labctl.images.baked import BakedImage, ImageCache
from labctl.images.templates import TemplateCache
from labctl.providers import netns
from labctl.providers.kvm import kvm_works
from labctl.providers.nspawn import bridges, clients, host_uplink, shared_nat, uplink
from labctl.providers.nspawn.questions import DIRECTORY_OPTION
from labctl.providers.nspawn.snapshots import NspawnSnapshots
from labctl.providers.provider import Cancel, Features, HostEnd, Progress
from labctl.run import SYSTEMD, run, spawn, stop_service
from labctl.state import Identity, LabState, NodeFiles, write_atomic
from labctl.topology import Client, Machine, Node, Topology


class NspawnProvider:
    """The nodes of one lab as containers on this machine."""

    features = Features(
        needs_root=True,
        shared_nat=False,
        own_clock=False,
        image=mark("baked image"),
        network=mark("namespaces and cables"),
        live_snapshots=True,
        forks=True,
    )
    timeout_factor = 1
    resolver = ""  # written into the file system before the boot

    def __init__(self, topology: Topology, state: LabState, images: ImageCache) -> None:
        self._topology = topology
        self._state = state
        self._images = images
        self._guests: dict[str, SSHGuest] = {}
        self.snapshots = NspawnSnapshots(topology, state, self._init_pid)

    @cached_property
    def _identity(self) -> Identity:
        """Of the lab, which need not exist for `purge`."""
        return self._state.identity()

    # -- names -----------------------------------------------------------------------------------
    @property
    def _prefix(self) -> str:
        return f"labctl-{self._identity.lab_id}-"

    def namespace(self, node: Machine) -> str:
        """Network namespace of a node."""
        return f"{self._prefix}{node.name}"

    def nat_namespace(self, machine: Machine) -> str:
        """Network namespace at the host's end of a machine's eth0."""
        node = self._topology.gateways[0] if isinstance(machine, Client) else machine
        # No node has a dot in its name.
        return f"{self._prefix}{'shared' if self._shared else node.name}.nat"

    def _client_namespaces(self) -> dict[Client, str]:
        return {client: self.namespace(client) for client in self._topology.clients}

    @property
    def _outside(self) -> str:
        """Network namespace that the clients are behind."""
        return self.nat_namespace(self._topology.gateways[0])

    @property
    def _shared(self) -> bool:
        return self._topology.spec.nat.shared

    def _nat_port(self, number: int) -> str:
        """The host's end of the eth0 of node `number`, in `nat_namespace`."""
        return shared_nat.port(number) if self._shared else shared_nat.DEVICE

    @property
    def private_namespace(self) -> str:
        """Network namespace with the bridge that connects all eth1."""
        return f"{self._prefix}private.switch"

    def _switches(self) -> dict[str, str]:
        """{card: network namespace of the bridge that connects it between the nodes}."""
        more = {card: f"{self._prefix}{card}.switch" for card in self._topology.spec.networks}
        return {"eth1": self.private_namespace, **more}

    def _root(self, node: Machine) -> Path:
        return self._state.node_files(node.name).root

    # -- image -----------------------------------------------------------------------------------
    def _image(self) -> BakedImage | None:
        return self._images.find(self._identity.image or None)

    def prepared(self) -> bool:
        """Whether the image is in the cache."""
        return self._image() is not None

    def prepare(self, progress: Progress, cancel: Cancel) -> None:
        """Build the image, unless the cache has it."""
        if self._identity.image and not self.prepared():
            raise LabError(
                tr("the image {image} under this lab's nodes is gone from the cache",
                   image=self._identity.image),
                hint=tr("`labctl destroy`, then `labctl create`"),
            )  # fmt: skip
        self._images.build(log=self._state.image_log, progress=progress, cancel=cancel)

    def image_file(self, path: str) -> Path | None:
        """A file of the image, on the host."""
        image = self._image()
        try:
            return image.file(path) if image else None
        except FileNotFoundError:
            return None

    # -- network ---------------------------------------------------------------------------------
    def network_ready(self) -> bool:
        """Whether every key, namespace and cable is in place, and the cables are up."""
        return (
            self._state.known_hosts.exists()
            and all(netns.link_ready(space, "switch") for space in self._switches().values())
            and all(self._cabled(number, node) for number, node in enumerate(self._topology.nodes))
            and clients.ready(self._outside, self._client_namespaces())
        )

    def _cabled(self, number: int, node: Node) -> bool:
        own, nat = self.namespace(node), self.nat_namespace(node)
        return (
            netns.link_ready(own, "eth0")
            and all(
                netns.link_ready(own, card)
                and netns.link_ready(space, f"port{number}", master="switch")
                for card, space in self._switches().items()
            )
            and netns.link_ready(nat, shared_nat.DEVICE)
            and (
                not self._shared
                or netns.link_ready(nat, self._nat_port(number), master=shared_nat.DEVICE)
            )
            and uplink.running(nat, self._topology)
        )

    def create_network(self) -> None:
        """Make namespaces, veth pairs, the private bridge, and the Internet behind each eth0."""
        run(
            ["modprobe", "-q", "-a", "openvswitch", "geneve"], check=False
        )  # without: OVS in userspace
        self._make_keys()
        with suppress(OSError):  # not allowed to change it: try with what there is
            if int(_INOTIFY_LIMIT.read_text(encoding="utf-8")) < _ENOUGH_INOTIFY:
                _INOTIFY_LIMIT.write_text(str(_ENOUGH_INOTIFY), encoding="utf-8")
        for space in self._switches().values():
            netns.ensure(space)
            if not netns.has_link(space, "switch"):
                run(["ip", "-n", space, "link", "add", "switch", "type", "bridge"])
            run(["ip", "-n", space, "link", "set", "switch", "up"])
        for number, node in enumerate(self._topology.nodes):
            own, nat = self.namespace(node), self.nat_namespace(node)
            netns.ensure(own)
            if self._shared:
                shared_nat.ensure(nat, self._topology)
            else:
                netns.ensure(nat)
            port = f"port{number}"
            for nic in node.shared_nics:
                space = self._switches()[nic.name]
                netns.cable((own, nic.name), nic.mac, (space, port))
                run(["ip", "-n", space, "link", "set", port, "master", "switch"])
            netns.cable((own, "eth0"), node.eth0.mac, (nat, self._nat_port(number)))
            if self._shared:
                shared_nat.plug(nat, number)
            uplink.ensure(
                nat,
                self._topology,
                number=0 if self._shared else number,  # one link with the host is enough
                lab_id=self._identity.lab_id,
                log=self._state.internet_log,
            )
        clients.ensure(self._outside, self._topology, self._client_namespaces())
        if self._topology.uplink == "host":
            self._check_forwarding()

    def _check_forwarding(self) -> None:
        """Raise LabError where the host does not forward; its links are then removed again."""
        try:
            host_uplink.check_forwarding(
                self.nat_namespace(self._topology.nodes[0]), self._identity.lab_id
            )
        except LabError:
            host_uplink.remove(self._identity.lab_id)
            raise

    # -- nodes -----------------------------------------------------------------------------------
    def start(self, node: Machine, progress: Progress, cancel: Cancel) -> None:
        """Mount the node's file system, write its keys and host name, boot it."""
        if self.running(node):
            return
        # A node that ended by itself (poweroff, a crash) has left its file system mounted: perhaps
        # read-only after an error, or of files that were exchanged since.
        self.stop(node, deadline=0)
        image = self._image()
        if image is None:
            raise LabError(tr("the baked image is missing"), hint=tr("run `labctl create`"))
        if self._identity.image != image.key:
            self._identity = Identity(**{**self._identity.__dict__, "image": image.key})
            self._state.save_identity(self._identity)
        self._mount(node, image)
        self._identify(node)
        self._boot(node)

    def _mount(self, node: Machine, image: BakedImage) -> None:
        self._images.protect()
        files = self._state.node_files(node.name)
        for directory in (files.upper, files.work, files.root):
            directory.mkdir(parents=True, exist_ok=True)
        # Relative names: a comma or colon in the lab's path would split an option of mount(8).
        layers = ":".join(str(layer) for layer in image.layers)
        run(
            ["mount", "-t", "overlay", f"labctl-{self._identity.lab_id}", "-o",
             f"lowerdir={layers},upperdir={files.upper.name},workdir={files.work.name}",
             files.root.name],
            cwd=files.directory,
            hint=tr("the lab's directory must lie on a local file system that overlayfs can write"
                    " to (ext4, xfs, btrfs), not on an overlay or a network share"),
        )  # fmt: skip

    def _make_keys(self) -> None:
        """The lab's SSH key, each machine's host key, and a known_hosts file of them all."""
        names = [machine.name for machine in self._topology.machines]
        for path in (self._state.ssh_key, *(self._state.host_key(name) for name in names)):
            keys.ensure(path)
        hosts = "".join(f"{name} {keys.public(self._state.host_key(name))}" for name in names)
        write_atomic(self._state.known_hosts, hosts, 0o600)

    def _identify(self, node: Machine) -> None:
        """Write SSH keys, host name and resolver, which must be there before the first boot."""
        root = self._root(node)
        host_key = self._state.host_key(node.name)
        write_atomic(root / "root/.ssh/authorized_keys", keys.public(self._state.ssh_key), 0o600)
        (root / "root/.ssh").chmod(0o700)
        write_atomic(root / "etc/ssh/ssh_host_ed25519_key", host_key.read_bytes(), 0o600)
        write_atomic(root / "etc/ssh/sshd_config.d/labctl.conf", keys.SSHD + _SSHD, 0o644)
        write_atomic(root / "etc/hostname", node.name + "\n")
        write_atomic(root / "etc/resolv.conf", uplink.resolver(self._topology))

    def _boot(self, node: Machine) -> None:
        name = self.namespace(node)
        nspawn: list[str | Path] = [
            "systemd-nspawn", "--quiet", "--boot", f"{DIRECTORY_OPTION}{self._root(node)}",
            f"--machine={name[:64]}", f"--hostname={node.name}",
            "--register=no", "--keep-unit", "--console=read-only", "--link-journal=no",
            "--resolv-conf=off", "--timezone=off",
            f"--network-namespace-path={netns.NAMESPACES / name}",
            # OVS and libvirt configure the network, QEMU locks memory, both make TAP devices.
            "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK", "--bind=/dev/net/tun",
            *(["--bind=/dev/kvm"] if kvm_works() else []),
        ]  # fmt: skip
        # The metadata agent sets sysctls of the network, which nspawn mounts read-only by default.
        argv = ["env", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network", *nspawn]
        if not _unified_cgroups():
            # The host has cgroup v1. The container gets cgroup v2 at the usual place.
            # Slave: what the host unmounts later, such as another lab's file system, is unmounted
            # in there too. A private copy would keep that overlay in use.
            argv = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _CGROUP2,
                    "sh", "env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", *argv[1:]]  # fmt: skip
        if not SYSTEMD.is_dir():
            argv = ["sh", "-c", _AGAIN_AFTER_REBOOT, "sh", *argv]
        log = self._state.console_log(node.name)
        begin = log.stat().st_size if log.exists() else 0
        _remove_leftovers(name)
        spawn(
            argv,
            log=log,
            unit=name,
            # Delegate: the container manages its own control groups. KillMode: only its init gets
            # the signal to stop, and stops the other processes itself. The exit status: see
            # _AGAIN_AFTER_REBOOT; systemd-nspawn@.service has the same two lines.
            properties=[
                "Delegate=yes",
                "KillMode=mixed",
                f"RestartForceExitStatus={_REBOOTED}",
                f"SuccessExitStatus={_REBOOTED}",
            ],
        )

        def started() -> bool:
            running = self.running(node)
            output = log.read_bytes()[begin:].decode(errors="replace").strip()
            # It has failed only if there is output and no process. No process alone may mean that
            # it is just being started: during exec it has no command line, so it is not found.
            gone = not any(name in process for process in self._processes())
            if not running and output and gone:
                raise LabError(
                    tr("systemd-nspawn does not start {node}: {said}",
                       node=node.name, said=output.rpartition("\n")[2]),
                    hint=tr("see {log}", log=log),
                )  # fmt: skip
            return running

        wait_until(tr("{node} starts", node=node.name), started, deadline=20,
                   hint=tr("see {log}", log=log))  # fmt: skip

    def _init_pid(self, node: Machine) -> int | None:
        """Process ID, on the host, of the container's init."""
        for pid in netns.processes(self.namespace(node)):
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            # NSpid: the process ID here, then in each PID namespace within (proc_pid_status(5)).
            line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            ids = line.split()[1:]
            if len(ids) > 1 and ids[-1] == "1":
                return pid
        return None

    def running(self, node: Machine) -> bool:
        """Whether the container's init is there."""
        return self._init_pid(node) is not None

    def stopped(self, node: Machine) -> bool:
        """Whether nothing of the node runs, and its file system is not mounted."""
        return not (
            netns.processes(self.namespace(node))
            or self._processes(node)
            or os.path.ismount(self._root(node))
        )

    def stop(self, node: Machine, *, deadline: float) -> None:
        """Ask the node's init to power off; kill the node after `deadline` seconds."""
        guest = self._guests.pop(node.name, None)
        if guest is not None:
            guest.close()
        pid = self._init_pid(node)
        if pid is not None and deadline > 0:
            # What systemd in a container understands as "power off" (systemd(1), Signals).
            os.kill(pid, signal.Signals["SIGRTMIN"] + 4)
            with suppress(WaitTimeout):  # killed below
                wait_until(
                    tr("{node} powers off", node=node.name),
                    lambda: not netns.processes(self.namespace(node)),
                    deadline=deadline,
                    hint="",
                )
        self._end(self.namespace(node), node)
        self._unmount(self._root(node))

    def _end(self, name: str, node: Machine | None = None) -> None:
        """Kill all processes in a namespace, and wait until they are gone.

        With `node` wait for its systemd-nspawn too: that of a node which just reboots would start
        it once more.
        """

        def ended() -> bool:
            netns.kill(name)
            return not (netns.processes(name) or (node and self._processes(node)))

        wait_until(
            tr("the processes in {namespace} end", namespace=name),
            ended,
            deadline=20,
            hint=tr("`ip netns pids {namespace}` lists them", namespace=name),
        )
        _remove_leftovers(name)

    def _unmount(self, root: Path) -> None:
        """Unmount a node's file system."""
        # systemd-nspawn itself is outside the namespace and may hold the mount a moment longer.
        if os.path.ismount(root):
            wait_until(
                tr("{path} is released", path=root),
                lambda: run(["umount", root], check=False).returncode == 0,
                deadline=20,
                hint=tr("`fuser -vm {path}` names who uses it", path=root),
            )

    # -- access ----------------------------------------------------------------------------------
    def guest(self, node: Machine) -> SSHGuest:
        """The handle on a node: SSH through the loopback interface of its own namespace."""
        if node.name not in self._guests:
            space = self.namespace(node)
            self._guests[node.name] = SSHGuest(
                node.name,
                lambda host, port: netns.dial(space, host, port),
                self._state.ssh_key,
                self._state.host_key(node.name),
            )
        return self._guests[node.name]

    def ssh_argv(self, node: Machine) -> list[str]:
        """OpenSSH's client, run inside the node's network namespace."""
        return [
            "ip", "netns", "exec", self.namespace(node),
            *keys.client(self._state.ssh_key, self._state.known_hosts, node.name), "root@127.0.0.1",
        ]  # fmt: skip

    def host_end(self, node: Machine, card: str = "eth0") -> HostEnd | None:
        """The end of the veth pair of eth0 in the NAT namespace, of another card at its switch."""
        number, bridge = self._topology.machines.index(node), shared_nat.DEVICE
        if isinstance(node, Client):
            number, bridge = self._topology.clients.index(node), clients.DEVICE
            space, device = self._outside, clients.port(number)
        elif card == "eth0":
            space, device = self.nat_namespace(node), self._nat_port(number)
        else:
            space, device = self._switches()[card], f"port{number}"
        if not netns.exists(space) or not netns.has_link(space, device):
            return None
        if card != "eth0":
            return HostEnd(space, device)
        return HostEnd(space, device, bridges.mac(space, bridge))

    # -- end -------------------------------------------------------------------------------------
    def destroy(self, progress: Progress) -> None:
        """Kill all nodes, remove namespaces and file systems. Works on half-made labs too."""
        for guest in self._guests.values():
            guest.close()
        self._guests.clear()
        for name in netns.listed(self._prefix):
            progress(name.removeprefix(self._prefix))
            netns.kill(name)
        for name in netns.listed(self._prefix):
            self._end(name)
        nodes = self._state.nodes
        for directory in sorted(nodes.iterdir()) if nodes.is_dir() else []:
            self._unmount(NodeFiles(directory).root)
        wait_until(
            tr("systemd-nspawn ends"),
            lambda: not self._processes(),
            deadline=20,
            hint=tr("`pgrep -af {prefix}` lists what still runs", prefix=self._prefix),
        )
        for name in netns.listed(self._prefix):
            netns.delete(name)
        host_uplink.remove(self._identity.lab_id)
        if nodes.is_dir():
            shutil.rmtree(nodes)

    def cached(self) -> list[str]:
        """The templates of `create`. The cache of baked images belongs to no provider."""
        return TemplateCache(self._images.root).in_words()

    def purge(self, progress: Progress) -> None:
        """Remove the templates: no lab stands on them."""
        TemplateCache(self._images.root).remove_all()

    def leftovers(self) -> list[str]:
        """Namespaces, processes and mounts that have this lab's ID in their name."""
        namespaces = netns.listed(self._prefix)
        leftovers = [tr("network namespace {name}", name=name) for name in namespaces]
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        leftovers += [
            tr("mount {path}", path=line.split()[4])
            for line in mounts
            if f" labctl-{self._identity.lab_id} " in line
        ]
        return leftovers + self._processes()

    def _processes(self, node: Machine | None = None) -> list[str]:
        """The systemd-nspawn processes of this lab, or of one node, which run outside its
        namespaces.

        That a command line contains the lab's ID is not enough: it may be a user who reads its log.
        """
        machine = f" --machine={self.namespace(node)[:64] + ' ' if node else self._prefix}"
        processes = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "systemd-nspawn " in command and machine in command:
                processes.append(
                    tr("process {pid}: {command}", pid=process.parent.name, command=command)
                )
        return processes


_INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
_ENOUGH_INOTIFY = 1024
"""Linux allows each user 128 inotify instances, and all containers count as root. A systemd that
gets none starts no service."""

_SSHD = """# All of labctl's connections come from one address. It must not be shut out for one
# that a killed labctl broke off.
PerSourcePenalties no
# No PAM session for each of labctl's commands.
UsePAM no
HostKey /etc/ssh/ssh_host_ed25519_key
"""

_CGROUP2 = (
    'mount -t tmpfs tmpfs /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
)


_REBOOTED = 133
"""systemd-nspawn --keep-unit exits with this when the container wants to boot again
(systemd-nspawn@.service)."""
_AGAIN_AFTER_REBOOT = f'while "$@"; [ $? = {_REBOOTED} ]; do :; done'


def _remove_leftovers(name: str) -> None:
    """Remove what is left of a container whose processes are gone.

    systemd-nspawn does that itself unless it was killed. From version 256 on it does not start a
    container whose mount point below /run/systemd/nspawn still exists.
    """
    stop_service(name)
    for kind in ("unix-export", "propagate"):
        directory = Path("/run/systemd/nspawn", kind, name[:64])
        if os.path.ismount(directory):
            run(["umount", directory], check=False)
        with suppress(OSError):
            directory.rmdir()


def _unified_cgroups() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()
