"""`labctl box get` to its end: a box of a cloud image, and a lab of it without a network.

Debian's own image is played by one of the same packages (cloud_image.py): it boots in an emulated
machine, cloud-init reads labctl's seed, what it lacks comes from a mirror in the rig, and Vagrant
gets the box that labctl packs of it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.images.box_file import sha256
from tests.e2e.cli import claims
from tests.vm import cloud_image
from tests.vm.conftest import RIG, TOOLS, VmCli

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


KEEP = "LABCTL_BOX_GET_KEEP"
"""Variable that names a directory in which the image, Vagrant's home and the finished box stay, so
that another run goes on from there."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of everything that is made here."""
    kept = Path(os.environ.get(KEEP) or tmp_path_factory.mktemp("box-get"))
    kept.mkdir(parents=True, exist_ok=True)
    return kept.resolve()


@pytest.fixture(scope="module")
def rig(place: Path, require: Callable[..., None]) -> Iterator[Path]:
    """A libvirt of this test's own, which is kept, too."""
    require(*TOOLS, root=True)
    directory = place / "rig"
    subprocess.run([RIG, "start", directory], check=True)
    yield directory
    subprocess.run([RIG, "stop", directory], check=True)


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


def cloud_image_in(directory: Path) -> Path:
    """The archive that plays Debian's, with its SHA512SUMS and its mirror; made if it is not there.

    Its sums are written last.
    """
    image = directory / "debian-13-generic-amd64.tar"
    if not (directory / "SHA512SUMS").exists():
        cloud_image.make(directory, MIRROR)
        subprocess.run(["tar", "-C", directory, "-cSf", image, "disk.raw"], check=True)
        (directory / "disk.raw").unlink()
        sums = subprocess.check_output(["sha512sum", image.name], cwd=directory)
        (directory / "SHA512SUMS").write_bytes(sums)
    return image


def test_from_a_cloud_image_to_a_lab_without_a_network(
    rig: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, image = place / "cloud", cloud_image_in(place / "cloud")  # of the usual cache
    monkeypatch.setenv("LABCTL_CACHE", str(place / "cache"))
    out, log = place / "out", place / "mirror.log"
    work = place / "lab"
    work.mkdir(exist_ok=True)
    lab = VmCli(work, rig, place / "home")
    if not list(out.glob("*.box")):
        with served(rig, cloud / "repo", log):
            words = ("--provider", "libvirt", "--from", str(image), "--output", str(out))
            done = lab.run("box", "get", *words, timeout=2 * 3600)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "GET /./ovn-central" in log.read_text(encoding="utf-8")
    assert not (place / "cache" / "box-get").exists()
    assert not lab.in_rig("virsh", "-q", "list", "--all", "--name").split()
    listed = lab.in_rig("env", f"VAGRANT_HOME={place / 'home'}", "vagrant", "box", "list")
    (box,) = out.glob("*.box")
    version = box.name.removeprefix("labctl-lab-").partition("-libvirt")[0]
    assert listed.split("\n")[0].startswith("labctl/lab (libvirt, " + version)
    assert "labctl/cloud" not in listed
    assert sha256(box) in (out / "labctl-lab.json").read_text(encoding="utf-8")

    # The mirror has ended, and nothing leads out of the rig: all comes from the box.
    assert lab.in_rig("ip", "route", "show", "default") == ""
    links = lab.in_rig("ip", "-o", "link", "show", "up").splitlines()
    assert [link.split()[1] for link in links if "virbr" not in link] == ["lo:"], links
    (work / "lab.yaml").write_text(SPEC, encoding="utf-8")
    lab("create", timeout=3600)
    try:
        for node in ("network-controller", "compute-01"):
            told = lab(
                "ssh", node, "--", "cat", "/etc/labctl/box", "/proc/cmdline", "/etc/hostname"
            )
            assert told.split()[0] == version
            assert "net.ifnames=0" in told
            assert told.split()[-1] == node
            assert lab("ssh", node, "--", "find", "/var/lib", "-path", "/var/lib/cloud/*") == ""
        proved = claims(lab.json("replay", "ovn-snat-dnat", expect=(0, 3)))
        assert len(proved) >= 25
        assert {id: claim["seen"] for id, claim in proved.items() if not claim["holds"]} == {}
    finally:
        lab("destroy")
