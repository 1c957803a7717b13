"""What a terminal of the page keeps of its shell's output."""

import os
import queue
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.page.terminals import REPLAY_BYTES, Terminal


class Printing:
    """A shell that prints what it is told to, as one read each."""

    def __init__(self) -> None:
        self.parts: queue.Queue[bytes] = queue.Queue()

    def read(self) -> bytes:
        return self.parts.get()

    def write(self, data: bytes) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    def close(self) -> None:
        self.parts.put(b"")


@pytest.fixture
def shell() -> Printing:
    return Printing()


@pytest.fixture
def terminal(shell: Printing) -> Iterator[Terminal]:
    terminal = Terminal(1, "compute-01", shell)
    yield terminal
    terminal.close()


class Reader:
    """A page that shows the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.printed = threading.Event()
        self.viewer = terminal.attach(self.printed.set)

    def read(self, size: int) -> bytes:
        """What the page gets, once it is `size` bytes or more."""
        output = b""
        while len(output) < size:
            self.printed.clear()
            if not (part := self.terminal.take(self.viewer)):
                assert self.printed.wait(20)
            elif isinstance(part, bytes):
                output += part
                self.terminal.acknowledge(self.viewer, len(part))
        return output


def test_output_a_byte_at_a_time_costs_little_more_than_its_bytes(
    shell: Printing, terminal: Terminal
) -> None:
    text = bytes(range(33, 127)) * 1000
    page = Reader(terminal)
    tracemalloc.start()
    try:
        for number in range(len(text)):
            shell.parts.put(text[number : number + 1])
        assert page.read(len(text)) == text
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert Reader(terminal).read(len(text)) == text
    assert kept < 3 * len(text)


def test_no_more_than_the_limit_is_kept_from_a_lines_beginning(
    shell: Printing, terminal: Terminal
) -> None:
    lines = [b"%06d %s\n" % (number, b"x" * 90) for number in range(30_000)]
    page = Reader(terminal)
    for line in lines:
        shell.parts.put(line)
    whole = b"".join(lines)
    assert len(whole) > REPLAY_BYTES
    assert page.read(len(whole)) == whole
    again = Reader(terminal).read(REPLAY_BYTES - 8192)
    assert len(again) <= REPLAY_BYTES
    assert whole.endswith(again)
    assert again[6:7] == b" "


@pytest.mark.skipif(sys.platform != "linux", reason="what the system counts is read from /proc")
def test_freed_memory_goes_back_to_the_system() -> None:
    from labctl.operating_system.memory import give_back_memory

    def own() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    blocks = [bytes(50_000) for _ in range(1000)]
    last = bytes(50_000)  # above them all, and so they cannot simply be given back
    del blocks
    before = own()
    give_back_memory()
    assert own() < before - 20_000_000
    assert len(last) == 50_000
