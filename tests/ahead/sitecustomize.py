"""Loaded by each Python of `make unit-ahead`: libfaketime 0.9.10 breaks time.sleep there.

Python sleeps until a moment of CLOCK_MONOTONIC, which libfaketime is told to leave alone and then
moves nevertheless (Debian 12's; EINVAL). To select() one says how long.
"""

import select
import time
from typing import Any


def sleep(seconds: Any) -> None:
    """time.sleep by other means."""
    select.select([], [], [], seconds)


time.sleep = sleep
