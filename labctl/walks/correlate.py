"""Finds one packet and its answer among the frames of many captures, and their order. Pure.

A packet is recognised by what routers and NAT do not change: IP identification, payload, TCP
sequence number, and in IPv6, which has no identification, the identifier of an echo and the length.
The clocks of two nodes may differ, so time orders only frames of the same node; between nodes, the
sender of a frame comes before its receiver.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from labctl.access.packets import Frame, identity, is_ipv6
from labctl.walks.changes import Clocks, packet_path, split_astray
from labctl.walks.model import Answer, Joined, Names, Point, SentProbe, Sighting, receiver, sender


def join(
    frames: Iterable[Frame], probe: SentProbe, points: Sequence[Point], names: Names
) -> Joined:
    """The path of the probe and that of its answer. `frames` may be in any order.

    `points` are in the order in which a request is expected to pass them.
    """
    captured = sorted(frames, key=lambda f: (f.time, f.node, f.interface))
    candidates = []
    for sent in _packets(frame for frame in captured if probe.is_sent_as(frame)):
        request = [frame for frame in captured if identity(frame) == identity(sent[0])]
        reply = _answer_to(request, captured)
        candidates.append((request, reply))
    if not candidates:
        return Joined(None, None, None, {})
    # Sent more than once (by us, or by TCP): take the one with an answer, else the one that was
    # seen at most interfaces.
    request, reply = max(
        candidates,
        key=lambda pair: (bool(pair[1]), len({(f.node, f.interface) for f in pair[0]})),
    )
    there, astray = split_astray(_ordered(request, points, names), points, names)
    back, back_astray = split_astray(_ordered(reply, points[::-1], names), points, names)
    skews = _skews(there, back)
    clocks = Clocks(there[0].frame.time, skews)
    return Joined(
        request=packet_path("request", there, astray, points, names, clocks),
        reply=packet_path("reply", back, back_astray, points, names, clocks) if back else None,
        answer=_kind_of_answer(back[0].frame) if back else None,
        skews={node: skew for node, skew in skews.items() if skew},
    )


def _packets(frames: Iterable[Frame]) -> list[list[Frame]]:
    """A list of frames for each packet, in the order in which packets were first seen."""
    packets: dict[tuple[object, ...], list[Frame]] = {}
    for frame in frames:
        packets.setdefault(identity(frame), []).append(frame)
    return list(packets.values())


def _answer_to(request: Sequence[Frame], captured: Sequence[Frame]) -> list[Frame]:
    """All frames of the first packet that answers the request."""
    for frame in captured:
        if any(_answers(frame, sent) for sent in request):
            return [same for same in captured if identity(same) == identity(frame)]
    return []


def _answers(frame: Frame, request: Frame) -> bool:
    quoted = frame.quoted
    if quoted is not None:  # an ICMP error
        is_same = (quoted.protocol, quoted.ip_id, quoted.src, quoted.dst) == (
            request.protocol, request.ip_id, request.src, request.dst,
        )  # fmt: skip
        if not is_ipv6(quoted.src):
            return is_same
        return is_same and (
            quoted.source_port, quoted.destination_port, quoted.identifier, quoted.sequence,
        ) == (
            request.source_port, request.destination_port, request.identifier, request.sequence,
        )  # fmt: skip
    if (frame.protocol, frame.src, frame.dst) != (request.protocol, request.dst, request.src):
        return False
    if request.protocol in ("icmp", "icmp6"):
        return frame.kind == "reply" and (frame.identifier, frame.sequence, frame.payload) == (
            request.identifier, request.sequence, request.payload,
        )  # fmt: skip
    if (frame.source_port, frame.destination_port) != (
        request.destination_port,
        request.source_port,
    ):
        return False
    if request.protocol == "tcp":
        expected = ((request.tcp_sequence or 0) + 1) % 2**32
        return frame.tcp_acknowledged == expected and bool({"S", "R"} & set(frame.flags))
    return True


def _kind_of_answer(frame: Frame) -> Answer:
    if frame.quoted is not None:
        # RFC 792 and RFC 4443: type and code of "port unreachable".
        refusal = ("1", 4) if frame.protocol == "icmp6" else ("3", 3)
        return "refused" if (frame.kind, frame.code) == refusal else "error"
    return "refused" if "R" in frame.flags else "reply"


# -- order -----------------------------------------------------------------------------------------
def _wire(frame: Frame) -> tuple[object, ...]:
    """The fields that are equal at both ends of a link between two nodes."""
    return (
        frame.tunnel_src, frame.tunnel_dst, frame.vni, frame.option_data, frame.src_mac,
        frame.dst_mac, frame.src, frame.dst, frame.ttl, frame.source_port, frame.destination_port,
        frame.identifier, frame.vlan,
    )  # fmt: skip


def _ordered(frames: Sequence[Frame], points: Sequence[Point], names: Names) -> list[Sighting]:
    """One sighting for each frame and interface, senders before receivers."""
    rank = {(point.node, point.interface): number for number, point in enumerate(points)}
    firsts: dict[tuple[object, ...], Frame] = {}
    copies: dict[tuple[object, ...], int] = {}
    for frame in sorted(frames, key=lambda f: f.time):
        same = (frame.node, frame.interface, _wire(frame))
        firsts.setdefault(same, frame)
        copies[same] = copies.get(same, -1) + 1
    left = [Sighting(frame, copies[same]) for same, frame in firsts.items()]

    def by_clock(sighting: Sighting) -> tuple[float, int]:
        return sighting.frame.time, rank.get(sighting.place, len(rank))

    left.sort(key=by_clock)
    ordered: list[Sighting] = []
    while left:
        free = [
            item for item in left if not any(_is_before(other, item, names, rank) for other in left)
        ]
        # Where clocks contradict the links no sighting is free: then only time decides.
        same_node = [item for item in free if ordered and item.node == ordered[-1].node]
        chosen = min(same_node or free or left, key=by_clock)
        ordered.append(chosen)
        left.remove(chosen)
    return ordered


def _is_before(
    first: Sighting, second: Sighting, names: Names, rank: Mapping[tuple[str, str], int]
) -> bool:
    """Whether `first` is certainly before `second`."""
    if first is second:
        return False
    if first.node == second.node:
        position = (first.frame.time, rank.get(first.place, 0))
        return position < (second.frame.time, rank.get(second.place, 0))
    if _wire(first.frame) != _wire(second.frame):
        return False  # not the two ends of one link
    return sender(first.frame, names) == first.node or receiver(first.frame, names) == second.node


def _skews(request: Sequence[Sighting], reply: Sequence[Sighting]) -> dict[str, float]:
    """By node: seconds by which its clock is ahead of that of the first hop's node.

    0 unless a frame seems to arrive before it was sent. With a delay in each direction between two
    nodes the difference is half of theirs, as in NTP; with one direction it is at least its delay.
    """
    delays: dict[tuple[str, str], float] = {}
    for sightings in (request, reply):
        for first, second in pairwise(sightings):
            if first.node != second.node and _wire(first.frame) == _wire(second.frame):
                delay = second.frame.time - first.frame.time
                link = (first.node, second.node)
                delays[link] = min(delay, delays.get(link, delay))
    ahead = {request[0].node: 0.0}
    for (node, next_node), delay in delays.items():
        if node not in ahead or next_node in ahead:
            continue
        back = delays.get((next_node, node))
        contradictory = delay < 0 or (back is not None and back < 0)
        if not contradictory:
            skew = 0.0
        elif back is None:
            skew = delay
        else:
            skew = (delay - back) / 2
        ahead[next_node] = ahead[node] + skew
    return ahead
