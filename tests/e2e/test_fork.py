"""A second lab from a snapshot: independent, and nothing of the first opens anything in it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, on

CONTROLLER = "network-controller"
SPEC = "# my lab\nname: forked  # a comment\nprovider: nspawn\nstack: ovn\n"


def fork_of(lab: Cli, name: str, names: list[str], *words: str) -> Cli:
    """The command line of a new fork of the lab, in a directory beside it."""
    place = lab.directory.parent / name
    lab("fork", name, "--to", str(place), *words)
    names.append(str(place))
    cli = Cli(place, names)
    cli.json("status")  # learns its ID
    return cli


def end(fork: Cli) -> None:
    fork("destroy")
    shutil.rmtree(fork.directory)


# -- what opens a lab ------------------------------------------------------------------------------
def private_lines(key: str) -> list[str]:
    """The lines of an OpenSSH private key that no other key has: not the first two."""
    return [line for line in key.splitlines()[1:-1][1:] if len(line) > 8]


def secrets(lab: Cli) -> dict[str, str]:
    """Everything that opens something in this lab: its state files, and its nodes' disks."""
    state = lab.directory / ".labctl"
    found = dict(json.loads((state / "secrets.json").read_text()))
    keys = [path for path in (state / "ssh").iterdir() if path.name.startswith(("id_", "host_"))]
    for node in (state / "nodes").iterdir():
        found[f"machine-id of {node.name}"] = (node / "root/etc/machine-id").read_text().strip()
        keys += (node / "root/root/.ssh").glob("id_ed25519")
        for path in node.glob("root/etc/keystone/*-keys/[01]"):
            found[str(path)] = path.read_text()
        for path in node.glob("root/var/lib/rabbitmq/.erlang.cookie"):
            found[str(path)] = path.read_text()
        for path in node.glob("root/etc/iscsi/initiatorname.iscsi"):
            found[str(path)] = path.read_text().strip()
    for path in keys:
        for number, line in enumerate(private_lines(path.read_text())):
            found[f"{path} {number}"] = line
    return found


def holding(lab: Cli, words: list[str]) -> list[str]:
    """The files of a lab, its packed snapshots among them, in which one of the words is."""
    state = lab.directory / ".labctl"
    mounted = [f"--exclude-dir={path}" for path in ("root", "work")]  # the upper layer is searched
    nodes = [state / "nodes" / node.name / "upper" for node in (state / "nodes").iterdir()]
    rest = [path for path in state.iterdir() if path.name not in ("nodes", "snapshots")]
    patterns = "".join(word + "\n" for word in words).encode()
    found = subprocess.run(
        ["grep", "-rlaF", "--devices=skip", "-f", "-", *map(str, [*nodes, *rest])],
        input=patterns, capture_output=True, check=False,
    )  # fmt: skip
    assert found.returncode in (0, 1), (found.stderr, mounted)
    files = found.stdout.decode().splitlines()
    for tar in state.glob("snapshots/*/*.tar"):
        content = subprocess.run(
            ["tar", "--extract", "--to-stdout", "--file", tar], capture_output=True, check=True
        ).stdout
        assert len(content) > 10_000
        files += [str(tar)] * any(word.encode() in content for word in words)
    return files


def assert_nothing_shared(first: Cli, second: Cli) -> None:
    ours, theirs = secrets(first), secrets(second)
    assert sorted(map(Path, ours)) != []
    assert len(ours) == len(theirs) > 8
    assert not set(ours.values()) & set(theirs.values())
    # That the search finds what is there: the lab's own secrets, in its state and on its disks.
    own = holding(first, [ours["rabbit"]])
    assert any(name.endswith("secrets.json") for name in own)
    assert any(name.endswith("etc/labctl/lab.env") for name in own)
    assert holding(second, list(ours.values())) == []
    assert holding(first, list(theirs.values())) == []


def assert_not_opened_by(first: Cli, second: Cli) -> None:
    """Keystone and MariaDB of the second lab know its own passwords, and not the first one's."""
    old = json.loads((first.directory / ".labctl/secrets.json").read_text())
    ask = "openstack token issue -f value -c project_id"
    assert len(on(second, CONTROLLER, ask).strip()) == 32
    with_old = f"export OS_PASSWORD={old['admin']}; {ask} 2>&1 || true"
    assert "HTTP 401" in on(second, CONTROLLER, with_old)
    with_old = f"mariadb -h 127.0.0.1 -u nova -p{old['database']} -e 'select 1' 2>&1 || true"
    assert "Access denied" in on(second, CONTROLLER, with_old)
    assert "fork" not in on(second, CONTROLLER, "ls /etc/mysql /etc/mysql/mariadb.conf.d")


# -- OVN alone -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("forked", SPEC)
    cli("create")
    return cli


@pytest.fixture(scope="module")
def fork(lab: Cli, machine: list[str]) -> Iterator[Cli]:
    on(lab, CONTROLLER, "ovn-nbctl ls-add after-base")
    cli = fork_of(lab, "second", machine)
    yield cli
    end(cli)


def test_both_run_and_each_has_its_own(lab: Cli, fork: Cli) -> None:
    assert lab.json("status")["state"] == fork.json("status")["state"] == "up"
    assert fork.json("status")["lab"] == "second"
    # From `base`, which was before the switch.
    assert "after-base" not in on(fork, CONTROLLER, "ovn-nbctl show")
    on(fork, CONTROLLER, "ovn-nbctl ls-add of-the-second")
    assert "of-the-second" not in on(lab, CONTROLLER, "ovn-nbctl show")
    assert "after-base" in on(lab, CONTROLLER, "ovn-nbctl show")
    fork("reset", "--to", "base")
    assert "of-the-second" not in on(fork, CONTROLLER, "ovn-nbctl show")


def test_no_secret_and_no_address_of_cards_is_shared(lab: Cli, fork: Cli) -> None:
    assert_nothing_shared(lab, fork)
    macs = [
        on(cli, CONTROLLER, "cat /sys/class/net/eth[01]/address").split() for cli in (lab, fork)
    ]
    assert not set(macs[0]) & set(macs[1])
    assert (on(fork, CONTROLLER, "ovs-vsctl get bridge br-ex other-config:hwaddr").strip(' "\n')
            == macs[1][0])  # fmt: skip


def test_its_lab_yaml_is_the_first_with_another_name(fork: Cli) -> None:
    text = (fork.directory / "lab.yaml").read_text()
    assert text == SPEC.replace("name: forked", "name: second")


def test_create_finds_nothing_to_mend_in_it(fork: Cli) -> None:
    said = fork("create")
    done = re.findall(r"(already|done) +OVN databases and northd", said)
    assert done == ["already"]
    assert fork.json("status")["state"] == "up"


@pytest.mark.long
def test_a_lesson_can_be_done_in_both_at_once(lab: Cli, fork: Cli) -> None:
    lab("reset", "--to", "base")
    for cli in (lab, fork):
        assert cli.json("replay", "ovn-logical-switch")["ok"] is True
        cli("reset", "--to", "base")


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(lab: Cli, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    for words, why in (
        (("forked",), "is the name of this lab"),
        (("Not A Name",), "name"),
        (("third", "--to", str(taken)), "is there already"),
        (("third", "--to", str(tmp_path / "none/third")), "there is no directory"),
        (("third", "--to", str(tmp_path / "third"), "--snapshot", "none"), "no snapshot none"),
    ):
        done = lab.run("fork", *words)
        assert (done.returncode, why in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    lab("snapshot", "save", "quick", "--warm")
    done = lab.run("fork", "third", "--to", str(tmp_path / "third"), "--snapshot", "quick")
    assert (done.returncode, "has no files" in done.stderr) == (2, True)
    lab("snapshot", "delete", "quick")
    assert not (tmp_path / "third").exists()


@pytest.mark.long
def test_a_kill_on_the_way_leaves_nothing_that_would_boot(
    lab: Cli, machine: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "killed"
    upper = place / ".labctl/nodes" / CONTROLLER / "upper"
    lab.kill_when(lambda: (place / ".labctl/nodes").exists(), "fork", "killed", "--to", str(place))
    assert not upper.exists()
    left = Cli(place, machine)
    assert left.json("status")["state"] in ("absent", "unfinished")
    left("destroy")
    assert lab.json("status")["state"] == "up"


# -- OpenStack -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def cloud_fork(shared_lab: Cli, machine: list[str]) -> Iterator[Cli]:
    cli = fork_of(shared_lab, "forked-cloud", machine)
    yield cli
    end(cli)


@pytest.mark.long
def test_a_cloud_has_passwords_and_keys_of_its_own(shared_lab: Cli, cloud_fork: Cli) -> None:
    assert shared_lab.json("status")["state"] == cloud_fork.json("status")["state"] == "up"
    assert_nothing_shared(shared_lab, cloud_fork)
    assert_not_opened_by(shared_lab, cloud_fork)


@pytest.mark.long
def test_its_instance_knows_its_own_key_and_the_tutorial_can_be_done(cloud_fork: Cli) -> None:
    fingerprint = "openstack keypair show lab -f value -c fingerprint"
    own = "ssh-keygen -l -E md5 -f /root/.ssh/id_ed25519 | awk '{print $2}'"
    assert (on(cloud_fork, CONTROLLER, own).strip().removeprefix("MD5:")
            == on(cloud_fork, CONTROLLER, fingerprint).strip())  # fmt: skip
    assert cloud_fork.json("replay", "floating-ip")["ok"] is True
    assert "cirros" in cloud_fork("ssh", "vm_1", "--", "id", "-un")
