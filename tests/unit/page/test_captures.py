"""What the page keeps of a capture is bounded, and nothing in it becomes markup or control."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from labctl.access.live_capture import Place
from labctl.access.pcapng import Packet
from labctl.errors import LabError
from labctl.page import captures
from labctl.page.captures import Captures

PLACES = ("one:eth1", "two:eth1")


class FakeCapture:
    """Gives the packets of `waiting`, and ends when it is told to."""

    waiting: ClassVar[list[Packet]] = []
    opened: ClassVar[list["FakeCapture"]] = []

    def __init__(self, places: list[Place], guest: object, filter: str) -> None:
        self.places, self.dropped = tuple(places), [0] * len(places)
        self.link_types = [113, 1][: len(places)]
        self.failures: list[str] = []
        self.stopped = False
        self.left = list(self.waiting)
        self.opened.append(self)

    def __enter__(self) -> "FakeCapture":
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def ended(self) -> bool:
        return self.stopped and not self.left

    def stop(self) -> None:
        self.stopped = True

    def take(self, seconds: float, most: int) -> list[Packet]:
        taken, self.left = self.left[:most], self.left[most:]
        if not taken:
            time.sleep(0.01)
        return taken


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captures]:
    monkeypatch.setenv("LABCTL_LANG", "en")
    monkeypatch.setattr(captures, "LiveCapture", FakeCapture)
    monkeypatch.setattr(captures, "places", lambda _, texts: [Place(*t.split(":")) for t in texts])
    monkeypatch.setattr(captures, "check_filter", lambda *_: None)
    monkeypatch.setattr(FakeCapture, "waiting", [])
    monkeypatch.setattr(FakeCapture, "opened", [])
    lab: Any = SimpleNamespace(guest=None, file=Path("/a lab/lab.yaml"))
    made = Captures(lambda: lab, "labctl")
    yield made
    made.end()


def packets(number: int, size: int = 60) -> list[Packet]:
    return [Packet(at % 2, at, bytes([at % 256]) * size, size) for at in range(number)]


def until(made: Captures, number: int) -> None:
    end = time.monotonic() + 20
    while made.state()["packets"] < number:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_only_the_last_packets_are_kept(made: Captures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "MOST_PACKETS", 10)
    monkeypatch.setattr(FakeCapture, "waiting", packets(25))
    made.begin(PLACES, "")
    until(made, 25)
    rows, left_out, after = made.since(0, 1000)
    assert [row["number"] for row in rows] == list(range(15, 25))
    assert (left_out, after) == (15, 25)
    assert made.since(after) == ([], 0, 25)
    assert made.detail(24)["bytes"] == bytes([24] * 60).hex()
    with pytest.raises(LabError, match="not kept"):
        made.detail(14)
    assert made.file().count(bytes([20] * 60)) == 1


def test_large_packets_are_kept_up_to_a_number_of_bytes(
    made: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "MOST_BYTES", 5000)
    monkeypatch.setattr(FakeCapture, "waiting", packets(50, size=1000))
    made.begin(PLACES, "")
    until(made, 50)
    assert made.state()["kept"] == 5


def test_what_there_is_no_time_to_decode_is_counted_and_in_the_file(
    made: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "MOST_LINES", 0)
    monkeypatch.setattr(FakeCapture, "waiting", packets(7))
    made.begin(PLACES, "")
    until(made, 7)
    assert made.since(0) == ([], 7, 7)
    assert all(bytes([at] * 60) in made.file() for at in range(7))


def test_a_capture_that_no_page_looks_at_ends(
    made: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "SECONDS_ALONE", 0.2)
    made.watch(1)
    made.begin(PLACES, "")
    time.sleep(0.5)
    assert made.running
    made.watch(-1)
    end = time.monotonic() + 20
    while made.running:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert FakeCapture.opened[0].stopped


def test_another_capture_ends_the_one_before(
    made: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCapture, "waiting", packets(3))
    made.begin(PLACES, "")
    until(made, 3)
    before = made.state()
    monkeypatch.setattr(FakeCapture, "waiting", [])
    made.begin(PLACES[:1], "icmp")
    after = made.state()
    assert FakeCapture.opened[0].stopped
    assert before["run"] != after["run"]
    assert after["places"] == ["one:eth1"]


def test_the_command_for_wireshark_is_quoted_for_a_shell(made: Captures) -> None:
    made.begin(PLACES, "host 1.1.1.1'; rm -rf /")
    assert made.state()["wireshark"] == (
        "labctl capture one:eth1 two:eth1 -f '/a lab/lab.yaml'"
        """ --filter 'host 1.1.1.1'"'"'; rm -rf /' -w - | wireshark -k -i -"""
    )


def test_a_capture_of_nothing_is_refused(made: Captures) -> None:
    with pytest.raises(LabError, match="no interface"):
        made.begin([], "")
