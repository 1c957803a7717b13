"""Is /dev/kvm any good? Asked by running a few instructions in it, not by looking for the file.

Some cloud hosts offer a /dev/kvm that makes virtual machines and then fails in the protected-mode
code of every boot loader. A node that is promised KVM and cannot use it never starts an instance.
"""

import ctypes
import fcntl
import mmap
import os
import struct
import sys

from labctl.errors import LabError
from labctl.run import python_module, run

# <linux/kvm.h>; sizes of the structures are encoded in the request numbers.
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
_CREATE_VCPU, _SET_USER_MEMORY_REGION, _RUN = 0xAE41, 0x4020AE46, 0xAE80
_GET_SREGS, _SET_SREGS, _SET_REGS = 0x8138AE83, 0x4138AE84, 0x4090AE82
_EXIT_HLT = 5
_ADDRESS = 0x1000
# pushfd; push cs; push 0x1010; iretd; ...; at 0x1010: hlt. Loaders enter 32-bit code with iretd.
_CODE = bytes.fromhex("9c 0e 68 10 10 00 00 cf").ljust(16, b"\xf4") + b"\xf4"
# A flat code segment and a flat data segment, both with a descriptor in a table of our own: iretd
# loads CS from there.
_GDT = struct.pack("<QQQ", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
_GDT_OFFSET = 0x100


def kvm_works(seconds: float = 5) -> bool:
    """Whether a virtual CPU of this host runs boot-loader-like code to its end.

    The trial is a process of its own: a broken KVM may hang, or kill who asks.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    trial = python_module("labctl.providers.kvm")
    try:
        return run(trial, check=False, timeout=seconds).returncode == 0
    except LabError:
        return False


def _trial() -> int:
    """Run _CODE on a virtual CPU; the exit reason that KVM gives (5 is `hlt`)."""
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, _GET_API_VERSION) != 12:
        return -1
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, 8192)
    memory[: len(_CODE)] = _CODE
    memory[_GDT_OFFSET : _GDT_OFFSET + len(_GDT)] = _GDT
    where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    region = struct.pack("=IIQQQ", 0, 0, _ADDRESS, len(memory), where)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, region)
    cpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    run = mmap.mmap(cpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0))
    state = bytearray(312)
    fcntl.ioctl(cpu, _GET_SREGS, state)
    for number in range(6):  # cs ds es fs gs ss, 24 bytes each: base limit selector type flags
        code = number == 0
        struct.pack_into(
            "=QIHBBBBBBBB", state, 24 * number,
            0, 0xFFFFFFFF, 8 if code else 16, 11 if code else 3, 1, 0, 1, 1, 0, 1, 0,
        )  # fmt: skip
    struct.pack_into("=QH", state, 24 * 8, _ADDRESS + _GDT_OFFSET, len(_GDT) - 1)
    struct.pack_into("=Q", state, 24 * 8 + 32, 0x11)  # CR0: protected mode
    fcntl.ioctl(cpu, _SET_SREGS, state)
    # rsp is the seventh register, rip the seventeenth, rflags the last.
    registers = [0] * 6 + [_ADDRESS + 0x1F00] + [0] * 9 + [_ADDRESS, 2]
    fcntl.ioctl(cpu, _SET_REGS, struct.pack("=18Q", *registers))
    fcntl.ioctl(cpu, _RUN, 0)
    return int(struct.unpack_from("=I", run, 8)[0])


if __name__ == "__main__":
    reason = _trial()
    sys.stdout.write(f"exit reason {reason}\n")
    sys.exit(0 if reason == _EXIT_HLT else 1)
