"""Whether programs of another architecture run here, as they must while an image for it is made."""

import tempfile
from pathlib import Path

from labctl.errors import LabError
from labctl.i18n import tr
from labctl.operating_system.architecture import AMD64, ARM64, Architecture
from labctl.run import run

# The machine's number in an ELF header, and the code of exit(0): `mov x8, #93; mov x0, #0; svc #0`
# and `mov eax, 60; xor edi, edi; syscall`.
PROGRAMS = {
    ARM64.name: (183, bytes.fromhex("a80b80d2 000080d2 010000d4")),
    AMD64.name: (62, bytes.fromhex("b83c000000 31ff 0f05")),
}


def exit_program(architecture: Architecture) -> bytes:
    """A program for Linux, 64-bit little-endian ELF, that ends at once and well."""
    machine, code = PROGRAMS[architecture.name]
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    header = (
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        + number(2, 2) + number(machine, 2) + number(1, 4)  # executable, machine, version
        + number(base + headers, 8) + number(64, 8) + number(0, 8)  # entry, segments, sections
        + number(0, 4) + number(64, 2) + number(56, 2) + number(1, 2) + number(0, 6)
    )  # fmt: skip
    segment = (
        number(1, 4) + number(5, 4)  # to load, to be read and executed
        + number(0, 8) + number(base, 8) * 2 + number(size, 8) * 2 + number(0x1000, 8)
    )  # fmt: skip
    return header + segment + code


def require_emulator(architecture: Architecture, directory: Path) -> None:
    """Raise LabError unless programs of the architecture run here; tries one in `directory`."""
    with tempfile.TemporaryDirectory(prefix="trial-", dir=directory) as name:
        program = Path(name) / f"exit-{architecture.name}"
        program.write_bytes(exit_program(architecture))
        program.chmod(0o700)
        try:
            run([program])
        except LabError as error:
            raise LabError(
                tr("this machine runs no programs for {architecture}, which making an image for it"
                   " takes", architecture=architecture.name),
                hint=tr("install qemu-user-static and binfmt-support, or make the image on a"
                        " machine of that architecture"),
            ) from error  # fmt: skip
