"""Memory of this machine, and of this process."""

import sys
from contextlib import suppress


def give_back_memory() -> None:
    """Give what was freed back to the system; without an effect where the C library is not glibc.

    glibc keeps what is freed below something that is still used (malloc_trim(3)): after much
    output that passed through, 15 MB and more of a program that goes on.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def windows_memory() -> tuple[int, int | None]:
    """MiB of memory, and MiB that are available; (0, None) on other systems."""
    if sys.platform != "win32":
        return 0, None
    import ctypes

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX of sysinfoapi.h."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "available")),
            *((f"other{number}", ctypes.c_uint64) for number in range(5)),
        )

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 0, None
    return status.total // 2**20, status.available // 2**20
