"""Everything that is said to people can be said in Traditional Chinese."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

from labctl.i18n import catalogue_path
from labctl.stages import SCRIPTS

PACKAGE = Path(__file__).parents[2] / "labctl"
STATES = {"absent", "unfinished", "halted", "degraded", "up"}


def said() -> Iterator[tuple[str, str]]:
    """(place, template) of every `tr("…")` in the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "tr"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield f"{file.name}:{node.lineno}", str(node.args[0].value)


def test_every_template_is_in_the_catalogue() -> None:
    known = yaml.safe_load(catalogue_path("zh-TW").read_text(encoding="utf-8"))
    wanted = [
        *said(),
        *((one.file, one.title) for one in SCRIPTS),
        *(("status", s) for s in STATES),
    ]
    missing = [f"{place}: {text!r}" for place, text in wanted if text not in known]
    assert not missing, "\n".join(missing)


def test_something_is_said() -> None:
    assert len(list(said())) > 60
