"""Runs a script in an instance by QEMU's guest agent; returns output and exit code.

This file runs inside a compute node, where labctl passes its text to `python3 -I -c`. So it imports
only the standard library and libvirt's binding, which nova-compute brings along, and nothing of
labctl.

The agent needs no address, and no terminal that a learner may be typing in. libvirt knows whether
an instance has a port for it (Nova adds one for the image's property hw_qemu_guest_agent), and
whether an agent inside has opened that port.
"""

import base64
import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

PORT = "org.qemu.guest_agent.0"
"""The name of the agent's virtio port, to libvirt and Nova."""
MAX_OUTPUT = 2 * 1024 * 1024
"""Bytes of each stream that come back. libvirt drops an agent whose answer exceeds 10 MiB
(QEMU_AGENT_MAX_RESPONSE in its qemu_agent.c); both streams are in one answer, as base64."""
_ANSWER_SECONDS = 5
"""Until the agent must answer a command. It answers at once, also while a script runs."""
_CONNECT_INTERVAL = 0.2
_FIRST_POLL, _LONGEST_POLL = 0.01, 0.2
"""Seconds between two questions whether the script has ended; each is 1.5 times the one before."""

Ask = Callable[..., Any]
"""(command of the agent, its arguments) -> what it returns. Raises AgentError."""

SCRIPT = f"""exec 4>&1 5>&2
limit() {{
    dd bs=65536 count={MAX_OUTPUT // 65536} iflag=fullblock 2>/dev/null
    echo "$1 $(wc -c)" >&3
}}
ended=$( {{ {{ {{
    su -l -s /bin/sh "$1" -c 's=$(cat); exec </dev/null; eval "$s"' 3>&- 4>&- 5>&- 6>&-
    echo "code $?" >&3
}} 2>&1 1>&6 | limit err >&5; }} 6>&1 | limit out >&4; }} 3>&1)
printf '\\nlabctl-ended %s\\n' "$(echo $ended)" >&5
"""
"""Runs what is on its stdin as the user $1. Of each stream the beginning is passed on; the rest is
read and counted. The last line of stderr has the exit code and these counts."""
_ENDED = b"\nlabctl-ended "


class AgentError(Exception):
    """There is no agent, or it does not answer."""


class LateError(Exception):
    """The script took too long, and was ended."""


def state_of_port(xml: str) -> str:
    """Of the agent's port in a running domain's XML: connected, disconnected; "" without one."""
    for target in ElementTree.fromstring(xml).iterfind("devices/channel/target"):
        if target.get("name") == PORT:
            return target.get("state", "disconnected")
    return ""


def wait_for_agent(xml: Callable[[], str], timeout: float) -> None:
    """Return once an agent has opened the port. Raises AgentError when it has not in `timeout` s.

    It does not wait when there is no port.
    """
    end = time.monotonic() + timeout
    while (state := state_of_port(xml())) != "connected":
        if not state:
            raise AgentError("the instance has no port for a guest agent")
        if time.monotonic() >= end:
            raise AgentError("no guest agent answers")
        time.sleep(_CONNECT_INTERVAL)


def run(
    ask: Ask, script: str, user: str, timeout: float
) -> tuple[int, bytes, bytes, tuple[int, int]]:
    """Run a script with sh as a user: (exit code, stdout, stderr, bytes cut off each).

    `timeout` is in seconds; after that the script is ended. Raises AgentError, LateError.
    """
    pid = ask(
        "guest-exec",
        # A process group of its own, so that all of it can be ended.
        path="setsid",
        arg=["sh", "-c", SCRIPT, "sh", user],
        **{"input-data": base64.b64encode(script.encode()).decode(), "capture-output": True},
    )["pid"]
    end = time.monotonic() + timeout
    interval = _FIRST_POLL
    try:
        while not (status := ask("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > end:
                raise LateError(f"not finished within {timeout:.0f} s")
            time.sleep(interval)
            interval = min(1.5 * interval, _LONGEST_POLL)
    except (LateError, SystemExit):
        ask("guest-exec", path="sh", arg=["-c", f"kill -TERM -{pid}; sleep 1; kill -KILL -{pid}"])
        raise
    return _result(status)


def _result(status: dict[str, Any]) -> tuple[int, bytes, bytes, tuple[int, int]]:
    out, err = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
    err, ended, words = err.rpartition(_ENDED)
    if not ended:  # killed, or without one of the programs that SCRIPT uses
        return status.get("exitcode", 128 + status.get("signal", 0)), out, words, (0, 0)
    pairs = words.split()
    numbers = {word: int(number) for word, number in zip(pairs[::2], pairs[1::2], strict=True)}
    return numbers[b"code"], out, err, (numbers[b"out"], numbers[b"err"])


def main() -> None:
    """The first argument is the domain. JSON in on stdin, JSON out on stdout."""
    import libvirt  # type: ignore[import-not-found]  # on compute nodes
    import libvirt_qemu  # type: ignore[import-not-found]

    request = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # labctl has ended: so does the script
    libvirt.registerErrorHandler(lambda *_: None, None)

    def ask(command: str, **arguments: Any) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments})
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(domain, text, _ANSWER_SECONDS, 0))[
                "return"
            ]
        except libvirt.libvirtError as error:
            raise AgentError(str(error)) from error

    answer: dict[str, object]
    started = False
    try:
        domain = libvirt.open("qemu:///system").lookupByName(sys.argv[1])
        wait_for_agent(lambda: domain.XMLDesc(0), request["wait"])
        ask("guest-ping")
        started = True
        code, out, err, cut = run(ask, request["script"], request["user"], request["timeout"])
    except (AgentError, libvirt.libvirtError) as error:
        answer = {"lost" if started else "closed": str(error)}
    except LateError as error:
        answer = {"late": str(error)}
    else:
        answer = {
            "code": code,
            "out": base64.b64encode(out).decode(),
            "err": base64.b64encode(err).decode(),
            "cut": cut,
        }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
