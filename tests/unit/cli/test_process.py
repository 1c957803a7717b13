"""How labctl is started does not decide what becomes of a lab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.cli import elevate, process
from labctl.cli.elevate import passed_on
from labctl.errors import LabError
from labctl.run import build_environment, python_module

LABCTL = python_module("labctl")


def shell(script: str, directory: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", script, "bash", *LABCTL],
        cwd=directory,
        env={**os.environ, "LABCTL_LANG": "en", "LABCTL_NO_SUDO": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "lab.yaml").write_text("name: x\nstack: ovn\nprovider: virtualbox\n")
    return tmp_path


@pytest.mark.parametrize("mask", ["077", "000", "022"])
def test_the_umask_is_for_the_users_files_only(directory: Path, mask: str) -> None:
    done = shell(f'umask {mask}; "$@" graph --planned -o g.svg && "$@" render', directory)
    assert done.returncode == 0, done.stderr
    allowed = 0o666 & ~int(mask, 8)
    assert (directory / "g.svg").stat().st_mode & 0o777 == allowed
    vagrant = directory / ".labctl" / "vagrant"
    assert (directory / ".labctl").stat().st_mode & 0o777 == 0o700
    assert vagrant.stat().st_mode & 0o777 == 0o755
    assert (vagrant / "Vagrantfile").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_defect_and_no_file_of_the_lab(directory: Path, closed: str) -> None:
    for verb in ("validate", "render", "status", "lessons", "--help"):
        done = shell(f'"$@" {verb} {closed}', directory)
        assert done.returncode == 0, (verb, done.stderr)
        assert "Traceback" not in done.stderr
    for path in (directory / ".labctl").rglob("*"):
        assert path.is_dir() or "a valid lab" not in path.read_text()


def test_a_directory_that_is_gone_is_told(directory: Path) -> None:
    done = shell('mkdir gone && cd gone && rmdir ../gone && "$@" status', directory)
    assert done.returncode == 2
    assert done.stderr == (
        "✗ the current directory was deleted\n"
        "  hint  go to the lab's directory first: cd DIRECTORY\n"
    )


def test_a_temporary_directory_that_is_none(directory: Path) -> None:
    done = shell('"$@" render', directory, TMPDIR=str(directory / "none"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", ["xx_YY.UTF-8", "C", "POSIX", ""])
def test_a_locale_that_is_none(directory: Path, language: str) -> None:
    done = shell('"$@" status && "$@" graph --planned', directory, LC_ALL=language, LANG=language)
    assert done.returncode == 0, done.stderr


# -- across sudo -----------------------------------------------------------------------------------
def test_what_goes_along_to_root() -> None:
    names = """http_proxy no_proxy NO_PROXY all_proxy LABCTL_CACHE LANG TERM TZ PATH HOME TMPDIR
        PYTHONPATH LD_PRELOAD LD_LIBRARY_PATH BASH_ENV PERL5LIB SSH_AUTH_SOCK XDG_CACHE_HOME"""
    given = dict.fromkeys(names.split(), "x")
    assert set(passed_on(given)) == {
        "http_proxy", "no_proxy", "NO_PROXY", "all_proxy", "LABCTL_CACHE", "LANG", "TERM", "TZ"
    }  # fmt: skip


def test_a_build_gets_proxies_and_nothing_else_of_the_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TMPDIR", "LD_PRELOAD", "PYTHONPATH", "LANG", "BASH_ENV", "no_proxy"):
        monkeypatch.setenv(name, "x")
    there = build_environment()
    assert there["no_proxy"] == "x"
    assert there["LC_ALL"] == "C.UTF-8"
    assert {name for name in there if not name.lower().endswith("_proxy")} == {
        "PATH", "HOME", "LC_ALL", "DEBIAN_FRONTEND"
    }  # fmt: skip


def test_what_sudo_was_told_to_keep_loads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "caller", lambda: object())
    monkeypatch.chdir(tmp_path)
    for name in ("LD_PRELOAD_X", "PYTHONPATH", "BASH_ENV", "PERL5LIB", "BASH_FUNC_ls%%"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("no_proxy", "x")
    kept = dict(os.environ)
    try:
        process.prepare()
        assert not {name for name in os.environ if name.startswith(("LD_", "PYTHON", "BASH_"))}
        assert os.environ["no_proxy"] == "x"
    finally:
        os.environ.clear()
        os.environ.update(kept)


def test_sudo_that_refuses_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("LABCTL_NO_SUDO", raising=False)
    monkeypatch.setenv("LABCTL_COMMAND", "labctl")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(elevate, "_has_terminal", lambda: False)
    monkeypatch.setattr(sys, "argv", ["labctl", "status"])
    with pytest.raises(LabError, match="sudo refuses: a password is required"):
        elevate.become_root()
