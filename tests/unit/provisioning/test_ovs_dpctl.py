"""provision/files/ovs-dpctl, which stands before Debian's where Open vSwitch is in user space."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from labctl.assets import assets

FILES = assets() / "provision" / "files"


def prepared(directory: Path) -> Path:
    """The script, with programs around it that only print how they were called."""
    for program in ("ovs-appctl", "ovs-dpctl"):
        file = directory / program
        file.write_text(f'#!/bin/sh\necho "{program}$(printf \' [%s]\' "$@")"\n')
        file.chmod(0o755)
    script = directory / "script"
    text = (FILES / "ovs-dpctl").read_text(encoding="utf-8")
    script.write_text(text.replace("/usr/bin/", f"{directory}/"))
    return script


def started(words: list[str], directory: Path, stdout: int = subprocess.PIPE) -> tuple[str, str]:
    """What it starts, and what it says on stderr; stdout is empty where it goes elsewhere."""
    done = subprocess.run(
        ["sh", prepared(directory), *words],
        env={"PATH": f"{directory}:/usr/bin:/bin"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout or "", done.stderr


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["dump-flows"], "[dpctl/dump-flows]"),
        (["-m", "--names", "dump-flows"], "[dpctl/dump-flows] [-m] [--names]"),
        (["dump-flows", "-m"], "[dpctl/dump-flows] [-m]"),
        (["dump-flows", "filter=in_port(3), ip"], "[dpctl/dump-flows] [filter=in_port(3), ip]"),
        (["show"], "[dpctl/show]"),
        (["--timeout=5", "-s", "show"], "[--timeout=5] [dpctl/show] [-s]"),
        (["-t5", "show"], "[--timeout=5] [dpctl/show]"),
    ],
)  # fmt: skip
def test_vswitchd_is_asked(words: list[str], asked: str, tmp_path: Path) -> None:
    assert started(words, tmp_path) == (f"ovs-appctl {asked}\n", "")


def test_who_reads_it_is_told_what_was_asked(tmp_path: Path) -> None:
    reader, terminal = pty.openpty()
    try:
        _, stderr = started(["-m", "dump-flows"], tmp_path, terminal)
    finally:
        os.close(terminal)
        os.close(reader)
    where = "ovs-dpctl: the datapath is in user space; this is: "
    assert stderr == f"{where}ovs-appctl dpctl/dump-flows -m\n"


@pytest.mark.parametrize(
    "words", [["--version"], ["-s", "--help"], ["--timeout=x", "show"], ["-tx", "show"], []]
)
def test_what_is_about_the_program_itself_is_debians(words: list[str], tmp_path: Path) -> None:
    shown = "".join(f" [{word}]" for word in words) or " []"
    assert started(words, tmp_path) == (f"ovs-dpctl{shown}\n", "")


def test_sudo_takes_the_settings(tmp_path: Path) -> None:
    """A file that it cannot read would leave a node without sudo."""
    file = tmp_path / "labctl"
    file.write_bytes((FILES / "sudoers").read_bytes())
    file.chmod(0o440)
    assert 'env_keep += "OVN_NB_DB OVN_SB_DB"' in file.read_text()
    visudo = Path("/usr/sbin/visudo")
    if visudo.exists():
        subprocess.run([visudo, "--check", "--quiet", "--file", file], check=True, timeout=30)
