"""VirtualBox's service VBoxSVC, which every VBoxManage talks to, and what to do when it hangs."""

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
