"""`labctl ssh` and `labctl logs`."""

import shlex
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.provisioning.services import units_of
from labctl.spec.problems import did_you_mean


def ssh_argv(
    lab: Lab, name: str, command: Sequence[str] = (), *, terminal: bool = False
) -> list[str]:
    """argv of an SSH client that logs in to a node, or runs `command` there.

    Each word of `command` is quoted, so that the node's shell changes none of them. The command
    ends with the connection. `terminal`: it gets one there, so that it prints line by line and
    Ctrl-C reaches it. Raises LabError when the node does not run.
    """
    lab.require_created()
    node = lab.node(name)
    if not lab.provider.running(node):
        raise LabError(
            tr("{name} is not running", name=name), hint=tr("start the lab: `labctl up`")
        )
    argv = lab.provider.ssh_argv(node)
    if not command:
        return argv
    if terminal:
        return [*argv[:-1], "-t", argv[-1], shlex.join(command)]
    script = shlex.join(command)
    ends = shlex.join([*_ENDS_WITH_PARENT, "timeout", "0", "bash", "-c", script])
    # BusyBox, in a box of the user's own, has a setpriv without this option.
    probe = shlex.join([*_ENDS_WITH_PARENT, "true"])
    return [*argv, f"if {probe} 2>/dev/null; then exec {ends}; else {script}; fi"]


_ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM")
"""Put before a program: it gets SIGTERM when its parent ends, here sshd's process.
Without a terminal nobody else ends it: sshd sends no signal. The kernel signals that one process;
timeout(1), here without a limit (0), hands the signal on to all that the command started."""


def read_log(lab: Lab, name: str, unit: str, lines: int) -> str:
    """The last `lines` lines of a log. Raises LabError when there is no such log or node.

    Without `name` it is the log of building the image. `unit` is a stage of `create` or a systemd
    unit of the node; "" lists the node's stages.
    """
    lab.require_created()
    if not name:
        return _tail(lab.state.image_log, lines)
    node = lab.node(name)
    directory = lab.state.node_logs(node.name)
    stages = {path.stem: path for path in sorted(directory.glob("*.log"))}
    if not unit:
        return "\n".join(f"labctl logs {name} {stage}" for stage in stages) + "\n"
    if unit in stages:
        return _tail(stages[unit], lines)
    script = (
        f"journalctl -q --no-pager -n {lines} -u {shlex.quote(unit)} 2>/dev/null;"
        f" for file in /var/log/*/{shlex.quote(unit)}*.log; do"
        f' [ -e "$file" ] && tail -n {lines} "$file"; done; true'
    )
    output = lab.guest(name).run(script).stdout
    if output.strip():
        return output
    meant = did_you_mean(unit, [*stages, *units_of(node, lab.topology.stack)])
    raise LabError(
        tr("{node} has no log of {unit}", node=name, unit=repr(unit)),
        hint=tr("did you mean {meant}?", meant=meant)
        if meant
        else tr("{command} lists the stages; a service is named as systemd names it",
                command=f"labctl logs {name}"),
        code=EXIT_USAGE,
    )  # fmt: skip


def _tail(path: Path, lines: int) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return "".join(deque(stream, lines))
    except FileNotFoundError:
        raise LabError(tr("there is no {file} yet", file=path.name)) from None
