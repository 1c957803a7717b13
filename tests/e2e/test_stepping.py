"""A learner walks through the day, types it, wanders off, and breaks things."""

from collections.abc import Iterator

import pytest

from tests.e2e.cli import Cli, claims, failing, on

CONTROLLER, COMPUTE = "network-controller", "compute-01"
OUT = {
    "request-in-tunnel-at-the-hypervisor", "request-in-tunnel-at-the-gateway",
    "request-is-the-same-packet", "request-leaves-with-the-floating-ip",
    "reply-comes-to-the-floating-ip", "reply-in-tunnel-at-the-gateway",
    "reply-in-tunnel-to-the-instance", "reply-is-the-same-packet",
}  # fmt: skip
REQUEST_IN = {
    "request-already-translated", "request-arrives-at-the-hypervisor",
    "request-in-is-the-same-packet",
}  # fmt: skip
REPLY_IN = {
    "reply-from-the-instance",
    "reply-arrives-at-the-gateway",
    "reply-out-is-the-same-packet",
}
REACHED = {"open-with-security-group", "ssh-reaches-the-instance", *REPLY_IN}


@pytest.fixture(scope="module")
def lab(shared_lab: Cli) -> Iterator[Cli]:
    yield shared_lab
    # As other modules expect it: nothing of a lesson is there.
    shared_lab("goto", "external-network-snat")


# -- wrong use -------------------------------------------------------------------------------------
def test_wrong_use_is_answered_with_the_command_to_type(lab: Cli) -> None:
    position = lab.directory / ".labctl" / "lesson.json"
    kept = position.read_bytes() if position.exists() else None
    position.unlink(missing_ok=True)
    for verb in ("next", "check", "hint", "solve"):
        lab(verb, expect=2)
        assert "labctl start floating-ip" in lab.stderr
    if kept is not None:
        position.write_bytes(kept)
    lab("start", "floatin-ip", expect=2)
    assert "floating-ip" in lab.stderr
    lab("goto", "floating-ip/asociate", expect=2)
    assert "associate" in lab.stderr
    lab("transcript", "nonsense", expect=2)


# -- walking ---------------------------------------------------------------------------------------
def test_step_by_step(lab: Cli) -> None:
    begun = lab.json("start", "floating-ip")
    assert begun["position"]["next"] == "external-network"
    first = lab.json("next")
    assert [one["id"] for one in first["checkpoints"]] == ["external-network"]
    assert first["position"]["next"] == "external-subnet"
    lesson = lab.json("status")["lesson"]
    assert (lesson["id"], lesson["next"], lesson["passed"]) == (
        "floating-ip", "external-subnet", ["external-network"],
    )  # fmt: skip
    assert lab.json("check")["ok"] is True
    said = lab("next")
    assert "openstack subnet create" in said
    assert "✓" in said
    assert "next: labctl next" in said or "labctl" in said


def test_goto_takes_the_shortest_way(lab: Cli) -> None:
    lab("goto", "floating-ip/floating-ip")
    back = lab.json("goto", "external-subnet")
    assert back["undone"] == ["floating-ip/router-gateway", "floating-ip/external-subnet"]
    assert back["checkpoints"] == []
    there = lab.json("goto", "floating-ip/router-gateway")
    assert [one["id"] for one in there["checkpoints"]] == ["external-subnet"]
    again = lab.json("goto", "floating-ip/router-gateway")
    assert (again["checkpoints"], again["undone"]) == ([], [])


def test_another_lesson_is_taken_back(lab: Cli) -> None:
    report = lab.json("start", "external-network-snat")
    assert report["undone"] == ["floating-ip/external-subnet", "floating-ip/external-network"]
    assert report["position"]["next"] == "closed-in"


# -- practising ------------------------------------------------------------------------------------
@pytest.mark.long
def test_practice_with_commands_typed_over_ssh(lab: Cli) -> None:
    task = lab.json("start", "floating-ip", "--practice")
    assert "ext_n2" in task["task"]
    assert "openstack" not in task["task"]
    missing = lab.json("check", expect=3)
    assert "labctl hint" in lab.stderr
    assert {claim["holds"] for claim in claims(missing).values()} == {False}
    assert "there is" in lab.stderr  # what is seen instead
    assert "provider-network-type" not in lab.stderr, "the answer is not given away"
    hints = [lab.json("hint") for _ in range(3)]
    assert [one["number"] for one in hints] == [1, 2, 2]
    # Wrong first: another name.
    typed(lab, "openstack network create --provider-network-type flat --external"
               " --provider-physical-network extnet0 ext_wrong")  # fmt: skip
    lab("check", expect=3)
    assert "ext_wrong" in lab("check", expect=3)
    # It has the physical network, which only one can have.
    assert lab.json("solve")["position"]["next"] == "external-subnet"
    assert "ext_wrong" not in typed(lab, "openstack network list")
    assert lab.json("next")["task"]
    typed(lab, "openstack subnet create --subnet-range 10.0.2.0/24 --network ext_n2 --no-dhcp"
               " --gateway 10.0.2.2 --allocation-pool start=10.0.2.210,end=10.0.2.220"
               " extsubnet")  # fmt: skip
    assert lab.json("check")["position"]["next"] == "router-gateway"
    assert lab.json("solve")["position"]["next"] == "floating-ip"
    # One step ahead: given to the instance at once.
    typed(lab, "openstack floating ip create ext_n2 --port"
               " $(openstack port list --fixed-ip ip-address=172.16.100.10"
               " -f value -c ID)")  # fmt: skip
    ahead = lab.json("check")
    assert set(claims(ahead)) == {"floating-ip-in-pool"}, "the other is overtaken"
    assert ahead["position"]["next"] == "associate"
    # The variable that the tutorial's command sets, for every login and every node.
    for node in (CONTROLLER, COMPUTE):
        assert typed(lab, "echo at $FLOATING_IP", node).split("at ")[1].startswith("10.0.2.2")
    report = lab.json("check")
    assert claims(report)["closed-without-security-group"]["holds"] is True
    assert report["position"]["next"] == "ports"
    assert lab.json("status")["lesson"]["practice"] is True


def typed(lab: Cli, command: str, node: str = CONTROLLER) -> str:
    """What the learner types after `labctl ssh NODE`."""
    return lab("ssh", node, "--", "bash", "-lc", command)


# -- breaking things -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def day(lab: Cli) -> Cli:
    """The day done, and all of it proved once more by `check`."""
    assert lab.json("replay", "floating-ip")["ok"] is True
    report = lab.json("check", "--all")
    proved = claims(report)
    assert len(proved) >= 36
    assert not {"closed-without-security-group", "no-dnat-yet"} & set(proved), "true no more"
    pings = sum(c["seconds"] for one in report["checkpoints"] for c in one["commands"])
    # On an idle machine it is less than 5 s; this only notices a claim that waits.
    assert report["seconds"] - pings < 30
    return lab


def router(lab: Cli) -> str:
    return on(lab, CONTROLLER, "ovn-nbctl --bare --columns=name list logical_router").strip()


def address(lab: Cli) -> str:
    found: str = lab.json("status")["instances"][0]["floating"][0]
    return found


def test_a_nat_rule_deleted_behind_openstacks_back(day: Cli) -> None:
    name, ip = router(day), address(day)
    on(day, CONTROLLER, f"ovn-nbctl --wait=hv --timeout=60 lr-nat-del {name} dnat_and_snat {ip}")
    try:
        assert failing(day) == {
            "one-dnat-rule", "exactly-two-rules", "dnat-to-the-instance", *REACHED, *REQUEST_IN,
            # The instance still reaches the Internet, with the address all share.
            "request-leaves-with-the-floating-ip", "reply-comes-to-the-floating-ip",
        }  # fmt: skip
    finally:
        on(day, CONTROLLER, f"openstack floating ip unset --port {ip}")
        on(day, CONTROLLER, f"openstack server add floating ip vm_1 {ip}")
    assert failing(day) == set()


@pytest.mark.long
def test_the_security_group_removed(day: Cli) -> None:
    on(day, CONTROLLER, "openstack server remove security group vm_1 allow-icmp-ssh")
    try:
        # Requests still arrive at the hypervisor; only there are they dropped.
        assert failing(day) == {"group-on-the-port", "member-of-the-port-group", *REACHED}
    finally:
        on(day, CONTROLLER, "openstack server add security group vm_1 allow-icmp-ssh")
    assert failing(day) == set()


def test_a_group_that_lets_everything_in_while_pings_run(day: Cli) -> None:
    """The rule is found out by a port that answers; pings left running make nothing fail."""
    rule = on(day, CONTROLLER, "openstack security group rule create --ingress --protocol any"
                               " --remote-ip 0.0.0.0/0 allow-icmp-ssh -f value -c id")  # fmt: skip
    pings = on(day, CONTROLLER, f"for ip in 8.8.8.8 {address(day)}; do"
                                " setsid ping $ip </dev/null >/dev/null 2>&1 & echo $!;"
                                " done").split()  # fmt: skip
    try:
        assert failing(day) == {"rules-of-the-group", "other-ports-stay-closed"}
    finally:
        on(day, CONTROLLER, f"kill {' '.join(pings)}")
        on(day, CONTROLLER, f"openstack security group rule delete {rule.strip()}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("node", "more"),
    [
        pytest.param(COMPUTE, set(), id="compute"),
        pytest.param(CONTROLLER, {"gateway-chassis"}, id="gateway"),
    ],
)
def test_a_chassis_stopped(day: Cli, node: str, more: set[str]) -> None:
    on(day, node, "systemctl stop ovn-controller")
    try:
        assert failing(day) == {*OUT, *REQUEST_IN, *REACHED, *more}
    finally:
        on(day, node, "systemctl start ovn-controller")
        settled = 'until [ "$(ovn-appctl -t ovn-controller connection-status)" = connected ]'
        on(day, node, f"{settled}; do sleep 0.2; done")
    on(day, CONTROLLER, "ovn-nbctl --wait=hv --timeout=60 sync")
    assert failing(day) == set()


def test_the_instance_renamed(day: Cli) -> None:
    on(day, CONTROLLER, "openstack server set --name vm_9 vm_1")
    try:
        assert failing(day) == {"instance-has-the-floating-ip"}
    finally:
        on(day, CONTROLLER, "openstack server set --name vm_1 vm_9")


@pytest.mark.long
def test_the_router_deleted(day: Cli) -> None:
    """Free play at its worst: claims fail and say so, and the lesson can still be taken back."""
    ip = address(day)
    on(day, CONTROLLER, f"openstack floating ip delete {ip};"
                        " openstack router unset --external-gateway r;"
                        " openstack router remove subnet r sn1 || openstack router remove subnet r"
                        " $(openstack subnet list --network n1 -f value -c ID);"
                        " openstack router delete r")  # fmt: skip
    lost = failing(day)
    assert {"gateway-in-pool", "one-snat-rule", "floating-ip-in-pool", "exactly-two-rules"} <= lost
    assert not lost & {"network-is-external", "localnet-port", "pool-and-gateway"}
    day("solve")  # at the lesson's end there is nothing to solve
    report = day.json("goto", "floating-ip")
    assert report["ok"] is True
    day("next")
    day("next")
    day("next", expect=1)  # there is no router to give a gateway to
    assert "router" in day.stderr + day("status")
    # What `create` made it makes again.
    day("create")
    assert day.json("next")["ok"] is True
