"""VirtualBox's service VBoxSVC, which every VBoxManage talks to, and what to do when it hangs.

The first VBoxManage starts it, and it ends by itself five seconds after the last. Of two that find
it starting or ending at the same moment, one now and then fails with the words below, or waits ten
seconds for its answer: both were seen with VirtualBox 7.2 on Linux, in 5 of 60 tries. So labctl
asks one question after another, and asks again after such an answer.
"""

from labctl.host.facts import Family
from labctl.i18n import tr


def hanging_fix() -> str:
    """What to do when VBoxManage does not answer."""
    return tr(
        "close VirtualBox's window, save what you need in machines that run (they stop as at a"
        " power cut), and end its service VBoxSVC: the next command starts it anew"
    )


def end_service(family: Family) -> str:
    """The command that ends VBoxSVC. It starts again when VBoxManage next needs it."""
    # By force: one that hangs does not handle a request to end.
    if family in ("windows", "wsl"):
        program = "taskkill.exe" if family == "wsl" else "taskkill"
        return f"{program} /F /IM VBoxSVC.exe"
    return "pkill -KILL -x VBoxSVC"
