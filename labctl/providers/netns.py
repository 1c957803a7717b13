"""Network namespaces of a lab: making them, wiring them, opening sockets inside them.

Every interface is created inside its namespace, so labs on one host cannot collide, and a
namespace takes its interfaces along when it goes.
"""

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.run import run

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")


def exists(namespace: str) -> bool:
    """Whether the namespace is there; the empty file a crash may leave does not count."""
    try:
        return os.stat(NAMESPACES / namespace).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def ensure(namespace: str) -> None:
    """Make the namespace, its loopback up, if it is not there."""
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
    """Remove the namespace; its interfaces go with it."""
    if (NAMESPACES / namespace).exists():
        run(
            ["ip", "netns", "delete", namespace],
            hint=tr(
                "if it is busy although no process is in it, something made this machine's mounts"
                " private (mmdebstrap as root does); after a reboot it can be removed"
            ),
        )


def processes(namespace: str) -> list[int]:
    """Process IDs (of the host) that live in the namespace."""
    if not exists(namespace):
        return []
    return [int(pid) for pid in run(["ip", "netns", "pids", namespace]).stdout.split()]


def kill(namespace: str, sig: signal.Signals = signal.SIGKILL) -> None:
    """Signal every process in the namespace."""
    for pid in processes(namespace):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            continue


def has_link(namespace: str, device: str) -> bool:
    """Whether the namespace has that interface."""
    return run(["ip", "-n", namespace, "link", "show", device], check=False).returncode == 0


def cable(end: tuple[str, str], mac: str, far: tuple[str, str]) -> None:
    """A veth pair between two (namespace, device) ends; `mac` is that of the first end.

    Checksum and segmentation offloads are off on both ends: Open vSwitch's user space datapath
    reads whole frames, and drops one whose checksum was left to a card that does not exist.
    """
    (namespace, device), (far_namespace, far_device) = end, far
    if not has_link(namespace, device):
        run(
            ["ip", "link", "add", "name", device, "address", mac, "netns", namespace,
             "type", "veth", "peer", "name", far_device, "netns", far_namespace]
        )  # fmt: skip
    for space, name in (end, far):
        run(["ip", "-n", space, "link", "set", name, "up"])
        offloads = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"]
        run(["ip", "netns", "exec", space, "ethtool", "-K", name, *offloads])


def run_in(namespace: str, work: Callable[[], T]) -> T:
    """Run `work` in a thread that lives in the namespace, and return its result.

    What it opens stays there: a socket belongs to the namespace it was made in.
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
    """A TCP connection made inside the namespace; OSError when it fails, LabError without root."""
    if os.geteuid() != 0:
        raise LabError(
            tr("only root may enter a network namespace"), hint=tr("run labctl with sudo")
        )
    return run_in(namespace, lambda: socket.create_connection((host, port), timeout))
