"""The stages of `create`: which script runs on which nodes and after which others.

First the table of scripts, then the code that runs them."""

import hashlib
import io
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl.access.guest import Guest, GuestError
from labctl.engine.steps import Step, StepContext
from labctl.engine.wait import wait_until
from labctl.errors import LabError
from labctl.i18n import mark, tr
from labctl.providers import Provider
from labctl.provisioning.node_env import lab_env
from labctl.state import LabState, Secrets
from labctl.topology import Machine, Node, Topology

REMOTE = "/opt/labctl/provision"
"""Where provision/ is on a node."""
DONE = "/var/lib/labctl/done"
"""Directory on a node with a mark for each script that has succeeded: a file of the script's name,
which holds the hash of the inputs."""
_FULL = 16 * 2**20
"""Bytes free below which a disk counts as full."""


@dataclass(frozen=True)
class Script:
    """One script of provision/: it runs on the machines with its role, in labs with its stack."""

    file: str
    title: str
    role: str | None = None
    """None: on every node, and on no client unless `clients`."""
    needs: tuple[str, ...] = ()
    """Scripts that must have succeeded before, on the same node."""
    controller_needs: tuple[str, ...] = ()
    """Scripts that must have succeeded before, on the controller."""
    stack: str | None = "openstack"
    """None: in every lab."""
    timeout: int = 300
    """Seconds in a container; other nodes get this times their timeout factor."""
    clients: bool = False
    """Whether it runs on clients too."""
    confirm: str = ""
    """For a script that changes the network by which we reach the node. It has started a timer that
    undoes the change; this command stops the timer. It is run over a new connection, which proves
    that the node can still be reached."""

    @property
    def name(self) -> str:
        """`30-mariadb.sh` -> `mariadb`."""
        return self.file.removesuffix(".sh").partition("-")[2]


SCRIPTS = (
    Script("10-packages.sh", mark("packages"), timeout=3600, stack=None),
    Script("15-instance-image.sh", mark("instance image"), "controller", ("packages",),
           timeout=900),
    Script("20-node.sh", mark("host name and journal"), needs=("packages",), stack=None,
           clients=True),
    Script("25-network.sh", mark("Open vSwitch, br-ex, underlay"), needs=("node",), stack=None,
           confirm="/usr/local/sbin/labctl-network keep"),
    Script("26-client.sh", mark("address outside"), "client", ("node",), stack=None),
    Script("30-mariadb.sh", mark("MariaDB and schemas"), "controller", ("node",), timeout=1800),
    Script("31-rabbitmq.sh", mark("RabbitMQ"), "controller", ("network",)),
    Script("32-memcached.sh", mark("memcached"), "controller", ("node",)),
    Script("40-ovn-central.sh", mark("OVN databases and northd"), "controller", ("network",),
           stack=None),
    Script("41-ovn-host.sh", mark("OVN chassis"), None, ("network",), ("ovn-central",), stack=None),
    Script("42-workloads.sh", mark("workloads in namespaces"), None, ("network",), stack="ovn"),
    Script("50-keystone.sh", mark("Keystone and catalogue"), "controller",
           ("mariadb", "memcached", "network")),
    Script("51-glance.sh", mark("Glance"), "controller", ("mariadb", "network")),
    Script("52-placement.sh", mark("Placement"), "controller", ("mariadb", "network")),
    Script("53-nova.sh", mark("Nova API, conductor, scheduler"), "controller",
           ("mariadb", "rabbitmq")),
    Script("54-neutron.sh", mark("Neutron with ML2/OVN"), "controller",
           ("mariadb", "rabbitmq", "ovn-central")),
    Script("59-libvirt.sh", mark("libvirt and QEMU"), "compute", ("network",)),
    Script("60-nova-compute.sh", mark("nova-compute"), "compute", ("libvirt",), ("nova",)),
    Script("61-ovn-metadata.sh", mark("metadata agent"), "compute", ("network",), ("ovn-central",)),
    Script("70-shell.sh", mark("shell, credentials, abbrev"), None, ("node",), stack=None,
           clients=True),
)  # fmt: skip


def scripts_of(machine: Machine, stack: str) -> list[Script]:
    """The scripts that run on a machine of a lab with this stack, in order."""
    everywhere = isinstance(machine, Node)
    return [
        script
        for script in SCRIPTS
        if script.stack in (None, stack)
        and (
            script.role in machine.roles or (script.role is None and (everywhere or script.clients))
        )
    ]


class Provisioner:
    """Brings nodes up and runs provision/ on them; makes the steps that the engine runs."""

    def __init__(
        self,
        topology: Topology,
        provider: Provider,
        state: LabState,
        secrets: Secrets,
        provision: Path,
    ) -> None:
        """`provision` is the directory provision/ on the host."""
        self._topology = topology
        self._provider = provider
        self._state = state
        self._provision = provision
        self._env = {
            node.name: lab_env(
                topology,
                node,
                secrets,
                timeout_factor=provider.timeout_factor,
                resolver=provider.resolver,
            )
            for node in topology.machines
        }
        self._archive = _archive(provision)
        self._hash = {
            name: hashlib.sha256(self._archive + env.encode()).hexdigest()[:16]
            for name, env in self._env.items()
        }
        self._marks: dict[str, dict[str, str]] = {}

    def env(self, node: Machine) -> str:
        """What the node finds in /etc/labctl/lab.env."""
        return self._env[node.name]

    def inputs(self, node: Machine) -> str:
        """Hash of everything that the scripts work from on that node; their marks hold it."""
        return self._hash[node.name]

    def host_steps(self) -> list[Step]:
        """Steps that make image and network, boot the nodes, and copy provision/ to them."""
        provider = self._provider
        steps = [
            Step(
                "image",
                tr(provider.features.image),
                lambda context: provider.prepare(context.progress, context.cancelled),
                done=provider.prepared,
                log=self._state.image_log,
            ),
            Step(
                "host-network",
                tr(provider.features.network),
                lambda context: provider.create_network(),
                done=provider.network_ready,
            ),
        ]
        steps += [
            Step(
                f"boot:{node.name}",
                tr("boot"),
                lambda context, node=node: self._boot(node, context),  # type: ignore[misc]
                needs=("image", "host-network"),
                done=lambda node=node: self._booted(node),  # type: ignore[misc]
                node=node.name,
                log=self._state.console_log(node.name),
            )
            for node in self._topology.machines
        ]
        return steps

    def node_steps(self) -> list[Step]:
        """Steps that run the scripts of provision/, one for each script and node."""
        controller = self._topology.controller.name
        steps: list[Step] = []
        for node in self._topology.machines:
            scripts = scripts_of(node, self._topology.stack)
            on_node = {script.name for script in scripts}
            for script in scripts:
                needs = [f"{name}:{node.name}" for name in script.needs if name in on_node]
                needs += [f"{name}:{controller}" for name in script.controller_needs]
                steps.append(
                    Step(
                        f"{script.name}:{node.name}",
                        tr(script.title),
                        self._runner(node, script),
                        needs=tuple(needs) or (f"boot:{node.name}",),
                        done=self._checker(node, script),
                        node=node.name,
                        log=self._log(node, script),
                    )
                )
        return steps

    # -- booting ---------------------------------------------------------------------------------
    def _boot(self, node: Machine, context: StepContext) -> None:
        provider = self._provider
        provider.start(node, context.progress, context.cancelled)
        guest = provider.guest(node)
        context.progress(tr("waiting for SSH"))
        wait_until(
            tr("{node} answers SSH", node=node.name),
            lambda: guest.run(["true"], timeout=10).ok,
            deadline=120 * provider.timeout_factor,
            hint=tr("see {log}", log=self._state.console_log(node.name)),
            transient=(GuestError,),
            cancelled=context.cancelled,
        )
        if provider.features.own_clock:
            # A machine that was suspended has a stale clock and may reach no NTP server.
            guest.run(["date", "-s", f"@{time.time():.3f}"])
        env, files = self._env[node.name], self._archive
        guest.put(env.encode(), "/etc/labctl/lab.env", 0o600)
        guest.run(f"mkdir -p {REMOTE} && tar -xf - -C {REMOTE}", input=files)
        guest.run(f"echo {self._hash[node.name]} >/etc/labctl/inputs")

    def _booted(self, node: Machine) -> bool:
        if not self._provider.running(node):
            return False
        try:
            inputs = self._provider.guest(node).run(["cat", "/etc/labctl/inputs"], timeout=10)
        except LabError:
            return False
        return inputs.stdout.strip() == self._hash[node.name]

    # -- scripts ---------------------------------------------------------------------------------
    def _log(self, node: Machine, script: Script) -> Path:
        return self._state.stage_log(node.name, script.file.removesuffix(".sh"))

    def _checker(self, node: Machine, script: Script) -> Callable[[], bool]:
        # The mark is on the node, among the files it stands for. So it stays true after labctl was
        # killed, and when the files of the node are restored or copied.
        def done() -> bool:
            marks = self._marks.get(node.name)
            if marks is None:
                marks = _read_marks(self._provider.guest(node))
                self._marks[node.name] = marks
            return marks.get(script.file) == self._hash[node.name]

        return done

    def _runner(self, node: Machine, script: Script) -> Callable[[StepContext], None]:
        def work(context: StepContext) -> None:
            log = self._log(node, script)
            log.parent.mkdir(parents=True, exist_ok=True)
            # flock: an interrupted labctl leaves its script running, and the next one must wait for
            # it. The script runs without the lock's descriptor (9>&-), or a service it starts would
            # hold the lock for ever.
            mark = (
                f"echo {self._hash[node.name]} >{DONE}/.{script.file}"
                f" && mv {DONE}/.{script.file} {DONE}/{script.file}"
            )
            command = (
                f"mkdir -p {DONE} && exec 9>/run/labctl-{script.name}.lock && flock 9"
                f" && bash {REMOTE}/{script.file} 9>&-"
            )
            if not script.confirm:
                command += f" && {mark}"
            with log.open("a", encoding="utf-8", newline="\n") as sink:
                sink.write(
                    f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {script.file} on {node.name}\n"
                )

                def on_line(line: str, stream: str) -> None:
                    sink.write(line + "\n")
                    sink.flush()
                    context.output(line, "stdout" if stream == "stdout" else "stderr")
                    if line.strip():
                        context.progress(line.strip())

                result = self._provider.guest(node).run(
                    command,
                    timeout=script.timeout,
                    check=False,
                    on_line=on_line,
                    cancelled=context.cancelled,
                )
            if not result.ok:
                output = (result.stdout + result.stderr).splitlines()
                last = [line for line in output if line.strip()][-3:]
                free = shutil.disk_usage(self._state.root).free
                raise LabError(
                    tr("{command} failed (exit {code}): {said}",
                       command=f"provision/{script.file}", code=result.returncode,
                       said=" / ".join(last)),
                    # Services seldom report a full disk; they hang or exit.
                    hint=tr("no space is left under {path}; free some, then create again",
                            path=self._state.root)
                    if free < _FULL
                    else tr("read {log}, mend the cause, then run `labctl create` again", log=log),
                )  # fmt: skip
            if script.confirm:
                self._confirm(node, script, mark, context)

        return work

    def _confirm(self, node: Machine, script: Script, mark: str, context: StepContext) -> None:
        """Connect again and run the script's `confirm`; only then mark the script as done."""
        new_connection = self._provider.guest(node).another()
        hint = tr(
            "the node takes the change back by itself; then `labctl create` tries again,"
            " and {log} tells what was done",
            log=self._log(node, script),
        )

        def confirmed() -> bool:
            try:
                result = new_connection.run(script.confirm, timeout=20, check=False)
            finally:
                new_connection.close()
            if not result.ok:  # too late: the change is undone already; trying again cannot help
                raise LabError(
                    tr("{name}: `{command}` failed: {said}",
                       name=node.name, command=script.confirm, said=result.stderr.strip()),
                    hint=hint,
                )  # fmt: skip
            return True

        wait_until(
            tr("{node} answers SSH", node=node.name),
            confirmed,
            deadline=60 * self._provider.timeout_factor,
            hint=hint,
            transient=(GuestError,),
            cancelled=context.cancelled,
        )
        self._provider.guest(node).run(mark)


def _read_marks(guest: Guest) -> dict[str, str]:
    """{file name of a script: hash of the inputs it last succeeded with}."""
    listing = guest.run(f"cd {DONE} 2>/dev/null && grep -H . *.sh || true", timeout=15).stdout
    pairs = (line.partition(":") for line in listing.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _archive(directory: Path) -> bytes:
    """The directory as a tar archive, the same bytes whenever the content is the same."""
    buffer = io.BytesIO()
    # On Windows a path has backslashes, and its order is another.
    paths = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*")}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, path in sorted(paths.items()):
            if path.is_file() and "__pycache__" not in path.parts:
                info = tarfile.TarInfo(name)
                content = path.read_bytes()
                info.size, info.mode = len(content), 0o755 if path.suffix == ".sh" else 0o644
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
