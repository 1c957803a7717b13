"""Our handle on an instance: runs a command in it, even when its network does not work.

The first method is QEMU's guest agent, which the built-in image has: it needs no address, security
group, floating IP or metadata service, and leaves the console to the learner. The second is the
serial console, if nobody has it open. Most cloud images ask for a login there; these are reached by
SSH with the Nova keypair: from the metadata namespace of the compute node (if the security group
allows it), or through a floating IP.
"""

import base64
import json
import posixpath
import shlex
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from labctl.access import guestagent, serialshell
from labctl.access.guest import Guest, GuestError, GuestResult, LateError, OnLine
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import mark, tr, tr_list
from labctl.topology import Topology

if TYPE_CHECKING:
    from openstack.connection import Connection

KEY = "/root/.ssh/id_ed25519"
"""Private half of the Nova keypair, a file on the controller."""
SSH_OPTIONS = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
)  # fmt: skip
"""Of an SSH client on a node: instances come and go behind the same addresses."""
_CONSOLE_TROUBLE = (
    mark("the console asks for a login"),
    mark("the console does not answer"),
    mark("the console takes nothing any more"),
    mark("the console is gone"),
    mark("the console garbles what is typed"),
    mark("the console garbles what is said"),
    serialshell.IN_USE,
    mark("another labctl types on the console"),
)
"""What NoShellError says. access/serialshell.py has no translations: it runs inside a node."""
mark("the console is open in another window")  # serialshell.IN_USE
_AGENT_TROUBLE = (
    mark("the instance has no port for a guest agent"),
    mark("no guest agent answers"),
)
"""What guestagent.AgentError says, besides libvirt's own words."""
_SHELL_TIMEOUT = 60
"""Seconds until the agent or a shell must answer: the instance may still be booting."""
_SHORT_TIMEOUT = 10
"""Seconds until a shell must answer after the agent was waited for in vain."""


@dataclass(frozen=True)
class InstanceLocation:
    """Where an instance runs, and how its first port is known there."""

    name: str
    node: str
    """The compute node it runs on."""
    domain: str
    """Its name in libvirt."""
    port: str
    """ID of its first port in Neutron, which is the port's name in OVN."""
    network: str
    """ID of that port's network."""
    address: str
    mac: str
    floating: str | None
    keypair: str | None = None
    """The Nova keypair it was made with."""
    addresses: tuple[str, ...] = ()
    """All fixed addresses of that port, those of IPv4 first."""

    @property
    def tap(self) -> str:
        """The interface on the compute node that is the other end of the instance's eth0."""
        return f"tap{self.port[:11]}"


def ipv4_first(addresses: Iterable[str]) -> list[str]:
    """The addresses, those of IPv4 before those of IPv6; Neutron gives them in any order."""
    return sorted(addresses, key=lambda address: ":" in address)


def find_instance(name: str, cloud: "Connection") -> InstanceLocation:
    """Where the instance of that name runs. Raises LabError when there is none, or it is down."""
    # Not Nova's name filter: it takes a regular expression of its database.
    servers = [server for server in cloud.compute.servers() if server.name == name]
    if not servers:
        names = tr_list(server.name for server in cloud.compute.servers()) or tr("none")
        raise LabError(
            tr("there is no instance {name}", name=name),
            hint=tr("the instances are: {names}", names=names),
            code=EXIT_USAGE,
        )
    server = servers[0]
    if server.status != "ACTIVE" or not server.compute_host:
        raise LabError(
            tr("{name} is not running: {status}", name=name, status=server.status),
            hint=tr("start it: `openstack server start {name}`", name=name),
        )
    port = next(iter(cloud.network.ports(device_id=server.id)), None)
    if port is None:
        raise LabError(tr("{name} has no port", name=name))
    floating = next(iter(cloud.network.ips(port_id=port.id)), None)
    addresses = ipv4_first(ip["ip_address"] for ip in port.fixed_ips)
    return InstanceLocation(
        name=name,
        node=server.compute_host,
        domain=server.instance_name,
        port=port.id,
        network=port.network_id,
        address=next(iter(addresses), ""),
        mac=port.mac_address,
        floating=floating.floating_ip_address if floating is not None else None,
        keypair=server.key_name,
        addresses=tuple(addresses),
    )


def instance_guest(
    name: str,
    topology: Topology,
    cloud: "Callable[[], Connection]",
    guest_of: Callable[[str], Guest],
) -> "InstanceGuest":
    """The handle on a running instance. `guest_of` gives the handle on a node, by its name.

    Raises LabError when there is no such instance, or it does not run.
    """
    return InstanceGuest(find_instance(name, cloud()), topology, guest_of)


def agent_answers(domain: str, compute: Guest) -> bool:
    """Whether the guest agent of an instance answers now. Raises GuestError if the node does not.

    `domain` is its name in libvirt, `compute` the node it runs on.
    """
    ping = json.dumps({"execute": "guest-ping"})
    words = ["virsh", "qemu-agent-command", "--timeout", "5", "--domain", domain, "--cmd", ping]
    return compute.run(words, check=False, timeout=15).ok


class InstanceGuest:
    """An instance, as a Guest: commands run as the image's user, with sh."""

    def __init__(
        self,
        location: InstanceLocation,
        topology: Topology,
        guest_of: Callable[[str], Guest],
    ) -> None:
        self.location = location
        self.name = location.name
        self._topology = topology
        self._guest_of = guest_of
        image = topology.image_of(location.name)
        self._user = image.user
        self._compute = guest_of(location.node)
        self.timeout_factor = self._compute.timeout_factor
        self._controller = guest_of(topology.controller.name)
        self._methods = (
            self._by_agent,
            self._by_console,
            self._by_metadata_namespace,
            self._by_floating_ip,
        )
        self._method: Callable[[str, float, Callable[[], bool] | None], GuestResult] | None = None
        """The one of `_methods` that worked, once one has."""
        # Only of the built-in image is it known that an agent will answer once it has booted.
        self._agent_wait = _SHELL_TIMEOUT if image.source == "builtin" else 0
        self._waited = False
        """Whether `_agent_wait` has passed in vain."""

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 60,
        check: bool = True,
        input: bytes | None = None,
        on_line: OnLine | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> GuestResult:
        """Run a command to its end: a list is quoted word by word, a string is a script for sh.

        `timeout` is in seconds. `on_line` gets the lines only when the command is over. Raises
        GuestError when no method gets into the instance, when the command takes too long, or (with
        `check`) exits non-zero; Cancelled.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        if input is not None:
            quoted = shlex.quote(script)
            script = f"base64 -d <<'labctl-end' | sh -c {quoted}\n{_base64(input)}\nlabctl-end\n"
        result = self._run(script, timeout, cancelled)
        for stream, text in (("stdout", result.stdout), ("stderr", result.stderr)):
            for line in text.splitlines() if on_line else ():
                on_line(line, stream)  # type: ignore[misc]  # the loop is empty without it
        if check and not result.ok:
            output = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
            raise GuestError(
                tr(
                    "{name}: `{command}` failed (exit {code}): {said}",
                    name=self.name,
                    command=_shown(command),
                    code=result.returncode,
                    said=" / ".join(output[-3:]),
                )
            )
        return result

    def put(self, content: bytes, path: str, mode: int = 0o644) -> None:
        """Write a (small) file atomically. Raises GuestError."""
        name = shlex.quote(path)
        self.run(
            f"umask 077; mkdir -p {shlex.quote(posixpath.dirname(path) or '.')}"
            f" && cat >{name}.new && chmod {mode:o} {name}.new && mv {name}.new {name}",
            input=content,
        )

    def get(self, path: str) -> bytes:
        """Read a (small) file. Raises GuestError when there is none."""
        encoded = self.run(f"base64 <{shlex.quote(path)}").stdout
        return base64.b64decode(encoded)

    def dial(self, host: str, port: int) -> socket.socket:
        """Always raises OSError: labctl has no route into an instance's network."""
        raise OSError(f"{self.name} opens no connections for labctl")

    def another(self) -> "InstanceGuest":
        """A handle on the same instance."""
        return InstanceGuest(self.location, self._topology, self._guest_of)

    def close(self) -> None:
        """Does nothing: no connection stays open between commands."""

    # -- methods ---------------------------------------------------------------------------------
    def _run(
        self, script: str, timeout: float, cancelled: Callable[[], bool] | None
    ) -> GuestResult:
        refused = []
        in_use = False
        # First what worked the last time.
        methods = sorted(self._methods, key=lambda method: method != self._method)
        for method in methods:
            try:
                result = method(script, timeout, cancelled)
            except _ClosedError as error:
                refused.append(str(error))
                in_use |= isinstance(error, _InUseError)
                continue
            self._method = method
            return result
        message = tr(
            "no connection to {name} works: {tried}", name=self.name, tried=tr("; ").join(refused)
        )
        if in_use:
            raise ConsoleInUseError(
                message, hint=tr("close the console of {name} there: Ctrl-]", name=self.name)
            )
        raise GuestError(
            message,
            hint=tr("is it still booting? see `openstack console log show {name}`", name=self.name),
        )

    def console_in_use(self) -> bool:
        """Whether somebody has the console open. Raises GuestError."""
        command = self._on_console("--in-use")
        return self._compute.run(command, check=False).stdout == "yes"

    def _on_console(self, *words: str) -> str:
        """For the compute node: runs access/serialshell.py on the line of the console."""
        return (
            f"line=$(virsh ttyconsole {shlex.quote(self.location.domain)})"
            f' && exec python3 -I -c {_program(serialshell)} "$line" {shlex.join(words)}'
        )

    def run_by_agent(
        self, script: str, timeout: float, cancelled: Callable[[], bool] | None = None
    ) -> GuestResult | None:
        """Run a script by the guest agent, if one answers now; otherwise None.

        Raises GuestError when the script takes too long or the instance goes away, Cancelled.
        """
        try:
            return self._by_agent(script, timeout, cancelled, wait=0)
        except _ClosedError:
            return None

    def _by_agent(
        self,
        script: str,
        timeout: float,
        cancelled: Callable[[], bool] | None,
        wait: float | None = None,
    ) -> GuestResult:
        wait = self._agent_wait if wait is None else wait
        request = {
            "script": script,
            "user": self._user,
            "timeout": timeout * self.timeout_factor,
            "wait": wait * self.timeout_factor,
        }
        answer = self._ask(
            # With labctl this program ends, and with it the script: see guestagent.main.
            f"exec setpriv --pdeathsig TERM python3 -I -c {_program(guestagent)}"
            f" {shlex.quote(self.location.domain)}",
            request,
            timeout + _SHELL_TIMEOUT,
            cancelled,
            mark("guest agent: {said}"),
            script,
        )
        if "closed" in answer:
            self._waited = wait > 0
            raise _ClosedError(tr("guest agent: {said}", said=_translated(answer["closed"])))
        if "lost" in answer:
            raise GuestError(
                tr("{name} stopped while a command ran in it: {said}",
                   name=self.name, said=answer["lost"])
            )  # fmt: skip
        return self._result(answer, script, timeout)

    def _by_console(
        self, script: str, timeout: float, cancelled: Callable[[], bool] | None
    ) -> GuestResult:
        request = {
            "script": script,
            "timeout": timeout * self.timeout_factor,
            "shell_timeout": (_SHORT_TIMEOUT if self._waited else _SHELL_TIMEOUT)
            * self.timeout_factor,
        }
        answer = self._ask(
            self._on_console(),
            request,
            timeout + 3 * _SHELL_TIMEOUT,
            cancelled,
            mark("console: {said}"),
            script,
        )
        if "no_shell" in answer:
            error = _InUseError if answer["no_shell"] == serialshell.IN_USE else _ClosedError
            raise error(tr("console: {said}", said=_translated(answer["no_shell"])))
        return self._result(answer, script, timeout)

    def _ask(
        self,
        command: str,
        request: dict[str, Any],
        timeout: float,
        cancelled: Callable[[], bool] | None,
        trouble: str,
        script: str,
    ) -> dict[str, Any]:
        """Run one of the programs that go into the compute node; its answer, with `seconds`."""
        try:
            done = self._compute.run(
                command,
                input=json.dumps(request).encode(),
                timeout=timeout,
                check=False,
                cancelled=cancelled,
            )
        except LateError as error:
            raise self._late(script, timeout) from error
        if not done.ok:
            reason = (done.stderr.strip().splitlines() or [tr("nothing")])[-1]
            raise _ClosedError(tr(trouble, said=reason))
        answer: dict[str, Any] = json.loads(done.stdout)
        return {**answer, "seconds": done.seconds}

    def _result(self, answer: dict[str, Any], script: str, timeout: float) -> GuestResult:
        if "late" in answer:
            raise self._late(script, timeout)
        out, err = (
            base64.b64decode(answer[stream]).decode(errors="replace")
            + (f"\n[… {cut} bytes …]\n" if cut else "")
            for stream, cut in zip(("out", "err"), answer["cut"], strict=True)
        )
        return GuestResult(answer["code"], out, err, answer["seconds"], sum(answer["cut"]))

    def _by_metadata_namespace(
        self, script: str, timeout: float, cancelled: Callable[[], bool] | None
    ) -> GuestResult:
        # The key is on the controller, the namespace on the compute node: the key is copied there,
        # into a tmpfs, for as long as the command runs.
        key = f"/run/labctl-{self.location.domain}.key"
        try:
            self._compute.put(self._controller.get(KEY), key, 0o600)
        except GuestError as error:
            raise _ClosedError(tr("SSH: {said}", said=error.message)) from error
        try:
            namespace = f"ovnmeta-{self.location.network}"
            client = ["ip", "netns", "exec", namespace, "ssh", "-i", key]
            address = self.location.address
            return self._ssh(self._compute, client, address, script, timeout, cancelled)
        finally:
            self._compute.run(["rm", "-f", key], check=False)

    def _by_floating_ip(
        self, script: str, timeout: float, cancelled: Callable[[], bool] | None
    ) -> GuestResult:
        if self.location.floating is None:
            raise _ClosedError(tr("it has no floating IP"))
        return self._ssh(
            self._controller, ["ssh"], self.location.floating, script, timeout, cancelled
        )

    def _ssh(
        self,
        node: Guest,
        client: list[str],
        address: str,
        script: str,
        timeout: float,
        cancelled: Callable[[], bool] | None,
    ) -> GuestResult:
        timeouts = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={6 * self.timeout_factor}"]
        target = f"{self._user}@{address}"
        # The user's login shell may be another one than sh.
        remote = f"exec sh -c {shlex.quote(script)}"
        try:
            done = node.run(
                [*client, *timeouts, *SSH_OPTIONS, target, remote],
                timeout=timeout + 10,
                check=False,
                cancelled=cancelled,
            )
        except GuestError as error:
            raise self._late(script, timeout) from error
        if done.returncode == 255:  # ssh itself failed
            reason = (done.stderr.strip().splitlines() or [tr("nothing")])[-1]
            raise _ClosedError(tr("SSH: {said}", said=reason))
        return done

    def _late(self, script: str, timeout: float) -> GuestError:
        return GuestError(
            tr(
                "{name}: `{command}` did not finish within {seconds} s",
                name=self.name,
                command=_shown(script),
                seconds=f"{timeout:g}",
            )
        )


class ConsoleInUseError(GuestError):
    """The one way in is the instance's console, and somebody has it open."""


class _ClosedError(Exception):
    """One method does not get into the instance; the message says why."""


class _InUseError(_ClosedError):
    """Somebody else has the console open."""


def _program(module: ModuleType) -> str:
    """The text of a module, as a word for the shell."""
    return shlex.quote(Path(module.__file__ or "").read_text(encoding="utf-8"))


def _translated(trouble: str) -> str:
    return tr(trouble) if trouble in (*_CONSOLE_TROUBLE, *_AGENT_TROUBLE) else trouble


def _shown(command: str | Sequence[str]) -> str:
    script = command if isinstance(command, str) else shlex.join(command)
    return script.strip().splitlines()[0][:120] if script.strip() else ""


def _base64(content: bytes) -> str:
    text = base64.b64encode(content).decode()
    return "\n".join(text[start : start + 512] for start in range(0, len(text), 512))
