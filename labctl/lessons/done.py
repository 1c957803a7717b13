"""Which lessons of the course a user has proved to their end, in whichever lab.

The note is the user's and no lab's: the course goes over several labs (OVN alone, and OpenStack),
and `labctl reset` and `labctl destroy` forget where a learner is in a lab, not what they have done.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from labctl.caller import acting_as_caller, user_at_work
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.operating_system import files, rights
from labctl.user_files import directory_for_user, write_for_user

VARIABLE = "LABCTL_COURSE"
"""Environment variable: another file to keep the note in."""
_LARGEST = 1 << 20
"""Bytes of the file that are read; ours are below 10 kB."""


@dataclass(frozen=True)
class Done:
    """When and where a lesson was proved to its end the last time."""

    at: float
    """Seconds since the epoch."""
    lab: str
    """The lab's name."""


def done_file() -> Path:
    """Where the note is: in the home directory of who called labctl, also under sudo."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    return files.state_home(rights.home_of(user_at_work())) / "labctl" / "course.json"


def read_done() -> Mapping[str, Done]:
    """{lesson id: when and where it was done}; empty as long as there is no note.

    Raises LabError when the file cannot be read, or holds something else.
    """
    path = done_file()
    try:
        with acting_as_caller():
            if not path.is_file():
                return {}
            with path.open("rb") as stream:
                content = stream.read(_LARGEST)
        lessons = json.loads(content)["lessons"]
        done = TypeAdapter(dict[str, Done]).validate_python(lessons)
        if not all(math.isfinite(each.at) for each in done.values()):
            raise ValueError
    except OSError as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=path, error=error.strerror)
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise LabError(
            tr("{path} does not hold what this version of labctl writes there", path=path),
            hint=tr("delete it: it only says which lessons of the course were done"),
        ) from error
    return done


def note_done(done: Mapping[str, Done]) -> None:
    """Add these lessons to the note. Raises LabError when it cannot be read or written."""
    path = done_file()
    if not os.environ.get(VARIABLE):
        for directory in reversed(path.parents):
            if not directory.exists():
                with suppress(FileExistsError):
                    directory_for_user(directory)
    known = {**read_done(), **done}
    content = {"lessons": {id: asdict(each) for id, each in sorted(known.items())}}
    write_for_user(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
