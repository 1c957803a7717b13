"""`labctl ssh INSTANCE`: by SSH where that works, and otherwise on the instance's console."""

import os
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from labctl.access.guest import GuestError, GuestResult
from labctl.access.instance import (
    KEY,
    SSH_OPTIONS,
    ConsoleInUseError,
    InstanceGuest,
    InstanceLocation,
    find_instance,
)
from labctl.actions.logs import ssh_argv
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.lab import Lab
from labctl.spec.problems import did_you_mean

Way = Literal["floating IP", "metadata namespace", "console"]

_CONNECT_SECONDS = 3
"""Until an SSH server must answer: it is on the same machine, or one tunnel away."""
_LOGIN_SECONDS = 12
"""Until SSH must have logged in: an emulated instance calculates for a second or two."""
_COMMAND_SECONDS = 24 * 3600
"""How long a command may run that SSH does not carry; the learner ends it before, with Ctrl-C."""


@dataclass(frozen=True)
class InstanceLogin:
    """How to log in to an instance now."""

    location: InstanceLocation
    way: Way
    reason: str = ""
    """Why it is the console, if it is."""


def find_login(lab: Lab, name: str, *, console: bool = False) -> InstanceLogin:
    """How to log in to an instance; `console`: on its console, even if SSH reaches it.

    Raises LabError when there is no such instance, or it does not run.
    """
    if lab.topology.stack != "openstack":
        raise _unknown(name, lab, [])
    lab.require_up()
    from labctl.access.cloud import API_ERRORS

    try:
        cloud = lab.cloud()
        servers = [server.name for server in cloud.compute.servers()]
        if name not in servers:
            raise _unknown(name, lab, servers)
        location = find_instance(name, cloud)
    except API_ERRORS as error:
        raise LabError(tr("OpenStack does not answer: {said}", said=str(error))) from error
    if console:
        return InstanceLogin(location, "console")
    if location.keypair != lab.topology.keypair:
        keypair = lab.topology.keypair
        reason = tr("{name} was made without the keypair {keypair}", name=name, keypair=keypair)
        return InstanceLogin(location, "console", reason)
    return choose(location, _answering(lab, location))


def choose(location: InstanceLocation, answering: frozenset[Way]) -> InstanceLogin:
    """The way to log in, of those by which SSH answers; the console is always there."""
    ways: tuple[Way, ...] = ("floating IP", "metadata namespace")
    for way in ways:
        if way in answering:
            return InstanceLogin(location, way)
    if not location.address:
        reason = tr("{name} has no address", name=location.name)
    elif location.floating is None:
        reason = tr("{name} has no floating IP, and SSH does not reach it at {address}",
                    name=location.name, address=location.address)  # fmt: skip
    else:
        reason = tr("SSH does not reach {name}, neither at {floating} nor at {address}",
                    name=location.name, floating=location.floating,
                    address=location.address)  # fmt: skip
    return InstanceLogin(location, "console", reason)


def login_argv(
    lab: Lab, login: InstanceLogin, command: Sequence[str] = (), *, terminal: bool
) -> list[str]:
    """argv that logs in to the instance, or runs `command` there; `terminal` as for `ssh_argv`.

    Raises LabError when it is the console and there is no terminal, or somebody else has it open.
    """
    if login.way == "console" and not terminal:
        name = login.location.name
        raise LabError(
            tr("the console of {name} needs a terminal", name=name),
            hint=tr("run a command: `labctl ssh {name} -- COMMAND`", name=name),
            code=EXIT_USAGE,
        )
    node, argv = login_on_node(lab, login, command, terminal=terminal)
    return ssh_argv(lab, node, argv, terminal=terminal)


def login_on_node(
    lab: Lab, login: InstanceLogin, command: Sequence[str] = (), *, terminal: bool = True
) -> tuple[str, list[str]]:
    """The node from which to log in, and the argv to run there, as `login_argv` does.

    Raises LabError when it is the console, and somebody else has it open.
    """
    location = login.location
    if login.way == "console":
        return location.node, _console_argv(lab, location)
    if login.way == "floating IP":
        argv = _client(
            lab, location.name, location.floating, [shlex.join(command)], terminal=terminal
        )
        return lab.topology.controller.name, argv
    key = _key_file(location)
    lab.guest(location.node).put(lab.controller.get(KEY), key, 0o600)
    argv = _client(
        lab, location.name, location.address, [shlex.join(command)], key=key, terminal=terminal
    )
    script = f"trap 'rm -f {key}' EXIT; {shlex.join([*_in_namespace(location), *argv])}"
    return location.node, ["bash", "-c", script]


def run_command(lab: Lab, login: InstanceLogin, command: Sequence[str]) -> GuestResult:
    """Run a command in an instance that SSH does not reach. Raises GuestError if nothing does."""
    inside = InstanceGuest(login.location, lab.topology, lab.guest)
    return inside.run(list(command), timeout=_COMMAND_SECONDS, check=False)


def _console_argv(lab: Lab, location: InstanceLocation) -> list[str]:
    name = location.name
    if InstanceGuest(location, lab.topology, lab.guest).console_in_use():
        raise ConsoleInUseError(
            tr("the console of {name} is open in another window", name=name),
            hint=tr("close it there: Ctrl-]"),
        )
    domain = shlex.quote(location.domain)
    enter = f'(sleep 0.5; echo >"$(virsh ttyconsole {domain})") &'  # for a prompt
    script = f"{enter} exec virsh --quiet console {domain}"
    return ["bash", "-c", script]


def _client(
    lab: Lab,
    instance: str,
    address: str | None,
    words: Sequence[str],
    *,
    key: str = "",
    options: Sequence[str] = (),
    terminal: bool = False,
) -> list[str]:
    """argv of an SSH client on a node; `key` is a file there, if it is not ssh's default."""
    return [
        "ssh", *SSH_OPTIONS, *options, *(["-i", key] if key else []), *(["-t"] if terminal else []),
        f"{lab.topology.image_of(instance).user}@{address}", *filter(None, words),
    ]  # fmt: skip


def _in_namespace(location: InstanceLocation) -> list[str]:
    return ["ip", "netns", "exec", f"ovnmeta-{location.network}"]


def _key_file(location: InstanceLocation) -> str:
    return f"/run/labctl-{location.domain}-{os.getpid()}.key"


def _answering(lab: Lab, location: InstanceLocation) -> frozenset[Way]:
    """The ways by which SSH lets us in."""
    seconds = _CONNECT_SECONDS * lab.provider.timeout_factor
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}"]

    def by_floating_ip() -> bool:
        argv = _client(lab, location.name, location.floating, ["true"], options=options)
        return lab.controller.run(argv, check=False, timeout=_LOGIN_SECONDS).ok

    def by_namespace() -> bool:
        key, compute = _key_file(location), lab.guest(location.node)
        compute.put(lab.controller.get(KEY), key, 0o600)
        try:
            argv = _client(lab, location.name, location.address, ["true"], key=key, options=options)
            argv = [*_in_namespace(location), *argv]
            return compute.run(argv, check=False, timeout=_LOGIN_SECONDS).ok
        finally:
            compute.run(["rm", "-f", key], check=False)

    def answers(ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except GuestError:  # it took too long
            return False

    asks: dict[Way, Callable[[], bool]] = {}
    if location.floating is not None:
        asks["floating IP"] = by_floating_ip
    if location.address:
        asks["metadata namespace"] = by_namespace
    with ThreadPoolExecutor(max_workers=2) as pool:
        return frozenset(
            way for way, good in zip(asks, pool.map(answers, asks.values()), strict=True) if good
        )


def _unknown(name: str, lab: Lab, servers: Sequence[str]) -> LabError:
    known = [*(machine.name for machine in lab.topology.machines), *servers]
    meant = did_you_mean(name, known)
    hint = tr("there are: {names}", names=tr_list(known))
    return LabError(
        tr("there is no node and no instance {name}", name=repr(name)),
        hint=tr("did you mean {meant}?", meant=meant) if meant else hint,
        code=EXIT_USAGE,
    )
