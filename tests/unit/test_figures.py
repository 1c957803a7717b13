"""SPECIFICATION.md and scripts/figures.py: each promise is measured, and held by a test."""

import json
import re
from pathlib import Path

import pytest

from tests.scripts import load_script

ROOT = Path(__file__).parents[2]
figures = load_script("figures")
PROMISED = figures.promises((ROOT / "SPECIFICATION.md").read_text("utf-8"))


def test_every_promise_is_measured_and_every_figure_promised() -> None:
    source = (ROOT / "scripts/figures.py").read_text("utf-8")
    measured = set(re.findall(r'\b[Ff]igure\(\s*"([a-z-]+)"', source))
    assert measured == set(PROMISED)
    assert len(measured) >= 11


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_promise_names_a_test_that_exists(name: str) -> None:
    file, _, test = PROMISED[name].test.partition("::")
    function, _, parameter = test.rstrip("]").partition("[")
    source = (ROOT / file).read_text("utf-8")
    assert re.search(rf"^def {function}\(", source, re.MULTILINE)
    assert parameter in ("", name)


def figure(value: float, against: float = 2.0, name: str = "create") -> object:
    return figures.Figure(name, value, against)


@pytest.mark.parametrize(
    ("value", "fails"), [(1.0, False), (3.0, False), (3.75, False), (3.76, True), (30.0, True)]
)
def test_a_figure_fails_when_its_promise_is_exceeded_by_a_quarter(
    value: float, fails: bool
) -> None:
    promise = figures.Promise("create", 1.5, "file::test")
    assert figures.exceeded(figure(value), promise) is fails
    (row,) = figures.table([figure(value)], {"create": promise})[2:]
    assert ("EXCEEDED" in row, "kept" in row) == (fails, not fails)


def test_the_exit_code_tells_whether_a_promise_was_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = PROMISED["start"].at_most
    for ratio, code in ((limit * 1.24, 0), (limit * 1.26, 1)):
        found = figures.Figure("start", ratio, 1.0)
        monkeypatch.setattr(figures, "measure", lambda only, note, found=found: [found])
        written = tmp_path / "figures.md"
        assert figures.main(["--only", "start", "--output", str(written)]) == code
        assert capsys.readouterr().out == written.read_text()
        assert figures.main(["--json"]) == code
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["figure"], row["ratio"]) == ("start", ratio)


def test_a_figure_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        figures.main(["--only", "speed"])
    assert stop.value.code == 2
    assert "create-again" in capsys.readouterr().err


def test_a_table_without_rows_is_no_specification() -> None:
    with pytest.raises(ValueError, match="no table"):
        figures.promises("# Specification\n")


def test_what_is_labctls_own_of_a_replay() -> None:
    report = {
        "checkpoints": [
            {
                "commands": [{"seconds": 4.0}, {"seconds": 6.0}],
                "claims": [
                    {"probe": "wire.ping", "seconds": 3.0, "waited": 1.0},
                    {"probe": "ovn.nat", "seconds": 0.5, "waited": 0.25},
                ],
            }
        ]
    }
    # 15 s in all: 10 of commands, 2 of the ping, 1.25 until claims came true.
    assert figures.own_seconds(15.0, report) == (1.75, 10.0)


def test_the_services_are_those_of_a_lab() -> None:
    from labctl.provisioning.services import units_of
    from tests.unit.fakes import topology

    lab = topology()
    units = {unit for node in lab.nodes for unit in units_of(node, lab.stack)}
    assert set(figures.SERVICES) <= units
    others = {"mariadb", "rabbitmq-server", "memcached", "libvirtd", "ovn-northd"}
    in_python = {unit for unit in units - others if not re.match("ov[ns]", unit)}
    assert set(figures.SERVICES) == in_python
