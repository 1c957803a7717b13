"""Every start of a Python: no file of a stranger's directory becomes part of it."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import labctl
from labctl.run import python_module

PACKAGE = Path(labctl.__file__).parent
CHECKOUT = PACKAGE.parent
IMPORTED = ("typer", "json", "html", "socket", "http", "ctypes", "runpy", "site", "labctl")
"""Modules of labctl, of its libraries and of Python that one of the starts imports."""


# -- what is written -------------------------------------------------------------------------------
def starts_in_python(text: str) -> list[str]:
    """What follows `sys.executable` or "python3" in a list of words, and "python3 -x" in a text."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.List | ast.Tuple):
            for word, after in zip(node.elts, node.elts[1:], strict=False):
                if ast.unparse(word) in ("sys.executable", "'python3'", "'python'"):
                    found.append(ast.unparse(after))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += starts_in_text(node.value)
    return found


def starts_in_text(text: str) -> list[str]:
    """The options of each `python3 -… ` in a shell script."""
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return re.findall(r"\bpython3?\b\"? (-\S*)", text)


def isolated(option: str) -> bool:
    return option.strip("'").startswith(("-I", "-P"))


def test_every_start_is_isolated() -> None:
    found = {
        str(file.relative_to(CHECKOUT)): starts_in_python(file.read_text(encoding="utf-8"))
        for top in ("labctl", "provision")
        for file in sorted((CHECKOUT / top).rglob("*.py"))
    } | {
        str(file.relative_to(CHECKOUT)): starts_in_text(file.read_text(encoding="utf-8"))
        for file in sorted((CHECKOUT / "provision").rglob("*"))
        if file.is_file() and file.suffix not in (".py", ".pyc") and file.stat().st_size < 10**6
    }
    # (What a docstring tells a developer to type in a checkout is for people.)
    told = {
        "labctl/__main__.py", "labctl/run.py", "labctl/spec/load.py", "labctl/lessons/model.py",
        "labctl/access/serialshell.py", "labctl/cli/schemas.py", "labctl/classroom/load.py",
    }  # fmt: skip
    bad = {
        file: left
        for file, options in found.items()
        if (left := [option for option in options if not isolated(option)]) and file not in told
    }
    assert bad == {}
    assert starts_in_python(Path(labctl.run.__file__).read_text("utf-8")).count("'-I'") == 2
    assert sum(map(len, found.values())) > 4, "the starts are not found"


# -- what happens ----------------------------------------------------------------------------------
@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A directory with a lab.yaml, and modules that tell when they are imported."""
    (tmp_path / "lab.yaml").write_text("name: strange\nstack: ovn\n")
    for name in IMPORTED:
        (tmp_path / f"{name}.py").write_text(
            f"import sys\nsys.stderr.write('RAN {name}\\n')\nraise SystemExit(9)\n"
        )
    return tmp_path


def start(directory: Path, argv: list[str], **env: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        argv,
        cwd=directory,
        env={**clean, "LABCTL_NO_SUDO": "1", "LABCTL_LANG": "en", **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("words", [["validate"], ["status"], ["lessons"], ["graph", "--planned"]])
def test_the_command_runs_nothing_that_lies_beside_a_lab(strange: Path, words: list[str]) -> None:
    for command in ([str(Path(sys.executable).with_name("labctl"))], python_module("labctl")):
        done = start(strange, [*command, *words])
        assert "RAN" not in done.stderr, done.stderr
        assert done.returncode == 0 or "root" in done.stderr, done.stderr


@pytest.mark.parametrize("module", ["labctl.providers.kvm", "labctl.providers.nspawn.internet"])
def test_what_labctl_starts_runs_nothing_that_lies_there(strange: Path, module: str) -> None:
    done = start(strange, python_module(module), PYTHONPATH=str(strange), PYTHONSTARTUP="typer.py")
    assert "RAN" not in done.stderr
    assert done.returncode != 9


def test_a_labctl_found_by_pythonpath_finds_itself_again(
    tmp_path: Path, strange: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/nowhere{os.pathsep}{CHECKOUT}")
    argv = python_module("labctl", "--version")
    assert argv[1:3] == ["-I", "-c"]
    done = start(strange, argv)
    assert (done.returncode, done.stdout) == (0, f"labctl {labctl.__version__}\n"), done.stderr


def test_as_a_module_it_leaves_the_current_directory_out(strange: Path) -> None:
    (strange / "labctl.py").unlink()
    done = start(strange, [sys.executable, "-m", "labctl", "validate"])
    # site, runpy and ctypes may be loaded before our first line; what a lab would carry is not.
    assert "RAN typer" not in done.stderr
    assert "RAN json" not in done.stderr
