"""An image that lab.yaml names by a path: read with the rights of who called labctl.

A lab.yaml may come from anybody, and labctl works as root. What is uploaded becomes a public image
that every instance can read, so a file that the caller cannot read must not become one.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.caller import acting_as_caller
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.operating_system import files


@contextmanager
def opened_for_caller(path: Path, lab_file: str) -> Iterator[Path]:
    """Inside, a path to the open file, whatever becomes of its name meanwhile.

    `lab_file` is the name of the lab.yaml, for the message. Raises LabError (wrong use) when there
    is no such file, it is no regular one, or who called labctl cannot read it.
    """
    where = tr("the path is relative to the directory of lab.yaml")
    try:
        with acting_as_caller():
            # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever.
            handle = os.open(path, os.O_RDONLY | files.NONBLOCK | files.CLOEXEC | files.BINARY)
    except FileNotFoundError:
        raise LabError(
            tr("{file}: image.source: there is no file {path}", file=lab_file, path=path),
            hint=where,
            code=EXIT_USAGE,
        ) from None
    except OSError as error:
        raise LabError(
            tr("{file}: image.source: {path} cannot be read: {error}",
               file=lab_file, path=path, error=error.strerror),
            hint=tr("labctl reads it with your rights, not with root's: make it readable for you"),
            code=EXIT_USAGE,
        ) from error  # fmt: skip
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise LabError(
                tr("{file}: image.source: {path} is no regular file", file=lab_file, path=path),
                hint=where,
                code=EXIT_USAGE,
            )
        descriptor = Path(f"/proc/self/fd/{handle}")
        yield descriptor if descriptor.exists() else path
    finally:
        os.close(handle)
