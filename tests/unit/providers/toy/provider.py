"""Nodes of nothing: one is up while its directory has a file `up`, and answers like a real one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labctl.access.guest import Guest
from labctl.errors import LabError
from labctl.images.baked import ImageCache
from labctl.providers.provider import Cancel, Features, HostEnd, NodeSnapshots, Progress, Provider
from labctl.provisioning.services import units_of
from labctl.state import LabState
from labctl.topology import Machine, Topology
from tests.unit.fakes import FakeGuest, healthy

NO_FILES = "a toy has no files that could be kept"


class ToySnapshots:
    """None: a node has no files."""

    @contextmanager
    def frozen(self) -> Iterator[None]:
        raise LabError(NO_FILES)
        yield

    def save(self, node: Machine, name: str, directory: Path) -> Mapping[str, Any]:
        raise LabError(NO_FILES)

    def trouble(self, node: Machine, name: str, directory: Path, proof: Mapping[str, Any]) -> str:
        return NO_FILES

    def stage(self, node: Machine, name: str, directory: Path) -> None:
        raise LabError(NO_FILES)

    def unstage(self, node: Machine) -> None:
        pass

    def restore(self, node: Machine, name: str) -> None:
        raise LabError(NO_FILES)

    def clean_up(self, node: Machine) -> None:
        pass

    def delete(self, node: Machine, name: str) -> None:
        pass


class ToyProvider:
    """The nodes of one lab."""

    features = Features(
        needs_root=False, shared_nat=False, own_clock=False, image="wood", network="string"
    )
    timeout_factor = 1
    resolver = ""
    snapshots: NodeSnapshots = ToySnapshots()

    def __init__(self, topology: Topology, state: LabState) -> None:
        self._topology = topology
        self._state = state

    def _up(self, node: Machine) -> Path:
        return self._state.node(node.name) / "up"

    def prepare(self, progress: Progress, cancel: Cancel) -> None:
        pass

    def prepared(self) -> bool:
        return True

    def create_network(self) -> None:
        pass

    def network_ready(self) -> bool:
        return True

    def start(self, node: Machine, progress: Progress, cancel: Cancel) -> None:
        self._up(node).parent.mkdir(parents=True, exist_ok=True)
        self._up(node).touch()

    def running(self, node: Machine) -> bool:
        return self._up(node).exists()

    def stopped(self, node: Machine) -> bool:
        return not self.running(node)

    def stop(self, node: Machine, *, deadline: float) -> None:
        self._up(node).unlink()

    def guest(self, node: Machine) -> Guest:
        names = [each.name for each in self._topology.nodes]
        chassis = ",".join(f'["{name}",["uuid","u-{name}"]]' for name in names)
        encaps = ",".join(f'[["uuid","u-{name}"],"geneve","192.168.33.1"]' for name in names)
        units = units_of(node, self._topology.stack)
        return (
            FakeGuest(node.name)
            .on("")  # whatever it is told to do, it has done
            .on("labctl-warm", exit=1, stderr="a toy keeps no state")
            .on("--format=json", exit=1, stderr="a toy has no other tables")
            .on("list Chassis", f'{{"headings": ["hostname", "encaps"], "data": [{chassis}]}}')
            .on("list Encap", f'{{"headings": ["_uuid", "type", "ip"], "data": [{encaps}]}}')
            .on("is-active", "\n".join("active" for _ in units))
            .on("^bash -c .*list-br", healthy(self._topology.node(node.name), self._topology))
            .on("list NAT", '{"headings": ["external_ip"], "data": []}')
            .on("^ip -4 -o address show", "")
        )

    def ssh_argv(self, node: Machine) -> list[str]:
        return ["toy-ssh", node.name]

    def host_end(self, node: Machine, card: str = "eth0") -> HostEnd | None:
        return None

    def image_file(self, path: str) -> Path | None:
        return None

    def destroy(self, progress: Progress) -> None:
        for node in self._topology.nodes:
            self._up(node).unlink(missing_ok=True)

    def leftovers(self) -> list[str]:
        return []

    def cached(self) -> list[str]:
        return []

    def purge(self, progress: Progress) -> None:
        pass


def make(topology: Topology, state: LabState, images: ImageCache, template: Path) -> Provider:
    return ToyProvider(topology, state)
