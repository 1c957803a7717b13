"""What an edit of lab.yaml means for a lab that exists: every key has an answer, and a reason."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from pydantic import BaseModel

from labctl.spec.changes import Change, changes
from labctl.spec.load import LabSpec, parse_spec

MACHINES, CONTAINERS = True, False


def spec(text: str = "") -> LabSpec:
    return parse_spec(("name: lab\n" + text).encode(), "lab.yaml")


def told(old: str, new: str, machines: bool = CONTAINERS) -> list[tuple[str, str, str]]:
    """(path, effect, action) of each change."""
    found = changes(spec(old), spec(new), machines=machines)
    return [(".".join(change.path), change.effect, change.action) for change in found]


TWO = "nodes: {c: {roles: [controller, gateway]}, h: {}"
CASES = [
    # instances
    ("", "instances: {vm_1: , vm_2: }\n", [("instances.vm_2", "live", "add")]),
    ("instances: {vm_1: , vm_2: }\n", "", [("instances.vm_2", "live", "remove")]),
    (
        "instances: {vm_1: , vm_2: }\n",
        "instances: {vm_2: }\n",  # which then has the first address
        [("instances.vm_1", "live", "remove"), ("instances.vm_2", "live", "replace")],
    ),
    (
        "",
        "instances: {vm_1: {address: 172.16.100.77}}\n",
        [("instances.vm_1", "live", "replace")],
    ),
    # nodes
    (TWO + "}", TWO + ", h2: {}}", [("nodes.h2", "live", "add")]),
    (TWO + ", h2: {}}", TWO + "}", [("nodes.h2", "anew", "remove")]),
    (TWO + ", g: {roles: [gateway]}}", TWO + "}", [("nodes.g", "anew", "remove")]),
    (TWO + "}", TWO + ", g: {roles: [gateway]}}", [("nodes.g", "anew", "add")]),
    (
        "nodes: {c: {roles: [controller, gateway]}, h: {eth1: 192.168.33.20}}",
        "nodes: {c: {roles: [controller, gateway]}, a: {eth1: 192.168.33.30}, "
        "h: {eth1: 192.168.33.20}}",
        [("nodes.a", "anew", "add")],
    ),
    (
        "nodes: {c: {roles: [controller], eth1: 192.168.33.10}, h: {eth1: 192.168.33.20,"
        " roles: [compute, gateway]}}",
        "nodes: {h: {eth1: 192.168.33.20, roles: [compute, gateway]}, c: {roles: [controller],"
        " eth1: 192.168.33.10}}",
        [("nodes", "anew", "set")],
    ),
    (TWO + "}", TWO.replace("h: {", "h: {eth1: 192.168.33.99") + "}}"[1:],
     [("nodes.h.eth1", "anew", "set")]),
    # the rest
    ("", "images: {other: {source: builtin}}\n", [("images.other", "live", "add")]),
    ("images: {other: {source: builtin}}\n", "", [("images.other", "live", "none")]),
    ("", "flavors: {big: {memory: 256}}\n", [("flavors.big", "live", "add")]),
    ("flavors: {big: {memory: 256}}\n", "flavors: {big: {memory: 300}}\n",
     [("flavors.big.memory", "anew", "set")]),
    ("", "tenant: {networks: {n2: }}\n", [("tenant.networks.n2", "live", "add")]),
    ("tenant: {networks: {n2: }}\n", "", [("tenant.networks", "anew", "set")]),
    ("", "neutron: {service_plugins: [qos]}\n", [("neutron.service_plugins", "live", "set")]),
    ("neutron: {service_plugins: [qos]}\n", "", [("neutron.service_plugins", "anew", "set")]),
    ("", "neutron: {mtu: 1400}\n", [("neutron.mtu", "anew", "set")]),
    ("", "ovn: {options: [bfd-mult=3]}\n", [("ovn.options", "live", "set")]),
    ("ovn: {options: [bfd-mult=3]}\n", "", [("ovn.options", "anew", "set")]),
    ("provider: nspawn\n", "", [("provider", "live", "none")]),
    ("", "provider: libvirt\n", [("provider", "anew", "set")]),
    ("", "nested: true\n", [("nested", "live", "none")]),
    ("stack: ovn\n", "stack: ovn\ninstances: {vm_1: , vm_2: }\n", [("instances", "live", "none")]),
    ("", "internet: {clients: {a: }}\n", [("internet.clients.a", "live", "add")]),
    ("internet: {clients: {a: }}\n", "internet: {clients: {a: , b: }}\n",
     [("internet.clients.b", "live", "add")]),
    (
        "internet: {clients: {a: {address: 198.51.100.9}}}\n",
        "internet: {clients: {b: , a: {address: 198.51.100.9}}}\n",
        [("internet.clients.b", "anew", "add")],
    ),
    ("internet: {clients: {a: }}\n", "", [("internet.clients.a", "anew", "remove")]),
    ("internet: {clients: {a: }}\n", "internet: {clients: {a: {address: 198.51.100.9}}}\n",
     [("internet.clients.a.address", "anew", "set")]),
    ("", "internet: {subnet: 203.0.113.0/24}\n", [("internet.subnet", "live", "none")]),
    ("stack: ovn\n", "", None),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), [case for case in CASES if case[2]])
def test_an_edit_has_this_effect(old: str, new: str, expected: list[tuple[str, str, str]]) -> None:
    assert told(old, new) == expected


def test_another_stack_is_another_lab() -> None:
    assert ("stack", "anew", "set") in told("stack: ovn\n", "")


def test_memory_is_a_matter_of_machines() -> None:
    old, new = TWO + "}", TWO.replace("h: {", "h: {memory: 4000, cpus: 1") + "}}"[1:]
    assert told(old, new, MACHINES) == [
        ("nodes.h.cpus", "restart", "set"),
        ("nodes.h.memory", "restart", "set"),
    ]
    assert told(old, new, CONTAINERS) == [
        ("nodes.h.cpus", "live", "none"),
        ("nodes.h.memory", "live", "none"),
    ]


def test_a_card_is_plugged_into_containers_only() -> None:
    new = "networks: {eth2: {physical_network: physnet1}}\n"
    assert told("", new, CONTAINERS) == [("networks.eth2", "live", "add")]
    assert told("", new, MACHINES) == [("networks.eth2", "anew", "add")]
    assert told(new, "", CONTAINERS) == [("networks.eth2", "anew", "remove")]


def test_the_same_file_changes_nothing() -> None:
    text = "instances: {vm_1: , vm_2: }\nnetworks: {eth2: {physical_network: p}}\n"
    assert told(text, text) == []
    assert told(text, text, MACHINES) == []


def test_people_are_told_what_and_why() -> None:
    [change] = changes(spec(), spec("neutron: {mtu: 1400}\n"), machines=False)
    assert change.what == "neutron.mtu: 1500 → 1400"
    assert "keep what they were made with" in change.reason
    [change] = changes(spec(), spec("instances: {vm_1: {address: 172.16.100.7}}\n"), machines=False)
    assert change.what == "instance vm_1 is deleted and made again"
    assert change.reason.endswith(": address")


# -- every key -------------------------------------------------------------------------------------
RICH = spec(
    "images: {other: {source: builtin}}\nflavors: {big: {}}\nnetworks: {eth2: {subnet:"
    " 192.168.44.0/24}}\ninternet: {clients: {client-01: }}\ntenant: {networks: {n2: }}\n"
    "nodes: {c: {roles: [controller, gateway]}, h: {}}\n"
)


def another(value: Any) -> Any:
    """A value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case IPv4Address():
            return value + 1
        case IPv4Network():
            return IPv4Network((int(value.network_address) + value.num_addresses, value.prefixlen))
        case tuple():
            return () if value else ("other",)
        case _:
            return "yet-another"


def edits(model: Any) -> Iterator[tuple[str, Any]]:
    """(dotted path, the model with another value there), for every value in it."""
    items = model.items() if isinstance(model, dict) else [
        (name, getattr(model, name)) for name in type(model).model_fields
    ]  # fmt: skip
    for name, value in items:
        nested = edits(value) if isinstance(value, BaseModel | dict) else [("", another(value))]
        for path, changed in nested:
            whole = (
                {**model, name: changed}
                if isinstance(model, dict)
                else model.model_copy(update={name: changed})
            )
            yield f"{name}.{path}".strip("."), whole


EDITS = list(edits(RICH))


@pytest.mark.parametrize("edited", [edit[1] for edit in EDITS], ids=[edit[0] for edit in EDITS])
@pytest.mark.parametrize("machines", [True, False])
def test_every_value_has_an_answer_with_its_reason(edited: LabSpec, machines: bool) -> None:
    found: list[Change] = changes(RICH, edited, machines=machines)
    assert len(found) == 1
    assert found[0].what
    assert found[0].reason or (found[0].effect == "live" and found[0].action in ("add", "set"))


def test_every_key_of_lab_yaml_was_tried() -> None:
    assert {path.partition(".")[0] for path, _ in EDITS} == set(LabSpec.model_fields)
    assert len(EDITS) > 50
