"""Network namespaces of a lab: made, joined by cables, and used for sockets.

Every interface is created inside its namespace. So labs on one host cannot collide, and deleting a
namespace deletes its interfaces.
"""

import ctypes
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.operating_system import rights
from labctl.run import run

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
NAMESPACES = Path("/run/netns")


def exists(namespace: str) -> bool:
    """Whether the namespace exists.

    A crash of `ip netns add` can leave an empty file of its name. That is not counted: it is not on
    the kernel's file system for namespaces.
    """
    try:
        return os.stat(NAMESPACES / namespace).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def ensure(namespace: str) -> None:
    """Make the namespace if it does not exist, and set its loopback interface up."""
    if not exists(namespace):
        run(["ip", "netns", "delete", namespace], check=False)
        run(["ip", "netns", "add", namespace])
    run(["ip", "-n", namespace, "link", "set", "lo", "up"])


def listed(prefix: str) -> list[str]:
    """Namespaces whose names begin with `prefix`."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(path.name for path in NAMESPACES.iterdir() if path.name.startswith(prefix))


def delete(namespace: str) -> None:
    """Delete the namespace and with it its interfaces. Nothing happens if it does not exist."""
    if (NAMESPACES / namespace).exists():
        run(
            ["ip", "netns", "delete", namespace],
            hint=tr(
                "if it is busy although no process is in it, something made this machine's mounts"
                " private (mmdebstrap as root does); after a reboot it can be removed"
            ),
        )


def processes(namespace: str) -> list[int]:
    """Process IDs, as the host numbers them, of the processes in the namespace."""
    if not exists(namespace):
        return []
    return [int(pid) for pid in run(["ip", "netns", "pids", namespace]).stdout.split()]


def kill(namespace: str) -> None:
    """Kill every process in the namespace."""
    for pid in processes(namespace):
        try:
            os.kill(pid, signal.Signals["SIGKILL"])
        except ProcessLookupError:
            continue


def has_link(namespace: str, device: str) -> bool:
    return run(["ip", "-n", namespace, "link", "show", device], check=False).returncode == 0


MTU = 1500
"""Bytes; Ethernet's own, which every link of a lab has."""


def link_ready(namespace: str, device: str, master: str = "") -> bool:
    """Whether the device exists as `cable` makes it: up, with its MTU; and a port of `master`."""
    shown = run(["ip", "-j", "-n", namespace, "link", "show", device], check=False)
    if shown.returncode != 0:
        return False
    (link,) = json.loads(shown.stdout)
    return (
        "UP" in link["flags"]
        and link["mtu"] == MTU
        and (not master or link.get("master") == master)
    )


def cable(end: tuple[str, str], mac: str, other_end: tuple[str, str]) -> None:
    """A veth pair between two (namespace, device) ends; `mac` is that of the first end.

    Checksum and segmentation offloads are switched off at both ends. With them the kernel leaves
    the checksum to a network card; a veth pair has none, and Open vSwitch's userspace datapath
    drops frames with a wrong checksum.
    """
    (namespace, device), (other_namespace, other_device) = end, other_end
    if not has_link(namespace, device):
        run(
            ["ip", "link", "add", "name", device, "address", mac, "netns", namespace,
             "type", "veth", "peer", "name", other_device, "netns", other_namespace]
        )  # fmt: skip
    for space, name in (end, other_end):
        run(["ip", "-n", space, "link", "set", name, "mtu", str(MTU), "up"])
        offloads = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"]
        run(["ip", "netns", "exec", space, "ethtool", "-K", name, *offloads])


def run_in(namespace: str, work: Callable[[], T]) -> T:
    """Run `work` in a thread that has entered the namespace; returns its result, raises its errors.

    A socket that `work` opens can be used outside: it stays in the namespace it was made in.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            with (NAMESPACES / namespace).open("rb") as stream:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(stream.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), tr("cannot enter the network namespace"))
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name=f"netns-{namespace}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def dial(namespace: str, host: str, port: int, timeout: float = 10) -> socket.socket:
    """Connect by TCP inside the namespace. Raises OSError if that fails, LabError without root."""
    if not rights.is_root():
        raise LabError(
            tr("only root may enter a network namespace"), hint=tr("run labctl with sudo")
        )
    return run_in(namespace, lambda: socket.create_connection((host, port), timeout))
