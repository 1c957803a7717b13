"""Labs whose nodes are directories: their disks are real, and killed wherever they can be."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labctl.access import keys
from labctl.actions import renew as renewing
from labctl.engine.steps import Step
from labctl.errors import LabError
from labctl.lab import Lab
from labctl.providers.nspawn.overlay import discard, exchange, pack, stage, trouble, unstage
from labctl.providers.provider import Features
from labctl.snapshots import save as saving
from labctl.state import LabState
from labctl.topology import Node
from tests.unit.fakes import FakeGuest

REACHED = Features(
    needs_root=False, shared_nat=False, own_clock=False, image="", network="",
    live_snapshots=True, forks=True,
)  # fmt: skip


class Killed(BaseException):
    """What kill -9 does to us."""


@dataclass
class Disks:
    """Nodes whose files are kept by the real layers; the keys of the lab are made at the boot."""

    lab: Lab
    running_nodes: set[str] = field(default_factory=set)
    fuse: int | None = None
    """How many more touches until the kill."""
    touches: int = 0
    timeout_factor: int = 1
    resolver: str = ""
    features: Features = REACHED

    @property
    def snapshots(self) -> "Disks":
        return self

    def touch(self) -> None:
        self.touches += 1
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Killed

    def _place(self, node: Node) -> Path:
        return self.lab.state.node(node.name)

    def running(self, node: Node) -> bool:
        return node.name in self.running_nodes

    def stopped(self, node: Node) -> bool:
        return not self.running(node)

    def stop(self, node: Node, *, deadline: float) -> None:
        self.touch()
        self.running_nodes.discard(node.name)

    def boot(self, node: Node) -> None:
        self.touch()
        state = self.lab.state
        upper = state.node_files(node.name).upper
        assert (upper / "etc/labctl/lab.env").is_file()
        for key in (state.ssh_key, state.host_key(node.name)):
            keys.ensure(key)
        (upper / "etc/ssh").mkdir(parents=True, exist_ok=True)
        shutil.copy(state.host_key(node.name), upper / "etc/ssh/ssh_host_ed25519_key")
        self.running_nodes.add(node.name)

    def frozen(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def save(self, node: Node, name: str, directory: Path) -> Mapping[str, Any]:
        self.touch()
        return pack(self._place(node) / "upper", directory / f"{node.name}.tar")

    def trouble(self, node: Node, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        return trouble(directory / f"{node.name}.tar", proof)

    def stage(self, node: Node, name: str, directory: Path) -> None:
        self.touch()
        stage(directory / f"{node.name}.tar", self._place(node))
        self.touch()

    def unstage(self, node: Node) -> None:
        unstage(self._place(node))

    def restore(self, node: Node, name: str) -> None:
        assert not self.running(node)
        self.touch()
        exchange(self._place(node))
        self.touch()

    def clean_up(self, node: Node) -> None:
        self.touch()
        discard(self._place(node))

    def delete(self, node: Node, name: str) -> None:
        self.touch()

    def destroy(self, progress: Callable[[str], None]) -> None:
        self.touch()
        self.running_nodes.clear()
        shutil.rmtree(self.lab.state.nodes, ignore_errors=True)


class NoLive:
    """A running lab whose state cannot be saved, only its files."""

    def save(self, *arguments: Any) -> Any:
        raise LabError("not in this test")

    def forget(self, name: str) -> None:
        pass


def disks(lab: Lab) -> Disks:
    provider = lab.provider
    assert isinstance(provider, Disks)
    return provider


def opened(place: Path, running: bool = False) -> Lab:
    """The next labctl in that directory."""
    lab = Lab(place / "lab.yaml")
    provider = Disks(lab)
    lab.__dict__["provider"] = provider
    if running:
        provider.running_nodes |= {node.name for node in lab.topology.nodes}
    return lab


def without_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Booting, the health check and the state of running nodes are those of this file."""
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))

    def start_steps(lab: Lab) -> list[Step]:
        return [
            Step(f"boot:{node.name}", "boot",
                 lambda context, node=node: disks(lab).boot(node),  # type: ignore[misc]
                 done=lambda node=node: disks(lab).running(node))  # type: ignore[misc]
            for node in lab.topology.nodes
        ]  # fmt: skip

    monkeypatch.setattr(renewing, "start_steps", start_steps)
    monkeypatch.setattr(renewing, "alive_steps", lambda lab, steps: [])
    monkeypatch.setattr(
        renewing, "health_step", lambda lab, needs: Step("health", "health", lambda c: None, needs)
    )
    monkeypatch.setattr(saving, "live_snapshots", lambda lab: NoLive())
    guest = FakeGuest().on("MAC_Binding")
    monkeypatch.setattr(Lab, "controller", property(lambda lab: guest))


def texts(state: LabState) -> dict[str, bytes]:
    """Every file of the lab, the packed ones unpacked."""
    found = {}
    for path in state.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if path.suffix == ".tar":
                content = subprocess.run(
                    ["tar", "--extract", "--to-stdout", "--file", path],
                    capture_output=True, check=True,
                ).stdout  # fmt: skip
                assert b"S=" in content
            found[str(path.relative_to(state.root))] = content
    return found


def private(key: Path) -> list[bytes]:
    """The lines of a private key that no other key has."""
    return key.read_bytes().splitlines()[2:-1]


def secrets_of(state: LabState) -> set[bytes]:
    """All that opens something in a lab: passwords, keys, machine IDs."""
    found = {word.encode() for word in asdict(state.secrets()).values()}
    for key in (state.ssh_key, *state.ssh_key.parent.glob("host_*")):
        found |= set(private(key))
    for node in state.nodes.iterdir():
        found.add((node / "upper/etc/machine-id").read_bytes().strip())
    return found


def holding(state: LabState, words: set[bytes]) -> list[str]:
    return [
        name for name, content in texts(state).items() if any(word in content for word in words)
    ]
