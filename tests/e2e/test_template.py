"""A lab made of the template that an earlier one left: quick, and with nothing of the other's."""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator

import pytest

from labctl.state import cache_directory
from tests.e2e.cli import Cli, on
from tests.e2e.test_fork import assert_not_opened_by, assert_nothing_shared, private_lines

pytestmark = pytest.mark.long

CONTROLLER = "network-controller"
TEMPLATES = cache_directory(roots=True) / "templates"
OWN = f"-{os.getpid()}"
"""In the names of these labs: none has left a template before."""


def spec(name: str) -> str:
    return f"name: {name}{OWN}\nprovider: nspawn\nstack: ovn\n"


def keys() -> set[str]:
    return {path.name for path in TEMPLATES.glob("[0-9a-f]*")}


@pytest.fixture(autouse=True, scope="module")
def templates() -> Iterator[None]:
    """`create` may use them, unlike in other tests; those that it leaves are removed."""
    before = keys()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LABCTL_NO_TEMPLATE")
        yield
    for key in keys() - before:
        shutil.rmtree(TEMPLATES / key)


def was_copied(lab: Cli) -> bool:
    """Whether its disks are those of a template, and no stage of `create` has run."""
    lines = (lab.directory / ".labctl/events.jsonl").read_text().splitlines()
    ran = {
        event["id"]
        for event in map(json.loads, lines)
        if event["event"] == "step_finished" and event["outcome"] == "done"
    }
    copied, made = "renew" in ran, f"ovn-central:{CONTROLLER}" in ran
    assert copied != made, ran
    return copied


# -- what opens a lab, wherever it is --------------------------------------------------------------
def closed_files(lab: Cli) -> dict[str, str]:
    """{file of a node that others may not read: SHA-256}, of all that the nodes have written."""
    found = {}
    for node in (lab.directory / ".labctl/nodes").iterdir():
        upper = node / "upper"
        for path in upper.rglob("*"):
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and info.st_size and not info.st_mode & stat.S_IROTH:
                name = f"{node.name}:/{path.relative_to(upper)}"
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def private_keys(lab: Cli) -> dict[str, set[str]]:
    """{file with a private key: its lines}, of whatever program, on all nodes."""
    found = {}
    for node in (lab.directory / ".labctl/nodes").iterdir():
        for path in (node / "upper").rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 20_000:
                text = path.read_text(errors="replace")
                if re.search("^-----BEGIN .*PRIVATE KEY-----$", text, re.MULTILINE):
                    name = f"{node.name}:/{path.relative_to(node / 'upper')}"
                    found[name] = set(private_lines(text))
    return found


NO_SECRET = re.compile(
    r"^(?P<node>[^:]*):/("
    # The same in every lab: who may log in and with which rights, and what programs bring along.
    r"etc/(shadow|gshadow|sudoers).*|etc/(subuid|subgid|group|passwd)-|etc/\.pwd\.lock"
    r"|.*\.(conf|ini|cnf|yaml|json|rules|filters|log|journal)"
    r"|var/(log|cache|lib/(dpkg|apt|mysql|openvswitch|ovn|libvirt|nova|neutron|glance))/.*"
    r"|etc/(openvswitch|ovn)/.*"
    r"|etc/libvirt/(nwfilter|qemu/networks)/.*|root/\.ssh/config|var/lib/libuuid/clock\.txt"
    r"|var/lib/labctl/snapshots/base/(addresses|links|images/.*)"  # as lab.yaml says
    r"|var/lib/rabbitmq/mnesia/.*"  # of a new broker; what it keeps of a password has a salt
    r")$"
)
"""Files that two labs may have in common though others cannot read them; a password in them is
found by `assert_nothing_shared`."""


def assert_no_secret_in_both(first: Cli, second: Cli) -> None:
    assert_nothing_shared(first, second)
    ours, theirs = closed_files(first), closed_files(second)
    assert any(name.endswith("/etc/labctl/lab.env") for name in ours)
    same = {name for name, digest in ours.items() if theirs.get(name) == digest}
    assert sorted(name for name in same if not NO_SECRET.match(name)) == []
    ours_private, theirs_private = private_keys(first), private_keys(second)
    assert len(ours_private) == len(theirs_private) >= 2  # the nodes' host keys
    assert not set().union(*ours_private.values()) & set().union(*theirs_private.values())


# -- OVN alone -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def first(make_lab: Callable[[str, str], Cli]) -> Cli:
    lab = make_lab("first", spec("shared"))
    said = " ".join(lab("create").split())
    assert "takes this template" in said
    return lab


@pytest.fixture(scope="module")
def second(first: Cli, make_lab: Callable[[str, str], Cli]) -> Cli:
    on(first, CONTROLLER, "ovn-nbctl ls-add after-create")
    lab = make_lab("second", spec("shared"))
    lab("create")
    return lab


def test_the_second_lab_of_a_lab_yaml_is_made_of_the_first(first: Cli, second: Cli) -> None:
    assert (was_copied(first), was_copied(second)) == (False, True)
    assert first.json("status")["state"] == second.json("status")["state"] == "up"
    assert "after-create" not in on(second, CONTROLLER, "ovn-nbctl show")
    said = second("create")
    assert re.findall(r"(already|done) +OVN databases and northd", said) == ["already"]
    second("reset", "--to", "base")
    assert [row["name"] for row in second.json("snapshot", "list")] == ["base"]
    assert second.json("replay", "ovn-logical-switch")["ok"] is True
    second("reset", "--to", "base", "--cold")
    second("halt")
    second("up")
    assert second.json("status")["state"] == "up"


def test_they_share_no_secret(first: Cli, second: Cli) -> None:
    assert_no_secret_in_both(first, second)


def test_only_root_reads_a_template(first: Cli) -> None:
    assert len(keys()) >= 1
    for path in [TEMPLATES, *TEMPLATES.glob("*/"), *TEMPLATES.glob("*/*.json")]:
        info = path.stat()
        assert (info.st_uid, info.st_mode & 0o077) == (0, 0), path


def test_it_is_refused_by_an_option_and_a_variable(
    first: Cli, make_lab: Callable[[str, str], Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys()
    for words, variable in ((("--no-template",), ""), ((), "1")):
        lab = make_lab("without", spec("shared"))
        monkeypatch.setenv("LABCTL_NO_TEMPLATE", variable)
        lab("create", *words)
        assert not was_copied(lab)
        lab("destroy")
        other = make_lab("without", spec("without"))
        other("create", *words)
        other("destroy")
    assert keys() == before


@pytest.mark.parametrize("step", ["check", "renew", "files", f"boot:{CONTROLLER}", "forget"])
def test_a_kill_on_the_way_is_mended_by_the_next_create(
    first: Cli, make_lab: Callable[[str, str], Cli], step: str
) -> None:
    lab = make_lab("killed", spec("shared"))
    lab.kill_at("step_started", step, "create")
    done = lab.run("up")
    assert (done.returncode, "labctl create" in done.stderr) == (1, True), done.stderr
    lab("create")
    assert was_copied(lab)
    assert lab.json("status")["state"] == "up"
    assert_nothing_shared(first, lab)
    lab("destroy")


def test_a_kill_while_it_is_written_leaves_none_or_a_whole_one(
    make_lab: Callable[[str, str], Cli],
) -> None:
    before = keys()
    lab = make_lab("killed-at-the-end", spec("killed"))
    lab.kill_when(lambda: any(TEMPLATES.glob("*.partial")) or keys() != before, "create")
    lab("create")
    assert lab.json("status")["state"] == "up"
    lab("destroy")
    lab("create")  # of the whole one, or all anew
    assert lab.json("status")["state"] == "up"
    lab("destroy")


def test_one_that_was_altered_is_not_used_and_purge_removes_all(
    make_lab: Callable[[str, str], Cli],
) -> None:
    before = keys()
    lab = make_lab("damaged", spec("damaged"))
    lab("create")
    said = lab("destroy")
    assert re.search(r"\d templates? of `create` \(\d+ MB\)", said), said
    (key,) = keys() - before
    part = TEMPLATES / key / f"{CONTROLLER}.tar"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    warned = " ".join(lab("create").split())
    assert "of no use, so it is made from the beginning" in warned
    assert f"{CONTROLLER}.tar was altered" in warned
    assert not was_copied(lab)
    assert lab.json("status")["state"] == "up"
    lab("destroy")
    lab("create")  # of the one that was left instead
    assert was_copied(lab)
    lab("destroy", "--purge")
    assert keys() == set()


# -- OpenStack -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def clouds(make_lab: Callable[[str, str], Cli], default_spec: str) -> tuple[Cli, Cli]:
    own = re.sub(r"(?m)^name: *\S+", f"name: cloud{OWN}", default_spec)
    labs = make_lab("first-cloud", own), make_lab("second-cloud", own)
    for lab in labs:
        lab("create")
    return labs


def test_a_cloud_has_passwords_and_keys_of_its_own(clouds: tuple[Cli, Cli]) -> None:
    first, second = clouds
    assert (was_copied(first), was_copied(second)) == (False, True)
    assert_no_secret_in_both(first, second)
    assert_not_opened_by(first, second)


HASHES = """mariadb -N -e "select password_hash from keystone.password;
select json_value(priv, '$.authentication_string') from mysql.global_priv;
select public_key from nova_api.key_pairs" """
DUMP = "mariadb-dump --all-databases --skip-extended-insert"


def test_not_even_a_hash_of_a_password_is_in_the_databases_of_both(
    clouds: tuple[Cli, Cli],
) -> None:
    # Bcrypt of Keystone's users, SHA1 of MariaDB's (root there has none), the keypair's public key.
    hashes = [
        {word for word in on(lab, CONTROLLER, HASHES).split() if re.match(r"[$*]|AAAA", word)}
        for lab in clouds
    ]
    assert min(map(len, hashes)) >= 7
    assert not hashes[0] & hashes[1]
    dumps = [on(lab, CONTROLLER, DUMP) for lab in clouds]
    for own, dump in zip(hashes, dumps, strict=True):
        assert [word for word in own if word not in dump] == []
    assert [word for word in hashes[0] if word in dumps[1]] == []
    assert [word for word in hashes[1] if word in dumps[0]] == []
    for lab, dump in zip(reversed(clouds), dumps, strict=True):
        words = json.loads((lab.directory / ".labctl/secrets.json").read_text()).values()
        assert [word for word in words if word in dump] == []


def test_the_tutorial_can_be_done_in_it(clouds: tuple[Cli, Cli]) -> None:
    _, second = clouds
    assert second.json("replay", "floating-ip")["ok"] is True
    assert "cirros" in second("ssh", "vm_1", "--", "id", "-un")
    second("reset", "--to", "base")
    second("halt")
    second("up")
    assert second.json("status")["state"] == "up"
