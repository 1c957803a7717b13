"""class.yaml -> spec: what is accepted, what is refused, and in which words.

Golden files as for lab.yaml: tests/golden/class/NAME.yaml and NAME.txt.
"""

import json
from pathlib import Path

import fastjsonschema
import pytest
import yaml

from labctl.assets import PACKAGE
from labctl.classroom.load import json_schema, load_class, parse_class, write_default
from labctl.errors import LabError
from labctl.i18n import set_language
from labctl.spec.problems import SpecError
from tests.unit.golden import GOLDEN, expect_text

CASES = sorted((GOLDEN / "class").glob("*.yaml"))


def problems(content: bytes) -> str:
    try:
        parse_class(content, "class.yaml")
    except SpecError as error:
        return "".join(f"{problem}\n" for problem in error.problems)
    return "valid\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    set_language("en")
    found = problems(case.read_bytes())
    assert (found == "valid\n") == case.stem.endswith("valid")
    expect_text(case.with_suffix(".txt"), found)


def test_the_schema_is_current() -> None:
    committed = json.loads((PACKAGE / "schema" / "class.schema.json").read_text("utf-8"))
    assert committed == json_schema(), "run python -m labctl.classroom.load"


def test_the_file_that_init_writes_is_valid_for_labctl_and_for_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "class.yaml"
    write_default(file, "autumn-27")
    spec = load_class(file)
    assert (spec.name, len(spec.learners), spec.learners[-1]) == ("autumn-27", 30, "learner-30")
    fastjsonschema.compile(json_schema())(yaml.safe_load(file.read_text("utf-8")))
    with pytest.raises(LabError, match=r"class\.yaml"):
        write_default(file, "another")


def test_init_writes_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "class.yaml"
    write_default(file, "day")
    assert load_class(file) == parse_class(b"name: day\nlearners: 30\n", "class.yaml")
