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
from labctl.graph.model import Graph
from labctl.graph.observed import NEUTRON, NOVA, OVN, Answers, live
from labctl.graph.planned import planned
from labctl.graph.svg import svg
from labctl.lab import Lab
from labctl.page.work import Publish

SETTLE_SECONDS = 0.15
"""From the first change to the drawing: one command of OpenStack changes several tables."""
LEAST_SECONDS = 0.4
"""Between the end of a drawing and the next one, however fast the databases change; and as long
as the drawing took, so that a busy machine draws less often."""
LONGEST_SECONDS = 1.0
"""But no longer: the first drawing reads everything, and loads the OpenStack SDK."""
MOST_SECONDS = 60.0
"""Between two looks at everything, for what none of the watched tables tells."""
RETRY_SECONDS = 5.0
"""After a node did not answer."""

_OVS = """
watch() { # a snapshot that is put back restarts the databases, which ends the client
    while :; do
        ovsdb-client monitor "${@:2}" 2>&1 | while read -r line; do echo "$1"; done
        sleep 1
    done
}
watch node unix:/run/openvswitch/db.sock Open_vSwitch Port name &
"""
_OVN = """
watch ovn unix:/run/ovn/ovnnb_db.sock OVN_Northbound ALL &
watch ovn unix:/run/ovn/ovnsb_db.sock OVN_Southbound Port_Binding chassis,up &
"""
_OPENSTACK = """
exec 9<> <(:) # never says anything: `read` waits half a second without a process
while :; do
    while read -r -t 0.5 -u 9; [ $? -gt 128 ]; do
        echo 'CHECKSUM TABLE neutron.floatingips, neutron.subnets, nova.instances;'
    done | mariadb --batch --skip-column-names --unbuffered | while read -r table sum; do
        name=${table/./_}
        [ "${!name}" = "$sum" ] || echo "${table%%.*}"
        printf -v "$name" %s "$sum"
    done
    sleep 1
done &
"""
"""A floating IP that belongs to no instance is in no database of OVN, and an instance's state is
Nova's alone: MariaDB tells of no changes, and is asked twice a second (docs/open.md has what that
costs). The tables have a row for each address or instance."""
_ALL = ":all"
_PARTS = {"ovn": OVN, "neutron": NEUTRON, "nova": NOVA}

_STYLE = re.compile("<style>(.*?)</style>", re.DOTALL)


class Picture:
    """Watches a lab while `start` to `stop`, and publishes its drawing whenever that changes."""

    def __init__(self, lab: Callable[[], Lab], publish: Publish) -> None:
        """`lab` gives the lab of today, for it may be destroyed and made anew meanwhile."""
        self._lab = lab
        self._publish = publish
        self._changed = threading.Event()
        self._known = Answers()
        self._known_of: Lab | None = None
        self._stale: set[str] = set()
        """Parts of the lab that have changed since they were read."""
        self._stopped = threading.Event()
        self._shells: set[Shell] = set()
        self._lock = threading.Lock()
        self.drawing = ""
        """The last SVG."""

    def start(self) -> None:
        """Watch, in threads of its own, until `stop`."""
        self._stopped = stopped = threading.Event()
        self._change(_ALL)
        threading.Thread(target=self._draw, args=(stopped,), daemon=True).start()
        with suppress(LabError):
            for node in self._lab().topology.nodes:
                threading.Thread(target=self._watch, args=(node.name, stopped), daemon=True).start()

    def look_again(self) -> None:
        """Read everything anew: something has been at work on the whole lab."""
        self._change(_ALL)

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
                    has_api = is_controller and lab.topology.stack == "openstack"
                    script = _OVS + _OVN * is_controller + _OPENSTACK * has_api + "wait"
                    self._read(node, open_output(lab.guest(node), script), stopped)
            stopped.wait(RETRY_SECONDS)

    def _change(self, part: str) -> None:
        with self._lock:
            self._stale.add(part)
        self._changed.set()

    def _read(self, node: str, shell: Shell, stopped: threading.Event) -> None:
        with self._lock:
            self._shells.add(shell)
        rest = b""
        try:
            while not stopped.is_set() and (data := shell.read()):
                *lines, rest = (rest + data).split(b"\n")
                for line in {line.strip().decode(errors="replace") for line in lines}:
                    self._change(_PARTS.get(line, node))
        finally:
            with self._lock:
                self._shells.discard(shell)
            shell.close()
            self._change(_ALL)

    def _draw(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            if self._changed.wait(MOST_SECONDS):
                stopped.wait(SETTLE_SECONDS)
            else:
                self._change(_ALL)
            self._changed.clear()
            if stopped.is_set():
                return
            began = time.monotonic()
            with suppress(LabError, OSError):
                self._show(self._lab())
            stopped.wait(min(max(LEAST_SECONDS, time.monotonic() - began), LONGEST_SECONDS))

    def _graph(self, lab: Lab) -> Graph:
        if not lab.state.exists:
            return planned(lab.topology)
        with self._lock:
            stale, self._stale = self._stale, set()
        if lab is not self._known_of:
            self._known, self._known_of = Answers(), lab
        for part in stale:
            self._known.forget(part)
        return live(lab, self._known)

    def _show(self, lab: Lab) -> None:
        graph = self._graph(lab)
        names = {vm.name for host in graph.hosts for vm in host.vms if vm.status}  # Nova's alone
        self._publish({"kind": "instances", "names": sorted(names)})
        drawing = svg(graph, prefix="living")
        if drawing != self.drawing:
            self.drawing = drawing
            # The page's Content-Security-Policy lets no style of the drawing in, but by its nonce.
            style = "".join(_STYLE.findall(drawing))
            self._publish({"kind": "picture", "svg": _STYLE.sub("", drawing), "style": style})
