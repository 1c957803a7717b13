"""Nodes as virtual machines, made by Vagrant: with VirtualBox on a laptop, with libvirt on Linux.

Vagrant makes the machines and boots them. What is installed inside comes from provision/, over SSH,
in the same stages as in containers.
"""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from labctl.access import keys
from labctl.access.guest import UnreachableError
from labctl.access.paramiko_alone import paramiko
from labctl.access.ssh import SSHGuest
from labctl.engine.wait import WaitTimeout, wait_until
from labctl.errors import DiskFullError, LabError
from labctl.i18n import tr, tr_list
from labctl.providers.provider import Cancel, Progress
from labctl.providers.vagrant.command import OutputLine, VagrantCommand
from labctl.providers.vagrant.first_login import install_lab_key
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.snapshots import VagrantSnapshots
from labctl.providers.vagrant.vagrantfile import lab_vagrantfile
from labctl.spec.fields import OWN_BOX
from labctl.state import LabState, write_atomic
from labctl.topology import Machine, Topology

_FRESH = 2.0
"""Seconds for which an answer of `vagrant status` is used again; asking takes seconds."""
_HALT = 120
"""Seconds for `vagrant halt --force`, times the timeout factor."""
_BOOT = 600
"""Seconds for `vagrant up`, per machine, times the timeout factor."""


class VagrantProvider:
    """The nodes of one lab as Vagrant's machines."""

    def __init__(
        self, topology: Topology, state: LabState, hypervisor: Hypervisor, template: Path
    ) -> None:
        """`template` is Vagrantfile.j2."""
        self._topology = topology
        self._state = state
        self._hypervisor = hypervisor
        self._template = template
        self._environment = {
            **hypervisor.environment(),
            # For commands without --provider, such as the status of a machine not made yet.
            "VAGRANT_DEFAULT_PROVIDER": hypervisor.name,
        }
        self.vagrant = VagrantCommand(state.vagrant, state.vagrant_log, self._environment)
        self.one_at_a_time: AbstractContextManager[Any] = threading.RLock()
        self._states: tuple[float, dict[str, str]] = (0.0, {})
        self._guests: dict[str, SSHGuest] = {}
        self._listed: set[str] | None = None
        self.features = hypervisor.features
        self.snapshots = VagrantSnapshots(self, state, hypervisor)

    @property
    def emulated(self) -> bool:
        """Whether the machines' processors are emulated."""
        return self._hypervisor.emulated

    @property
    def timeout_factor(self) -> int:
        """The hypervisor's: an emulated machine is slower."""
        return self._hypervisor.timeout_factor

    @property
    def resolver(self) -> str:
        """Address of the DNS server behind eth0."""
        return self._hypervisor.resolver(self._topology)

    # -- box -------------------------------------------------------------------------------------
    def _boxes(self) -> set[str]:
        """Names of Vagrant's boxes for this hypervisor, in the version that lab.yaml asks for.

        Asking takes a second, so the answer is kept until a box is added.
        """
        version = self._topology.spec.box.version
        with self.one_at_a_time:
            if self._listed is None:
                # Vagrant runs in this directory.
                self._state.vagrant.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self.vagrant.python() as vagrant:
                    self._listed = {
                        box.name
                        for box in vagrant.box_list()
                        if box.provider == self._hypervisor.name
                        and version in ("", None, box.version)
                    }
            return self._listed

    def _box(self) -> str:
        """The name of the box that this lab's machines are made from."""
        return self._topology.spec.box.name

    def prepared(self) -> bool:
        """Whether Vagrant has the box, or all machines exist already."""
        if all(self.made(node) for node in self._topology.nodes):
            return True
        return self._box() in self._boxes()

    def made(self, node: Machine) -> bool:
        """Whether Vagrant has made the node's machine, running or not."""
        return self._state.machine_id(node.name, self._hypervisor.name).exists()

    def prepare(self, progress: Progress, cancel: Cancel) -> None:
        """Download the box, unless Vagrant has it. Nobody offers labctl's own: see actions/box.py.

        Raises LabError, Cancelled.
        """
        version = self._topology.spec.box.version
        box = self._box()
        self._listed = None
        if box == OWN_BOX:
            if box in self._boxes():  # made a moment ago
                return
            raise LabError(
                tr("Vagrant has no box {box} for {provider}",
                   box=f"{box} {version}".strip(), provider=self._hypervisor.name),
                hint=tr("add one that somebody made (`labctl box add FILE`), or make it: see"
                        " docs/boxes.md"),
            )  # fmt: skip
        progress(box)
        self._listed = None
        try:
            self.vagrant.run(
                "box", "add", box, "--provider", self._hypervisor.name,
                *(["--box-version", version] if version else []),
                timeout=7200,
                cancel=cancel,
                on_output=_shown(progress),
            )  # fmt: skip
        except DiskFullError:
            raise
        except LabError as error:
            error.hint = tr(
                "no network, or no such box: Vagrant's public registry closes on 2026-12-31."
                " `labctl box get` makes one: write `box: {name}` into lab.yaml",
                name=f"{{name: {OWN_BOX}}}",
            )
            raise

    def image_file(self, path: str) -> Path | None:
        """Always None: the files in a box cannot be read from the host."""
        return None

    # -- what all machines share -----------------------------------------------------------------
    def network_ready(self) -> bool:
        """Whether the Vagrantfile is up to date, and the key and the networks exist."""
        return (
            self._state.ssh_key.exists()
            and self._file_is_current()
            and self._hypervisor.network_ready(self._topology)
        )

    def render(self) -> str:
        """The content of the lab's Vagrantfile."""
        return lab_vagrantfile(self._topology, self._state, self._template)

    def _file_is_current(self) -> bool:
        file = self._state.vagrant / "Vagrantfile"
        return file.exists() and file.read_text(encoding="utf-8") == self.render()

    def create_network(self) -> None:
        """Make the lab's SSH key, the Vagrantfile, and the networks that Vagrant does not make."""
        keys.ensure(self._state.ssh_key)
        if not self._file_is_current():
            write_atomic(self._state.vagrant / "Vagrantfile", self.render())
        self._hypervisor.create_network(self._topology)

    # -- machines --------------------------------------------------------------------------------
    def status(self, *, fresh: bool = False) -> dict[str, str]:
        """{machine: state} in Vagrant's words; `fresh`: ask it even if the last answer is new."""
        with self.one_at_a_time:
            asked_at, states = self._states
            if fresh or time.monotonic() - asked_at > _FRESH:
                if not (self._state.vagrant / "Vagrantfile").exists():
                    return {}
                self._hypervisor.require_answer()  # python-vagrant has no time limit
                with self.vagrant.python() as vagrant:
                    states = {machine.name: machine.state for machine in vagrant.status()}
                self._states = (time.monotonic(), states)
            return states

    def running(self, node: Machine) -> bool:
        """Whether Vagrant says that the machine runs."""
        if not self.made(node):
            return False
        return self.status().get(node.name) == "running"

    def stopped(self, node: Machine) -> bool:
        """Whether the machine does not run."""
        return not self.running(node)

    def start(self, node: Machine, progress: Progress, cancel: Cancel) -> None:
        """`vagrant up` without provisioning; then install the lab's key for root."""
        with self.one_at_a_time:
            states = self.status(fresh=True)
            if states.get(node.name) != "running":
                together = self._topology.nodes if self._hypervisor.boots_together else (node,)
                down = [peer for peer in together if states.get(peer.name) != "running"]
                for peer in down:
                    self._forget(peer, new=states.get(peer.name, "not_created") == "not_created")
                self._up([peer.name for peer in down], progress, cancel)
        self._log_in_first(node, progress)

    def _forget(self, node: Machine, *, new: bool) -> None:
        """Close the connection to a machine; if it is `new`, remove leftovers of an earlier one."""
        if (guest := self._guests.get(node.name)) is not None:
            guest.close()  # else the first command waits on a connection from before the boot
        if new:
            self._state.public_host_key(node.name).unlink(missing_ok=True)
            self._hypervisor.clean_up(self._topology, node)

    def _begin_console_log(self, name: str) -> None:
        """Keep the last boot's console as console-before.log, and make an empty file for this one.

        VirtualBox empties the file at each boot; libvirt appends to it. libvirt's virtlogd would
        make it as root, unreadable to us; a file that exists keeps its owner.
        """
        log = self._state.console_log(name)
        with suppress(OSError):  # such as a file that Windows says is in use: boot without a log
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists() and log.stat().st_size > 0:
                log.replace(self._state.earlier_console_log(name))
            log.touch(mode=0o600)

    def _up(self, names: list[str], progress: Progress, cancel: Cancel) -> None:
        for name in names:
            self._begin_console_log(name)
        try:
            self.vagrant.run(
                "up", *names, "--provider", self._hypervisor.name, "--no-provision",
                timeout=_BOOT * self.timeout_factor * len(names),
                cancel=cancel,
                on_output=_shown(progress),
            )  # fmt: skip
        except LabError as error:
            consoles = [self._state.console_log(name) for name in names]
            if any(path.exists() and path.stat().st_size for path in consoles):
                error.hint = tr(
                    "{hint}; what the machine itself printed is in {console}",
                    hint=error.hint,
                    console=tr_list(consoles),
                )
            raise
        finally:
            self._states = (0.0, {})

    def _log_in_first(self, node: Machine, progress: Progress) -> None:
        """Save where the SSH server is; on a new machine install the lab's key."""
        with self.one_at_a_time, self.vagrant.python() as vagrant:
            ssh_config = vagrant.ssh_config(vm_name=node.name)
            config = vagrant.conf(ssh_config, vm_name=node.name)
        try:
            host, port = config["HostName"], int(config["Port"])
        except (KeyError, ValueError) as error:
            raise LabError(
                tr("`vagrant ssh-config {node}` does not tell where its SSH server is: {said!r}",
                   node=node.name, said=ssh_config),
                hint=tr("run it yourself in {directory}", directory=self._state.vagrant),
            ) from error  # fmt: skip
        host, port = self._hypervisor.address(node, host, port)
        self._state.write_json(self._state.address(node.name), {"host": host, "port": port})
        host_key = self._state.public_host_key(node.name)
        if host_key.exists():
            self._write_known_hosts()  # we may have been killed before that
            return
        progress(tr("the lab's own SSH key"))
        home = _home()
        key = wait_until(
            tr("{node} lets Vagrant's key in", node=node.name),
            lambda: install_lab_key(
                lambda: self._connect(node),
                node=node.name,
                key=self._state.ssh_key,
                insecure=[
                    home / "insecure_private_key",
                    *sorted((home / "insecure_private_keys").glob("*")),
                ],
                user=config.get("User", "vagrant"),
            ),
            deadline=60 * self.timeout_factor,
            hint=tr("see {log}", log=self.vagrant.log),
            transient=(OSError, EOFError, paramiko.SSHException),
            interval=2,
        )
        write_atomic(host_key, key + "\n", 0o600)
        self._write_known_hosts()

    def _write_known_hosts(self) -> None:
        with self.one_at_a_time:
            lines = [
                f"{node.name} {file.read_text(encoding='utf-8').strip()}\n"
                for node in self._topology.nodes
                if (file := self._state.public_host_key(node.name)).exists()
            ]
            write_atomic(self._state.known_hosts, "".join(lines), 0o600)

    def stop(self, node: Machine, *, deadline: float) -> None:
        """Ask the node to power off; if it still runs after `deadline` seconds, do it by force."""
        guest = self.guest(node)
        if deadline > 0 and self.running(node):
            try:
                guest.run(["systemctl", "poweroff"], timeout=20, check=False)
            except UnreachableError:
                deadline = 0  # it was not asked, so waiting is useless
            except LabError:
                pass  # it may power off before it answers
            with suppress(WaitTimeout):
                wait_until(
                    tr("{node} powers off", node=node.name),
                    lambda: not self.running(node),
                    deadline=deadline * self.timeout_factor,
                    hint="",
                    interval=1,
                )
        guest.close()
        with self.one_at_a_time:
            if self.made(node) and self.status(fresh=True).get(node.name) == "running":
                try:
                    if not self._hypervisor.power_off(self._topology, node):
                        self.vagrant.run(
                            "halt", node.name, "--force", timeout=_HALT * self.timeout_factor
                        )
                finally:
                    self._states = (0.0, {})

    # -- access ----------------------------------------------------------------------------------
    def _connect(self, node: Machine) -> socket.socket:
        address = self._state.read_json(self._state.address(node.name))
        if address is None:
            raise ConnectionRefusedError(tr("{node} has not been booted by labctl", node=node.name))
        return socket.create_connection((address["host"], address["port"]), timeout=30)

    def guest(self, node: Machine) -> SSHGuest:
        """The handle on a node: SSH to the address from `vagrant ssh-config`."""
        if (guest := self._guests.get(node.name)) is not None:
            return guest
        new_guest = SSHGuest(
            node.name,
            None,
            self._state.ssh_key,
            self._state.public_host_key(node.name),
            connect=lambda: self._connect(node),
            timeout_factor=self.timeout_factor,
        )
        return self._guests.setdefault(node.name, new_guest)  # another thread may have been faster

    def ssh_argv(self, node: Machine) -> list[str]:
        """OpenSSH's client."""
        address = self._state.read_json(self._state.address(node.name))
        if address is None:
            raise LabError(
                tr("{node} has not been booted", node=node.name), hint=tr("run `labctl up`")
            )
        return [
            *keys.client(self._state.ssh_key, self._state.known_hosts, node.name),
            "-p", str(address["port"]), f"root@{address['host']}",
        ]  # fmt: skip

    def host_end(self, node: Machine, card: str = "eth0") -> None:
        """Always None: the hypervisor's own NAT and switches show nothing to others."""

    # -- end -------------------------------------------------------------------------------------
    def destroy(self, progress: Progress) -> None:
        """`vagrant destroy`, then the networks. The box stays: see `cached`."""
        for guest in self._guests.values():
            guest.close()
        self._guests.clear()
        if any(self.made(node) for node in self._topology.nodes):
            if reason := self._hypervisor.unknown():
                # Vagrant takes a machine that it cannot ask for as one that is gone.
                raise LabError(
                    tr("nobody can tell whether the lab's machines are gone: {reason}",
                       reason=reason),
                    hint=tr("mend that and run `labctl destroy` again; if the hypervisor went with"
                            " all its machines, delete {path}", path=self._state.root),
                )  # fmt: skip
            if not self._file_is_current():  # Vagrant removes only what it names
                write_atomic(self._state.vagrant / "Vagrantfile", self.render())
            self.vagrant.run(
                "destroy", "--force",
                timeout=300 * self.timeout_factor,
                on_output=_shown(progress),
            )  # fmt: skip
        for node in self._topology.nodes:
            self._hypervisor.clean_up(self._topology, node)
        self._hypervisor.destroy_network(self._topology)
        self._states = (0.0, {})
        shutil.rmtree(self._state.vagrant, ignore_errors=True)
        shutil.rmtree(self._state.ssh_key.parent, ignore_errors=True)

    def cached(self) -> list[str]:
        """What Vagrant keeps of the box for the next lab."""
        return self._hypervisor.cached(_home(), self._box())

    def purge(self, progress: Progress) -> None:
        """Remove what is cached. Raises LabError while another lab uses it."""
        self._hypervisor.purge(_home(), self._box())

    def leftovers(self) -> list[str]:
        """Machines, networks and disks that have the lab's name in theirs."""
        return self._hypervisor.leftovers(self._topology)


def _home() -> Path:
    """The directory where Vagrant keeps boxes and its own keys."""
    return Path(os.environ.get("VAGRANT_HOME") or "~/.vagrant.d").expanduser()


def _shown(progress: Progress) -> Callable[[OutputLine], None]:
    """A receiver of Vagrant's output that passes its messages for the user on to `progress`."""

    def show(line: OutputLine) -> None:
        # ui,STYLE,TEXT: `info` and `output` are sentences, `detail` their details.
        if (
            line.kind == "ui"
            and len(line.data) >= 2
            and line.data[0] in ("info", "output", "detail")
        ):
            text = " ".join(line.data[1].replace("==>", "").split())
            if text:
                progress(text[:100])

    return show
