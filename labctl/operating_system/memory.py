"""Memory of this machine."""

import sys


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
