"""LABCTL_PATIENCE: the user's own timeout factor for machines slower than labctl expects."""

from collections.abc import Mapping

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

VARIABLE = "LABCTL_PATIENCE"
LARGEST = 100
"""Emulated machines are 10 to 16 times slower than containers (vagrant/hypervisor.py). With more
than this the longest timeout, one hour for the packages, is days: nobody means that."""


def timeout_factor_from(environment: Mapping[str, str]) -> int | None:
    """The factor that LABCTL_PATIENCE sets; None if it is not set, or empty.

    Raises LabError (wrong use) if it is not a whole number from 1 to LARGEST.
    """
    value = environment.get(VARIABLE, "").strip()
    if not value:
        return None
    # Not int() alone: it also reads "1_0", "+5" and digits of other scripts. No more than three
    # digits, so that a long number is never converted.
    if value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= LARGEST:
        return int(value)
    raise LabError(
        tr(
            "{variable} is {value}: it must be a whole number from 1 to {largest}",
            variable=VARIABLE,
            value=repr(value if len(value) <= 20 else value[:20] + "…"),
            largest=LARGEST,
        ),
        hint=tr(
            "timeouts of virtual machines are multiplied by it: 3 is usual, 10 is for slow"
            " machines; `unset {variable}` leaves the choice to labctl",
            variable=VARIABLE,
        ),
        code=EXIT_USAGE,
    )
