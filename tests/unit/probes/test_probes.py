"""What probes make of what the lab says: recorded answers -> rows.

A case of OVN's databases and of the wire is tests/golden/probes/NAME.yaml (probe, arguments, the
commands it runs and what they said, recorded on a real lab) with NAME.json, the rows. A case of
OpenStack is tests/golden/openstack/NAME.api.json (HTTP requests and their answers) with
NAME.rows.json. Adding a case is adding its files.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.lessons.load import load_lesson
from labctl.lessons.model import CAPTURED, PROBES
from labctl.probes import ProbeContext
from labctl.probes.openstack import PROBES as OPENSTACK
from labctl.probes.signatures import SIGNATURES
from labctl.probes.wire import parse_ping
from tests.unit.access.test_cloud import connection, pytestmark  # noqa: F401  # it counts here too
from tests.unit.fakes import FakeGuest, no_cloud, topology
from tests.unit.golden import GOLDEN, expect_json

CASES = sorted((GOLDEN / "probes").glob("*.yaml"))
API_CASES = sorted((GOLDEN / "openstack").glob("*.api.json"))


def look(case: Path) -> Any:
    data = yaml.safe_load(case.read_text(encoding="utf-8"))
    guest = FakeGuest()
    for answer in data["answers"]:
        # The answer is for this command alone: a probe that asks another way fails.
        whole = f"^{re.escape(shlex.join(shlex.split(answer['run'])))}$"
        guest.on(whole, answer["says"], exit=answer.get("exit", 0))
    context = ProbeContext(topology(), no_cloud, lambda name: guest)
    return PROBES[data["probe"]](context, data.get("with", {}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    expect_json(case.with_suffix(".json"), look(case))


@pytest.mark.parametrize("case", API_CASES, ids=lambda case: case.name.removesuffix(".api.json"))
def test_openstack(case: Path) -> None:
    cloud, _ = connection(json.loads(case.read_text(encoding="utf-8")))
    context = ProbeContext(topology(), lambda: cloud, lambda name: FakeGuest())
    rows = {name: probe(context, {}) for name, probe in OPENSTACK.items()}
    expect_json(case.with_name(case.name.replace(".api.", ".rows.")), rows)


def test_no_golden_answer_is_an_orphan() -> None:
    assert {case.stem for case in CASES} == {p.stem for p in (GOLDEN / "probes").glob("*.json")}
    names = {case.name.replace(".api.", ".rows.") for case in API_CASES}
    assert names == {path.name for path in (GOLDEN / "openstack").glob("*.rows.json")}


def test_every_probe_that_a_lesson_asks_has_a_case() -> None:
    lesson = load_lesson("floating-ip")
    asked = {claim.probe for checkpoint in lesson.checkpoints for claim in checkpoint.claims}
    asked |= {fact.probe for fact in lesson.facts.values()}
    cases = {yaml.safe_load(case.read_text(encoding="utf-8"))["probe"] for case in CASES}
    # What captures saw: test_packets.py, test_replay.py.
    assert asked - set(OPENSTACK) - set(CAPTURED) <= cases


def test_columns_are_those_of_the_docstring() -> None:
    # Lessons are written from the docstrings: what they promise is there, under that name.
    rows = json.loads((GOLDEN / "openstack/day-done.rows.json").read_text(encoding="utf-8"))
    seen = {name: set(found[0]) for name, found in rows.items()}
    for case in CASES:
        data = yaml.safe_load(case.read_text(encoding="utf-8"))
        found = json.loads(case.with_suffix(".json").read_text(encoding="utf-8"))
        if found:
            seen.setdefault(data["probe"], set(found[0]))
    for name, columns in seen.items():
        promised = set(re.findall(r"\b[a-z0-9_]+\b", PROBES[name].__doc__ or ""))
        assert columns <= promised, f"{name}: not documented: {columns - promised}"
        assert columns == set(SIGNATURES[name].columns), name


def test_every_probe_has_a_signature() -> None:
    # Lessons are checked by it: a claim about a column that there is not holds with `count: 0`.
    assert SIGNATURES.keys() == PROBES.keys()
    for name, signature in SIGNATURES.items():
        promised = set(re.findall(r"\b[a-z0-9_]+\b", PROBES[name].__doc__ or ""))
        arguments = {*signature.needed, *signature.others}
        if name != "wire.packets":
            assert {*signature.columns, *arguments} <= promised, name
        assert set(signature.values or ()) <= {*signature.columns, *arguments}, name


@pytest.mark.parametrize("said", ["", "ping: socket: Operation not permitted\n", "3 packets"])
def test_no_summary_is_no_answer(said: str) -> None:
    assert parse_ping(said) == (0, 0)
