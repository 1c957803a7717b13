"""provision/files/ovs-dpctl, which stands before Debian's where Open vSwitch is in user space."""

import subprocess
from pathlib import Path

import pytest

from labctl.assets import assets

SCRIPT = assets() / "provision" / "files" / "ovs-dpctl"


def started(words: list[str], directory: Path) -> tuple[str, str]:
    """What it starts, and what it says on stderr."""
    for program in ("ovs-appctl", "ovs-dpctl"):
        file = directory / program
        file.write_text(f'#!/bin/sh\necho "{program}$(printf \' [%s]\' "$@")"\n')
        file.chmod(0o755)
    script = directory / "script"
    script.write_text(SCRIPT.read_text().replace("/usr/bin/", f"{directory}/"))
    done = subprocess.run(
        ["sh", script, *words],
        env={"PATH": f"{directory}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["dump-flows"], "[dpctl/dump-flows]"),
        (["-m", "--names", "dump-flows"], "[dpctl/dump-flows] [-m] [--names]"),
        (["dump-flows", "-m"], "[dpctl/dump-flows] [-m]"),
        (["dump-flows", "filter=in_port(3), ip"], "[dpctl/dump-flows] [filter=in_port(3), ip]"),
        (["show"], "[dpctl/show]"),
    ],
)  # fmt: skip
def test_vswitchd_is_asked(words: list[str], asked: str, tmp_path: Path) -> None:
    stdout, stderr = started(words, tmp_path)
    assert stdout == f"ovs-appctl {asked}\n"
    assert stderr.startswith("ovs-dpctl: the datapath is in user space; this is: ovs-appctl dpctl/")


@pytest.mark.parametrize("words", [["--version"], ["-s", "--help"]])
def test_what_is_about_the_program_itself_is_debians(words: list[str], tmp_path: Path) -> None:
    shown = "".join(f" [{word}]" for word in words)
    assert started(words, tmp_path) == (f"ovs-dpctl{shown}\n", "")
