"""Other addresses, other names, two computes; created through kills; beside another lab."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.assets import assets
from labctl.images.baked import ImageCache
from labctl.provisioning.seed import BUILTIN_IMAGE
from labctl.state import cache_directory
from tests.e2e.cli import Cli

OTHER = """
name: other
nodes:
  ctl: {eth1: 10.77.0.5, roles: [controller, gateway]}
  hv-a: {eth1: 10.77.0.60}
  hv-b: {eth1: 10.77.0.61, mac: {eth1: 52:54:00:12:34:56}}
nat: {subnet: 192.168.121.0/24, gateway: 192.168.121.1, address: 192.168.121.77}
private: {subnet: 10.77.0.0/24}
external:
  physical_network: outside
  network: "the outside's net"
  subnet: "$(touch /tmp/labctl-pwned)"
  pool: {start: 192.168.121.200, end: 192.168.121.209}
tenant:
  {network: web net, subnet: web subnet, cidr: 10.9.8.0/25, gateway: 10.9.8.126, router: "r 2",
   networks: {back: }}
instances:
  web: {address: 10.9.8.20}
  db: {address: 10.9.8.21, compute: hv-b}
  far: {network: back, compute: hv-a, flavor: tiny}
flavors: {tiny: {memory: 128}}
image: {name: own, source: ./own.qcow2, user: cirros}
flavor: {name: small, memory: 160}
security_group: let ping & ssh in
"""


@pytest.fixture(scope="module")
def neighbour(make_lab: Callable[[str, str], Cli]) -> Cli:
    """A lab that is begun and left alone: nodes only, stopped in the middle of `create`."""
    cli = make_lab("neighbour", "name: neighbour\n")
    cli.kill_at("step_finished", "network:compute-01", "create")
    return cli


@pytest.fixture(scope="module")
def other(make_lab: Callable[[str, str], Cli], neighbour: Cli) -> Iterator[Cli]:
    cli = make_lab("other lab, with spaces: and 'quotes'", OTHER)
    # An image of the user's own: here the built-in one, copied out of the cache.
    built = ImageCache(cache_directory(), assets() / "provision").find()
    assert built is not None, "the neighbour's create has baked it"
    shutil.copy(built.file(BUILTIN_IMAGE), cli.directory / "own.qcow2")
    yield cli
    (cli.directory / "own.qcow2").unlink()


def status_when_up(lab: Cli) -> dict[str, Any]:
    report: dict[str, Any] = lab.json("status")
    troubles = [*report["troubles"], *(node["troubles"] for node in report["nodes"])]
    assert report["state"] == "up", troubles
    return report


def test_create_goes_on_after_kills_anywhere(other: Cli) -> None:
    for event, step, sig in (
        ("step_started", "host-network", signal.SIGKILL),
        ("step_started", "boot:hv-b", signal.SIGKILL),
        ("step_progress", "keystone:ctl", signal.SIGKILL),
        ("step_started", "instance:web", signal.SIGINT),
    ):
        other.kill_at(event, step, "create", sig=sig)
    other("up", expect=1)
    assert "not finished" in other.stderr
    other("create")
    report = status_when_up(other)
    assert {one["name"]: one["status"] for one in report["instances"]} == {
        "web": "ACTIVE",
        "db": "ACTIVE",
        "far": "ACTIVE",
    }
    hosts = {one["name"]: one["host"] for one in report["instances"]}
    assert (hosts["db"], hosts["far"]) == ("hv-b", "hv-a")
    services = other("ssh", "ctl", "--", "mariadb", "-Ne", "select count(*) from nova.instances")
    assert services.split() == ["3"], "no instance was made twice"


def test_replay_holds_for_other_values(other: Cli) -> None:
    report = other.json("replay", "floating-ip")
    assert report["ok"] is True
    claims = {c["id"]: c for point in report["checkpoints"] for c in point["claims"]}
    address = claims["floating-ip-in-pool"]["seen"][0]["address"]
    assert address.startswith("192.168.121.20")
    assert claims["one-dnat-rule"]["seen"][0]["logical_ip"] == "10.9.8.20"
    assert not Path("/tmp/labctl-pwned").exists()
    assert "pwned" not in other("ssh", "ctl", "--", "ls", "/tmp")


def test_two_labs_live_side_by_side(other: Cli, neighbour: Cli) -> None:
    ids = {
        json.loads((cli.directory / ".labctl/lab.json").read_text())["lab_id"]
        for cli in (other, neighbour)
    }
    assert len(ids) == 2

    def of_neighbour(cli: Cli) -> dict[str, Any]:
        here = str(neighbour.directory)
        (found,) = (one for one in cli.json("doctor")["findings"] if here in one["what"])
        return dict(found)

    assert of_neighbour(other)["id"] == "other-lab"
    # `rm -rf .labctl` beside running nodes: it leaves what is mounted, and destroy cannot know it.
    shutil.rmtree(neighbour.directory / ".labctl", ignore_errors=True)
    neighbour("destroy", expect=1)
    assert "labctl doctor" in neighbour.stderr
    found = of_neighbour(neighbour)
    assert found["id"] == "leftover-containers"
    for command in found["commands"]:
        subprocess.run(["bash", "-c", command.replace("sudo ", "")], check=True)
    neighbour("destroy")
    assert not (neighbour.directory / ".labctl").exists()
    status_when_up(other)


PRIVATE_AND_ALIKE = re.compile(
    # Who may log in with a password: nobody. What sudo keeps of the environment. What Debian's
    # packages configure; its secrets are in files of the lab's own.
    r"/etc/g?shadow-?|/etc/sudoers\.d/labctl"
    r"|/etc/(nova|neutron|glance|keystone|placement)/.*\.(conf|ini|json|yaml)"
    r"|/etc/(mysql/debian.cnf|dbconfig-common/config)|/etc/libvirt/(nwfilter|qemu/networks)/.*"
    # What is in a database's files belongs to its users, whose passwords are the lab's own.
    r"|/var/lib/(mysql|rabbitmq/mnesia|ucf)/.*|/var/lib/labctl/snapshots/base/.*|/root/.ssh/config"
)
"""Files that only root or a service can read, and that two labs may have in common."""


def own_files(root: Path) -> dict[str, Path]:
    """The files of a node that no package has brought along as they are."""
    lists = (root / "var/lib/dpkg/info").glob("*.list")
    packaged = {line for file in lists for line in file.read_text().splitlines()}
    cached = ("/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/", "/opt/labctl/", "/etc/ssl/certs/")
    return {
        name: path
        for top in ("etc", "var", "root", "home", "srv", "opt")
        for path in (root / top).rglob("*")
        if (name := f"/{path.relative_to(root)}") not in packaged
        and not name.startswith(cached)
        and path.is_file()
        and not path.is_symlink()
    }


def test_two_labs_of_one_image_have_no_secret_in_common(other: Cli, shared_lab: Cli) -> None:
    def root(lab: Cli, node: str) -> Path:
        return lab.directory / ".labctl/nodes" / node / "root"

    for pair in (("ctl", "network-controller"), ("hv-a", "compute-01")):
        one, two = own_files(root(other, pair[0])), own_files(root(shared_lab, pair[1]))
        both = sorted(one.keys() & two.keys())
        assert "/etc/machine-id" in both
        assert ("/var/lib/rabbitmq/.erlang.cookie" in both) == (pair[0] == "ctl")
        alike = []
        for name in both:
            try:
                content = one[name].read_bytes()
                if not content or content != two[name].read_bytes():
                    continue
            except FileNotFoundError:
                continue  # a service has replaced it
            if not one[name].stat().st_mode & 0o004 or b"PRIVATE KEY" in content:
                alike.append(name)
        assert [name for name in alike if not PRIVATE_AND_ALIKE.fullmatch(name)] == []
        for name in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key"):
            assert one[name].read_bytes() != two[name].read_bytes(), name


def test_a_changed_lab_yaml_is_refused_and_nothing_is_lost(other: Cli) -> None:
    file = other.directory / "lab.yaml"
    file.write_text(OTHER.replace("10.9.8.20", "10.9.8.30"), encoding="utf-8")
    try:
        other("create", expect=2)
        assert "lab.yaml" in other.stderr
    finally:
        file.write_text(OTHER, encoding="utf-8")
    status_when_up(other)


@pytest.mark.long
def test_a_full_disk_is_told_and_survived(
    make_lab: Callable[[str, str], Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab("full", "name: full\nstack: ovn\n")

    def mount(*options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(lab.directory)]
        subprocess.run(words, check=True)

    spec = (lab.directory / "lab.yaml").read_text()
    mount("size=1m")
    try:
        (lab.directory / "lab.yaml").write_text(spec)
        lab("create", expect=1)
        assert "MiB free" in lab.stderr, "told before anything is made"
        assert lab.json("status")["state"] == "absent"
        # A disk that fills up only while the lab is being made.
        monkeypatch.setenv("LABCTL_DOCTOR_IGNORE", "disk")
        lab("create", expect=1)
        assert "space" in lab.stderr.lower()
        assert "labctl-crash-" not in lab.stderr
        monkeypatch.delenv("LABCTL_DOCTOR_IGNORE")
        mount("remount", "size=1g")
        lab("create")
        lab("snapshot", "save", "older")
        filler = lab.directory / "filler"
        free = shutil.disk_usage(lab.directory).free
        filler.write_bytes(b"x" * (free - (1 << 20)))
        lab("snapshot", "save", "newer", expect=1)
        assert "disk is full" in lab.stderr
        filler.unlink()
        assert {row["name"] for row in lab.json("snapshot", "list")} == {"base", "older"}
        assert lab.json("status")["state"] == "up"
        lab("snapshot", "restore", "older", "--cold")
    finally:
        lab("destroy")
        for _ in range(20):  # the kernel may be a moment behind
            if subprocess.run(["umount", str(lab.directory)], check=False).returncode == 0:
                break
            time.sleep(0.5)
        assert not os.path.ismount(lab.directory)
