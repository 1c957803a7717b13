"""A `.labctl` that is there beforehand, was copied, or belongs to somebody else."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from labctl.actions.destroy import destroy
from labctl.errors import LabError
from labctl.lab import Lab
from labctl.spec.load import load_built, parse_spec
from labctl.state import LabState
from tests.unit.conftest import GROUP, USER

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def state(tmp_path: Path) -> LabState:
    return LabState(tmp_path)


def use(state: LabState) -> None:
    with state.locked("create"):
        state.begin("lab", "nspawn")


# -- what was put there ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    ["lock", "events.jsonl", "lab.json", "spec.json", "secrets.json", "logs", "nodes", "ssh",
     "logs/image.log", "logs/internet.log", "logs/compute-01/console.log", "nodes/compute-01",
     "nodes/compute-01/root", "nodes/compute-01/upper", "ssh/id_ed25519", "walks/1.json",
     "snapshots/base", "snapshots/base/manifest.json", "records/lesson/step.json", "vagrant"],
)  # fmt: skip
@pytest.mark.parametrize("target", ["file", "directory"])
def test_a_link_that_was_put_there_is_not_followed(
    state: LabState, tmp_path: Path, name: str, target: str
) -> None:
    victim = tmp_path / "victim"
    if target == "file":
        victim.write_text("precious")
    else:
        victim.mkdir()
    link = state.root / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    with pytest.raises(LabError, match="is a link") as error:
        use(state)
    assert f"rm {link}" in error.value.hint
    with pytest.raises(LabError, match="is a link"):
        state.exists  # noqa: B018
    assert victim.read_text() == "precious" if target == "file" else not list(victim.iterdir())
    link.unlink()
    use(LabState(tmp_path))


def test_labctl_itself_is_no_link_and_no_file(state: LabState, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    state.root.symlink_to(tmp_path / "victim")
    with pytest.raises(LabError, match="is a link"):
        use(state)
    state.root.unlink()
    state.root.write_text("")
    with pytest.raises(LabError, match="is a link, or something else"):
        use(state)
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("name", ["lock", "lab.json", "logs/image.log"])
def test_a_fifo_there_holds_nobody_up(state: LabState, name: str) -> None:
    path = state.root / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(LabError, match="something else"):
        use(state)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o500])
def test_others_may_not_look_in(state: LabState, mode: int) -> None:
    state.root.mkdir()
    state.root.chmod(mode)
    use(state)
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700


@root_only
def test_what_render_left_becomes_roots(state: LabState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(USER))
    monkeypatch.setenv("SUDO_GID", str(GROUP))
    (state.root / "vagrant").mkdir(parents=True)
    (state.root / "vagrant" / "Vagrantfile").write_text("")
    for path in (state.root, *state.root.rglob("*")):
        os.chown(path, USER, GROUP)
    use(state)
    assert {path.stat().st_uid for path in (state.root, *state.root.rglob("*"))} == {0}


@root_only
def test_another_users_lab_stays_theirs(
    state: LabState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(state)
    for path in (state.root, *state.root.rglob("*")):
        os.chown(path, USER, GROUP)
    for caller in ("", str(USER)):
        monkeypatch.setenv("SUDO_UID", caller)
        monkeypatch.setenv("SUDO_GID", caller)
        with pytest.raises(LabError, match=f"belongs to another user: {USER}"):
            use(LabState(tmp_path))
    assert {path.stat().st_uid for path in state.root.rglob("*")} == {USER}


@pytest.mark.parametrize(
    "change",
    [{"lab_id": "../../x"}, {"lab_id": "abcd123"}, {"lab_id": "ABCD1234"}, {"lab_id": 12345678},
     {"lab": "-x"}, {"lab": "a b"}, {"image": "../x"}, {"provider": "a/b"}, {"created": "now"},
     {"directory": "x"}, {"inode": None}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_an_identity_that_labctl_would_not_write_is_told(
    state: LabState, change: dict[str, object]
) -> None:
    use(state)
    data = json.loads(state.identity_file.read_text())
    state.identity_file.write_text(json.dumps(data | change))
    with pytest.raises(LabError, match="does not hold what this version"):
        state.identity()


# -- the spec of a lab that exists -----------------------------------------------------------------


def test_what_labctl_writes_passes_the_rules_again(tmp_path: Path) -> None:
    texts = [(Path(__file__).parents[2] / "lab.yaml").read_bytes(), b"name: x\nstack: ovn\n",
             b"name: y\n"]  # fmt: skip
    for text in texts:
        spec = parse_spec(text, "lab.yaml")
        (tmp_path / "spec.json").write_text(spec.model_dump_json(indent=1))
        assert load_built(tmp_path / "spec.json") == spec


@pytest.mark.parametrize("text", ["{}", "[]", "", "{", '{"name": "../../etc"}', "\0"])
def test_what_labctl_would_not_write_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(LabError, match="does not hold what this version"):
        load_built(tmp_path / "spec.json")


# -- copies ----------------------------------------------------------------------------------------
@pytest.fixture
def original(tmp_path: Path) -> LabState:
    (tmp_path / "orig").mkdir()
    (tmp_path / "orig" / "lab.yaml").write_text("name: orig\nstack: ovn\nprovider: nspawn\n")
    state = LabState(tmp_path / "orig")
    use(state)
    return state


def test_a_copy_is_told_and_destroyed_alone(original: LabState, tmp_path: Path) -> None:
    shutil.copytree(original.root.parent, tmp_path / "copy")
    lab = Lab(tmp_path / "copy" / "lab.yaml")
    assert lab.state.copied_from == original.root.parent
    for ask in (lab.state.identity, lambda: lab.state.begin("orig", "nspawn")):
        with pytest.raises(LabError, match=f"is a copy: .* {original.root.parent}$"):
            ask()

    class Untouchable:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"the original's {name}")

    lab.provider = Untouchable()  # type: ignore[assignment]
    before = original.identity_file.read_bytes()
    assert destroy(lab).existed
    assert not lab.state.root.exists()
    assert original.identity_file.read_bytes() == before
    assert original.copied_from is None


def test_a_lab_that_was_moved_or_put_back_is_itself(original: LabState, tmp_path: Path) -> None:
    identity = original.identity()
    moved = tmp_path / "moved"
    original.root.parent.rename(moved)
    use(LabState(moved))
    assert LabState(moved).identity().directory == str(moved / ".labctl")
    shutil.copytree(moved, tmp_path / "backup")
    shutil.rmtree(moved)
    (tmp_path / "backup").rename(moved)
    assert LabState(moved).identity().lab_id == identity.lab_id


def test_a_lab_of_an_older_labctl_learns_where_it_is(original: LabState) -> None:
    data = json.loads(original.identity_file.read_text())
    for name in ("directory", "device", "inode"):
        del data[name]
    original.identity_file.write_text(json.dumps(data))
    assert original.identity().directory == ""
    use(original)
    assert original.identity().directory == str(original.root)
