"""New passwords and keys in place, in a lab of containers: nothing of before opens anything."""

from collections.abc import Callable

import pytest

from tests.e2e.cli import Cli, on
from tests.e2e.test_fork import holding, secrets

CONTROLLER = "network-controller"
SPEC = "name: renewed\nprovider: nspawn\nstack: ovn\n"


@pytest.mark.long
def test_nothing_of_before_is_left_and_the_lab_works(make_lab: Callable[[str, str], Cli]) -> None:
    lab = make_lab("renewed", SPEC)
    lab("create")
    on(lab, CONTROLLER, "ovn-nbctl ls-add after-base")
    lab("snapshot", "save", "mine")
    before = secrets(lab)
    assert len(before) > 8
    assert len(holding(lab, list(before.values()))) > 8
    lab("renew")
    after = secrets(lab)
    assert len(after) == len(before)
    assert not set(before.values()) & set(after.values())
    assert holding(lab, list(before.values())) == []

    # It is at `base`, the only snapshot, and goes back to it both ways.
    assert [row["name"] for row in lab.json("snapshot", "list")] == ["base"]
    assert "after-base" not in on(lab, CONTROLLER, "ovn-nbctl show")
    for words in ((), ("--cold",)):
        on(lab, CONTROLLER, "ovn-nbctl ls-add later")
        lab("reset", "--to", "base", *words)
        assert "later" not in on(lab, CONTROLLER, "ovn-nbctl show")
    assert holding(lab, list(before.values())) == []
    assert lab.json("replay", "ovn-logical-switch")["ok"] is True

    # Halted it stays so, and is nobody else's, until the next one.
    lab("renew", "--halted")
    done = lab.run("up")
    assert (done.returncode, "labctl renew" in done.stderr) == (1, True), done.stderr
    lab("renew")
    assert lab.json("status")["state"] == "up"
