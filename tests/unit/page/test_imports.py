"""What the page loads before its first paint: not the OpenStack SDK, a third of all it may need."""

import subprocess
import sys

PROGRAM = """
import sys
import labctl.page.app, labctl.page.serve
print(*({"starlette", "openstack", "scapy", "unittest.mock"} & {*sys.modules}))
"""


def test_the_page_is_there_before_the_openstack_sdk() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["starlette"]), done.stderr
