"""KVM is asked by running something in it. Whether this machine has it is not for us to say."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import labctl.providers.kvm
from labctl.errors import LabError
from labctl.providers.kvm import kvm_works
from labctl.run import Completed


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], list[list[str]]]:
    """Plays the trial's end: an exit code, or an error. What was run is in the list."""

    def play(end: object) -> list[list[str]]:
        ran: list[list[str]] = []

        def run(argv: list[str], **_: Any) -> Completed:
            ran.append(argv)
            if isinstance(end, Exception):
                raise end
            assert isinstance(end, int)
            return Completed(end, "", "")

        monkeypatch.setattr(labctl.providers.kvm, "run", run)
        monkeypatch.setattr(os, "access", lambda path, mode: path == "/dev/kvm")
        return ran

    return play


def test_it_works_when_the_trial_ends_well(trial: Callable[[object], list[list[str]]]) -> None:
    ran = trial(0)
    assert kvm_works()
    assert ran == [[sys.executable, "-I", "-m", "labctl.providers.kvm"]]


@pytest.mark.parametrize("end", [1, 139, -9, LabError("did not finish within 5 s")], ids=repr)
def test_it_does_not_when_the_trial_fails_dies_or_hangs(
    end: object, trial: Callable[[object], list[list[str]]]
) -> None:
    trial(end)
    assert not kvm_works()


def test_without_the_device_nothing_is_tried(
    trial: Callable[[object], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = trial(0)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not kvm_works()
    assert ran == []


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="there is no /dev/kvm")
def test_the_trial_comes_to_an_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labctl.providers.kvm"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode in (0, 1) or "Error" in done.stderr
    assert kvm_works() == (done.returncode == 0)


def test_the_code_of_the_trial() -> None:
    # iretd takes EIP, CS and EFLAGS from the stack: what is pushed last is at 0x1010, a hlt.
    code = labctl.providers.kvm.CODE
    assert code[:8] == bytes.fromhex("9c0e6810100000cf")
    assert code[0x10] == 0xF4
    assert len(labctl.providers.kvm.GDT) == 24
