"""Saving, restoring and deleting on nodes that are directories; killed wherever it can be."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from labctl.engine.events import Event, EventBus, Note, NoteLevel
from labctl.engine.steps import RunResult, Step, StepContext, run_steps
from labctl.errors import EXIT_USAGE, LabError
from labctl.lab import Lab
from labctl.providers.nspawn.overlay import discard, exchange, pack, stage, trouble, unstage
from labctl.providers.provider import Features
from labctl.snapshots import health, recover, restore, save
from labctl.snapshots.store import Manifest, Method, SnapshotStore
from labctl.state import Identity, LabState
from labctl.topology import Machine
from tests.unit.fakes import topology


class Killed(BaseException):
    """What kill -9 does to us: nothing after it runs."""


@dataclass
class World:
    """What outlives a labctl that is killed: the disk, and which nodes run."""

    root: Path
    live: bool = True
    running: set[str] = field(default_factory=set)
    memory: dict[str, str] = field(default_factory=dict)
    """What the running nodes are, beyond their files; a boot reads it from the files."""
    live_states: dict[str, dict[str, str]] = field(default_factory=dict)
    fuse: int | None = None
    """How many more touches until the kill."""
    stood: int = 0

    def touch(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Killed


class FakeProvider:
    """Nodes that are one file each, kept by the real layers."""

    def __init__(self, world: World, state: LabState) -> None:
        self.world, self.state = world, state
        self.features = Features(
            needs_root=False, shared_nat=False, own_clock=False,
            image="", network="", live_snapshots=world.live,
        )  # fmt: skip

    @property
    def snapshots(self) -> "FakeProvider":
        return self

    def _directory(self, node: Machine) -> Path:
        return self.state.node(node.name)

    def running(self, node: Machine) -> bool:
        return node.name in self.world.running

    def network_ready(self) -> bool:
        return True

    def stopped(self, node: Machine) -> bool:
        return not self.running(node)

    def stop(self, node: Machine, *, deadline: float) -> None:
        self.world.touch()
        self.world.running.discard(node.name)
        self.world.memory.pop(node.name, None)

    def boot(self, node: Machine) -> None:
        self.world.touch()
        self.world.running.add(node.name)
        self.world.memory[node.name] = (self._directory(node) / "upper" / "file").read_text()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.world.stood += 1
        yield

    def save(self, node: Machine, name: str, directory: Path) -> Mapping[str, Any]:
        self.world.touch()
        assert self.world.live or node.name not in self.world.running
        return pack(self._directory(node) / "upper", directory / f"{node.name}.tar")

    def trouble(self, node: Machine, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        self.world.touch()
        return trouble(directory / f"{node.name}.tar", proof)

    def stage(self, node: Machine, name: str, directory: Path) -> None:
        self.world.touch()
        stage(directory / f"{node.name}.tar", self._directory(node))

    def unstage(self, node: Machine) -> None:
        unstage(self._directory(node))

    def restore(self, node: Machine, name: str) -> None:
        assert node.name not in self.world.running
        self.world.touch()
        exchange(self._directory(node))
        self.world.touch()

    def clean_up(self, node: Machine) -> None:
        self.world.touch()
        discard(self._directory(node))

    def delete(self, node: Machine, name: str) -> None:
        self.world.touch()


class FakeLive:
    """Puts back what nodes are, files and all, while they run."""

    def __init__(self, world: World, state: LabState, names: list[str]) -> None:
        self.world, self.state, self.names = world, state, names
        self.broken = ""

    def _file(self, name: str) -> Path:
        return self.state.node(name) / "upper" / "file"

    def save(self, name: str, known: Sequence[str], context: StepContext) -> Any:
        self.world.touch()
        self.world.live_states[name] = {node: self._file(node).read_text() for node in self.names}
        return {node: {"size": 1, "sha256": "x"} for node in self.names}

    def trouble(self, name: str, proofs: Mapping[str, Any]) -> str:
        return self.broken or ("" if name in self.world.live_states else "gone")

    def restore(self, name: str, context: StepContext) -> None:
        for node, content in self.world.live_states[name].items():
            self.world.touch()
            self._file(node).write_text(content)
            self.world.memory[node] = content
            self.world.touch()

    def forget(self, name: str) -> None:
        self.world.live_states.pop(name, None)


@dataclass
class Bench:
    """One labctl process on a world; `again()` is the next one."""

    world: World
    trouble: Callable[[], str] = lambda: ""

    def __post_init__(self) -> None:
        self.state = LabState(self.world.root)
        self.topology = topology()
        self.names = [node.name for node in self.topology.nodes]
        self.provider = FakeProvider(self.world, self.state)
        self.live = FakeLive(self.world, self.state, self.names)
        self.said: list[str] = []
        self.bus = EventBus()
        self.bus.subscribe(self._hear)
        self.store = SnapshotStore(self.state)
        if not self.state.exists:
            self.state.root.mkdir(parents=True)
            self.state.save_identity(Identity("x", "abcd1234", "nspawn", 1.0, "key"))
            for name in self.names:
                (self.state.node(name) / "upper").mkdir(parents=True)
            self.write("begun")

    def _hear(self, event: Event) -> None:
        if isinstance(event, Note):
            self.said.append(event.message)

    # What of a Lab snapshots need.
    def run(self, title: str, steps: list[Step]) -> RunResult:
        result = run_steps(steps, bus=self.bus, title=title)
        for failed in result.failed:
            if isinstance(failed.cause, Killed):
                raise Killed
        return result

    def note(self, level: NoteLevel, text: str) -> None:
        self.bus.emit(Note(level, text))

    def running(self) -> list[bool]:
        return [self.provider.running(node) for node in self.topology.nodes]

    def on_each_node(self, work: Callable[[Machine], Any], context: StepContext) -> dict[str, Any]:
        return Lab.on_each_node(self.lab, work, context)

    def forget_connections(self) -> None:
        pass

    def log_in_ahead(self) -> None:
        pass

    @property
    def lab(self) -> Lab:
        return cast(Lab, self)

    # What is done to it.
    def save(self, name: str, *, files: bool = True) -> Manifest:
        return save.save(self.lab, name, files=files)

    def restore(self, name: str, *, offline: bool = False) -> Method:
        return restore.restore(self.lab, name, offline=offline)

    def delete(self, name: str) -> None:
        save.delete(self.lab, name)

    def recover(self, *, start: bool = True) -> None:
        recover.recover(self.lab, start=start)

    def start_steps(self) -> list[Step]:
        return [
            Step(f"boot:{node.name}", "boot",
                 lambda context, node=node: self.provider.boot(node),  # type: ignore[misc]
                 done=lambda node=node: self.provider.running(node))  # type: ignore[misc]
            for node in self.topology.nodes
        ]  # fmt: skip

    def wait_until_healthy(self, context: StepContext, snapshot: str = "") -> None:
        if why := self.trouble():
            raise LabError(why)

    def write(self, content: str, lesson: int | None = None) -> None:
        for name in self.names:
            (self.state.node(name) / "upper" / "file").write_text(content)
            if name in self.world.running:
                self.world.memory[name] = content
        if lesson is not None:
            self.state.write_json(self.state.lesson_position, {"at": lesson})

    def up(self) -> None:
        for node in self.topology.nodes:
            self.provider.boot(node)

    def contents(self) -> set[str]:
        found = {(self.state.node(name) / "upper" / "file").read_text() for name in self.names}
        assert all(its in found for its in self.world.memory.values())
        return found | set(self.world.memory.values())

    def again(self) -> "Bench":
        self.world.fuse = None
        return Bench(self.world, self.trouble)


@pytest.fixture(autouse=True)
def _seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Booting, what keeps the state of running nodes, and the health check are the bench's."""
    for module in (save, restore):
        monkeypatch.setattr(module, "live_snapshots", lambda bench: bench.live)
    monkeypatch.setattr(health, "wait_until_healthy", Bench.wait_until_healthy)
    monkeypatch.setattr(health, "start_steps", lambda bench: bench.start_steps())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_save_and_restore_of_a_lab_that_is_down(world: World) -> None:
    bench = Bench(world)
    bench.write("one", lesson=1)
    manifest = bench.save("first")
    assert sorted(manifest.offline) == sorted(bench.names)
    assert not manifest.live
    bench.write("two", lesson=2)
    assert bench.restore("first") == "offline"
    assert bench.contents() == {"one"}
    assert json.loads(bench.state.lesson_position.read_text()) == {"at": 1}
    assert not world.running
    assert bench.store.current() == "first"
    assert not bench.state.snapshot_journal.exists()


def test_a_running_lab_stays_up_and_is_restored_live(world: World) -> None:
    bench = Bench(world)
    bench.up()
    bench.write("one")
    manifest = bench.save("first")
    assert (world.stood, len(manifest.live), len(manifest.offline)) == (1, 2, 2)
    bench.write("two", lesson=2)
    assert bench.restore("first") == "live"
    assert bench.contents() == {"one"}
    assert not bench.state.lesson_position.exists()
    assert world.running == set(bench.names)


def test_machines_that_must_be_down_run_again_after_a_save(world: World) -> None:
    world.live = False
    bench = Bench(world)
    bench.up()
    bench.write("one")
    assert bench.save("first").live
    assert world.running == set(bench.names)
    assert world.stood == 0


def test_without_files_only_a_running_lab_can_be_put_back(world: World) -> None:
    bench = Bench(world)
    bench.up()
    bench.save("quick", files=False)
    for node in bench.topology.nodes:
        bench.provider.stop(node, deadline=0)
    with pytest.raises(LabError, match="no files"):
        bench.restore("quick")


def test_offline_when_asked_for(world: World) -> None:
    bench = Bench(world)
    bench.up()
    bench.write("one")
    bench.save("first")
    bench.write("two")
    assert bench.restore("first", offline=True) == "offline"
    assert bench.contents() == {"one"}
    assert world.running == set(bench.names)


@pytest.mark.parametrize("trouble", ["check", "restore", "health"])
def test_offline_when_live_does_not_make_it_whole(world: World, trouble: str) -> None:
    bench = Bench(world)
    bench.up()
    bench.write("one")
    bench.save("first")
    bench.write("two")
    troubles = iter(["vm_1 does not answer", ""] if trouble == "health" else [""] * 9)
    bench.trouble = lambda: next(troubles)
    if trouble == "check":
        bench.live.broken = "sql.json was altered"
    if trouble == "restore":
        world.live_states["first"].clear()

        def fails(name: str, context: StepContext) -> None:
            raise LabError("MariaDB is not there")

        bench.live.restore = fails  # type: ignore[method-assign]
    assert bench.restore("first") == "offline"
    assert bench.contents() == {"one"}
    assert world.running == set(bench.names)
    assert any("files of all nodes are restored" in text for text in bench.said)
    assert not bench.state.snapshot_journal.exists()


def test_half_of_a_lab_cannot_be_saved(world: World) -> None:
    bench = Bench(world)
    bench.provider.boot(bench.topology.nodes[0])
    with pytest.raises(LabError, match="only some nodes"):
        bench.save("first")
    assert bench.store.names() == []
    assert bench.store.journal() is None


def test_a_name_is_taken_only_once(world: World) -> None:
    bench = Bench(world)
    bench.save("first")
    with pytest.raises(LabError) as error:
        bench.save("first")
    assert error.value.code == EXIT_USAGE


@pytest.mark.parametrize("harm", ["truncated", "altered", "missing"])
def test_a_harmed_snapshot_is_refused_before_anything_is_touched(world: World, harm: str) -> None:
    bench = Bench(world)
    bench.up()
    bench.save("first")
    bench.write("two", lesson=2)
    part = bench.store.directory("first") / f"{bench.names[-1]}.tar"
    content = part.read_bytes()
    if harm == "truncated":
        part.write_bytes(content[:-7])
    elif harm == "altered":
        part.write_bytes(bytes([*content[:40], content[40] ^ 1, *content[41:]]))
    else:
        part.unlink()
    with pytest.raises(LabError, match=harm):
        bench.restore("first", offline=True)
    assert bench.contents() == {"two"}
    assert world.running == set(bench.names)
    assert json.loads(bench.state.lesson_position.read_text()) == {"at": 2}
    assert bench.store.journal() is None


def test_a_snapshot_of_another_lab_is_refused(world: World) -> None:
    bench = Bench(world)
    bench.save("first")
    bench.state.save_identity(Identity("x", "ffff0000", "nspawn", 1.0, "key"))
    with pytest.raises(LabError, match="another lab"):
        bench.restore("first")


def test_a_save_that_fails_leaves_the_lab_and_older_snapshots(world: World) -> None:
    bench = Bench(world)
    bench.up()
    bench.save("first")
    bench.write("two")

    def full(node: Machine, name: str, directory: Path) -> Mapping[str, Any]:
        raise LabError("the disk is full: /x")

    bench.provider.save = full  # type: ignore[method-assign]
    with pytest.raises(LabError, match="the disk is full"):
        bench.save("second")
    assert bench.store.names() == ["first"]
    assert bench.contents() == {"two"}
    assert bench.store.journal() is None
    assert [path.name for path in bench.store.root.iterdir()] == ["first"]


def test_delete(world: World) -> None:
    bench = Bench(world)
    bench.up()
    bench.save("first")
    bench.delete("first")
    assert bench.store.names() == []
    assert not world.live_states
    with pytest.raises(LabError, match="no snapshot first"):
        bench.delete("first")


def test_a_restore_that_cannot_be_finished_does_not_hold_every_other_verb(world: World) -> None:
    bench = Bench(world)
    bench.save("first")
    bench.write("two")
    world.fuse = 5
    with pytest.raises(Killed):
        bench.restore("first")
    shutil.rmtree(bench.store.directory("first"))
    bench = bench.again()
    with pytest.raises(LabError, match="could not be restored"):
        bench.recover()
    bench.again().recover()


# -- killed ----------------------------------------------------------------------------------------
WORKS: dict[str, Callable[[Bench], Any]] = {
    "save": lambda bench: bench.save("second"),
    "restore": lambda bench: bench.restore("first"),
    "offline": lambda bench: bench.restore("first", offline=True),
    "delete": lambda bench: bench.delete("first"),
}


@pytest.mark.parametrize("live", [True, False], ids=["containers", "machines"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("work", WORKS)
def test_a_kill_anywhere_leaves_the_old_lab_or_the_new_one(
    tmp_path: Path, work: str, up: bool, live: bool
) -> None:
    """The kill comes after one more touch each time, until the work gets to its end."""
    for fuse in range(200):
        world = World(tmp_path / str(fuse), live=live)
        bench = Bench(world)
        if up:
            bench.up()
        bench.write("old", lesson=1)
        bench.save("first")
        bench.write("new", lesson=2)
        world.fuse = fuse
        try:
            WORKS[work](bench)
        except Killed:
            pass
        else:
            assert fuse > 1  # it was killed before that
            return
        bench = bench.again()
        interrupted = bench.store.journal() is not None
        bench.recover()
        assert bool(bench.said) == interrupted
        # Whole: every node the same, and the position with them.
        (content,) = bench.contents()
        position = json.loads(bench.state.lesson_position.read_text())["at"]
        assert (content, position) in [("old", 1), ("new", 2)], f"killed at {fuse}"
        if work in ("save", "delete"):
            assert content == "new"
        assert not list(bench.state.root.rglob("upper.*")), f"killed at {fuse}"
        assert bench.store.journal() is None
        # What is listed can be restored.
        for name in bench.store.names():
            bench.restore(name)
            assert len(bench.contents()) == 1
        if up and (live or work != "save"):
            assert world.running == set(bench.names), f"killed at {fuse}"
    raise AssertionError("the work never ends")


def test_halt_finishes_a_restore_without_booting(world: World) -> None:
    bench = Bench(world)
    bench.up()
    bench.write("old")
    bench.save("first")
    bench.write("new")
    world.fuse = 5
    with pytest.raises(Killed):
        bench.restore("first", offline=True)
    bench = bench.again()
    bench.recover(start=False)
    assert bench.contents() == {"old"}


# -- layers ----------------------------------------------------------------------------------------
def test_a_layer_comes_back_with_all_it_had(tmp_path: Path) -> None:
    node = tmp_path / "node"
    upper = node / "upper"
    (upper / "deep").mkdir(parents=True)
    (upper / "deep" / "file").write_bytes(b"x" * 100_000)
    (upper / "deep" / "link").symlink_to("file")
    (upper / "deep" / "file").chmod(0o4751)
    with (upper / "sparse").open("wb") as stream:
        stream.truncate(50_000_000)
    attributes = {"user.labctl": b"kept"}
    if os.geteuid() == 0:
        attributes["trusted.overlay.opaque"] = b"y"
        os.mknod(upper / "gone", 0o020000, os.makedev(0, 0))  # what overlayfs makes of a deletion
    for name, value in attributes.items():
        os.setxattr(upper / "deep", name, value)
    (upper / "var/lib/labctl/snapshots/one").mkdir(parents=True)
    proof = pack(upper, tmp_path / "part.tar")
    assert proof["size"] < 1_000_000
    assert trouble(tmp_path / "part.tar", proof) == ""

    (upper / "deep" / "file").write_text("changed")
    (upper / "new").write_text("new")
    (upper / "var/lib/labctl/snapshots/two").mkdir()
    stage(tmp_path / "part.tar", node)
    assert (upper / "deep" / "file").read_text() == "changed"
    exchange(node)
    exchange(node)  # nothing is left to do
    discard(node)
    assert (upper / "deep" / "file").read_bytes() == b"x" * 100_000
    assert (upper / "deep" / "file").stat().st_mode & 0o7777 == 0o4751
    assert os.readlink(upper / "deep" / "link") == "file"  # noqa: PTH115
    assert (upper / "sparse").stat().st_blocks < 1000
    assert not (upper / "new").exists()
    for name, value in attributes.items():
        assert os.getxattr(upper / "deep", name) == value
    if os.geteuid() == 0:
        assert (upper / "gone").is_char_device()
    # What the node kept for its running self is newer than the layer, and stays.
    assert (upper / "var/lib/labctl/snapshots/two").is_dir()
    assert sorted(path.name for path in node.iterdir()) == ["upper"]


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "upper").mkdir()
    program = tmp_path / "bin" / "tar"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'tar: write error: No space left on device' >&2; exit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(LabError, match="the disk is full"):
        pack(tmp_path / "upper", tmp_path / "part.tar")
