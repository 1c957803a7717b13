"""`labctl fault`: every fault in a real lab, what labctl says of it, and that it is mended.

docs/faults.md has the table; LABCTL_FAULTS=FILE writes it anew: `make faults`.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import Cli, claims, on

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * 3600)]

MANUAL = Path(__file__).parents[2] / "docs" / "faults.md"
LABS = {
    "`stack: ovn`": ("name: broken\nprovider: nspawn\nstack: ovn\n", "ovn-snat-dnat"),
    "OpenStack": ("name: broken-all\nprovider: nspawn\n", "floating-ip"),
}
NOT_HERE = {"wrong-clock", "late-link"}
"""Faults that a container, or the kernel of the machine, may not have: they are refused."""


BY_CHANCE = {"slow-link", "lossy-link", "duplicate-address"}
"""Faults with which a packet passes at one time and not at another: only the state is compared."""


def rounded(fault: str, shown: tuple[str, str, str]) -> tuple[str, ...]:
    """What is the same in every run: that claims fail, and not how many."""
    state, check, walk = shown
    return (
        (state,) if fault in BY_CHANCE or check == "not asked" else (state, check.split()[-1], walk)
    )


def expected(title: str) -> dict[str, tuple[str, str, str]]:
    """{fault: what `status`, `check --all` and `walk` say}, as the manual has it."""
    _, _, rest = MANUAL.read_text("utf-8").partition(f"\n### {title}\n")
    text = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \| (.+?) \| (.+?) \|", text, re.MULTILINE)
    return {fault: (status, check, walk) for fault, status, check, walk in rows}


def troubles(status: dict[str, Any]) -> list[str]:
    nodes: list[str] = [
        f"{node['name']}: {text}"
        for node in status["nodes"]
        for text in ([] if node["running"] else ["not running"]) + node["troubles"]
    ]
    return [*nodes, *status["troubles"]]


def seen(lab: Cli, fault: str = "", node: str = "") -> tuple[str, str, str, str]:
    """What `status`, `check --all` and `walk` say, and the first troubles of the status.

    The status must name the fault, if one is injected, as one that is there.
    """
    status = lab.json("status")
    there = [{"fault": fault, "node": node, "present": True}] if fault else []
    assert status["faults"] == there
    lost: list[str] = []
    done = lab.run("check", "--all", "--json", timeout=900)
    if done.returncode == 3:
        lost = [id for id, claim in claims(json.loads(done.stdout)).items() if not claim["holds"]]
    check = {0: "holds", 3: f"{len(lost)} fail"}.get(done.returncode, "cannot ask")
    return status["state"], check, walked(lab), "; ".join(troubles(status)[:2])


def walked(lab: Cli) -> str:
    code = lab.run("walk", "ping", "vm_1", "8.8.8.8", timeout=600).returncode
    return {0: "answered", 3: "lost"}.get(code, "cannot send")


def injected(lab: Cli) -> list[tuple[str, str, bool | None]]:
    return [(f["fault"], f["node"], f["present"]) for f in lab.json("status")["faults"]]


@pytest.fixture(scope="module", params=LABS)
def broken(
    request: pytest.FixtureRequest, make_lab: Callable[[str, str], Cli]
) -> Iterator[tuple[str, Cli]]:
    """The title of its table, and a lab in which a lesson was done."""
    spec, lesson = LABS[request.param]
    lab = make_lab(re.sub(r"\W", "", request.param), spec)
    lab("create")
    assert lab.json("replay", lesson)["ok"] is True
    yield request.param, lab
    lab("destroy")


def test_every_fault_is_told_as_the_manual_has_it_and_mended(
    broken: tuple[str, Cli],
) -> None:
    title, lab = broken
    assert seen(lab)[:3] == ("up", "holds", "answered")
    known = [fault["id"] for fault in lab.json("fault", "list")["known"]]
    lines: list[str] = []
    wrong: list[tuple[str, str, tuple[str, ...]]] = []
    for fault in os.environ.get("LABCTL_FAULT", " ".join(known)).split():
        done = lab.run("fault", "inject", fault, "--json")
        if done.returncode != 0:
            assert fault in NOT_HERE, done.stderr
            lines.append(f"| `{fault}` | refused | - | - | {done.stderr.splitlines()[0]} |")
            continue
        (record,) = json.loads(done.stdout)["injected"]
        row = seen(lab, fault, record["node"])
        if not lines:
            lab("report", "--output", "report.html")
            report = (lab.directory / "report.html").read_text("utf-8")
            assert f"{fault} ({record['node']})" in report
            (lab.directory / "report.html").unlink()
        cleared = lab.json("fault", "clear")
        assert [one["fault"] for one in cleared["cleared"]] == [fault]
        after = (lab.json("status")["state"], walked(lab) if row[2] != "answered" else row[2])
        lines.append(f"| `{fault}` | {' | '.join(row)} |")
        with Path(os.environ.get("LABCTL_FAULTS", os.devnull)).open("a", encoding="utf-8") as sink:
            sink.write(f"{title} {lines[-1]} after: {after}\n")
        if after != ("up", "answered"):
            wrong.append((fault, "not mended", after))
        manual = expected(title)[fault]
        shown = row[:3] if manual[1] != "not asked" else (row[0], *manual[1:])
        if manual[0] != "not run" and rounded(fault, shown) != rounded(fault, manual):
            wrong.append((fault, "not as in the manual", row[:3]))
    assert seen(lab)[1] == "holds"
    assert wrong == [], "\n".join(lines)


@pytest.mark.parametrize("cold", [(), ("--cold",)], ids=["warm", "cold"])
def test_reset_mends_them_all(broken: tuple[str, Cli], cold: tuple[str, ...]) -> None:
    """Among them one that a restore does not know of, and one that the nodes do not see."""
    _, lab = broken
    for fault in ("slow-link", "no-space", "wrong-mtu", "ovn-northd-killed", "ovs-vswitchd-frozen"):
        lab("fault", "inject", fault)
    assert {fault for fault, _, there in injected(lab) if there} >= {"slow-link", "no-space"}
    lab("reset", *cold)
    assert (injected(lab), lab.json("status")["state"]) == ([], "up")
    assert lab.json("fault", "list")["injected"] == []
    if not cold:
        lab("fault", "inject", "power-cut")
        lab("reset")
        assert (injected(lab), lab.json("status")["state"]) == ([], "up")


def test_killed_while_it_injects(broken: tuple[str, Cli]) -> None:
    _, lab = broken
    record = lab.directory / ".labctl" / "faults.json"
    for fault in ("ovn-controller-killed", "no-space", "power-cut"):
        lab.kill_when(record.exists, "fault", "inject", fault)
        lab("fault", "clear")
        assert not record.exists()
        assert lab.json("status")["state"] == "up"


def test_an_exercise_is_judged_by_check(broken: tuple[str, Cli]) -> None:
    title, lab = broken
    lab("replay", LABS[title][1])
    lab("fault", "inject", "nat-row", "--secret")
    assert lab.json("status")["faults"] == []
    listed = lab("fault", "list")
    assert "1 secret fault" in listed
    assert "nat-row (" not in listed
    done = lab.run("--lang", "en", "check", "--all")
    assert done.returncode == 3
    assert "a secret fault is still in the lab" in done.stdout + done.stderr
    data = json.loads((lab.directory / ".labctl" / "faults.json").read_text())
    kind, external, logical = data["faults"][0]["plan"]["rule"]
    router = on(lab, "network-controller", "ovn-nbctl --bare --columns=name list Logical_Router")
    add = f"ovn-nbctl lr-nat-add {router.split()[0]} {kind} {external} {logical}"
    on(lab, "network-controller", add)
    done = lab.run("--lang", "en", "check", "--all")
    assert "mended: nat-row (network-controller)" in done.stdout + done.stderr
    lab("reset")
