"""Our mount namespaces hold no file system of a lab that was destroyed meanwhile."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.images.baked import DIES_WITH_LABCTL

SCRIPT = """
mount --make-rshared /
mount -t tmpfs of-a-lab {place}
{wrapped} bash -c 'echo ready; read -r _; grep -c of-a-lab /proc/self/mountinfo' <{go} >{said} &
exec 3>{go}
until grep -q ready {said}; do sleep 0.05; done
umount {place}
echo >&3
wait
"""


@pytest.mark.parametrize(
    "wrapper", [DIES_WITH_LABCTL, ("unshare", "--mount", "--propagation", "slave")]
)
def test_what_is_unmounted_outside_is_not_kept(
    require: Callable[..., None], tmp_path: Path, wrapper: tuple[str, ...]
) -> None:
    require("unshare", "setpriv", root=True)
    place, said, go = tmp_path / "lab", tmp_path / "said", tmp_path / "go"
    place.mkdir()
    script = SCRIPT.format(place=place, wrapped=shlex.join(wrapper), go=go, said=said)
    # A mount namespace of the test's own stands in for the host's.
    subprocess.run(["mkfifo", go], check=True)
    subprocess.run(["unshare", "--mount", "bash", "-c", script], check=True, timeout=30)
    assert said.read_text().split() == ["ready", "0"]
