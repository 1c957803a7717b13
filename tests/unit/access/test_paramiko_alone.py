"""paramiko as labctl loads it: without `invoke`, and without taking that from anybody else."""

import subprocess
import sys

PROGRAM = """
import sys
import labctl.access.ssh, labctl.providers.vagrant.provider
print(*(name for name in ("paramiko", "invoke", "unittest.mock") if name in sys.modules))
import invoke
print(invoke.__name__)
"""


def test_it_brings_nothing_along_that_labctl_does_not_use() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["paramiko", "invoke"]), done.stderr
