"""Whether /dev/kvm works: found out by running a few instructions in a virtual machine.

That the file exists is not enough. On some cloud hosts KVM makes a virtual machine and then fails
at the protected-mode code that every boot loader runs. A node that relies on such a KVM would never
start an instance.
"""

import ctypes
import mmap
import os
import platform
import struct
import sys

from labctl.errors import LabError
from labctl.operating_system.architecture import ARM64, architecture_of
from labctl.run import python_module, run

# Request numbers of <linux/kvm.h>; the size of the structure is part of the number.
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
_CHECK_EXTENSION, _CREATE_VCPU, _SET_USER_MEMORY_REGION, _RUN = 0xAE03, 0xAE41, 0x4020AE46, 0xAE80
# Of x86-64.
_GET_SREGS, _SET_SREGS, _SET_REGS = 0x8138AE83, 0x4138AE84, 0x4090AE82
_EXIT_HLT = 5  # KVM_EXIT_HLT
_ADDRESS = 0x1000  # of our two pages of memory, as the virtual machine sees them
# pushfd; push cs; push 0x1010; iretd; ...; at 0x1010: hlt. Boot loaders enter 32-bit code by iretd.
CODE = bytes.fromhex("9c 0e 68 10 10 00 00 cf").ljust(16, b"\xf4") + b"\xf4"
# Descriptors: null, flat 32-bit code (selector 8), flat data (selector 16). iretd loads CS from
# this table.
GDT = struct.pack("<QQQ", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
_GDT_OFFSET = 0x100
# Of arm64.
_ARM_PREFERRED_TARGET, _ARM_VCPU_INIT = 0x8020AEAF, 0x4020AEAE
_CAP_ARM_VM_IPA_SIZE = 165
_EXIT_MMIO = 6  # KVM_EXIT_MMIO
# mov x0, #0x10000000; str w0, [x0]; b . : a write to where there is no memory.
ARM_CODE = bytes.fromhex("0000a2d2 000000b9 00000014")


def kvm_works(seconds: float = 5) -> bool:
    """Whether a virtual CPU of this host can run code such as a boot loader's.

    The trial runs in a process of its own, for at most `seconds`: a broken KVM may hang or kill the
    process that uses it.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    trial = python_module("labctl.providers.kvm")
    try:
        return run(trial, check=False, timeout=seconds).returncode == 0
    except LabError:
        return False


def _trial() -> bool:
    """Run a few instructions on a virtual CPU. True if it ends where they should."""
    if sys.platform != "linux":
        return False
    import fcntl

    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, _GET_API_VERSION) != 12:  # the only version since Linux 2.6.22
        return False
    return _trial_arm64(kvm) if architecture_of(platform.machine()) == ARM64 else _trial_amd64(kvm)


def _trial_amd64(kvm: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, 8192)
    memory[: len(CODE)] = CODE
    memory[_GDT_OFFSET : _GDT_OFFSET + len(GDT)] = GDT
    _give_memory(machine, memory, _ADDRESS)
    cpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    state = bytearray(312)
    fcntl.ioctl(cpu, _GET_SREGS, state)
    for number in range(6):  # cs ds es fs gs ss, 24 bytes each: base limit selector type flags
        code = number == 0
        struct.pack_into(
            "=QIHBBBBBBBB", state, 24 * number,
            0, 0xFFFFFFFF, 8 if code else 16, 11 if code else 3, 1, 0, 1, 1, 0, 1, 0,
        )  # fmt: skip
    struct.pack_into("=QH", state, 24 * 8, _ADDRESS + _GDT_OFFSET, len(GDT) - 1)
    struct.pack_into("=Q", state, 24 * 8 + 32, 0x11)  # CR0: protected mode
    fcntl.ioctl(cpu, _SET_SREGS, state)
    # struct kvm_regs: rsp is the seventh register, rip the seventeenth, rflags the last (bit 1 of
    # rflags is always set).
    registers = [0] * 6 + [_ADDRESS + 0x1F00] + [0] * 9 + [_ADDRESS, 2]
    fcntl.ioctl(cpu, _SET_REGS, struct.pack("=18Q", *registers))
    return _exit_reason(kvm, cpu) == _EXIT_HLT


def _trial_arm64(kvm: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    # 0 asks for addresses of 40 bits; some processors have less, as Apple's.
    bits = fcntl.ioctl(kvm, _CHECK_EXTENSION, _CAP_ARM_VM_IPA_SIZE)
    machine = fcntl.ioctl(kvm, _CREATE_VM, bits if 0 < bits < 40 else 0)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[: len(ARM_CODE)] = ARM_CODE
    _give_memory(machine, memory, 0)  # where a processor begins
    cpu = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    target = bytearray(32)
    fcntl.ioctl(machine, _ARM_PREFERRED_TARGET, target)
    fcntl.ioctl(cpu, _ARM_VCPU_INIT, target)
    return _exit_reason(kvm, cpu) == _EXIT_MMIO


def _give_memory(machine: int, memory: mmap.mmap, address: int) -> None:
    """Let a virtual machine have the memory, at `address`."""
    if sys.platform != "linux":
        return
    import fcntl

    where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    region = struct.pack("=IIQQQ", 0, 0, address, len(memory), where)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, region)


def _exit_reason(kvm: int, cpu: int) -> int:
    """Run a virtual CPU; KVM's reason why it stopped."""
    if sys.platform != "linux":
        return -1
    import fcntl

    run = mmap.mmap(cpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0))
    fcntl.ioctl(cpu, _RUN, 0)
    return int(struct.unpack_from("=I", run, 8)[0])


if __name__ == "__main__":
    works = _trial()
    sys.stdout.write("KVM works\n" if works else "KVM does not work\n")
    sys.exit(0 if works else 1)
