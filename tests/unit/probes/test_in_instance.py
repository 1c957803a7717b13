"""Into the first instance: by its guest agent, by SSH where that is open, else at its console."""

from types import SimpleNamespace
from typing import Any

import pytest

from labctl.access.guest import GuestResult
from labctl.errors import EXIT_FAILED, EXIT_USAGE, LabError
from labctl.probes import ProbeContext, in_instance
from labctl.probes.wire import PROBES
from tests.unit.fakes import FakeGuest, topology

MINE = {"floating_ip_address": "10.0.2.213", "fixed_ip_address": "172.16.100.10"}
OTHERS = {"floating_ip_address": "10.0.2.211", "fixed_ip_address": "172.16.100.99"}


class Console:
    """The instance's console, as instance.py gives it; without an agent unless `agent` says so."""

    def __init__(self, said: str = "at the console\n") -> None:
        self.said = said
        self.agent: str | None = None
        self.ran: list[str] = []

    def run_by_agent(self, command: str, *_: Any) -> GuestResult | None:
        return None if self.agent is None else GuestResult(0, self.agent, "", 0.1)

    def run(self, command: str, **options: Any) -> GuestResult:
        self.ran.append(command)
        assert options["check"] is False
        return GuestResult(0, self.said, "", 0.1)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    made = Console()
    monkeypatch.setattr(in_instance, "instance_guest", lambda *_: made)
    return made


def context(guest: FakeGuest, *ips: dict[str, str]) -> ProbeContext:
    def of(fixed_ip_address: str) -> list[Any]:
        return [SimpleNamespace(**ip) for ip in ips if ip["fixed_ip_address"] == fixed_ip_address]

    cloud: Any = SimpleNamespace(network=SimpleNamespace(ips=of))
    return ProbeContext(topology(), lambda: cloud, lambda name: guest)


def test_through_the_floating_ip(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    guest = FakeGuest().on("^ssh .*cirros@10.0.2.213 id$", "cirros\n")
    assert in_instance.run_in_instance(context(guest, OTHERS, MINE), "id").stdout == "cirros\n"
    assert console.ran == []


def test_the_guest_agent_is_asked_before_anything_else(console: Console) -> None:
    console.agent = "by the agent\n"
    guest = FakeGuest()
    done = in_instance.run_in_instance(context(guest, MINE), "id")
    assert (done.stdout, console.ran, guest.ran) == ("by the agent\n", [], [])


def test_a_command_that_fails_there_is_not_run_again(console: Console) -> None:
    for code, stderr in ((1, ""), (127, "sh: nonsense: not found"), (255, "it said 255 itself")):
        guest = FakeGuest().on("^ssh", exit=code, stderr=stderr)
        done = in_instance.run_in_instance(context(guest, MINE), "nonsense")
        assert done.returncode == code
    assert console.ran == []


@pytest.mark.parametrize(
    "stderr",
    [
        "ssh: connect to host 10.0.2.213 port 22: Connection timed out",
        "Connection closed by 10.0.2.213 port 22",
        "Warning: added it.\nPermission denied (publickey).",
        "kex_exchange_identification: Connection closed by remote host",
    ],
)
def test_where_ssh_is_closed_there_is_the_console(
    monkeypatch: pytest.MonkeyPatch, console: Console, stderr: str
) -> None:
    guest = FakeGuest().on("^ssh", exit=255, stderr=stderr)
    done = in_instance.run_in_instance(context(guest, MINE), "ping -c 3 8.8.8.8")
    assert (done.stdout, console.ran) == ("at the console\n", ["ping -c 3 8.8.8.8"])


def test_without_a_floating_ip_there_is_the_console(console: Console) -> None:
    in_instance.run_in_instance(context(FakeGuest(), OTHERS), "id")
    assert console.ran == ["id"]


def test_an_instance_that_is_gone_is_nobodys_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Console:
        raise LabError("there is no instance vm_1", hint="vm_9", code=EXIT_USAGE)

    monkeypatch.setattr(in_instance, "instance_guest", gone)
    with pytest.raises(LabError, match="no instance vm_1") as error:
        in_instance.run_in_instance(context(FakeGuest()), "id")
    assert (error.value.code, error.value.hint) == (EXIT_FAILED, "vm_9")


def test_a_ping_from_inside(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    console.said = "3 packets transmitted, 2 packets received, 33% packet loss\n"
    look = context(FakeGuest())
    rows = PROBES["wire.ping"](look, {"from": "instance", "to": "8.8.8.8; id", "count": "3"})
    assert rows == [{"to": "8.8.8.8; id", "sent": 3, "received": 2, "answered": True}]
    assert console.ran == ["ping -c 3 -W 2 '8.8.8.8; id'"]
