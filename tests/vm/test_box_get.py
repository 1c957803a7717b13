"""`labctl box get` to its end: a box of a cloud image, and a lab of it without a network.

Debian's own image is played by one of the same packages (cloud_image.py): it boots in an emulated
machine, cloud-init reads labctl's seed, what it lacks comes from a mirror in the rig, and Vagrant
gets the box that labctl packs of it.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.images.box_file import sha256
from tests.e2e.cli import claims
from tests.vm import cloud_image
from tests.vm.conftest import RIG, VmCli

pytestmark = [pytest.mark.timeout(3 * 3600), pytest.mark.cloud]

MIRROR = "http://8.8.8.8:8000/"
"""An address of the rig; no packet leaves it."""
SPEC = """
name: second
provider: libvirt
stack: ovn
nodes:
  network-controller: {cpus: 1}
  compute-01: {cpus: 1}
"""


@contextmanager
def served(rig: Path, directory: Path, log: Path) -> Iterator[None]:
    """A web server in the rig while the context lasts."""
    with log.open("w", encoding="utf-8") as sink:
        server = subprocess.Popen(
            [RIG, "exec", rig, sys.executable, "-u", "-m", "http.server", "-b", "8.8.8.8",
             "-d", directory, "8000"],
            stdout=sink, stderr=sink,
        )  # fmt: skip
        try:
            while "Serving" not in log.read_text(encoding="utf-8"):
                assert server.poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.1)
            yield
        finally:
            server.kill()
            server.wait()


def test_from_a_cloud_image_to_a_lab_without_a_network(
    rig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = tmp_path / "cloud"
    cloud_image.make(cloud, MIRROR)
    image = cloud / "debian-13-generic-amd64.tar"
    subprocess.run(["tar", "-C", cloud, "-cSf", image, "disk.raw"], check=True)
    (cloud / "disk.raw").unlink()
    subprocess.run(f"sha512sum {image.name} >SHA512SUMS", shell=True, cwd=cloud, check=True)
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    out, log = tmp_path / "out", tmp_path / "mirror.log"
    work = tmp_path / "lab"
    work.mkdir()
    lab = VmCli(work, rig, tmp_path / "home")
    with served(rig, cloud / "repo", log):
        words = ("--provider", "libvirt", "--from", str(image), "--output", str(out))
        done = lab.run("box", "get", *words, timeout=2 * 3600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "GET /./ovn-central" in log.read_text(encoding="utf-8")
    assert not (tmp_path / "cache" / "box-get").exists()
    assert not lab.in_rig("virsh", "-q", "list", "--all", "--name").split()
    listed = lab.in_rig("env", f"VAGRANT_HOME={tmp_path / 'home'}", "vagrant", "box", "list")
    (box,) = out.glob("*.box")
    version = box.name.removeprefix("labctl-lab-").removesuffix("-libvirt.box")
    assert listed.split("\n")[0].startswith("labctl/lab (libvirt, " + version)
    assert "labctl/cloud" not in listed
    assert sha256(box) in (out / "labctl-lab.json").read_text(encoding="utf-8")

    (work / "lab.yaml").write_text(SPEC, encoding="utf-8")
    lab("create", timeout=3600)
    try:
        for node in ("network-controller", "compute-01"):
            told = lab("ssh", node, "--", "cat /etc/labctl/box; cat /proc/cmdline; hostname")
            assert told.split()[0] == version
            assert "net.ifnames=0" in told
            assert told.split()[-1] == node
            assert lab("ssh", node, "--", "ls /var/lib/cloud; true").strip() == ""
        proved = claims(lab.json("replay", "ovn-snat-dnat", expect=(0, 3)))
        assert len(proved) >= 25
        assert {id: claim["seen"] for id, claim in proved.items() if not claim["holds"]} == {}
    finally:
        lab("destroy")
