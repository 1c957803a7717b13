"""Golden files: the expected output beside its input. LABCTL_UPDATE_GOLDEN=1 writes them."""

import json
import os
from difflib import unified_diff
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"


def expect_text(file: Path, said: str) -> None:
    """Fails unless this is what the file holds."""
    if os.environ.get("LABCTL_UPDATE_GOLDEN"):
        file.write_text(said, encoding="utf-8")
    expected = file.read_text(encoding="utf-8") if file.exists() else ""
    assert said == expected and file.exists(), _difference(file, expected, said)  # noqa: PT018


def _difference(file: Path, expected: str, said: str) -> str:
    """What to change in the file; pytest shows no difference for an assertion in this module."""
    lines = unified_diff(
        expected.splitlines(), said.splitlines(), str(file), "what came", n=1, lineterm=""
    )
    difference = "\n".join(lines) or f"{file} is missing, or ends differently"
    return f"{difference}\nIf that is right: LABCTL_UPDATE_GOLDEN=1 writes the file; read it."


def expect_json(file: Path, data: Any) -> None:
    """The same for data, one value a line, so that a change reads well in a diff."""
    expect_text(file, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
