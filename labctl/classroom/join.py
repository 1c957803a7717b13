"""Teacher and learner in one terminal: `labctl class join`, by tmux on the learner's machine."""

import shlex
from pathlib import Path

from labctl.i18n import tr

BEGIN = "tmux -u new -A -s labctl"
"""What a learner types to work where the teacher can look and help: begins it, or goes on with it.

Any other session of tmux will do as well. -u: the machine's locale may be C, the texts are not."""
_SCRIPT = Path(__file__).with_name("shared_terminal.sh")


def join_command(*, watch: bool) -> str:
    """For the shell of a learner's machine: show the learner's terminal here, and tell them so.

    With `watch` nothing can be typed. Where there is no tmux it says so and ends with 1.
    """
    arrival = (  # 40 columns of the status line, at most
        tr("Your teacher is watching.") if watch else tr("Your teacher is here and may type.")
    )
    texts = [
        arrival,
        tr("Your teacher has left this terminal."),
        tr(
            "Your teacher would like to see your terminal. Type: {command}",
            command="tmux -u attach",
        ),
        tr("To leave the learner's terminal: Ctrl-B, then D."),
    ]
    missing = tr(
        "there is no tmux on this machine; there: {command}", command="sudo apt-get install tmux"
    )
    script = _SCRIPT.read_text(encoding="utf-8")
    mode = "watch" if watch else "type"
    there = shlex.join(["exec", "sh", "-c", script, "labctl", mode, *texts])
    return (
        f"command -v tmux >/dev/null || {{ echo {shlex.quote(f'✗ {missing}')} >&2; exit 1; }}; "
        f"{there}"
    )
