"""Real labs. Everything is looked at from outside: the command line, the wire, the host."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, host_facts, watching_command_lines

# Tests of `create` look at its stages, and kill it in them; tests of templates take this away.
os.environ["LABCTL_NO_TEMPLATE"] = "1"

TOOLS = ("mmdebstrap", "systemd-nspawn", "ip", "ethtool", "ssh", "unshare", "ps")


@contextmanager
def leaving_nothing() -> Iterator[list[str]]:
    """Takes the names that labs are known by; at the end nothing on the host may carry one.

    Not the whole host is compared: on a developer's machine other labs come and go meanwhile.
    """
    before = host_facts()
    names: list[str] = []
    yield names
    after = host_facts()
    left = {
        what: [line for line in found - before[what] if any(name in line for name in names)]
        for what, found in after.items()
    }
    assert names, "no lab was made"
    assert not any(left.values()), f"left on the host: {left}"


@contextmanager
def labs(names: list[str], factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Cli]]:
    """make(directory name, lab.yaml) -> its command line; destroyed at the end in any case."""
    made: list[Cli] = []

    def make(name: str, spec: str) -> Cli:
        directory = factory.mktemp(name)
        (directory / "lab.yaml").write_text(spec, encoding="utf-8")
        names.append(str(directory))
        made.append(Cli(directory, names))
        return made[-1]

    yield make
    for cli in made:
        cli("destroy")
        assert sorted(path.name for path in cli.directory.iterdir()) == ["lab.yaml"]


@pytest.fixture(scope="module")
def machine(require: Callable[..., None]) -> Iterator[list[str]]:
    """The names of a module's labs; at its end nothing of them may be left."""
    require(*TOOLS, root=True)
    with leaving_nothing() as names:
        yield names


@pytest.fixture(scope="module")
def make_lab(
    machine: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], Cli]]:
    """make_lab(directory name, lab.yaml) -> the command line of a lab of this module's own."""
    with labs(machine, tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def shared_lab(
    require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory, default_spec: str
) -> Iterator[Cli]:
    """The repository's lab, created once, for all modules that leave it as they found it: up."""
    require(*TOOLS, root=True)
    with leaving_nothing() as names, labs(names, tmp_path_factory) as make:
        cli = make("shared", default_spec)
        with watching_command_lines(cli.command_lines):
            cli("create")
        yield cli
        for _ in range(2):
            cli("destroy")
        assert cli.json("status")["state"] == "absent"


@pytest.fixture(scope="session")
def default_spec() -> str:
    """The lab.yaml of the repository."""
    return (Path(__file__).parents[2] / "lab.yaml").read_text(encoding="utf-8")
