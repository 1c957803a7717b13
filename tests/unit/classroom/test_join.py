"""The command that shares a learner's terminal, as a learner's machine runs it."""

import subprocess
from pathlib import Path

import pytest

from labctl.classroom.join import join_command
from labctl.i18n import set_language

TMUX = """#!/bin/sh
printf '%s\\n' "$*" >>"$(dirname "$0")/calls"
case $1 in list-sessions) echo '1 1790000000 $3' ;; list-clients) echo /dev/null ;; esac
"""


def run_there(programs: Path, *, watch: bool) -> "subprocess.CompletedProcess[str]":
    """What it comes to on a machine that has these programs first."""
    return subprocess.run(
        ["/bin/sh", "-c", join_command(watch=watch)],
        env={"PATH": str(programs)}, capture_output=True, text=True, check=False, timeout=20,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_without_tmux_it_says_what_to_install(tmp_path: Path) -> None:
    done = run_there(tmp_path, watch=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "✗ there is no tmux on this machine; there: sudo apt-get install tmux\n"


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_learner_is_told_before_and_after(tmp_path: Path, language: str, watch: bool) -> None:
    (tmp_path / "tmux").write_text(TMUX)
    for name in ("sh", "dirname", "sort", "head", "cut", "grep", "find", "id"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "tty").write_text("#!/bin/sh\necho /dev/pts/none\n")
    (tmp_path / "tmux").chmod(0o755)
    (tmp_path / "tty").chmod(0o755)
    set_language(language)
    try:
        done = run_there(tmp_path, watch=watch)
    finally:
        set_language("en")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    (attached,) = [number for number, call in enumerate(calls) if "attach-session" in call]
    assert ("read-only,ignore-size" in calls[attached]) is watch
    told = [number for number, call in enumerate(calls) if call.startswith("display-message")]
    assert min(told) < attached < max(told)
    (shown,) = [call for call in calls if "status-right  " in call]
    arrival = shown.partition("status-right  ")[2]
    assert calls[min(told)].endswith(arrival.strip())
    assert len(arrival) <= 40
    assert "set-option -u -t $3 status-right" in calls[attached:]
