"""The keys that labctl brings along, with apt and Debian's mirror."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.images.debian import SUITE

# On a host that trusts nobody: in a mount namespace whose directories of keys are empty.
HOST = """
set -e
mount -t tmpfs tmpfs /usr/share/keyrings
mount -t tmpfs tmpfs /etc/apt/trusted.gpg.d
"$@"
"""
PROGRAM = """
import subprocess, sys
from pathlib import Path
from labctl.assets import assets
from labctl.images.keys import archive_keys

with archive_keys(assets() / "provision") as keys:
    options = [f"--keyring={keys}"] if sys.argv[1] == "ours" else []
    sys.exit(subprocess.call(
        ["mmdebstrap", "--mode=root", "--variant=essential", "--simulate", *options,
         '--aptopt=Acquire::Languages "none"', *sys.argv[2:]]))
"""


@pytest.mark.parametrize(("whose", "works"), [("ours", True), ("the host's", False)])
def test_debian_is_believed_by_our_keys_alone(
    whose: str, works: bool, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("mmdebstrap", "unshare", "mount", root=True)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", HOST, "sh",
         sys.executable, "-c", PROGRAM, whose, SUITE, tmp_path / "root"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == works, done.stderr[-2000:]
    assert ("NO_PUBKEY" in done.stderr) != works
