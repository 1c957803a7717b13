"""A stage that may cut its own connection counts as done when a new one has confirmed it."""

from pathlib import Path

import pytest

from labctl.access.guest import GuestError
from labctl.engine.steps import Step, StepContext
from labctl.errors import LabError
from tests.unit.fakes import FakeGuest
from tests.unit.provisioning.test_stages import provisioner, step

KEEP = r"^/usr/local/sbin/labctl-network keep$"
SCRIPT, MARK = r"25-network\.sh 9>&-$", r"^echo \w{16} >.*25-network\.sh$"


class Fresh(FakeGuest):
    """A node whose other connections are told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[FakeGuest] = []
        self.closed = 0

    def another(self) -> FakeGuest:
        outer = self

        class Other(FakeGuest):
            def close(self) -> None:
                outer.closed += 1

        self.others.append(Other("another", ran=self.ran, _answers=self._answers))
        return self.others[-1]


@pytest.fixture
def node() -> Fresh:
    made = Fresh()
    made.on(SCRIPT).on(KEEP).on(MARK)
    return made


def stage(directory: Path, node: Fresh) -> Step:
    stages, _ = provisioner(directory, {"network-controller": node, "compute-01": node})
    return step(stages.node_steps(), "network:network-controller")


def test_confirmed_over_a_connection_of_its_own(tmp_path: Path, node: Fresh) -> None:
    stage(tmp_path, node).run(StepContext("x"))
    assert [(ran.node, "done" in ran.command.split(" && ")[-1]) for ran in node.ran] == [
        ("network-controller", False),  # the script, without the mark
        ("another", False),
        ("network-controller", True),
    ]
    assert node.closed == 1


def test_the_way_in_may_take_a_while(tmp_path: Path, node: Fresh) -> None:
    for _ in range(2):
        node.on(KEEP, raises=GuestError("cannot be reached by SSH"), once=True)
    stage(tmp_path, node).run(StepContext("x"))
    assert [ran.node for ran in node.ran].count("another") == 3
    assert node.closed == 3


def test_what_was_taken_back_is_said_at_once(tmp_path: Path, node: Fresh) -> None:
    node.on(KEEP, exit=1, stderr="eth0 is not in br-ex\n")
    with pytest.raises(
        LabError, match="labctl-network keep` failed: eth0 is not in br-ex"
    ) as error:
        stage(tmp_path, node).run(StepContext("x"))
    assert "`labctl create` tries again" in (error.value.hint or "")
    assert len(node.ran) == 2  # no second try, and no mark
    assert node.closed == 1


def test_a_script_that_failed_is_not_confirmed(tmp_path: Path, node: Fresh) -> None:
    node.on(SCRIPT, exit=1, stderr="no\n")
    with pytest.raises(LabError, match=r"25-network\.sh failed"):
        stage(tmp_path, node).run(StepContext("x"))
    assert len(node.ran) == 1
