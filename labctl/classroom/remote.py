"""One command on a learner's machine, which is the learner's: nothing it answers is trusted."""

from labctl.i18n import tr
from labctl.run import Completed
from labctl.terminal.text import one_line

NO_QUESTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR")
"""For OpenSSH: it asks for nothing, and gives a machine up that does not answer."""
_NOT_REACHED = 255
"""Exit code of OpenSSH's client for its own failures."""
_LONGEST = 200


def reason_of(done: Completed) -> str:
    """Why a command by SSH failed, as one line for people."""
    if done.timed_out:
        return tr("it did not answer in time")
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = one_line(lines[-1])[:_LONGEST] if lines else ""
    if done.returncode == _NOT_REACHED:
        return tr("SSH: {text}", text=last or tr("no connection"))
    return tr("a command failed there (exit {code}): {text}", code=done.returncode, text=last)
