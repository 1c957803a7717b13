"""Tells the packets that a capture's own commands caused from those that were under way. Pure.

A learner may have a ping running. Nobody can tell what it was sent for, but all captures began
before the commands did: what the commands sent has its beginning in the captures.
"""

from collections.abc import Hashable, Iterator, Sequence

from labctl.access.packets import Frame


def own_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames without those of pings and TCP connections that began before the captures.

    When none began in the captures, the commands only looked at what was under way: then all are
    given. So are packets that do not show whether they are the first ones, as those of UDP.
    """
    known = {key for frame in frames if (key := _flow(frame)) is not None}
    begun = set(_begun(frames))
    if not begun:
        return list(frames)
    foreign = known - begun
    return [frame for frame in frames if _flow(frame) not in foreign]


def _flow(frame: Frame) -> Hashable | None:
    """What the packets of a ping, or of a TCP connection, have in common wherever they are seen.

    No addresses: NAT changes them on the way. None for other packets.
    """
    if frame.quoted is not None and frame.quoted.identifier is not None:
        return frame.quoted.protocol, frame.quoted.identifier
    if frame.identifier is not None:
        return frame.protocol, frame.identifier
    if frame.protocol == "tcp":
        return "tcp", frozenset((frame.source_port, frame.destination_port))
    return None


def _begun(frames: Sequence[Frame]) -> Iterator[Hashable]:
    """The flows whose first packet was seen somewhere."""
    met = set()
    for frame in sorted(frames, key=lambda frame: frame.time):
        flow = _flow(frame)
        if frame.protocol == "tcp" and "S" in frame.flags:
            yield flow
        place = (frame.node, frame.interface, flow)
        if frame.identifier is not None and place not in met:
            met.add(place)
            # ping of iputils counts from 1, that of busybox from 0.
            if frame.sequence is not None and frame.sequence <= 1:
                yield flow
