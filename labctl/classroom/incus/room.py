"""Whether a class fits into the project's limits, told with figures before anything is made."""

from collections.abc import Mapping

from labctl.errors import LabError
from labctl.i18n import mark, tr, tr_n

TITLES: Mapping[str, str] = {
    "instances": mark("instances"),
    "containers": mark("containers"),
    "virtual-machines": mark("virtual machines"),
    "cpu": mark("virtual CPUs"),
    "memory": mark("memory in MiB"),
    "disk": mark("disk in MiB"),
    "networks": mark("networks"),
}
"""{limit of a project: what people call it}."""
_BYTES = frozenset({"memory", "disk"})


def require(
    resources: Mapping[str, Mapping[str, int]], needed: Mapping[str, int], machines: int
) -> None:
    """Raises LabError that names every limit that is too small, with its figures.

    `resources` is what Incus says of a project: {limit: {"Limit": most, "Usage": used}}, memory
    and disk in bytes, -1 without a limit. `needed` has memory and disk in MiB.
    """
    short = []
    for name, title in TITLES.items():
        unit = 2**20 if name in _BYTES else 1
        limit = resources.get(name, {}).get("Limit", -1)
        used = resources.get(name, {}).get("Usage", 0)
        more = needed.get(name, 0)
        if more > 0 and 0 <= limit < used + more * unit:
            short.append(
                tr("{what}: {used} of {limit} are used, {needed} more are needed",
                   what=tr(title), used=used // unit, limit=limit // unit, needed=more)
            )  # fmt: skip
    if short:
        raise LabError(
            tr_n(
                "the project's limit is too small for {n} more machine: {what}",
                "the project's limit is too small for {n} more machines: {what}",
                n=machines,
                what=tr("; ").join(short),
            ),
            hint=tr("ask who runs Incus for more, or make the class or the machines smaller"),
        )
