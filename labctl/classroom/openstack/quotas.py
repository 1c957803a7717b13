"""Whether a class fits into the project's quotas, told with figures before anything is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.errors import LabError
from labctl.i18n import mark, tr, tr_n

TITLES: Mapping[str, str] = {
    "instances": mark("instances"),
    "cores": mark("virtual CPUs"),
    "ram": mark("memory in MiB"),
    "key_pairs": mark("keypairs"),
    "ports": mark("ports"),
    "floating_ips": mark("floating IPs"),
    "networks": mark("networks"),
    "subnets": mark("subnets"),
    "routers": mark("routers"),
    "security_groups": mark("security groups"),
    "security_group_rules": mark("security group rules"),
}
"""{quota: what people call it}."""


@dataclass(frozen=True)
class Quota:
    """One limit of a project. -1 is none."""

    limit: int
    used: int

    def lacks(self, needed: int) -> bool:
        """Whether that much more does not fit."""
        return needed > 0 and 0 <= self.limit < self.used + needed


def read(connection: Any) -> dict[str, Quota]:
    """The project's quotas and what is used of them: two calls."""
    nova = connection.compute.get_limits().absolute
    quotas = {
        "instances": Quota(nova.instances, nova.instances_used),
        "cores": Quota(nova.total_cores, nova.total_cores_used),
        "ram": Quota(nova.total_ram, nova.total_ram_used),
    }
    neutron = connection.network.get_quota(connection.current_project_id, details=True)
    for name in TITLES:
        value = getattr(neutron, name, None)
        if isinstance(value, dict):
            quotas[name] = Quota(value["limit"], value["used"] + value.get("reserved", 0))
    return quotas


def require(quotas: Mapping[str, Quota], needed: Mapping[str, int], machines: int) -> None:
    """Raises LabError that names every quota that is too small, with its figures."""
    short = [
        tr("{what}: {used} of {limit} are used, {needed} more are needed",
           what=tr(TITLES[name]), used=quota.used, limit=quota.limit, needed=needed[name])
        for name, quota in quotas.items()
        if quota.lacks(needed.get(name, 0))
    ]  # fmt: skip
    if short:
        raise LabError(
            tr_n(
                "the cloud's quota is too small for {n} more machine: {what}",
                "the cloud's quota is too small for {n} more machines: {what}",
                n=machines,
                what=tr("; ").join(short),
            ),
            hint=tr("ask the cloud's operator for more, or make the class or the machines smaller"),
        )
