"""Sends one packet, captures it at the interfaces of its path, and asks ovn-trace about it.

This module acts on a lab. The decisions are in `plan`, `correlate`, `changes` and `ovntrace`, which
are pure.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from labctl.providers import HostEnd
from labctl.providers.host_capture import listening, pcap
from labctl.topology import Node, Topology
from labctl.user_files import directory_for_user, write_for_user
from labctl.walks import drops
from labctl.walks.arp import ArpQuestion, messages_in, questions
from labctl.walks.causes import find_causes
from labctl.walks.correlate import join
from labctl.walks.endpoints import EndpointFinder
from labctl.walks.explain import (
    Loss,
    Traced,
    find_loss,
    is_rejected,
    never_left,
    trace_path,
    trace_question,
)
from labctl.walks.logical_network import LogicalNetwork
from labctl.walks.model import Direction, Joined, Names, PacketPath, Point, SentProbe
from labctl.walks.node_settings import NodeSettings
from labctl.walks.node_settings import read as read_settings
from labctl.walks.plan import (
    Endpoint,
    ExternalNetwork,
    Protocol,
    SendCommand,
    WalkPlan,
    exit_of,
    plan,
    send_command,
)
from labctl.walks.walk import Attempt, Walk

if TYPE_CHECKING:
    from openstack.connection import Connection

TRIES = 2
"""The first packet may be lost while ARP, connection tracking and flows are set up."""

Far = Callable[[Node], HostEnd | None]


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
        """`guest` gives the handle on a node, `far` the host's end of a node's eth0.

        `marks` gives a number from 0 to 63 for each packet, to tell it from those before it.
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
        ipv6: bool = False,
    ) -> Walk:
        """Send one probe and follow it. `keep` is a directory for the captures.

        With `ipv6`, IPv6 is used where both ends have both kinds of IP. Raises LabError when source
        or target is unknown, or no packet left the source.
        """
        began = time.time()
        self._progress(tr("asking OVN and OpenStack what there is"))
        finder = EndpointFinder(self._topology, self._guest, self._cloud)
        sender, receiver = finder.ends(source, target, ipv6=ipv6)
        gateway = finder.gateway_between(sender, receiver)
        clients = frozenset(client.name for client in self._topology.clients)
        exit_node = exit_of(sender, gateway, clients)
        far = self._far(self._topology.node(exit_node))
        network = ExternalNetwork(
            gateway=gateway,
            external_interfaces=finder.external_interfaces({sender.node, receiver.node, exit_node}),
            host_interface=far.device if far is not None else "",
            clients=clients,
        )
        planned = plan(sender, receiver, protocol, port, network)
        names = finder.names(far.mac if far is not None else "")
        attempts, joined, files = self._try(sender, receiver, protocol, port, planned, names, far)
        asked = questions(
            message
            for point, content in files.items()
            for message in messages_in(content, point.node, point.interface)
        )
        sent_from = _sent_from(joined, sender)
        unanswered = _question_of(sender, asked)
        self._progress(tr("asking the nodes what they are set to"))
        causes = find_causes(
            sender, receiver, self._topology, finder.network,
            self._settings({*(point.node for point in planned.listen), gateway}),
            asked, gateway, sent_from,
        )  # fmt: skip
        if sent_from in sender.addresses:
            sender = replace(sender, address=sent_from)
        if joined.request is None and unanswered is None and not causes:
            output = attempts[-1].output.strip().splitlines()
            raise LabError(
                tr("no probe has left {source}", source=sender.name)
                + (f": {output[-1]}" if output else ""),
                hint=tr(
                    "the command that should send it: `{command}`", command=attempts[-1].command
                ),
            )
        self._progress(tr("asking ovn-trace"))
        traces = self._trace(joined, finder.network, unanswered, gateway)
        answered = _came_back(joined) and not (
            joined.request is not None
            and is_rejected(joined.request, traces.get("request"), receiver)
        )
        if joined.request is None:
            lost: Loss | None = never_left(
                sender, planned.expected, unanswered, traces.get("request")
            )
        elif not answered:
            lost = find_loss(joined, planned.expected, traces, receiver, finder.network.nat)
        else:
            lost = None
        if lost is not None:
            lost = replace(lost, drop=self._drop(lost, traces, finder.network))
        return Walk(
            lab=self._topology.lab,
            protocol=protocol,
            port=port,
            source=sender,
            target=receiver,
            began=began,
            seconds=round(time.time() - began, 3),
            attempts=tuple(attempts),
            way=planned.expected,
            listened=planned.listen,
            request=joined.request or PacketPath("request", ()),
            reply=joined.reply,
            answer=joined.answer,
            answered=answered,
            lost=lost,
            skews=joined.skews,
            traced=traces,
            labels=finder.labels(names),
            notes=tuple(finder.notes),
            pcaps=_write_captures(files, keep) if keep is not None else {},
            arp=asked,
            causes=causes,
        )

    # -- sending and capturing -----------------------------------------------------------------
    def _try(
        self,
        source: Endpoint,
        target: Endpoint,
        protocol: Protocol,
        port: int | None,
        planned: WalkPlan,
        names: Names,
        far: HostEnd | None,
    ) -> tuple[list[Attempt], Joined, dict[Point, bytes]]:
        attempts: list[Attempt] = []
        for number in range(1, TRIES + 1):
            command = send_command(
                source,
                target,
                protocol,
                port,
                self._marks(),
                self._guest(source.node).timeout_factor,
            )
            self._progress(tr("{source}: {command}", source=source.name, command=command.shown))
            began = time.monotonic()
            with self._capturing(planned, far) as files:
                done = self._send(source, command)
            captured = [
                frame
                for point, content in files.items()
                for frame in frames(content, point.node, point.interface)
            ]
            joined = join(captured, _sent_probe(command, done), planned.listen, names)
            attempts.append(
                Attempt(
                    command.shown, done.stdout + done.stderr, round(time.monotonic() - began, 3),
                    _outcome(joined, last=number == TRIES),
                )
            )  # fmt: skip
            if _came_back(joined):
                break
        return attempts, joined, files

    @contextmanager
    def _capturing(self, planned: WalkPlan, far: HostEnd | None) -> Iterator[dict[Point, bytes]]:
        """Capture at every point while the body runs. The dict is filled when the body is over."""
        files: dict[Point, bytes] = {}
        points = {
            Tap(point.node, point.interface, point.filter, point.namespace): point
            for point in planned.listen
            if point.role != "internet"
        }
        outside = [point for point in planned.listen if point.role == "internet"]
        with ExitStack() as stack:
            heard = stack.enter_context(listening(far)) if far and outside else []
            recorded = stack.enter_context(recording(list(points), self._guest))
            yield files
        files.update({points[tap]: content for tap, content in recorded.items()})
        if outside:
            files[outside[0]] = pcap(heard)

    def _send(self, source: Endpoint, command: SendCommand) -> GuestResult:
        """Run the command, whose exit code does not matter: the captures show what happened.

        Raises LabError when it could not be started.
        """
        argv = ["sh", "-c", command.script]
        guest: Guest | InstanceGuest = self._guest(source.node)
        if source.namespace:
            argv = ["ip", "netns", "exec", source.namespace, *argv]
        elif source.kind == "instance":
            location = find_instance(source.name, self._cloud())
            guest = InstanceGuest(location, self._topology, self._guest)
        try:
            return guest.run(argv, timeout=30, check=False)
        except GuestError as error:
            raise LabError(
                tr("{source} cannot send: {error}", source=source.name, error=error.message),
                hint=error.hint,
            ) from error

    # -- explaining ----------------------------------------------------------------------------
    def _settings(self, nodes: set[str]) -> dict[str, NodeSettings]:
        """What these nodes and the controller are set to, as far as they answer."""
        controller = self._topology.controller.name
        names = sorted({controller, *nodes} & {node.name for node in self._topology.nodes})

        def ask(name: str) -> NodeSettings:
            try:
                return read_settings(self._guest(name), controller=name == controller)
            except (GuestError, ValueError):  # the other nodes may answer all the same
                return NodeSettings(name)

        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            return dict(zip(names, pool.map(ask, names), strict=True))

    def _drop(
        self, lost: Loss, traces: Mapping[Direction, Traced], network: LogicalNetwork
    ) -> drops.Drop | None:
        """What the loss comes from. Its flows are asked of the node where the packet was last."""
        traced = traces.get(lost.direction)
        if lost.reason is None or traced is None or traced.trace is None:
            return None
        controller = self._topology.controller.name
        is_node = lost.node in {node.name for node in self._topology.nodes}
        node = self._guest(lost.node if is_node else controller)
        datapath = network.datapath(lost.reason.datapath)
        key = datapath.key if datapath is not None else None
        return drops.read(self._guest(controller), node, lost.reason, traced.trace, key)

    def _trace(
        self,
        joined: Joined,
        network: LogicalNetwork,
        unanswered: ArpQuestion | None,
        gateway: str,
    ) -> dict[Direction, Traced]:
        controller = self._guest(self._topology.controller.name)
        traces: dict[Direction, Traced] = {}
        if joined.request is None and unanswered is not None:
            try:
                traces["request"] = trace_question(controller, network, unanswered, gateway)
            except GuestError as error:
                traces["request"] = Traced(None, (), error.message)
        for path in (joined.request, joined.reply):
            if path is not None:
                try:
                    traces[path.direction] = trace_path(controller, network, path)
                except GuestError as error:
                    traces[path.direction] = Traced(None, (), error.message)
        return traces


def check_protocol(protocol: str, port: int | None) -> Protocol:
    """The protocol, checked together with its port. Raises LabError."""
    known: dict[str, Protocol] = {"ping": "ping", "tcp": "tcp", "udp": "udp"}
    if protocol not in known:
        raise LabError(
            tr("labctl cannot walk a {protocol} packet", protocol=protocol),
            hint=tr("choose ping, tcp or udp"),
            code=EXIT_USAGE,
        )
    if (protocol == "ping") != (port is None):
        message = tr("a ping has no port") if port is not None else tr("to which port?")
        raise LabError(
            message,
            hint=f"labctl walk {protocol} FROM TO" + " PORT" * (port is None),
            code=EXIT_USAGE,
        )
    if port is not None and not 0 < port < 65536:
        raise LabError(tr("{port} is no port", port=port), hint="1-65535", code=EXIT_USAGE)
    return known[protocol]


def _sent_from(joined: Joined, source: Endpoint) -> str:
    """The address with which an instance sent the probe; empty if it was not seen leaving."""
    if joined.request is None or source.kind != "instance":
        return ""
    first = joined.request.hops[0]
    return first.frame.src if first.role == "instance" else ""


def _question_of(source: Endpoint, asked: Sequence[ArpQuestion]) -> ArpQuestion | None:
    """What the sender asked for, if nobody answered it: then it could not send."""
    for question in asked:
        is_own = source.mac == question.asker_mac or (
            source.kind == "node"
            and (source.address, source.node) == (question.asker, question.node)
        )
        if is_own and not question.answers:
            return question
    return None


def _came_back(joined: Joined) -> bool:
    """Whether an answer came back to the first hop's interface. An ICMP error is no answer."""
    if joined.request is None or joined.reply is None or joined.answer == "error":
        return False
    first, last = joined.request.hops[0], joined.reply.last
    return (first.node, first.interface) == (last.node, last.interface)


def _outcome(joined: Joined, *, last: bool) -> str:
    if joined.request is None:
        outcome = tr("it was not seen anywhere")
    elif _came_back(joined):
        return tr("answered")
    else:
        path = joined.reply or joined.request
        outcome = tr(
            "no answer; last seen on {interface} of {node}",
            interface=path.last.interface,
            node=path.last.node,
        )
    return outcome if last else tr("{said}; sent again", said=outcome)


def _sent_probe(command: SendCommand, done: GuestResult) -> SentProbe:
    """The probe, with its source port where the sender printed it as "port NUMBER"."""
    for line in done.stdout.splitlines():
        word, _, number = line.partition(" ")
        if word == "port" and number.isdecimal():
            return replace(command.probe, source_port=int(number))
    return command.probe


def _write_captures(files: Mapping[Point, bytes], directory: Path) -> dict[str, str]:
    """Write each capture as NODE-INTERFACE.pcap; returns the paths by "NODE INTERFACE".

    Raises LabError.
    """
    directory_for_user(directory)
    written = {}
    for point, content in files.items():
        path = directory / f"{point.node}-{point.interface}.pcap"
        write_for_user(path, content)
        written[f"{point.node} {point.interface}"] = str(path)
    return written
