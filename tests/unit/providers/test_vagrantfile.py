"""topology -> Vagrantfile. A case is tests/golden/vagrantfile/NAME.yaml with NAME.Vagrantfile.

That real Vagrant accepts these files is tests/integration/test_vagrantfile.py's to show.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from labctl.assets import assets
from labctl.providers.vagrant.vagrantfile import ruby, vagrantfile
from labctl.spec.load import load_spec
from labctl.topology import Topology, build_topology
from tests.unit.golden import GOLDEN, expect_text

CASES = sorted((GOLDEN / "vagrantfile").glob("*.yaml"))
TEMPLATE = assets() / "Vagrantfile.j2"


def rendered(topology: Topology) -> str:
    return vagrantfile(topology, TEMPLATE, "../ssh/id_ed25519", "../logs")


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_vagrantfile_of_a_spec(case: Path) -> None:
    topology = build_topology(load_spec(case))
    expect_text(case.with_suffix(".Vagrantfile"), rendered(topology))


def test_the_same_spec_gives_the_same_bytes() -> None:
    first, again = (rendered(build_topology(load_spec(CASES[0]))) for _ in range(2))
    assert first.encode() == again.encode()


def test_it_is_the_same_for_both_providers() -> None:
    """libvirt's nodes differ in their eth0 addresses; one file must do for both."""
    spec = load_spec(CASES[0])
    assert rendered(build_topology(spec, shared_nat=True)) == rendered(build_topology(spec))


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain", "'plain'"),
        ("it's", r"'it\'s'"),
        ("#{system('id')}", r"'#{system(\'id\')}'"),
        ("back\\slash", r"'back\\slash'"),
        ("ends with \\", r"'ends with \\'"),
        ("two\nlines", r"""'two' "\u{a}" 'lines'"""),
        ("\0", r'"\u{0}"'),
        ("網路", "'網路'"),
        ("", "''"),
    ],
)
def test_a_ruby_literal(text: str, literal: str) -> None:
    assert ruby(text) == literal


def test_no_value_leaves_its_place() -> None:
    """Names are checked long before; the template does not rely on that."""
    spec = load_spec(CASES[0])
    nasty = replace(
        build_topology(spec), spec=spec.model_copy(update={"name": "x\nsystem('id')\n#"})
    )
    lines = rendered(nasty).splitlines()
    assert not [line for line in lines if line.lstrip().startswith("system")]
