"""Cables that are cut, slow and lossy, and an address that is there twice: what passes then."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.errors import LabError
from labctl.faults.catalogue import find_fault
from labctl.lab import Lab
from labctl.providers import netns
from tests.integration import cables
from tests.unit.fakes import FakeGuest, topology

ECHO = 7
"""UDP port of the host at the far end, which sends back what it gets (RFC 862)."""


def answer(line: socket.socket) -> None:
    """Echo until the socket is closed."""
    line.settimeout(0.2)
    while line.fileno() != -1:
        with suppress(OSError):
            data, peer = line.recvfrom(2048)
            line.sendto(data, peer)


@pytest.fixture
def cabled(require: Callable[..., None]) -> Iterator[tuple[Lab, str]]:
    """A lab whose nodes are one namespace, and that namespace; the far end has 192.0.2.1."""
    require("ip", "tc", "nft", "ethtool", root=True)
    with cables.cabled("eth1", "192.0.2.2", "port0", "192.0.2.1") as (node, end):
        guest = FakeGuest().on("list NAT", '{"headings": ["external_ip", "type"], "data": []}')
        guest.on("^ip neighbour flush")
        made = topology()
        lab = SimpleNamespace(
            topology=made,
            controller=guest,
            provider=SimpleNamespace(
                host_end=lambda node, card: end,
                guest=lambda node: guest,
                running=lambda node: True,
            ),
        )
        echo = netns.run_in(end.namespace, partial(socket.socket, type=socket.SOCK_DGRAM))
        with echo:
            echo.bind(("", ECHO))
            threading.Thread(target=answer, args=(echo,), daemon=True).start()
            yield cast(Lab, cast(Any, lab)), node


def pinged(space: str, count: int, *, size: int = 56, to: str = "192.0.2.1") -> tuple[int, float]:
    """How many datagrams were echoed, and the seconds until the last of them; 0.4 s at most
    are waited for the next."""

    def send_and_count() -> tuple[int, float]:
        answered, began = 0, time.monotonic()
        last = began
        with socket.socket(type=socket.SOCK_DGRAM) as line, suppress(OSError):
            line.settimeout(0.4)
            for _ in range(count):
                line.sendto(bytes(size), (to, ECHO))
                time.sleep(0.005)
            while answered < count:
                line.recv(2048)
                answered, last = answered + 1, time.monotonic()
        return answered, last - began

    return netns.run_in(space, send_and_count)


def test_a_cut_cable_carries_nothing_until_it_is_mended(cabled: tuple[Lab, str]) -> None:
    lab, space = cabled
    fault, node = find_fault("eth1-cut").mechanism, lab.topology.controller
    plan = fault.plan(lab, node)
    assert pinged(space, 1)[0] == 1
    fault.inject(lab, node, plan)
    assert fault.present(lab, node, plan) is True
    assert pinged(space, 1)[0] == 0
    for _ in range(2):
        fault.undo(lab, node, plan)
    assert fault.present(lab, node, plan) is False
    assert pinged(space, 1)[0] == 1


def test_a_lossy_cable_loses_about_half(cabled: tuple[Lab, str]) -> None:
    lab, space = cabled
    fault, node = find_fault("lossy-link").mechanism, lab.topology.controller
    plan = fault.plan(lab, node)
    assert pinged(space, 1)[0] == 1  # and the addresses are known, which ARP could not ask then
    for _ in range(2):
        fault.inject(lab, node, plan)
    assert fault.present(lab, node, plan) is True
    # 60 flips of a coin: fewer than 10 heads, or more than 50, once in ten million times.
    assert 10 <= pinged(space, 60)[0] <= 50
    for _ in range(2):
        fault.undo(lab, node, plan)
    assert fault.present(lab, node, plan) is False
    assert pinged(space, 30)[0] == 30


def test_a_slow_cable_passes_single_packets_and_is_late_with_many(
    cabled: tuple[Lab, str],
) -> None:
    lab, space = cabled
    fault, node = find_fault("slow-link").mechanism, lab.topology.controller
    plan = fault.plan(lab, node)
    assert pinged(space, 10, size=1400)[1] < 0.6
    fault.inject(lab, node, plan)
    assert fault.present(lab, node, plan) is True
    # Ten answers of 1442 bytes are 115 kbit: nearly a second, less what the bucket holds.
    answered, seconds = pinged(space, 10, size=1400)
    assert answered == 10
    assert seconds > 0.5
    fault.undo(lab, node, plan)
    assert fault.present(lab, node, plan) is False
    assert pinged(space, 10, size=1400)[1] < 0.6


def test_a_late_cable_is_late_or_the_kernel_is_named(cabled: tuple[Lab, str]) -> None:
    lab, space = cabled
    fault, node = find_fault("late-link").mechanism, lab.topology.controller
    plan = fault.plan(lab, node)
    why = ""
    try:
        fault.inject(lab, node, plan)
    except LabError as error:
        why = error.message
    assert ("sch_netem" in why) is not fault.present(lab, node, plan)
    assert pinged(space, 1)[1] > (0 if why else 0.2)
    fault.undo(lab, node, plan)
    assert pinged(space, 1)[1] < 0.2


def test_an_address_twice_is_answered_by_the_other_host(cabled: tuple[Lab, str]) -> None:
    lab, space = cabled
    fault, node = find_fault("duplicate-address").mechanism, lab.topology.controller
    plan = fault.plan(lab, node)
    assert plan["address"] == "10.0.2.15"  # of the gateway node: there is no NAT rule
    subprocess.run(["ip", "-n", space, "route", "add", "10.0.2.15", "dev", "eth1"], check=True)
    assert pinged(space, 1, to="10.0.2.15")[0] == 0
    fault.inject(lab, node, plan)
    subprocess.run(["ip", "-n", space, "neighbour", "flush", "dev", "eth1"], check=True)
    assert fault.present(lab, node, plan) is True
    assert pinged(space, 1, to="10.0.2.15")[0] == 1
    fault.undo(lab, node, plan)
    assert fault.present(lab, node, plan) is False
    assert pinged(space, 1, to="10.0.2.15")[0] == 0
