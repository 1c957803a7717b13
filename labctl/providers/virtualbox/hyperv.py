"""Windows' hypervisor, which keeps VT-x and AMD-V from VirtualBox: whether it runs, and for what.

Microsoft documents the classes that are asked (learn.microsoft.com: Win32_ComputerSystem,
Win32_DeviceGuard, Win32_OptionalFeature); none takes an administrator on a Windows as installed.
What it does to VirtualBox: VirtualBox/virtualbox issues 341 and 350.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.host.facts import HostFacts
from labctl.host.findings import Finding
from labctl.host.questions import Host
from labctl.i18n import mark, tr, tr_list

if TYPE_CHECKING:
    from labctl.run import Completed

VBS = "vbs"
"""Stands for virtualization-based security, which is no optional feature."""
_USERS: Mapping[str, str] = {
    VBS: mark("virtualization-based security (memory integrity)"),
    "Microsoft-Hyper-V": mark("Hyper-V"),
    "VirtualMachinePlatform": mark("Virtual Machine Platform (WSL 2, Docker Desktop)"),
    "HypervisorPlatform": mark("Windows Hypervisor Platform"),
    "Containers-DisposableClientVM": mark("Windows Sandbox"),
    "Windows-Defender-ApplicationGuard": mark("Application Guard"),
}
"""What starts the hypervisor when Windows boots -> what the settings of Windows call it."""
# Without double quotes: they would have to be protected twice.
_RUNS = (
    "$ErrorActionPreference = 'SilentlyContinue';"
    " 'present=' + (Get-CimInstance Win32_ComputerSystem).HypervisorPresent;"
    " 'vbs=' + (Get-CimInstance -Namespace root/Microsoft/Windows/DeviceGuard"
    " -ClassName Win32_DeviceGuard).VirtualizationBasedSecurityStatus"
)
_FEATURES = (
    "Get-CimInstance Win32_OptionalFeature -Filter 'InstallState = 1'"
    " | ForEach-Object { 'feature=' + $_.Name }"
)
_VBS_RUNS = "2"
"""VirtualizationBasedSecurityStatus: 0 is off, 1 configured but not running."""


def questions(host: Host, facts: HostFacts) -> dict[str, list[str]]:
    """The commands to run for it; none on other systems, or without Windows PowerShell."""
    if facts.family != "windows" or (path := host.which("powershell")) is None:
        return {}
    command = [path, "-NoProfile", "-NonInteractive", "-Command"]
    # Apart: to list the features can take longer than the doctor waits.
    return {"hypervisor": [*command, _RUNS], "features": [*command, _FEATURES]}


def with_answers(facts: HostFacts, answers: Mapping[str, "Completed"]) -> HostFacts:
    """The facts, with what these commands have printed."""
    if "hypervisor" not in answers:
        return facts
    words = re.findall(r"^(present|vbs)=(\w*)\s*$", answers["hypervisor"].stdout, re.MULTILINE)
    features = re.findall(r"^feature=(\S+)\s*$", answers["features"].stdout, re.MULTILINE)
    found = {*features, *([VBS] if ("vbs", _VBS_RUNS) in words else [])}
    return replace(
        facts,
        hyperv=("present", "True") in words,
        hyperv_users=tuple(name for name in _USERS if name in found),
    )


def findings(facts: HostFacts) -> Iterator[Finding]:
    """Whether Windows' hypervisor holds the processor."""
    if not facts.hyperv:
        return
    users = [tr(_USERS[name]) for name in facts.hyperv_users if name in _USERS]
    yield Finding(
        "hyperv",
        "warning",
        "machine",
        tr("Hyper-V holds the processor, for {users}", users=tr_list(users))
        if users
        else tr("Hyper-V holds the processor (WSL 2 and Windows' own protections use it)"),
        impact=tr(
            "VirtualBox runs on top of it, several times slower (its window shows a turtle, its"
            " VBox.log says “fall back to NEM”); some machines hang"
        ),
        fix=tr(
            "to do without it: switch off “Memory integrity” (Windows Security, Device security,"
            " Core isolation), run this as administrator and reboot; then WSL 2, Docker Desktop"
            " and the sandbox do not start. `auto` instead of `off` brings it back; `systeminfo`"
            " tells at its end whether it runs"
        )
        if VBS in facts.hyperv_users
        else tr(
            "to do without it: run this as administrator and reboot; then WSL 2, Docker Desktop and"
            " the sandbox do not start. `auto` instead of `off` brings it back; `systeminfo` tells"
            " at its end whether it runs"
        ),
        commands=("bcdedit /set hypervisorlaunchtype off",),
    )
