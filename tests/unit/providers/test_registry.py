"""A provider is a name in spec/fields.py and a folder: with them every verb knows it."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import labctl
import labctl.providers
from labctl.cli import app
from labctl.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, LabError
from labctl.providers.registry import auto_order, entries, find, names
from labctl.spec import fields
from labctl.state import LabState

PACKAGE = Path(labctl.__file__).parent
Run = Callable[..., tuple[int, str]]
LAB = "name: x\nstack: ovn\nprovider: toy\n"


# -- the entries -----------------------------------------------------------------------------------
def test_every_name_has_a_folder_and_every_folder_with_an_entry_a_name() -> None:
    folders = {file.parent.name for file in (PACKAGE / "providers").glob("*/entry.py")}
    assert set(names()) == folders, "a provider: its name in spec/fields.py, and providers/NAME/"
    assert [entry.name for entry in entries()] == list(names())


def test_what_auto_prefers() -> None:
    assert [entry.name for entry in auto_order()] == ["virtualbox", "libvirt", "nspawn"]


def test_boxes_are_for_what_vagrant_drives() -> None:
    formats = {entry.name: entry.box for entry in entries() if entry.box is not None}
    assert set(formats) == {"virtualbox", "libvirt"}
    assert all(name == format.provider for name, format in formats.items())


@pytest.mark.parametrize("name", fields.PROVIDERS)
def test_what_is_decisive_is_a_finding(name: str) -> None:
    folder = (PACKAGE / "providers" / name / "checks.py").read_text("utf-8")
    for finding in find(name).checks.decisive - {"architecture"}:
        assert f'"{finding}",' in folder


def test_nobody_else_knows_a_provider_by_its_name() -> None:
    """Ask the entry instead: a name missing from a table somewhere is what nobody finds."""
    word = re.compile(rf"""["']({"|".join(names())})["']""")
    known = Counter(
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if word.search(line) and file.parent.parent.name != "providers"
    )
    assert known == {
        "spec/fields.py": 2,  # the names, and which are containers
        "actions/class_image.py": 1,  # the nodes of a lab inside a machine are containers
        "images/box_file.py": 1,  # what the UUID of a disk is made of
        "provisioning/stages.py": 1,  # a stage of provision/ is called libvirt, too
    }


def test_who_makes_containers_is_known_where_lab_yaml_is_read() -> None:
    assert {name for name in names() if not find(name).features.machines} == fields.CONTAINERS


def test_a_name_that_is_none() -> None:
    with pytest.raises(LabError, match="there is no provider 'vmware'") as told:
        find("vmware")
    assert "nspawn, virtualbox, libvirt" in str(told.value.hint)
    assert told.value.code == EXIT_USAGE


# -- a provider more -------------------------------------------------------------------------------
@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder toy/ lies in labctl/providers/, and its name is in spec/fields.py."""
    monkeypatch.setattr(fields, "PROVIDERS", (*fields.PROVIDERS, "toy"))
    here = str(Path(__file__).parent)
    monkeypatch.setattr(labctl.providers, "__path__", [*labctl.providers.__path__, here])
    yield
    for name in [name for name in sys.modules if name.startswith("labctl.providers.toy")]:
        del sys.modules[name]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, what was said) of `labctl WORDS` beside a lab.yaml of toys; no defect is met.

    With --json only what is on stdout.
    """
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "LABCTL_NO_SUDO": "1", "LABCTL_LANG": "en", "TOY_WOOD": "oak", "HOME": str(tmp_path),
        "LABCTL_CACHE": str(tmp_path / "cache"), "COLUMNS": "200",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    Path("lab.yaml").write_text(LAB, encoding="utf-8")

    def labctl_(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["labctl", *words])
        code = app.main()
        out, err = capsys.readouterr()
        said = out + err
        assert "labctl itself broke" not in said
        return code, out if "--json" in words else said

    return labctl_


def test_a_toy_is_no_provider_without_its_entry(run: Run) -> None:
    code, said = run("validate")
    assert code == EXIT_USAGE
    assert re.search("provider: must be auto, .* or .*, not 'toy'", said)
    assert run("doctor", "-p", "toy")[0] == EXIT_USAGE


@pytest.mark.usefixtures("toy")
class TestToy:
    """Every verb, by one folder and one name."""

    def test_before_it_is_made(self, run: Run) -> None:
        assert run("validate")[0] == EXIT_DONE
        code, said = run("status")
        assert (code, "labctl create" in said) == (EXIT_DONE, True)
        assert run("destroy")[0] == EXIT_DONE
        assert run("graph")[0] == EXIT_DONE
        assert run("render")[0] == EXIT_DONE  # of use to whoever has VirtualBox or libvirt

    def test_a_name_misspelt(self, run: Run) -> None:
        Path("lab.yaml").write_text("name: x\nprovider: toi\n", encoding="utf-8")
        code, said = run("validate")
        assert code == EXIT_USAGE
        assert "or toy, not 'toi'; did you mean toy?" in said

    def test_the_doctor(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        code, said = run("doctor", "-p", "toy")
        assert code == EXIT_DONE
        assert "x on Toy: you chose it" in said
        assert "wood: oak" in said
        assert json.loads(run("doctor", "--json")[1])["host"]["by_provider"]["toy"] == "oak"
        monkeypatch.delenv("TOY_WOOD")
        code, said = run("doctor")
        assert (code, "there is no wood" in said, "buy some" in said) == (EXIT_FAILED, True, True)
        code, said = run("create")
        assert (code, "there is no wood" in said) == (EXIT_FAILED, True)
        assert not Path(".labctl").exists()

    def test_auto_takes_it_where_it_says_so(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("lab.yaml").write_text("name: x\nstack: ovn\n", encoding="utf-8")
        assert json.loads(run("doctor", "--json")[1])["provider"] != "toy"
        module = sys.modules["labctl.providers.toy.entry"]
        monkeypatch.setattr(module, "ENTRY", replace(find("toy"), auto=0))
        assert "x on Toy: everybody likes toys" in run("doctor")[1]

    def test_its_life(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        code, said = run("create")
        assert code == EXIT_DONE, said
        assert "the snapshot base was not made" in said
        report = json.loads(run("status", "--json")[1])
        assert (report["provider"], report["state"]) == ("toy", "up")
        assert run("create")[0] == EXIT_DONE
        code, said = run("fork", "second")
        assert (code, "the provider toy cannot fork a lab" in said) == (EXIT_USAGE, True)
        assert not Path("../second").exists()
        assert "is as lab.yaml says" in run("apply")[1]
        assert run("halt")[0] == EXIT_DONE
        assert json.loads(run("status", "--json")[1])["state"] == "halted"
        assert run("up")[0] == EXIT_DONE
        assert json.loads(run("status", "--json")[1])["state"] == "up"

        called: list[list[str]] = []
        monkeypatch.setattr(os, "execvp", lambda program, argv: called.append(argv))
        run("ssh", "compute-01", "--", "echo", "a b")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
            run("ssh", "compute-01", "--", "echo", "a b")  # stdout is none: as with `| less`
            patch.setattr(sys.stdout, "isatty", lambda: True)
            run("ssh", "compute-01", "--", "echo", "a b")
            run("ssh", "compute-01")
        plain, to_a_file, in_a_terminal, login = called
        assert plain[:2] == ["toy-ssh", "compute-01"]
        assert "echo 'a b'" in plain[2]
        assert to_a_file == plain
        assert in_a_terminal == ["toy-ssh", "-t", "compute-01", "echo 'a b'"]
        assert login == ["toy-ssh", "compute-01"]
        assert run("report")[0] == EXIT_DONE
        assert run("graph")[0] == EXIT_DONE
        assert run("logs", "compute-01")[0] == EXIT_DONE
        assert run("snapshot", "list")[0] == EXIT_DONE
        assert run("start", "ovn-snat-dnat")[0] == EXIT_DONE

        assert run("destroy", "--purge")[0] == EXIT_DONE
        assert not Path(".labctl").exists()

    @pytest.mark.parametrize("killed_while", ["nodes", "files", "last file"])
    def test_a_destroy_that_was_killed_is_finished_and_nothing_taken_over(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, killed_while: str
    ) -> None:
        assert run("create")[0] == EXIT_DONE
        assert run("start", "ovn-snat-dnat")[0] == EXIT_DONE
        state = LabState(Path.cwd())
        first = state.identity().lab_id
        (state.snapshots / "base").mkdir(parents=True)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            if killed_while == "nodes":
                # The nodes are gone then.
                patch.setattr("labctl.providers.toy.provider.ToyProvider.leftovers", killed)
            else:
                removed: list[Path] = []
                rmtree, last = shutil.rmtree, killed_while == "last file"

                def remove_some(path: Path) -> None:
                    removed.append(path)
                    if (path == state.root) if last else len(removed) > 1:
                        killed()
                    rmtree(path)

                patch.setattr("labctl.state.shutil.rmtree", remove_some)
            assert run("destroy")[0] != EXIT_DONE
        assert state.destroying.exists()
        if state.exists:
            said = run("status")[1]
            assert ("x: destroying" in said, "next: labctl destroy" in said) == (True, True)
            assert json.loads(run("status", "--json")[1])["state"] == "destroying"
            for verb in ("up", "halt", "next", "reset", "logs", "snapshot list"):
                code, said = run(*verb.split())
                assert (code, "`labctl destroy` finishes it" in said) == (EXIT_FAILED, True), verb
        code, said = run("create")
        assert (code, "interrupted: finishing it" in said) == (EXIT_DONE, True)
        assert state.identity().lab_id != first
        assert not state.lesson_position.exists()
        assert not (state.snapshots / "base").exists()
        report = json.loads(run("status", "--json")[1])
        assert (report["state"], report["lesson"]) == ("up", None)
        assert run("destroy")[0] == EXIT_DONE
        assert not state.root.exists()

    def test_snapshots_that_go_with_the_lab_are_named(self, run: Run) -> None:
        assert run("create")[0] == EXIT_DONE
        for name in ("base", "mine", "yours"):
            (LabState(Path.cwd()).snapshots / name).mkdir(parents=True)
        code, said = run("destroy")
        assert (code, "snapshots mine, yours are deleted" in said) == (EXIT_DONE, True)
        assert run("create")[0] == EXIT_DONE
        assert "snapshot" not in run("destroy")[1]

    @pytest.mark.parametrize(
        "verb",
        ["halt", "up", "next", "reset", "snapshot save x", "snapshot restore x",
         "snapshot delete x", "walk ping compute-01 internet", "logs", "ssh compute-01"],
    )  # fmt: skip
    def test_a_verb_without_a_lab_makes_no_directory(self, run: Run, verb: str) -> None:
        code, said = run(*verb.split())
        assert (code, "labctl create" in said) == (EXIT_FAILED, True)
        assert not Path(".labctl").exists()

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (["snapshot", "save", "mine"], EXIT_FAILED, "a toy has no files"),
            (["snapshot", "restore", "mine"], EXIT_USAGE, "no snapshot"),
            (["reset"], EXIT_USAGE, "no snapshot"),
            (["walk", "ping", "compute-01", "network-controller"], EXIT_FAILED, "has no way to"),
            (["box", "build", "--provider", "toy"], EXIT_USAGE, "libvirt, virtualbox or all"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_what_a_toy_cannot_do_is_told(
        self, run: Run, words: list[str], code: int, told: str
    ) -> None:
        assert run("create")[0] == EXIT_DONE
        got, said = run(*words)
        assert (got, told in said) == (code, True)


# -- a provider less -------------------------------------------------------------------------------
VERBS = ["status", "create", "up", "halt", "destroy", "reset", "report", "doctor", "graph"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_lab_of_a_provider_that_is_gone(run: Run, verb: str) -> None:
    Path("lab.yaml").write_text("name: x\nstack: ovn\n", encoding="utf-8")
    identity = {"lab": "x", "lab_id": "00000000", "provider": "vmware", "created": 1.0}
    Path(".labctl").mkdir()
    Path(".labctl/lab.json").write_text(json.dumps(identity), encoding="utf-8")
    code, said = run(verb)
    assert code == EXIT_USAGE
    assert "lab.json: there is no provider 'vmware'" in said
    assert "nspawn, virtualbox, libvirt" in said


def test_a_choice_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lab.yaml").write_text("name: x\nstack: ovn\n", encoding="utf-8")
    monkeypatch.setenv("LABCTL_PROVIDER", "vmware")
    code, said = run("create")
    assert code == EXIT_USAGE
    assert "LABCTL_PROVIDER: there is no provider 'vmware'" in said
