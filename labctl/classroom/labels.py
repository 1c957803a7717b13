"""How what a class made in a cloud is found again: a label that is set in the call that makes it.

Servers carry it as metadata, images as properties, everything of Neutron as its description, and a
keypair, which has nothing of the kind, as the comment of its public key.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from labctl.classroom.model import parse_time

CLASS, LEARNER, ENDS = "labctl-class", "labctl-learner", "labctl-ends"
_DESCRIPTION = re.compile(rf"{CLASS}=(?P<name>\S+)(?: {LEARNER}=(?P<learner>\S+))?")


def description(name: str, learner: str = "") -> str:
    """The label as one line."""
    return f"{CLASS}={name}" + (f" {LEARNER}={learner}" if learner else "")


def belongs(text: str | None, name: str) -> bool:
    """Whether a description, or a key's comment, is the label of this class."""
    found = _DESCRIPTION.fullmatch(text or "")
    return found is not None and found["name"] == name


def learner_of(text: str) -> str:
    """The learner in a label; empty for what all share."""
    found = _DESCRIPTION.fullmatch(text)
    return (found["learner"] or "") if found else ""


def metadata(name: str, learner: str, ends: datetime | None) -> dict[str, str]:
    """The label of a server."""
    return {CLASS: name, LEARNER: learner, **({ENDS: end_text(ends)} if ends else {})}


def end_text(ends: datetime) -> str:
    """The end of a class as labels have it."""
    return ends.isoformat(timespec="seconds")


def end_in(text: str | None) -> datetime | None:
    """The end of a class that a label tells; None if it tells none."""
    try:
        return parse_time(text or "")
    except ValueError:
        return None


def learner_in(metadata: Mapping[str, Any], name: str) -> str | None:
    """The learner of a server of this class; None if it is not one."""
    return str(metadata[LEARNER]) if metadata.get(CLASS) == name and LEARNER in metadata else None


def resource_name(name: str, learner: str = "") -> str:
    """What people see in the cloud's lists. Nothing is found by it."""
    return f"labctl-{name}-{learner}" if learner else f"labctl-{name}"
