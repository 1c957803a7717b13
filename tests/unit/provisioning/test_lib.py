"""The functions of provision/lib.sh, run by bash beside a systemctl of this test's."""

import subprocess
from pathlib import Path

from labctl.assets import assets

SYSTEMCTL = """#!/bin/bash
printf '%s\\n' "$*" >>calls
case $1 in
    start) n=$(grep -c ^start calls); [ "$n" -gt "$FAILURES" ] ;;
    show) echo "$RESULT" ;;
esac
"""


def running(directory: Path, failures: int, result: str) -> tuple[int, str, list[str]]:
    """Exit code and stderr of `running start some.service`; what it asked systemctl for."""
    (directory / "calls").write_text("", encoding="utf-8")
    for name, text in (
        ("systemctl", SYSTEMCTL),
        ("journalctl", "#!/bin/sh\necho why it failed\n"),
        ("sleep", "#!/bin/sh\n"),
    ):
        file = directory / name
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)
    environment = f"PATH={directory}:/usr/bin:/bin", f"FAILURES={failures}", f"RESULT={result}"
    program = f'. "{assets() / "provision" / "lib.sh"}"; running start some.service'
    done = subprocess.run(
        ["env", "-i", *environment, "bash", "-c", program],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, (directory / "calls").read_text().splitlines()


def test_a_unit_that_starts_is_asked_once(tmp_path: Path) -> None:
    assert running(tmp_path, 0, "success") == (0, "", ["start some.service"])


def test_a_unit_that_systemd_had_no_resources_for_is_tried_again(tmp_path: Path) -> None:
    code, said, calls = running(tmp_path, 2, "resources")
    assert (code, said.count("why it failed")) == (0, 2)
    assert [call for call in calls if call.startswith("start")] == ["start some.service"] * 3
    assert running(tmp_path, 9, "resources")[0] == 1, "not for ever"


def test_a_unit_that_fails_by_itself_is_not(tmp_path: Path) -> None:
    code, said, calls = running(tmp_path, 1, "exit-code")
    assert (code, said) == (1, "why it failed\n")
    assert len([call for call in calls if call.startswith("start")]) == 1
