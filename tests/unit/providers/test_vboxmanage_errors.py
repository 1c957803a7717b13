"""What VBoxManage says, as VirtualBox 7.2.22 said it, alone and in Vagrant's words."""

import pytest

from labctl.providers.vagrant.command import OutputLine, failure
from labctl.providers.vagrant.vboxmanage_errors import failed_verb, last_words

DISK = """\
0%...VBOX_E_FILE_ERROR
VBoxManage: error: Failed to create medium
VBoxManage: error: Could not create the medium storage unit '/lab/a.vdi'.
VBoxManage: error: VDI: disk would overflow creating image '/lab/a.vdi' (VERR_DISK_FULL).
VBoxManage: error: VDI: setting image size failed for '/lab/a.vdi' (VERR_DISK_FULL)
VBoxManage: error: Details: code VBOX_E_FILE_ERROR (0x80bb0004), component MediumWrap
VBoxManage: error: Context: "RTEXITCODE handleCreateMedium(HandlerArg*)" at line 630
"""
MISSING = """\
VBoxManage: error: Could not find a registered machine named 'gone'
VBoxManage: error: Details: code VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), component VirtualBoxWrap
VBoxManage: error: Context: "FindMachine(...)" at line 3248 of file VBoxManageInfo.cpp
VBoxManage: error: Could not find a registered machine named 'gone'
VBoxManage: error: Details: code VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), component VirtualBoxWrap
"""
WINDOWS = "VBoxManage.exe: error: Not in a hypervisor partition (VERR_NEM_NOT_AVAILABLE).\r\n"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            DISK,
            "Failed to create medium"
            " / Could not create the medium storage unit '/lab/a.vdi'."
            " / VDI: disk would overflow creating image '/lab/a.vdi' (VERR_DISK_FULL)."
            " / VDI: setting image size failed for '/lab/a.vdi' (VERR_DISK_FULL)",
        ),
        (MISSING, "Could not find a registered machine named 'gone'"),
        (WINDOWS, "Not in a hypervisor partition (VERR_NEM_NOT_AVAILABLE)."),
        ("".join(f"VBoxManage: error: {n}\n" for n in range(9)), "5 / 6 / 7 / 8"),
        ("VBoxManage: error: Details: code E_FAIL\n", ""),
        ("Segmentation fault\n", ""),
        ("", ""),
    ],
)
def test_the_last_words(said: str, reason: str) -> None:
    assert last_words(said) == reason


def in_vagrants_words(stderr: str, verb: str) -> str:
    return (
        "There was an error while executing `VBoxManage`, a CLI used by Vagrant\n"
        "for controlling VirtualBox. The command and stderr is shown below.\n\n"
        f'Command: ["{verb}", "f3c6", "--type", "headless"]\n\nStderr: {stderr}'
    )


def test_vagrant_around_it_is_left_out() -> None:
    text = in_vagrants_words(MISSING, "startvm")
    output = [OutputLine("", "error-exit", ("Vagrant::Errors::VBoxManageError", text))]
    assert failed_verb(text) == "startvm"
    assert failure(output) == (
        "VBoxManage startvm: Could not find a registered machine named 'gone'"
    )


def test_a_setting_that_virtualbox_refuses() -> None:
    """Vagrant shows the error as Ruby does: #<Vagrant::Errors::VBoxManageError: …>."""
    inner = in_vagrants_words("VBoxManage: error: Invalid NIC number '99'", "modifyvm")
    text = f'A customization command failed:\n\n["modifyvm"]\n\n#<Error: {inner}>\n\nPlease fix'
    output = [OutputLine("", "error-exit", ("Vagrant::Errors::VMCustomizationFailed", text))]
    assert failure(output) == "VBoxManage modifyvm: Invalid NIC number '99'"


def test_another_error_stays_as_vagrant_tells_it() -> None:
    output = [OutputLine("", "error-exit", ("V::E", "Timed out while waiting\nfor the machine."))]
    assert failure(output) == "Timed out while waiting for the machine."
