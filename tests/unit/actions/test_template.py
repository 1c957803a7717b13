"""Templates of `create`, on nodes that are directories: left, used, damaged, killed everywhere."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.actions import create as creating
from labctl.actions import renew as renewing
from labctl.actions import template as templates
from labctl.actions.create import create
from labctl.actions.destroy import destroy
from labctl.actions.held import held
from labctl.actions.renew import renew
from labctl.actions.template import template_key
from labctl.assets import assets
from labctl.engine.events import Note
from labctl.engine.steps import Step, StepContext
from labctl.errors import Cancelled, LabError
from labctl.images.baked import ImageCache
from labctl.images.templates import TemplateCache
from labctl.lab import Lab
from labctl.provisioning.boot import provisioner
from labctl.provisioning.stages import DONE
from labctl.snapshots.store import BASE, SnapshotStore
from labctl.topology import Node
from tests.unit.actions.disks import Killed, disks, holding, opened, secrets_of, without_nodes

SPEC = "name: of-templates\nprovider: nspawn\nstack: ovn\n"
FIRST = "network-controller"
MARK = f"{DONE[1:]}/20-node.sh"
STAGES_RAN = "stages-ran"


class Stages:
    """The stages of `create`: they write what a node's disk has of its lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.real = lab, provisioner(lab)

    def host_steps(self) -> list[Step]:
        return []

    def node_steps(self) -> list[Step]:
        return [
            Step(f"make:{node.name}", "make", partial(self.make, node), node=node.name)
            for node in self.lab.topology.nodes
        ]

    def make(self, node: Node, context: StepContext) -> None:
        self.lab.file.with_name(STAGES_RAN).touch()
        state, real = self.lab.state, self.real
        upper = state.node_files(node.name).upper
        for name, text in {
            "etc/labctl/lab.env": real.env(node),
            "etc/labctl/other.conf": f"S={state.secrets().rabbit}\n",
            "etc/machine-id": secrets.token_hex(16) + "\n",
            MARK: real.inputs(node) + "\n",
        }.items():
            (upper / name).parent.mkdir(parents=True, exist_ok=True)
            (upper / name).write_text(text)
        disks(self.lab).boot(node)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with a baked image, where the stages of `create` are those of this file."""
    without_nodes(monkeypatch, tmp_path)
    monkeypatch.setattr(creating, "provisioner", Stages)
    monkeypatch.setattr(creating, "Seed", lambda lab: SimpleNamespace(steps=list))
    monkeypatch.setattr(templates, "kvm_works", lambda: False)
    monkeypatch.setattr(templates, "run", lambda *words, **more: None)
    monkeypatch.setenv("LABCTL_LANG", "en")
    images = ImageCache(tmp_path / "cache", assets() / "provision")
    baked = images.root / f"baked-{images.key}"
    (baked / "root").mkdir(parents=True)
    (images.root / f"packages-{images.packages_key}/root").mkdir(parents=True)
    (baked / "packages").write_text(images.packages_key)


class Labs:
    """The labs of one machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cache = TemplateCache(directory / "cache")

    def open(self, name: str, spec: str = SPEC, *, running: set[str] | None = None) -> Lab:
        """The next labctl in that directory; the nodes that `running` names are up."""
        place = self.directory / name
        if not place.exists():
            place.mkdir()
            (place / "lab.yaml").write_text(spec)
        lab = opened(place)
        lab.__dict__["examination"] = SimpleNamespace(raise_if_not_ok=lambda: None)
        disks(lab).running_nodes |= running or set()
        return lab

    def create(self, name: str, spec: str = SPEC, *, template: bool = True) -> Lab:
        """A lab that has been made."""
        lab = self.open(name, spec)
        create(lab, template=template)
        return lab


@pytest.fixture
def labs(tmp_path: Path) -> Labs:
    return Labs(tmp_path)


def was_made(lab: Lab) -> bool:
    """Whether the stages have run, and not only the steps of a template."""
    return lab.file.with_name(STAGES_RAN).exists()


def notes(lab: Lab) -> list[str]:
    texts: list[str] = []
    lab.bus.subscribe(
        lambda event: texts.append(event.message) if isinstance(event, Note) else None
    )
    return texts


def assert_whole(lab: Lab, *others: Lab) -> None:
    """It runs, is at `base`, and shares nothing that opens anything with the others."""
    state = lab.state
    assert all(lab.running())
    assert SnapshotStore(state).names() == [BASE]
    assert state.created.exists()
    assert not state.renewal.exists()
    for node in lab.topology.nodes:
        upper = state.node_files(node.name).upper
        own = provisioner(lab)
        assert (upper / "etc/labctl/lab.env").read_text() == own.env(node)
        assert (upper / MARK).read_text() == own.inputs(node) + "\n"  # `create` mends nothing
    ours = secrets_of(state)
    assert len(ours) > 8
    for other in others:
        assert not ours & secrets_of(other.state)
        assert holding(state, secrets_of(other.state)) == []
        assert holding(other.state, ours) == []
    with held(lab, "up"):
        pass


# -- left and used ---------------------------------------------------------------------------------
def test_the_second_lab_of_a_lab_yaml_is_made_of_the_first(labs: Labs) -> None:
    first, second, third = (labs.create(name) for name in ("first", "second", "third"))
    assert [was_made(lab) for lab in (first, second, third)] == [True, False, False]
    assert len(labs.cache.keys()) == 1
    assert_whole(first, second, third)
    assert_whole(second, third)
    assert_whole(third, first)


def test_it_outlives_its_lab_and_what_was_done_there_is_not_in_it(labs: Labs) -> None:
    first = labs.create("first")
    (first.state.node_files(FIRST).upper / "etc/later").write_text("of a learner\n")
    before = secrets_of(first.state)
    shutil.rmtree(first.file.parent)
    second = labs.create("second")
    assert not was_made(second)
    assert_whole(second)
    assert holding(second.state, before) == []
    assert not (second.state.node_files(FIRST).upper / "etc/later").exists()


def test_without_a_template_none_is_taken_and_none_is_left(labs: Labs) -> None:
    assert was_made(labs.create("first", template=False))
    assert labs.cache.keys() == []
    labs.create("second")
    third = labs.create("third", template=False)
    assert was_made(third)
    assert_whole(third)


def test_a_lab_that_was_begun_before_leaves_none(labs: Labs) -> None:
    lab = labs.open("lab")
    disks(lab).fuse = 1  # the second node does not boot
    with pytest.raises((Killed, LabError)):
        create(lab)
    create(labs.open("lab", running=disks(lab).running_nodes))
    assert labs.cache.keys() == []


def test_what_is_left_is_for_root_only(labs: Labs) -> None:
    before = os.umask(0)
    try:
        labs.create("first")
    finally:
        os.umask(before)
    (key,) = labs.cache.keys()
    for path in (labs.cache.root, labs.cache.directory(key)):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (labs.cache.directory(key) / "template.json").stat().st_mode & 0o777 == 0o600


def test_the_user_is_told_what_is_kept_and_where(labs: Labs) -> None:
    lab = labs.open("first")
    told = notes(lab)
    create(lab)
    (key,) = labs.cache.keys()
    assert str(labs.cache.directory(key)) in told[-1]
    assert "MB" in told[-1]


# -- which one -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "spec",
    [
        SPEC.replace("of-templates", "another"),
        SPEC.replace("stack: ovn\n", ""),
        SPEC + "nodes: {network-controller: , another: }\n",
        SPEC + "nat: {shared: true}\n",
    ],
)
def test_another_lab_yaml_takes_another(labs: Labs, spec: str) -> None:
    labs.create("first")
    other = labs.open("other", spec)
    other.state.begin("other", "nspawn")
    assert template_key(other) not in ["", *labs.cache.keys()]


def test_so_does_another_image_machine_or_labctl(
    labs: Labs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = labs.create("first")
    keys = [template_key(lab)]
    image = lab.images.find()
    assert image is not None
    (image.layers[0] / "usr").mkdir()  # baked anew, by the same recipe
    keys.append(template_key(lab))
    monkeypatch.setattr(templates, "kvm_works", lambda: True)
    keys.append(template_key(lab))
    package = tmp_path / "package"
    (package / "actions").mkdir(parents=True)
    monkeypatch.setattr(templates, "PACKAGE", package)
    for text in ("", "a change\n"):
        (package / "actions/create.py").write_text(text)
        keys.append(template_key(lab))
    provision = tmp_path / "assets/provision"
    provision.mkdir(parents=True)
    monkeypatch.setattr("labctl.provisioning.boot.assets", lambda: tmp_path / "assets")
    for text in ("", "# a change\n"):
        (provision / "lib.sh").write_text(text)
        keys.append(template_key(lab))
    assert len(set(keys)) == len(keys)
    assert "" not in keys


@pytest.mark.parametrize("source", ["https://example.org/i.qcow2", "i.qcow2"])
def test_what_only_a_url_or_a_path_names_makes_none(labs: Labs, source: str) -> None:
    lab = labs.open("lab", f"name: x\nprovider: nspawn\nimage: {{source: '{source}'}}\n")
    lab.state.begin("x", "nspawn")
    assert template_key(lab) == ""


def test_without_an_image_there_is_none(labs: Labs, tmp_path: Path) -> None:
    lab = labs.open("lab")
    lab.state.begin("x", "nspawn")
    assert template_key(lab) != ""
    shutil.rmtree(next((tmp_path / "cache").glob("baked-*")))
    assert template_key(lab) == ""


# -- killed ----------------------------------------------------------------------------------------
def touches_of_a_create(labs: Labs) -> int:
    lab = labs.create("count")
    assert not was_made(lab)
    return disks(lab).touches


def test_a_kill_at_any_touch_of_a_disk_is_gone_on_from(labs: Labs) -> None:
    first = labs.create("first")
    touches = touches_of_a_create(labs)
    assert touches > 10
    for fuse in range(0, touches, 3):
        lab = labs.open(f"lab-{fuse}")
        disks(lab).fuse = fuse
        with pytest.raises((Killed, LabError)):
            create(lab)
        running = disks(lab).running_nodes
        if lab.state.renewal.exists():
            for verb in ("up", "renew"):
                later = labs.open(f"lab-{fuse}", running=running)
                refused = pytest.raises(LabError, match="getting new passwords")
                with refused as error, held(later, verb):
                    pass
                assert "labctl create" in error.value.hint
        later = labs.open(f"lab-{fuse}", running=running)
        create(later)
        assert not was_made(later), fuse
        assert_whole(later, first)
        shutil.rmtree(later.file.parent)


@pytest.mark.parametrize("step", ["write", "begin", "link", "finish", "used"])
def test_a_kill_while_it_is_taken_leaves_no_password_of_the_first(
    labs: Labs, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first = labs.create("first")

    def killed(*words: object, **more: object) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "link":
            patch.setattr(templates, "link_or_copy", killed)
        elif step == "write":
            patch.setattr(renewing.Renewal, "write", killed)
        elif step == "used":
            patch.setattr(TemplateCache, "used", killed)
        else:
            patch.setattr(SnapshotStore, step, killed)
        with pytest.raises(Killed):
            create(labs.open("second"))
    second = labs.open("second")
    create(second)
    # Without its files the lab is made from the beginning.
    assert was_made(second) is (step in ("begin", "link", "finish"))
    assert_whole(second, first)


def test_interrupted_by_the_user_it_is_gone_on_with(
    labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = labs.create("first")

    def cancelled(*words: object) -> None:
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(renewing, "start_renewed", cancelled)
        with pytest.raises(Cancelled):
            create(labs.open("second"))
    second = labs.open("second")
    create(second)
    assert not was_made(second)
    assert_whole(second, first)


def test_what_was_begun_is_thrown_away_by_a_create_without_templates(
    labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = labs.create("first")
    lab = labs.open("second")
    disks(lab).fuse = touches_of_a_create(labs) - 3
    with pytest.raises((Killed, LabError)):
        create(lab)
    assert lab.state.renewal.exists()
    second = labs.open("second", running=disks(lab).running_nodes)
    create(second, template=False)
    assert was_made(second)
    assert_whole(second, first)


# -- of no use -------------------------------------------------------------------------------------
def damages() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    def content(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
        path = directory / "template.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    part = f"{FIRST}.tar"
    yield "altered", lambda d: (d / part).write_bytes((d / part).read_bytes()[:-1] + b"x")
    yield "missing", lambda d: (d / part).unlink()
    yield "json", lambda d: (d / "template.json").write_text('{"manifest": ')
    yield "list", lambda d: (d / "template.json").write_text("[]")
    yield "manifest", lambda d: content(d, lambda data: data["manifest"].update(name="../.."))
    yield "secrets", lambda d: content(d, lambda data: data["secrets"].update(rabbit="x"))
    yield "none", lambda d: content(d, lambda data: data.pop("secrets"))


@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name, damage in damages()])
def test_one_that_is_damaged_does_no_harm_and_is_replaced(
    labs: Labs, name: str, damage: Callable[[Path], Any]
) -> None:
    first = labs.create("first")
    (key,) = labs.cache.keys()
    own = first.state.snapshots / BASE / f"{FIRST}.tar"
    copy = own.read_bytes()
    (labs.cache.directory(key) / f"{FIRST}.tar").unlink()
    shutil.copy(own, labs.cache.directory(key))  # the first lab keeps its own
    damage(labs.cache.directory(key))
    second = labs.open("second")
    told = notes(second)
    create(second)
    assert was_made(second)
    assert any("of no use, so it is made from the beginning" in text for text in told)
    assert_whole(second, first)
    assert own.read_bytes() == copy
    third = labs.create("third")
    assert not was_made(third)
    assert_whole(third, second)


@pytest.mark.parametrize("place", ["stage", "restore", "boot"])
def test_where_the_lab_cannot_be_made_of_it_it_is_made_from_the_beginning(
    labs: Labs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    first = labs.create("first")
    second = labs.open("second")
    told = notes(second)
    real = getattr(disks(second), place)

    def fail(*words: Any) -> Any:
        if was_made(second):
            return real(*words)
        raise LabError(f"{place} fails")

    monkeypatch.setattr(disks(second), place, fail)
    create(second)
    assert was_made(second)
    assert [text for text in told if text.endswith(f"beginning: {place} fails")]
    assert_whole(second, first)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_one_in_a_directory_of_another_user_is_not_taken(labs: Labs) -> None:
    labs.create("first")
    os.chown(labs.cache.root, 1, 1)
    second = labs.open("second")
    told = notes(second)
    create(second)
    assert was_made(second)
    assert any("belongs to another user" in text for text in told)


def test_one_that_cannot_be_kept_does_not_fail_the_lab(labs: Labs, tmp_path: Path) -> None:
    (tmp_path / "cache/templates").write_text("a file")
    lab = labs.open("lab")
    told = notes(lab)
    create(lab)
    assert_whole(lab)
    assert "no template is kept for the next lab" in told[-1]


def test_they_can_be_removed_when_no_lab_is_there(labs: Labs) -> None:
    lab = labs.create("first")
    shutil.rmtree(lab.state.root)
    gone = Lab(lab.file)
    assert gone.provider.cached() != []
    assert not destroy(gone, purge=True).existed
    assert gone.provider.cached() == labs.cache.keys() == []


def test_the_passwords_in_it_are_those_of_its_lab_alone(labs: Labs) -> None:
    first = labs.create("first")
    (key,) = labs.cache.keys()
    data = json.loads((labs.cache.directory(key) / "template.json").read_text())
    assert data["secrets"] == asdict(first.state.secrets())
    renew(first)  # so nothing opens with them any more
    assert not secrets_of(first.state) & {word.encode() for word in data["secrets"].values()}
    assert_whole(labs.create("second"), first)
