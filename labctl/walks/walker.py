"""One packet, followed: sent, seen at every interface on its way, and explained by OVN.

What is to be decided is decided by `walkplan`, `hops` and `ovntrace`, which need no lab.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.access.capture import Tap, recording
from labctl.access.guest import Guest, GuestError, GuestResult
from labctl.access.instance import InstanceGuest, find_instance
from labctl.access.packets import frames
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.providers import FarSide
from labctl.providers.host_capture import listening, pcap
from labctl.topology import Node, Topology
from labctl.walks.correlate import join
from labctl.walks.endpoints import Ends
from labctl.walks.explain import Traced, loss, traced
from labctl.walks.model import Direction, Joined, Names, Point, Probe
from labctl.walks.plan import End, Ground, Plan, Protocol, Send, exit_of, plan, sending
from labctl.walks.walk import Attempt, Walk

if TYPE_CHECKING:
    from openstack.connection import Connection

TRIES = 2
"""A first packet may be lost to what it has to set up: ARP, connection tracking, flows."""


Far = Callable[[Node], FarSide | None]


class Walker:
    """Follows packets in one lab."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[str], Guest],
        cloud: "Callable[[], Connection]",
        far: Far,
        progress: Callable[[str], None] = lambda _: None,
        marks: Callable[[], int] = lambda: random.randrange(64),
    ) -> None:
        """`guest` gives the handle on a node, `far` the other end of a node's eth0.

        `marks` gives a number below 64 that tells a probe from those before it.
        """
        self._topology = topology
        self._guest = guest
        self._cloud = cloud
        self._far = far
        self._progress = progress
        self._marks = marks

    def walk(
        self,
        protocol: Protocol,
        source: str,
        target: str,
        port: int | None = None,
        *,
        keep: Path | None = None,
    ) -> Walk:
        """Send one probe and follow it. `keep` is a directory for the captures.

        Raises LabError when an end is not known, or no probe could be sent.
        """
        began = time.time()
        self._progress(tr("asking OVN and OpenStack what there is"))
        ends = Ends(self._topology, self._guest, self._cloud)
        start = ends.source(source)
        goal = ends.target(target, start)
        start = ends.addressed(start, goal)
        leaves = exit_of(start, ends.gateway)
        far = self._far(self._topology.node(leaves))
        ground = Ground(
            gateway=ends.gateway,
            outer=ends.outer({start.node, goal.node, leaves}),
            far=far.device if far is not None else "",
        )
        routes = plan(start, goal, protocol, port, ground)
        names = ends.names(far.mac if far is not None else "")
        attempts, joined, files = self._try(start, goal, protocol, port, routes, names, far)
        if joined.request is None:
            said = attempts[-1].output.strip().splitlines()
            raise LabError(
                tr("no probe has left {source}", source=start.name)
                + (f": {said[-1]}" if said else ""),
                hint=tr("it was to be sent by `{command}`", command=attempts[-1].command),
            )
        self._progress(tr("asking ovn-trace"))
        explained = self._explained(joined, ends)
        answered = _came_back(joined)
        return Walk(
            lab=self._topology.lab,
            protocol=protocol,
            port=port,
            source=start,
            target=goal,
            began=began,
            seconds=round(time.time() - began, 3),
            attempts=tuple(attempts),
            way=routes.way,
            listened=routes.listen,
            request=joined.request,
            reply=joined.reply,
            answer=joined.answer,
            answered=answered,
            lost=None if answered else loss(joined, routes.way, explained, goal, ends.network.nat),
            skews=joined.skews,
            traced=explained,
            labels=ends.labels(names),
            notes=tuple(ends.notes),
            pcaps=_kept(files, keep) if keep is not None else {},
        )

    # -- sending and listening -----------------------------------------------------------------
    def _try(
        self,
        source: End,
        target: End,
        protocol: Protocol,
        port: int | None,
        routes: Plan,
        names: Names,
        far: FarSide | None,
    ) -> tuple[list[Attempt], Joined, dict[Point, bytes]]:
        attempts: list[Attempt] = []
        for number in range(1, TRIES + 1):
            send = sending(
                source, target, protocol, port, self._marks(), self._guest(source.node).patience
            )
            self._progress(tr("{source}: {command}", source=source.name, command=send.shown))
            began = time.monotonic()
            with self._listening(routes, far) as files:
                done = self._send(source, send)
            seen = [
                frame
                for point, content in files.items()
                for frame in frames(content, point.node, point.interface)
            ]
            joined = join(seen, _probe(send, done), routes.listen, names)
            attempts.append(
                Attempt(
                    send.shown, done.stdout + done.stderr, round(time.monotonic() - began, 3),
                    _outcome(joined, last=number == TRIES),
                )
            )  # fmt: skip
            if _came_back(joined):
                break
        return attempts, joined, files

    @contextmanager
    def _listening(self, routes: Plan, far: FarSide | None) -> Iterator[dict[Point, bytes]]:
        """Capture at every point while the body runs; filled when it is over."""
        files: dict[Point, bytes] = {}
        points = {
            Tap(point.node, point.interface, point.filter, point.namespace): point
            for point in routes.listen
            if point.role != "internet"
        }
        outside = [point for point in routes.listen if point.role == "internet"]
        with ExitStack() as stack:
            heard = stack.enter_context(listening(far)) if far and outside else []
            recorded = stack.enter_context(recording(list(points), self._guest))
            yield files
        files.update({points[tap]: content for tap, content in recorded.items()})
        if outside:
            files[outside[0]] = pcap(heard)

    def _send(self, source: End, send: Send) -> GuestResult:
        """Run the sender. What it says of no answer is no error: the captures know better."""
        argv = ["sh", "-c", send.script]
        sender = self._guest(source.node)
        if source.namespace:
            argv = ["ip", "netns", "exec", source.namespace, *argv]
        elif source.kind == "instance":
            place = find_instance(source.name, self._cloud())
            sender = InstanceGuest(place, self._topology, self._guest)
        try:
            return sender.run(argv, timeout=30, check=False)
        except GuestError as error:
            raise LabError(
                tr("{source} cannot send: {error}", source=source.name, error=error.message),
                hint=error.hint,
            ) from error

    # -- explaining ----------------------------------------------------------------------------
    def _explained(self, joined: Joined, ends: Ends) -> dict[Direction, Traced]:
        controller = self._guest(self._topology.controller.name)
        found: dict[Direction, Traced] = {}
        for way in (joined.request, joined.reply):
            if way is not None:
                try:
                    found[way.direction] = traced(controller, ends.network, way)
                except GuestError as error:
                    found[way.direction] = Traced(None, (), error.message)
        return found


def checked(protocol: str, port: int | None) -> Protocol:
    """The kind of probe, if there is such a one. Raises LabError."""
    known: dict[str, Protocol] = {"ping": "ping", "tcp": "tcp", "udp": "udp"}
    if protocol not in known:
        raise LabError(
            tr("{protocol} is no kind of packet to walk", protocol=protocol),
            hint=tr("choose ping, tcp or udp"),
            code=EXIT_USAGE,
        )
    if (protocol == "ping") != (port is None):
        said = tr("a ping has no port") if port is not None else tr("to which port?")
        raise LabError(
            said, hint=f"labctl walk {protocol} FROM TO" + " PORT" * (port is None), code=EXIT_USAGE
        )
    if port is not None and not 0 < port < 65536:
        raise LabError(tr("{port} is no port", port=port), hint="1-65535", code=EXIT_USAGE)
    return known[protocol]


def _came_back(joined: Joined) -> bool:
    """Whether an answer of the target, not somebody's error, came to where the probe came from."""
    if joined.request is None or joined.reply is None or joined.answer == "error":
        return False
    first, last = joined.request.hops[0], joined.reply.last
    return (first.node, first.interface) == (last.node, last.interface)


def _outcome(joined: Joined, *, last: bool) -> str:
    if joined.request is None:
        said = tr("it was not seen anywhere")
    elif _came_back(joined):
        return tr("answered")
    else:
        path = joined.reply or joined.request
        said = tr(
            "no answer; last seen on {interface} of {node}",
            interface=path.last.interface,
            node=path.last.node,
        )
    return said if last else tr("{said}; sent again", said=said)


def _probe(send: Send, done: GuestResult) -> Probe:
    """The probe, with the source port if the sender has said it."""
    for line in done.stdout.splitlines():
        word, _, number = line.partition(" ")
        if word == "port" and number.isdecimal():
            return replace(send.probe, source_port=int(number))
    return send.probe


def _kept(files: Mapping[Point, bytes], directory: Path) -> dict[str, str]:
    """Write each capture as NODE-INTERFACE.pcap; the paths by "node interface"."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = {}
        for point, content in files.items():
            path = directory / f"{point.node}-{point.interface}.pcap"
            path.write_bytes(content)
            written[f"{point.node} {point.interface}"] = str(path)
    except OSError as error:
        raise LabError(
            tr("the captures cannot be written to {place}", place=str(directory))
            + f": {error.strerror}"
        ) from error
    return written
