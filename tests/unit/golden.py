"""Golden files: the expected output beside its input. LABCTL_UPDATE_GOLDEN=1 writes them."""

import json
import os
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"


def expect_text(file: Path, said: str) -> None:
    """Fails unless this is what the file holds."""
    if os.environ.get("LABCTL_UPDATE_GOLDEN"):
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


def expect_json(file: Path, data: Any) -> None:
    """The same for data, one value a line, so that a change reads well in a diff."""
    expect_text(file, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
