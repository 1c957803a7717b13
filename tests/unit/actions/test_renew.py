"""New passwords and keys in place, on nodes that are directories; killed wherever it can be."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from labctl.actions import renew as renewing
from labctl.actions.held import held
from labctl.actions.renew import renew, seal
from labctl.errors import EXIT_USAGE, LabError
from labctl.lab import Lab
from labctl.snapshots import save as saving
from labctl.snapshots.store import BASE, SnapshotStore
from labctl.state import LabState, Secrets
from tests.unit.actions.disks import (
    REACHED,
    Killed,
    disks,
    holding,
    opened,
    secrets_of,
    texts,
    without_nodes,
)

SPEC = "name: renewed\nprovider: nspawn\nstack: ovn\n"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_nodes(monkeypatch, tmp_path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Lab]:
    """Makes a lab that runs and has the snapshots `base` and `mine`."""

    def make_lab(name: str) -> Lab:
        place = tmp_path / name
        place.mkdir()
        (place / "lab.yaml").write_text(SPEC)
        state = LabState(place)
        state.begin("renewed", "nspawn")
        lab = opened(place)
        state.built_spec.write_text(lab.spec.model_dump_json())
        state.created.write_text("1\n")
        passwords = state.secrets()
        for node in lab.topology.nodes:
            etc = state.node_files(node.name).upper / "etc"
            (etc / "labctl").mkdir(parents=True)
            words = "".join(f"S={word}\n" for word in asdict(passwords).values())
            (etc / "labctl/lab.env").write_text(words)
            (etc / "labctl/other.conf").write_text(f"password = {passwords.rabbit}\n")
            (etc / "machine-id").write_text(f"{node.name.encode().hex():0<32}"[:32] + "\n")
            kept = etc.parent / "var/lib/labctl/snapshots/base"
            kept.mkdir(parents=True)
            (kept / "state").write_text(passwords.database)
            disks(lab).boot(node)
        state.page_certificate.write_text("of the page\n")
        with held(lab, "save"):
            saving.save(lab, BASE)
            saving.save(lab, "mine")
        return lab

    return make_lab


def test_no_password_and_no_key_of_before_is_left(make: Callable[[str], Lab]) -> None:
    lab = make("lab")
    before = secrets_of(lab.state)
    assert len(before) > 8
    assert len(holding(lab.state, before)) > 8
    renew(lab)
    assert holding(lab.state, before) == []
    after = secrets_of(lab.state)
    assert len(after) == len(before)
    rabbit = lab.state.secrets().rabbit
    for node in lab.topology.nodes:
        upper = lab.state.node_files(node.name).upper
        assert (upper / "etc/labctl/other.conf").read_text() == f"password = {rabbit}\n"
        assert rabbit in (upper / "etc/labctl/lab.env").read_text()
    assert SnapshotStore(lab.state).names() == [BASE]
    assert all(lab.running())
    assert not lab.state.renewal.exists()
    assert not lab.state.page_certificate.exists()


def test_what_holds_passwords_is_for_its_owner_only(make: Callable[[str], Lab]) -> None:
    lab = make("lab")
    renew(lab, start=False)
    state = lab.state
    for path in (state.renewal, state.root / "secrets.json"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_kill_at_any_moment_is_gone_on_from(make: Callable[[str], Lab]) -> None:
    first = make("count")
    disks(first).touches = 0
    renew(first)
    touches = disks(first).touches
    assert touches > 10
    for fuse in range(0, touches, 3):
        lab = make(f"lab-{fuse}")
        before = secrets_of(lab.state)
        disks(lab).fuse = fuse
        with pytest.raises((Killed, LabError)):
            renew(lab)
        running = disks(lab).running_nodes
        later = opened(lab.file.parent)
        disks(later).running_nodes |= running
        with pytest.raises(LabError, match="getting new passwords") as error, held(later, "up"):
            pass
        assert "labctl renew" in (error.value.hint or "")
        renew(later)
        assert holding(later.state, before) == [], fuse
        assert SnapshotStore(later.state).names() == [BASE]
        assert all(later.running())
        with held(later, "up"):
            pass
        shutil.rmtree(lab.file.parent)


def test_halted_it_stays_until_the_next_renew(make: Callable[[str], Lab]) -> None:
    lab = make("lab")
    before = secrets_of(lab.state)
    renew(lab, start=False)
    assert not any(lab.running())
    assert holding(lab.state, before) == []
    renewed = lab.state.secrets()
    with pytest.raises(LabError, match="getting new passwords"), held(lab, "halt"):
        pass
    later = opened(lab.file.parent)
    renew(later)
    assert later.state.secrets() == renewed
    assert all(later.running())
    assert SnapshotStore(later.state).names() == [BASE]


def test_another_snapshot_and_one_that_does_not_exist(make: Callable[[str], Lab]) -> None:
    lab = make("lab")
    state = lab.state
    with pytest.raises(LabError, match="there is no snapshot none"):
        renew(lab, snapshot="none")
    assert not state.renewal.exists()
    for node in lab.topology.nodes:
        (state.node_files(node.name).upper / "etc/later").write_text("later\n")
    with held(lab, "save"):
        saving.save(lab, "later")
    renew(lab, snapshot="later")
    assert all((state.node_files(node.name).upper / "etc/later").exists()
               for node in lab.topology.nodes)  # fmt: skip
    assert SnapshotStore(state).names() == [BASE]


def test_without_a_snapshot_nothing_is_changed(make: Callable[[str], Lab]) -> None:
    lab = make("lab")
    before = lab.state.secrets()
    with held(lab, "delete"):
        for name in (BASE, "mine"):
            saving.delete(lab, name)
    with pytest.raises(LabError, match="no snapshot with the files"):
        renew(lab)
    assert lab.state.secrets() == before
    assert all(lab.running())


def test_disks_that_labctl_cannot_reach(make: Callable[[str], Lab]) -> None:
    lab = make("lab")
    disks(lab).features = replace(REACHED, forks=False)
    with pytest.raises(LabError, match="cannot renew") as error:
        renew(lab)
    assert error.value.code == EXIT_USAGE


@pytest.mark.parametrize(
    "text",
    [
        '{"snapshot": "base", "phase": "files", "old": null}',
        '{"snapshot": "base", "phase": "other", "old": null}',
        '{"snapshot": "base", "phase": "files", "old": {"admin": "x"}}',
        '{"snapshot": "../..", "phase": "start", "old": null}',
    ],
)
def test_a_file_that_labctl_never_wrote(make: Callable[[str], Lab], text: str) -> None:
    lab = make("lab")
    lab.state.renewal.write_text(text)
    with pytest.raises(LabError):
        renew(lab)
    assert all(lab.running())


# -- machines --------------------------------------------------------------------------------------
def test_a_sealed_lab_has_no_secret_of_the_lab_it_was_made_of(
    make: Callable[[str], Lab], tmp_path: Path
) -> None:
    lab = make("lab")
    before = secrets_of(lab.state)
    seal(lab, tmp_path / "sealed", tmp_path / "clone")
    sealed = LabState(tmp_path / "sealed")
    assert holding(sealed, before) == []
    names = set(texts(sealed))
    assert not [name for name in names if "ssh" in name or "secrets" in name or "log" in name]
    assert sealed.root.stat().st_mode & 0o077 == 0
    assert (tmp_path / "sealed/lab.yaml").read_text() == SPEC


def test_two_clones_of_a_sealed_lab_share_no_secret(
    make: Callable[[str], Lab], tmp_path: Path
) -> None:
    seal(make("lab"), tmp_path / "sealed", Path("/srv/lab"))
    found = []
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "sealed", tmp_path / name)
        clone = opened(tmp_path / name)
        with pytest.raises(LabError, match="getting new passwords"), held(clone, "up"):
            pass
        renew(clone, start=False)
        assert not any(clone.running())
        renew(opened(tmp_path / name))
        found.append(clone.state)
    one, two = map(secrets_of, found)
    assert len(one) == len(two) > 8
    assert not one & two
    assert holding(found[0], two) == holding(found[1], one) == []
    image = {word.encode() for word in asdict(renewing.published()).values()}
    assert holding(found[0], image) == []
    assert len(image) == 5
    assert isinstance(renewing.published(), Secrets)
