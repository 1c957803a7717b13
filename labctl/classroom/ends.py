"""When a class ends: said in class.yaml, kept as a label on every machine, moved by `extend`.

Nothing happens at that time. It is shown to teacher and learners, and `class destroy --ended`
asks for it.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from labctl.classroom.engine import Machine
from labctl.classroom.model import ClassSpec, parse_time
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=366)


def end_of(spec: ClassSpec, machines: Sequence[Machine]) -> datetime | None:
    """When the class ends: the latest label of its machines, without one what class.yaml says."""
    return labelled_end(machines) or spec.ends


def labelled_end(machines: Sequence[Machine]) -> datetime | None:
    """The latest end that a label tells; None if none tells one."""
    return max((machine.ends for machine in machines if machine.ends), default=None)


def shown(time: datetime) -> str:
    """A time for people, in the zone that it was given in."""
    return time.isoformat(" ", "minutes").replace("+", " +")


def has_ended(end: datetime | None, now: datetime) -> bool:
    """Whether that end is over; a class without one never ends."""
    return end is not None and end <= now


def new_end(text: str, spec: ClassSpec, present: datetime | None, now: datetime) -> datetime:
    """What `extend` is told: a time, a duration such as 90m, 2h or 1d, or "" for class.yaml's.

    A duration counts from the present end, and from now if that is over. Raises LabError.
    """
    if not text:
        if spec.ends is None:
            raise LabError(
                tr("class.yaml says no end of the class"),
                hint=tr("say when: {command}", command="labctl class extend 2h"),
                code=EXIT_USAGE,
            )
        return _future(spec.ends, now)
    if match := re.fullmatch(r"\+?([0-9]{1,5})([mhd])", text):
        length = timedelta(**{_UNITS[match[2]]: int(match[1])})
        if not timedelta(0) < length <= _LONGEST:
            raise LabError(tr("{value} is no time within a year", value=text), code=EXIT_USAGE)
        zone = (present or spec.ends or now.astimezone()).tzinfo
        return (max(present or now, now) + length).astimezone(zone).replace(microsecond=0)
    try:
        return _future(parse_time(text), now)
    except ValueError as error:
        raise LabError(
            tr("{value} is neither a duration nor a time with its zone", value=repr(text)),
            hint=tr("write {value}", value="2h, 90m, 1d, 2027-03-05T17:00+08:00"),
            code=EXIT_USAGE,
        ) from error


def _future(time: datetime, now: datetime) -> datetime:
    if time <= now:
        raise LabError(tr("{time} is over already", time=shown(time)), code=EXIT_USAGE)
    return time
