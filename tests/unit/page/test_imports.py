"""What is loaded before the page's first paint, and what before it can be used."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import labctl.page.serve, labctl.page.{module}
names = {{"starlette", "paramiko", "openstack", "scapy", "unittest.mock"}}
print(*sorted(names & {{*sys.modules}}))
"""


@pytest.mark.parametrize(
    ("module", "loaded"), [("front", ["starlette"]), ("app", ["paramiko", "starlette"])]
)
def test_what_is_loaded(module: str, loaded: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM.format(module=module)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, loaded), done.stderr
