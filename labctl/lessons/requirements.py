"""What a lesson asks of lab.yaml, and the lines of lab.yaml that would give it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from labctl.i18n import mark, tr, tr_list, tr_n
from labctl.spec.model import ServicePlugin
from labctl.spec.more_networks import NAMES as CARDS
from labctl.topology import Node, Topology


class _Bounds(BaseModel):
    """From how many to how many; a plain number is the least."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_least: int
    at_most: int | None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        return {"at_least": given} if isinstance(given, str | int) else given

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.at_most is not None and self.at_most < self.at_least:
            raise PydanticCustomError("no_bounds", "at_most must not be less than at_least")
        return self


class Count(_Bounds):
    """How many of something of which every lab has one."""

    at_least: int = Field(1, ge=1)
    """This many or more."""
    at_most: int | None = Field(None, ge=1)
    """This many or fewer; None: any."""


class CountFromNone(_Bounds):
    """How many of something that a lab need not have."""

    at_least: int = Field(0, ge=0)
    """This many or more."""
    at_most: int | None = Field(None, ge=0)
    """This many or fewer; None: any."""


class Requirements(BaseModel):
    """Numbers of nodes and instances, and what is switched on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateways: Count = Count()
    """How many nodes with the role gateway; a plain number: at least."""
    computes: Count = Count()
    """How many nodes with the role compute; a plain number: at least."""
    clients: CountFromNone = CountFromNone()
    """How many clients outside the lab (`internet.clients`); a plain number: at least."""
    instances: Count = Count()
    """How many instances; a plain number: at least."""
    shared_nat: bool = False
    """Whether all eth0 must be on one network."""
    service_plugins: Sequence[ServicePlugin] = ()
    """What must be switched on in Neutron."""
    distributed_floating_ip: bool | None = None
    """Whether floating IPs are at the computes; None: either."""
    physical_networks: CountFromNone = CountFromNone()
    """How many further cards of the nodes on a physical network; a plain number: at least."""


@dataclass(frozen=True)
class Missing:
    """One thing that a lab lacks."""

    what: str
    lines: Mapping[str, Any]
    """What to write in lab.yaml, as it would be nested there."""
    surplus: Sequence[str] = ()
    """What to take out of lab.yaml."""


def missing(requirements: Requirements, topology: Topology) -> Iterator[Missing]:
    """Everything that the lab lacks, in the order of lab.yaml."""
    names = {node.name for node in topology.nodes}
    roles: tuple[tuple[Literal["gateway", "compute"], Count, Sequence[Node]], ...] = (
        ("gateway", requirements.gateways, topology.gateways),
        ("compute", requirements.computes, topology.computes),
    )
    for role, bounds, nodes in roles:
        wanted, have = bounds.at_least, len(nodes)
        if bounds.at_most is not None and have > bounds.at_most:
            what = tr_n(
                "at most {n} node with the role {role} (it has {have})",
                "at most {n} nodes with the role {role} (it has {have})",
                n=bounds.at_most, role=role, have=have,
            )  # fmt: skip
            surplus = [
                tr("the role {role} of nodes.{node}", role=role, node=node.name)
                for node in nodes[bounds.at_most :]
            ]
            yield Missing(what, {}, surplus)
        if have < wanted:
            new = _free_names(role, names, wanted - have)
            what = tr(
                "{n} nodes with the role {role} (it has {have})", n=wanted, role=role, have=have
            )
            lines = dict.fromkeys(new, f"{{roles: [{role}]}}" if role == "gateway" else "")
            yield Missing(what, {"nodes": lines})
    clients = [client.name for client in topology.clients]
    yield from _too_many(
        requirements.clients,
        [f"internet.clients.{name}" for name in clients],
        mark("at most {n} clients outside (it has {have})"),
    )
    if (have := len(clients)) < (wanted := requirements.clients.at_least):
        new = _free_names("client", names | set(clients), wanted - have)
        what = tr_n(
            "{n} client outside (it has {have})",
            "{n} clients outside (it has {have})",
            n=wanted, have=have,
        )  # fmt: skip
        all_of_them = ", ".join(f"{name}: {{}}" for name in (*clients, *new))
        yield Missing(what, {"internet": {"clients": f"{{{all_of_them}}}"}})
    # With libvirt all eth0 are on one network, whatever lab.yaml says.
    shared = len({node.eth0.address for node in topology.nodes}) > 1
    if requirements.shared_nat and not shared:
        yield Missing(tr("one network for all eth0"), {"nat": {"shared": "true"}})
    cards = topology.physical_cards
    yield from _too_many(
        requirements.physical_networks,
        [f"networks.{card.name}" for card in cards],
        mark("at most {n} cards on a physical network (it has {have})"),
    )
    if (have := len(cards)) < (wanted := requirements.physical_networks.at_least):
        taken = set(topology.spec.networks)
        free = [card for card in CARDS if card not in taken][: wanted - have]
        what = tr_n(
            "{n} card on a physical network (it has {have})",
            "{n} cards on a physical network (it has {have})",
            n=wanted, have=have,
        )  # fmt: skip
        new_cards = {card: f"{{physical_network: physnet-{card}}}" for card in free}
        yield Missing(what, {"networks": new_cards})
    neutron = topology.spec.neutron
    absent = [name for name in requirements.service_plugins if name not in neutron.service_plugins]
    if absent:
        plugins = ", ".join([*neutron.service_plugins, *absent])
        yield Missing(
            tr("Neutron with {names}", names=tr_list(absent)),
            {"neutron": {"service_plugins": f"[{plugins}]"}},
        )
    distributed = requirements.distributed_floating_ip
    if distributed is not None and distributed != neutron.distributed_floating_ip:
        yield Missing(
            tr("distributed floating IPs")
            if distributed
            else tr("floating IPs at the gateway, not distributed"),
            {"neutron": {"distributed_floating_ip": str(distributed).lower()}},
        )
    yield from _too_many(
        requirements.instances,
        [f"instances.{instance.name}" for instance in topology.instances],
        mark("at most {n} instances (it has {have})"),
    )
    if (have := len(topology.instances)) < (wanted := requirements.instances.at_least):
        new = _free_names("vm", {each.name for each in topology.instances}, wanted - have, "_{}")
        yield Missing(
            tr_n("{n} instance", "{n} instances", n=wanted), {"instances": dict.fromkeys(new, "")}
        )


def _too_many(bounds: _Bounds, places: Sequence[str], message: str) -> Iterator[Missing]:
    """`places` are where lab.yaml has them; `message` is one of those that tr() knows."""
    if bounds.at_most is not None and len(places) > bounds.at_most:
        what = tr(message, n=bounds.at_most, have=len(places))
        yield Missing(what, {}, places[bounds.at_most :])


def how_to_mend(found: Sequence[Missing]) -> str:
    """What to do to lab.yaml and the lab, for the user."""
    parts = []
    if lines := lines_to_add(found):
        parts.append(
            tr("write this into lab.yaml, then `labctl destroy` and `labctl create`:\n{lines}",
               lines=lines)
        )  # fmt: skip
    if surplus := [place for each in found for place in each.surplus]:
        parts.append(
            tr("take this out of lab.yaml, then `labctl destroy` and `labctl create`:\n{lines}",
               lines="\n".join(surplus))
        )  # fmt: skip
    return "\n".join(parts)


def lines_to_add(found: Sequence[Missing]) -> str:
    """What to write in lab.yaml, as YAML: each section once."""
    sections: dict[str, dict[str, Any]] = {}
    for each in found:
        for section, values in each.lines.items():
            sections.setdefault(section, {}).update(values)
    return "\n".join(
        f"{section}:\n" + "\n".join(f"  {key}: {value}".rstrip() for key, value in values.items())
        for section, values in sections.items()
    )


def _free_names(stem: str, taken: set[str], number: int, form: str = "-{:02}") -> list[str]:
    names = (f"{stem}{form.format(each)}" for each in count(1))
    free = (name for name in names if name not in taken)
    return [next(free) for _ in range(number)]
