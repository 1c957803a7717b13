"""Terminals of instances: on the console, and where that is taken by SSH, as `labctl ssh` does.

The console is there before the instance has an address, and it is one for all: a second terminal
of the same instance is a login by SSH, if SSH reaches it.
"""

import threading
from contextlib import suppress

from labctl.access.instance import ConsoleInUseError, InstanceGuest
from labctl.access.shell import Shell, open_program
from labctl.errors import LabError
from labctl.lab import Lab

RETRY_SECONDS = 2.0
"""Between two tries to tell the instance its terminal's size: it may be booting."""
SETTLE_SECONDS = 0.3
"""From a change of the size to telling it: a divider that is dragged changes it many times."""
MOST_TRIES = 60
"""Of these: an image without a guest agent never takes the size."""


def open_instance(lab: Lab, name: str, size: tuple[int, int], *, console: bool) -> Shell:
    """A terminal of an instance, with `size`: columns, rows.

    `console`: on its console, unless that is open elsewhere. Raises ConsoleInUseError when only the
    console is left and it is taken, LabError when there is no such instance, or it does not run.
    """
    if console:
        with suppress(ConsoleInUseError):
            return _open(lab, name, size, console=True)
    return _open(lab, name, size, console=False)


def _open(lab: Lab, name: str, size: tuple[int, int], *, console: bool) -> Shell:
    from labctl.actions.instance_login import find_login, login_on_node  # loads the OpenStack SDK

    login = find_login(lab, name, console=console)
    node, argv = login_on_node(lab, login)
    shell = open_program(lab.guest(node), argv, *size)
    if login.way != "console":
        return shell
    guest = InstanceGuest(login.location, lab.topology, lab.guest)
    return ConsoleShell(shell, guest, size)


class ConsoleShell:
    """An instance's console, as a shell: a serial line.

    A serial line carries no size: a thread tells it to the instance by the guest agent.
    """

    def __init__(self, shell: Shell, guest: InstanceGuest, size: tuple[int, int]) -> None:
        self._shell = shell
        self._guest = guest
        self._size = size
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._changed.set()
        threading.Thread(target=self._tell_sizes, daemon=True).start()

    def read(self) -> bytes:
        """Wait for output; empty when the console was left, or the instance has ended."""
        return self._shell.read()

    def write(self, data: bytes) -> None:
        """Send input. Raises OSError when the console has ended."""
        self._shell.write(data)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of its terminal, as soon as the instance has booted."""
        self._shell.resize(columns, rows)
        self._size = columns, rows
        self._changed.set()

    def close(self) -> None:
        """Leave the console; what runs there goes on."""
        self._closed.set()
        self._changed.set()
        self._shell.close()

    def _tell_sizes(self) -> None:
        tries = 0
        while self._changed.wait() and not self._closed.wait(SETTLE_SECONDS):
            self._changed.clear()
            columns, rows = self._size
            # The console is the last of the kernel's; its owner is whoever is logged in there.
            script = (
                'tty=/dev/$(sed "s/.* //" /sys/class/tty/console/active);'
                f' [ -O "$tty" ] && stty rows {rows} columns {columns} <"$tty"'
            )
            told = False
            with suppress(LabError, OSError):
                result = self._guest.run_by_agent(script, 10)
                told = result is not None and result.ok
            tries = 0 if told else tries + 1
            if not told and tries < MOST_TRIES and not self._closed.wait(RETRY_SECONDS):
                self._changed.set()
