"""Where the tests run: `make unit-ahead` is really ahead, `make unit-elsewhere` really elsewhere.

Without this both could be the same run once more, and green.
"""

import datetime
import locale
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

AHEAD = int(os.environ.get("LABCTL_TESTS_AHEAD", "0"))
LOCALE = os.environ.get("LABCTL_TESTS_LOCALE", "")


def real_time() -> float:
    """The time of the kernel's own books, which no library has a hand in."""
    (booted,) = (
        int(line.split()[1])
        for line in Path("/proc/stat").read_text("ascii").splitlines()
        if line.startswith("btime ")
    )
    return booted + float(Path("/proc/uptime").read_text("ascii").split()[0])


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def test_the_clock_is_where_it_is_said_to_be() -> None:
    """For us and for what we start, in whatever language it is written."""
    program = "import datetime, time; time.sleep(0.01); print(datetime.datetime.now().timestamp())"
    clocks = {
        "ours": time.time(),
        "datetime's": datetime.datetime.now(datetime.UTC).timestamp(),
        "date's": float(said("date", "+%s")),
        "a Python's": float(said(sys.executable, "-c", program)),
    }
    off = {name: clock - real_time() - AHEAD for name, clock in clocks.items()}
    assert all(abs(seconds) < 60 for seconds in off.values()), off


def test_a_wait_is_as_long_as_ever() -> None:
    began, uptime = time.monotonic(), real_time()
    time.sleep(0.1)
    assert 0.1 <= time.monotonic() - began < 5
    assert real_time() - uptime < 5


@pytest.mark.skipif(not LOCALE, reason="only in `make unit-elsewhere`")
def test_the_place_is_where_it_is_said_to_be() -> None:
    assert (LOCALE, os.environ["TZ"]) == ("zh_TW.UTF-8", "Asia/Taipei")
    assert time.localtime(0).tm_gmtoff == 8 * 3600
    before = locale.setlocale(locale.LC_ALL)
    try:
        assert locale.setlocale(locale.LC_ALL, "") == LOCALE  # Error where there is none
        assert locale.nl_langinfo(locale.DAY_5) == "週四"
    finally:
        locale.setlocale(locale.LC_ALL, before)
    assert said("date", "-d", "@0", "+%A %H:%M") == "週四 08:00"
