"""Windows' hypervisor: what PowerShell is asked, and what its answers mean."""

from collections.abc import Mapping, Sequence

import pytest

from labctl.host.facts import HostFacts
from labctl.providers.virtualbox import hyperv
from labctl.run import Completed

WINDOWS = HostFacts(family="windows", machine="AMD64")


class Host:
    """A host with Windows PowerShell, or without."""

    env: Mapping[str, str] = {}

    def __init__(self, path: str | None = r"C:\powershell.exe") -> None:
        self._path = path

    def which(self, name: str) -> str | None:
        assert name == "powershell"
        return self._path

    def answers(self, questions: Mapping[str, Sequence[str]]) -> dict[str, Completed]:
        raise AssertionError(questions)

    def try_kvm(self, facts: HostFacts) -> HostFacts:
        raise AssertionError


@pytest.mark.parametrize(
    ("runs", "features", "present", "users"),
    [
        ("present=True\r\nvbs=2\r\n", "", True, ("vbs",)),
        ("present=True\nvbs=\n", "feature=VirtualMachinePlatform\r\nfeature=NetFx4\r\n", True,
         ("VirtualMachinePlatform",)),
        ("present=True\nvbs=2\n", "feature=Microsoft-Hyper-V\n", True,
         ("vbs", "Microsoft-Hyper-V")),
        # Switched off by bcdedit: the features stay enabled.
        ("present=False\nvbs=1\n", "feature=Microsoft-Hyper-V\n", False, ("Microsoft-Hyper-V",)),
        ("present=\nvbs=\n", "", False, ()),
        ("", "", False, ()),  # it took too long
    ],
)  # fmt: skip
def test_answers(runs: str, features: str, present: bool, users: tuple[str, ...]) -> None:
    answers = {"hypervisor": Completed(0, runs, ""), "features": Completed(0, features, "")}
    facts = hyperv.with_answers(WINDOWS, answers)
    assert (facts.hyperv, facts.hyperv_users) == (present, users)
    assert [finding.id for finding in hyperv.findings(facts)] == (["hyperv"] if present else [])


def test_questions_are_one_word_for_the_command_line() -> None:
    """subprocess puts double quotes around them: none may be inside."""
    asked = hyperv.questions(Host(), WINDOWS)
    assert sorted(asked) == ["features", "hypervisor"]
    for command in asked.values():
        assert command[:4] == [
            r"C:\powershell.exe", "-NoProfile", "-NonInteractive", "-Command",
        ]  # fmt: skip
        assert '"' not in command[4]


def test_elsewhere_nothing_is_asked() -> None:
    linux = HostFacts(family="linux", machine="x86_64")
    assert hyperv.questions(Host(), linux) == {}
    assert hyperv.questions(Host(None), WINDOWS) == {}
    wsl = HostFacts(family="wsl", machine="x86_64", hyperv=True)
    assert hyperv.with_answers(wsl, {}).hyperv, "WSL 2 is a machine of Hyper-V's"
