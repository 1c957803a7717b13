"""Nothing knows only one processor architecture: where amd64 is named, arm64 is within a few lines.

A name of the one without its counterpart nearby is a place that works on half of the laptops. What
is the same for both says neither: `$ARCHITECTURE` and `$MACHINE` in provision/lib.sh,
`labctl.operating_system.architecture` in Python.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl.images.emulator
from labctl.errors import LabError
from labctl.images.baked import packages_in
from labctl.images.emulator import exit_program, require_emulator
from labctl.operating_system.architecture import (
    AMD64,
    ARCHITECTURES,
    ARM64,
    Architecture,
    architecture_of,
    host_architecture,
)

ROOT = Path(__file__).parents[2]
AMD64_WORDS = re.compile(
    r"amd64|x86[-_]64|qemu-system-x86|grub-pc|i386-pc|msdos1|syslinux|ttyS0|no_timer_check"
    r"|Debian_64|kvm_intel|tsc=",
    re.IGNORECASE,
)
ARM64_WORDS = re.compile(
    r"arm64|aarch64|qemu-system-arm|grub-efi|BOOTAA64|gpt2|ttyAMA0", re.IGNORECASE
)
NEAR = 30
"""Lines within which the counterpart must be."""
ALONE = {
    "provision/image/instance/syslinux.cfg": "the boot loader of amd64; grub.cfg is that of arm64",
    "provision/image/instance/grub.cfg": "the boot loader of arm64; syslinux.cfg is that of amd64",
    "labctl/host/files.py": "modules of KVM, which Arm kernels have built in",
    "labctl/providers/virtualbox/checks.py": "VirtualBox on Linux hosts with KVM is for amd64 only",
}
"""Files with places that need no counterpart, with the reason."""


def sources() -> Iterator[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "labctl", "provision"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path.suffix not in (".mo", ".po", ".json"):
            yield path


def alone(text: str) -> list[int]:
    """The numbers of lines that name one architecture while their neighbours name no other."""
    lines = text.splitlines()
    amd64 = [number for number, line in enumerate(lines, 1) if AMD64_WORDS.search(line)]
    arm64 = [number for number, line in enumerate(lines, 1) if ARM64_WORDS.search(line)]
    return sorted(
        {
            number
            for these, others in ((amd64, arm64), (arm64, amd64))
            for number in these
            if not any(abs(number - other) <= NEAR for other in others)
        }
    )


def test_nothing_knows_only_one_architecture() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        if str(path.relative_to(ROOT)) not in ALONE
        for number in alone(path.read_text(encoding="utf-8", errors="replace"))
    }
    assert found == set(), "say it for the other architecture, too, or take what is common to both"


def test_an_exception_is_still_one() -> None:
    for name in ALONE:
        assert alone((ROOT / name).read_text(encoding="utf-8")), f"{name} is no exception any more"


def test_a_place_that_knows_only_one_is_found() -> None:
    assert alone("kernel=linux-image-cloud-amd64\n") == [1]
    assert alone("exec /usr/bin/qemu-system-x86_64\n") == [1]
    assert alone("a\nserial=ttyAMA0\n") == [2]
    assert alone("grub-pc-bin [amd64]\ngrub-efi-arm64-bin [arm64]\n") == []
    assert alone("x86_64\n" + "\n" * NEAR + "aarch64\n") == [1, NEAR + 2]


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("x86_64", AMD64), ("AMD64", AMD64), ("aarch64", ARM64), ("arm64", ARM64), ("ARM64", ARM64),
     ("i686", None), ("armv7l", None), ("riscv64", None), ("", None)],
)  # fmt: skip
def test_what_hosts_call_their_processor(machine: str, architecture: Architecture | None) -> None:
    assert architecture_of(machine) == architecture


LISTS = sorted((ROOT / "provision" / "packages").glob("*.list"))


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.name)
def test_python_and_the_shell_read_the_same_packages(file: Path, name: str) -> None:
    script = 'set -e; . provision/lib.sh; ARCHITECTURE=$1; packages_of "$2"'
    shell = subprocess.run(
        ["bash", "-c", script, "bash", name, file],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert packages_in(file.read_text(encoding="utf-8"), name) == shell
    assert shell
    assert not [package for package in shell if "[" in package]


def test_every_line_of_a_list_is_for_some_architecture() -> None:
    for file in LISTS:
        text = file.read_text(encoding="utf-8")
        listed = {package for name in ARCHITECTURES for package in packages_in(text, name)}
        lines = [line.partition("#")[0].split() for line in text.splitlines()]
        assert {words[0] for words in lines if words} == listed, file.name


def test_a_kernel_and_an_emulator_for_each() -> None:
    packages = ROOT / "provision" / "packages"
    for name, architecture in ARCHITECTURES.items():
        box = packages_in((packages / "box.list").read_text(encoding="utf-8"), name)
        assert [package for package in box if package.startswith("linux-image")] == [
            f"linux-image-{name}"
        ]
        compute = packages_in((packages / "compute.list").read_text(encoding="utf-8"), name)
        assert set(architecture.qemu_packages) <= set(compute)


@pytest.mark.skipif(sys.platform != "linux", reason="the program is one of Linux")
def test_this_machine_runs_its_own_programs(tmp_path: Path) -> None:
    require_emulator(host_architecture(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_trial_is_a_program_of_that_architecture(name: str, tmp_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf")
    program = tmp_path / "program"
    program.write_bytes(exit_program(ARCHITECTURES[name]))
    header = subprocess.run(
        ["readelf", "--file-header", "--segments", program],
        capture_output=True, text=True, check=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert header.stderr == ""
    assert {"amd64": "X86-64", "arm64": "AArch64"}[name] in header.stdout


def test_an_architecture_without_an_emulator_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine number that no kernel knows stands in for a host without the emulator.
    monkeypatch.setitem(labctl.images.emulator.PROGRAMS, "arm64", (0x7FFF, b"\0"))
    with pytest.raises(LabError, match="runs no programs for arm64") as error:
        require_emulator(ARM64, tmp_path)
    assert "qemu-user-static" in (error.value.hint or "")
