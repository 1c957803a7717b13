"""A cable between two network namespaces of a test's own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from labctl.providers import HostEnd, netns


@contextmanager
def cabled(card: str, address: str, device: str, beyond: str) -> Iterator[tuple[str, HostEnd]]:
    """(a namespace with a card, the other end of its cable in another namespace).

    The card has `address`, the other end is `device` and has `beyond`. Both go afterwards.
    """
    node = f"labctl-test-{uuid4().hex[:8]}"
    end = HostEnd(f"{node}.far", device)
    try:
        for space in (node, end.namespace):
            netns.ensure(space)
            # The kernel would tell by ICMPv6, when it pleases, that an interface is there.
            quiet = [f"net.ipv6.conf.{which}.disable_ipv6=1" for which in ("all", "default")]
            subprocess.run(["ip", "netns", "exec", space, "sysctl", "-qw", *quiet], check=True)
        netns.cable((node, card), "52:54:00:00:00:01", (end.namespace, device))
        for space, interface, given in ((node, card, address), (end.namespace, device, beyond)):
            subprocess.run(
                ["ip", "-n", space, "addr", "add", f"{given}/24", "dev", interface], check=True
            )
        yield node, end
    finally:
        for space in (node, end.namespace):
            netns.delete(space)
