"""From one lab.yaml to another: what changes, and whether a lab that exists can follow. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labctl.i18n import mark, tr, tr_list
from labctl.spec.model import LabSpec
from labctl.spec.problems import printable

Effect = Literal["live", "restart", "anew"]
"""`live`: while the lab runs. `restart`: a node goes down meanwhile. `anew`: only by making the lab
anew."""
Action = Literal["add", "remove", "replace", "set", "none"]
"""`set`: by rendering configurations again. `none`: nothing has to be done."""


@dataclass(frozen=True)
class Change:
    """One difference between two versions of a lab.yaml."""

    path: tuple[str, ...]
    """The keys, as `("nodes", "compute-01", "memory")`."""
    effect: Effect
    action: Action
    what: str
    """For people."""
    reason: str = ""
    """Why it takes this effect, for people; "" where there is nothing to say."""

    @property
    def name(self) -> str:
        """The node, instance or network that it is about; "" if it is about none."""
        return self.path[1] if len(self.path) > 1 else ""


_ANEW: Mapping[str, str] = {
    "name": mark("namespaces, MAC addresses and ports are made from it; `labctl fork` makes a lab"
                 " of another name"),
    "provider": mark("the nodes that exist are another provider's"),
    "stack": mark("the nodes are made for it"),
    "box": mark("the machines that exist were made from the other box"),
    "nested": mark("a machine gets it when it is made"),
    "nat": mark("the nodes' addresses there are in every configuration"),
    "private": mark("the nodes' addresses there are in every configuration"),
    "internet": mark("the clients that exist have their addresses there"),
    "external": mark("Neutron has this network already, with a router in it"),
    "tenant": mark("Neutron has these networks already, with instances in them"),
    "neutron": mark("networks and routers that exist would keep what they were made with"),
    "ovn": mark("an option that is taken away would stay set in OVN's database"),
    "networks": mark("bridges and networks on the card would have to be taken apart"),
    "image": mark("instances were made from it; add another one under `images`"),
    "images": mark("instances may have been made from it; add another one beside it"),
    "flavor": mark("instances were made with it; add another one under `flavors`"),
    "flavors": mark("Nova changes no flavor that exists; add another one beside it"),
    "security_group": mark("instances and lessons know the group by its name"),
    "keypair": mark("instances that exist have the key"),
    "nodes": mark("other nodes and OpenStack's databases know it as it is"),
}  # fmt: skip
"""By the first key of lab.yaml: why a change of it needs another lab, unless `changes` knows
better."""

_LIVE_NODE = frozenset({"cpus", "memory"})
_ONLY_OPENSTACK = frozenset(
    {"image", "images", "flavor", "flavors", "security_group", "keypair", "instances", "neutron"}
)
"""Keys that mean nothing with `stack: ovn`."""


def changes(old: LabSpec, new: LabSpec, *, machines: bool) -> list[Change]:
    """What has to be done so that a lab of `old` becomes one of `new`, in lab.yaml's order.

    `machines`: whether nodes are virtual machines; containers have no memory and no cards of their
    own.
    """
    found: list[Change] = []
    for key in LabSpec.model_fields:
        before, after = _plain(getattr(old, key)), _plain(getattr(new, key))
        if before == after and (key != "nodes" or list(before) == list(after)):
            continue
        if old.stack == new.stack == "ovn" and key in _ONLY_OPENSTACK:
            found.append(_change((key,), "live", "none", before, after,
                                 tr("it means nothing with `stack: ovn`")))  # fmt: skip
        elif key == "provider" and new.provider == "auto":
            found.append(_change((key,), "live", "none", before, after,
                                 tr("the lab keeps the provider it has")))  # fmt: skip
        elif key in ("box", "nested") and not machines:
            found.append(_change((key,), "live", "none", before, after,
                                 tr("it means nothing to containers")))  # fmt: skip
        elif key in _COLLECTIONS:
            found += _COLLECTIONS[key](before, after, machines)
        else:
            found += _sections(key, before, after)
    return found


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


# -- nodes, instances and networks -----------------------------------------------------------------
def _nodes(old: Mapping[str, Any], new: Mapping[str, Any], machines: bool) -> Iterator[Change]:
    kept = [name for name in new if name in old]
    # Ports and addresses are given in this order, so new nodes come last.
    at_the_end = list(new)[: len(kept)] == kept == [name for name in old if name in new]
    for name in old:
        path = ("nodes", name)
        if name not in new:
            yield Change(
                path,
                "anew",
                "remove",
                tr("node {name} is removed", name=name),
                tr("its instances, and what Nova and OVN know of it, would stay behind"),
            )
        elif old[name] != new[name]:
            for field in old[name]:
                if old[name][field] != new[name][field]:
                    yield _node_field((*path, field), old[name][field], new[name][field], machines)
    for name in new:
        if name in old:
            continue
        what = tr("node {name} is added", name=name)
        if new[name]["roles"] != ["compute"]:
            reason = tr("only a node whose one role is compute can join a lab that exists")
            yield Change(("nodes", name), "anew", "add", what, reason)
        elif not at_the_end:
            reason = tr("the nodes that exist have their addresses in the order of lab.yaml: write"
                        " it after them")  # fmt: skip
            yield Change(("nodes", name), "anew", "add", what, reason)
        else:
            yield Change(("nodes", name), "live", "add", what)
    if not at_the_end and set(old) == set(new):
        yield Change(
            ("nodes",),
            "anew",
            "set",
            tr("the nodes are in another order"),
            tr("the nodes that exist have their addresses in the order of lab.yaml"),
        )


def _node_field(path: tuple[str, ...], old: Any, new: Any, machines: bool) -> Change:
    if path[-1] not in _LIVE_NODE:
        return _change(path, "anew", "set", old, new, tr(_ANEW["nodes"]))
    if machines:
        return _change(path, "restart", "set", old, new, tr("the machine has to be off for it"))
    return _change(path, "live", "none", old, new,
                   tr("a container shares the memory and processors of this machine"))  # fmt: skip


def _instances(old: Mapping[str, Any], new: Mapping[str, Any], machines: bool) -> Iterator[Change]:
    for name in old:
        path = ("instances", name)
        if name not in new:
            yield Change(path, "live", "remove", tr("instance {name} is deleted", name=name))
        elif old[name] != new[name]:
            fields = [field for field in old[name] if old[name][field] != new[name][field]]
            yield Change(
                path, "live", "replace",
                tr("instance {name} is deleted and made again", name=name),
                tr("Nova cannot change this of an instance: {fields}", fields=tr_list(fields)),
            )  # fmt: skip
    for name in new:
        if name not in old:
            what = tr("instance {name} is made", name=name)
            yield Change(("instances", name), "live", "add", what)


def _networks(old: Mapping[str, Any], new: Mapping[str, Any], machines: bool) -> Iterator[Change]:
    for card in {**old, **new}:
        path = ("networks", card)
        if card not in old and not machines:
            what = tr("network {card} between the nodes is added", card=card)
            yield Change(path, "live", "add", what)
        elif card not in old:
            what = tr("network {card} between the nodes is added", card=card)
            yield Change(path, "anew", "add", what, tr("a machine gets a card when it is made"))
        elif card not in new:
            what = tr("network {card} between the nodes is removed", card=card)
            yield Change(path, "anew", "remove", what, tr(_ANEW["networks"]))
        else:
            yield from _fields(path, old[card], new[card], tr(_ANEW["networks"]))


def _internet(old: Mapping[str, Any], new: Mapping[str, Any], machines: bool) -> Iterator[Change]:
    before, after = old["clients"], new["clients"]
    subnet = ("internet", "subnet")
    if before and old["subnet"] != new["subnet"]:
        yield _change(subnet, "anew", "set", old["subnet"], new["subnet"], tr(_ANEW["internet"]))
    elif old["subnet"] != new["subnet"]:
        reason = tr("there is no client yet")
        yield _change(subnet, "live", "none", old["subnet"], new["subnet"], reason)
    # The far end has a port for each, by their order.
    at_the_end = list(after)[: len(before)] == list(before)
    for name in {**before, **after}:
        path = ("internet", "clients", name)
        if name not in after:
            yield Change(path, "anew", "remove", tr("client {name} is removed", name=name),
                         tr("its files and snapshots would stay behind"))  # fmt: skip
        elif name in before:
            yield from _fields(path, before[name], after[name], tr(_ANEW["internet"]))
        elif at_the_end:
            yield Change(path, "live", "add", tr("client {name} is added", name=name))
        else:
            yield Change(path, "anew", "add", tr("client {name} is added", name=name),
                         tr("write it after the clients that exist"))  # fmt: skip


def _stock(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Images and flavors."""
    for name in {**old, **new}:
        path = (key, name)
        if name not in old:
            yield Change(path, "live", "add", tr("{path} is added", path=_dotted(path)))
        elif name not in new:
            yield Change(path, "live", "none", tr("{path} is removed", path=_dotted(path)),
                         tr("what OpenStack has of it stays there"))  # fmt: skip
        else:
            yield from _fields(path, old[name], new[name], tr(_ANEW[key]))


_COLLECTIONS: Mapping[str, Any] = {
    "nodes": _nodes,
    "instances": _instances,
    "networks": _networks,
    "internet": _internet,
    "images": lambda old, new, machines: _stock("images", old, new),
    "flavors": lambda old, new, machines: _stock("flavors", old, new),
}


# -- everything else -------------------------------------------------------------------------------
def _sections(key: str, old: Any, new: Any) -> Iterator[Change]:
    reason = tr(_ANEW[key])
    if not isinstance(old, dict):
        yield _change((key,), "anew", "set", old, new, reason)
        return
    for change in _fields((key,), old, new, reason):
        before, after = old[change.path[1]], new[change.path[1]]
        if change.path == ("tenant", "networks") and before.items() <= after.items():
            for name in (name for name in after if name not in before):
                what = tr("network {name} of instances is made", name=name)
                yield Change(("tenant", "networks", name), "live", "add", what)
        elif change.path in _GROWING and set(before) <= set(after):
            yield _change(change.path, "live", "set", before, after, tr(_GROWING[change.path]))
        else:
            yield change


_GROWING: Mapping[tuple[str, ...], str] = {
    ("neutron", "service_plugins"): mark("Neutron starts again; instances run on"),
    ("ovn", "options"): mark("northd applies it at once"),
}
"""Lists to which something may be added while the lab runs, with what that does."""


def _fields(
    path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any], reason: str
) -> Iterator[Change]:
    for field in old:
        if old[field] != new[field]:
            yield _change((*path, field), "anew", "set", old[field], new[field], reason)


def _change(
    path: tuple[str, ...], effect: Effect, action: Action, old: Any, new: Any, reason: str
) -> Change:
    if isinstance(old, dict) or isinstance(new, dict):
        what = tr("{path} is another", path=_dotted(path))
    else:
        what = tr("{path}: {old} → {new}", path=_dotted(path), old=_shown(old), new=_shown(new))
    return Change(path, effect, action, what, reason)


def _dotted(path: Sequence[str]) -> str:
    return ".".join(path)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return tr_list(map(_shown, value)) or "–"
    return "–" if value in (None, "") else printable(str(value))
