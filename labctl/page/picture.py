"""The living drawing: drawn anew when OVN's or Open vSwitch's databases change.

`ovsdb-client monitor` on each node prints a line for each change and costs nothing in between. The
tables that it watches are those that `labctl graph` draws, and not the ones that count packets.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from labctl.access.shell import Shell, open_output
from labctl.errors import LabError
from labctl.graph.observed import live
from labctl.graph.planned import planned
from labctl.graph.svg import svg
from labctl.lab import Lab
from labctl.page.work import Publish

SETTLE_SECONDS = 0.2
"""From the first change to the drawing: one command of OpenStack changes several tables."""
LEAST_SECONDS = 1.0
"""Between two drawings, however fast the databases change."""
MOST_SECONDS = 60.0
"""Between two looks: for what no database tells, such as an instance that is being built."""
RETRY_SECONDS = 5.0
"""After a node did not answer."""

_OVS = "ovsdb-client monitor unix:/run/openvswitch/db.sock Open_vSwitch Port name & "
_OVN = (
    "ovsdb-client monitor unix:/run/ovn/ovnnb_db.sock OVN_Northbound ALL & "
    "ovsdb-client monitor unix:/run/ovn/ovnsb_db.sock OVN_Southbound Port_Binding chassis,up & "
)


_STYLE = re.compile("<style>(.*?)</style>", re.DOTALL)


class Picture:
    """Watches a lab while `start` to `stop`, and publishes its drawing whenever that changes."""

    def __init__(self, lab: Callable[[], Lab], publish: Publish) -> None:
        """`lab` gives the lab of today, for it may be destroyed and made anew meanwhile."""
        self._lab = lab
        self._publish = publish
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._shells: set[Shell] = set()
        self._lock = threading.Lock()
        self.drawing = ""
        """The last SVG."""

    def start(self) -> None:
        """Watch, in threads of its own, until `stop`."""
        self._stopped = stopped = threading.Event()
        self._changed.set()
        threading.Thread(target=self._draw, args=(stopped,), daemon=True).start()
        with suppress(LabError):
            for node in self._lab().topology.nodes:
                threading.Thread(target=self._watch, args=(node.name, stopped), daemon=True).start()

    def stop(self) -> None:
        """End the watching; nothing of it stays on the nodes."""
        self._stopped.set()
        self._changed.set()
        with self._lock:
            shells, self._shells = self._shells, set()
        for shell in shells:
            shell.close()

    def _watch(self, node: str, stopped: threading.Event) -> None:
        while not stopped.is_set():
            with suppress(LabError, OSError, EOFError):
                lab = self._lab()
                if lab.state.created.exists() and lab.provider.running(lab.node(node)):
                    is_controller = lab.topology.controller.name == node
                    script = f"{_OVS}{_OVN if is_controller else ''}wait"
                    self._read(open_output(lab.guest(node), script), stopped)
            stopped.wait(RETRY_SECONDS)

    def _read(self, shell: Shell, stopped: threading.Event) -> None:
        with self._lock:
            self._shells.add(shell)
        try:
            while not stopped.is_set() and shell.read():
                self._changed.set()
        finally:
            with self._lock:
                self._shells.discard(shell)
            shell.close()
            self._changed.set()

    def _draw(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            if self._changed.wait(MOST_SECONDS):
                stopped.wait(SETTLE_SECONDS)
            self._changed.clear()
            if stopped.is_set():
                return
            began = time.monotonic()
            with suppress(LabError, OSError):
                self._show(self._lab())
            stopped.wait(max(0.0, LEAST_SECONDS - (time.monotonic() - began)))

    def _show(self, lab: Lab) -> None:
        graph = live(lab) if lab.state.exists else planned(lab.topology)
        drawing = svg(graph, prefix="living")
        if drawing != self.drawing:
            self.drawing = drawing
            # The page's Content-Security-Policy lets no style of the drawing in, but by its nonce.
            style = "".join(_STYLE.findall(drawing))
            self._publish({"kind": "picture", "svg": _STYLE.sub("", drawing), "style": style})
