"""Real labs. Everything is looked at from outside: the command line, the wire, the host."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, host_facts

TOOLS = ("mmdebstrap", "systemd-nspawn", "ip", "ethtool", "ssh", "unshare", "ps")


@pytest.fixture(scope="module")
def machine(require: Callable[..., None]) -> Iterator[None]:
    """The host, which must look the same after the module's labs are gone."""
    require(*TOOLS, root=True)
    before = host_facts()
    yield
    after = host_facts()
    left = {what: found - before[what] for what, found in after.items() if found - before[what]}
    assert not left, f"left on the host: {left}"


@pytest.fixture(scope="module")
def make_lab(
    machine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Cli]]:
    """make_lab(directory name, lab.yaml) -> its command line; destroyed at the end in any case."""
    made: list[Cli] = []

    def make(name: str, spec: str) -> Cli:
        directory = tmp_path_factory.mktemp(name)
        (directory / "lab.yaml").write_text(spec, encoding="utf-8")
        made.append(Cli(directory))
        return made[-1]

    yield make
    for cli in made:
        cli("destroy")
        assert sorted(path.name for path in cli.directory.iterdir()) == ["lab.yaml"]


@pytest.fixture(scope="session")
def default_spec() -> str:
    """The lab.yaml of the repository."""
    return (Path(__file__).parents[2] / "lab.yaml").read_text(encoding="utf-8")
