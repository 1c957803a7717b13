"""What the health check decides, from what Neutron and OVN say."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.access.guest import GuestError, GuestResult
from labctl.access.instance import ConsoleInUseError
from labctl.snapshots import health
from labctl.snapshots.health import (
    alive_steps,
    answers,
    disagreements,
    expected_in_ovn,
    found_in_ovn,
)


def table(table: str, column: str, *values: str) -> str:
    return f"{table} " + json.dumps({"data": [[value] for value in values], "headings": [column]})


def thing(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**fields)


def test_neutron_and_ovn_agree_by_the_drivers_names() -> None:
    expected = expected_in_ovn(
        "network\tneutron-n1\nport\tp1\nrouter\tneutron-r1\n"
        "floating IP\t10.0.2.215\nsecurity group\tpg_ab_cd\n"
    )
    found = found_in_ovn(
        "\n".join(
            [
                table("Logical_Switch", "name", "neutron-n1", "by-hand"),
                table("Logical_Switch_Port", "name", "p1", "provnet-x"),
                table("Logical_Router", "name", "neutron-r1"),
                table("NAT", "external_ip", "10.0.2.215"),
                table("Port_Group", "name", "pg_ab_cd", "neutron_pg_drop"),
            ]
        )
    )
    assert disagreements(expected, found) == []


def test_what_mariadb_did_not_answer_is_no_empty_lab() -> None:
    with pytest.raises(ValueError, match="ERROR 1045"):
        expected_in_ovn("ERROR 1045: denied\n")


def test_disagreements_name_the_side_that_has_more() -> None:
    said = disagreements(
        {"port": {"a", "b"}, "router": set()}, {"port": {"b"}, "router": {"w", "x", "y", "z"}}
    )
    assert said == ["port only in Neutron: a", "router only in OVN: w, x, y …"]


# -- instances -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("outcome", "expected", "warnings"),
    [
        (GuestResult(0, "", "", 0.1), True, 0),
        (GuestResult(1, "", "", 0.1), False, 0),
        (ConsoleInUseError("console: open in another window"), True, 1),
    ],
)
def test_a_console_that_a_learner_has_open_is_no_fault_of_the_lab(
    outcome: Any, expected: bool, warnings: int
) -> None:
    def run(*_: Any, **__: Any) -> GuestResult:
        if isinstance(outcome, Exception):
            raise outcome
        result: GuestResult = outcome
        return result

    warned: list[str] = []
    inside: Any = SimpleNamespace(name="vm_1", run=run)
    assert answers(inside, warned.append) is expected
    assert len(warned) == warnings
    outcome = GuestError("no way leads in")
    with pytest.raises(GuestError):
        answers(inside, warned.append)


def test_after_a_boot_nova_must_have_said_anew_that_it_lives() -> None:
    """It calls a service that went down with its node "up" for a minute, and then "down"."""
    said = iter(["2026-11-28T11:59:00.000000", "2026-11-28T12:00:05.000000"])

    def services() -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                binary="nova-compute", host="compute-01", state="up", updated_at=next(said)
            )
        ]

    cloud = SimpleNamespace(
        network=SimpleNamespace(agents=list), compute=SimpleNamespace(services=services)
    )
    booted = SimpleNamespace(stdout="1795867200\n")  # 2026-11-28 12:00 UTC
    lab: Any = SimpleNamespace(
        topology=SimpleNamespace(stack="openstack"),
        provider=SimpleNamespace(timeout_factor=1),
        controller=SimpleNamespace(run=lambda command: booted),
        cloud=lambda: cloud,
    )
    (step,) = alive_steps(lab, [])
    told: list[str] = []
    context: Any = SimpleNamespace(progress=told.append, cancelled=lambda: False)
    step.run(context)
    assert told[1] == "not alive: nova-compute compute-01"
    assert next(said, None) is None
    lab.topology.stack = "ovn"
    assert alive_steps(lab, []) == []


def test_an_agent_that_is_slow_to_answer_is_not_called_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OVN's agents may owe Neutron two answers for a while; Neutron then calls them dead."""
    answers = iter([False, False, True, False])

    def agents() -> None:
        if not next(answers):
            raise health.SilentAgent("compute-01")

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert health.trouble(agents) == ""
    monkeypatch.setattr(health, "AGENT_SECONDS", -1)
    assert health.trouble(agents) == "compute-01"
