"""What the page offers as ends of a walk."""

from types import SimpleNamespace
from typing import Any

import pytest

from labctl.graph.model import Graph, Host, LogicalPort, Switch, Vm
from labctl.page import walks
from labctl.page.walks import Walks
from tests.unit.fakes import topology


def test_floating_ips_and_ipv6_addresses_are_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = Vm("vm_1", "tap1", "p1", floating="10.0.2.211")
    addresses = ("172.16.100.10", "2001:db8:8::10")
    ports = (
        LogicalPort("p1", "vm_1", "instance", addresses),
        LogicalPort("p2", "r", "router", ("2001:db8:8::1",)),
    )
    host = Host("compute-01", ("compute",), (), vms=(vm,))
    graph = Graph("lab", True, (host,), (), switches=(Switch("n1", "n1", ports=ports),))
    monkeypatch.setattr(walks, "live", lambda lab: graph)
    lab: Any = SimpleNamespace(topology=topology())
    ends = Walks(lambda: lab, lambda event: None).ends()
    assert ends["sources"] == ["vm_1", "network-controller", "compute-01"]
    assert ends["targets"] == [
        "internet", "8.8.8.8", *ends["sources"], "10.0.2.211", "2001:db8:8::10",
    ]  # fmt: skip
