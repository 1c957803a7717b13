"""What VirtualBox and libvirt do each in its own way: texts for them, and what they answer."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from labctl.errors import LabError
from labctl.providers.libvirt.hypervisor import Libvirt, nat_network, private_network
from labctl.providers.registry import find
from labctl.providers.virtualbox.hypervisor import VirtualBox
from labctl.spec.load import parse_spec
from labctl.spec.problems import SpecError
from labctl.topology import Topology, build_topology
from tests.unit.fakes import topology

GOLDEN = Path(__file__).parents[2] / "golden" / "libvirt"


def lab(more: str = "") -> Topology:
    """With what libvirt asks of the topology: all eth0 on one network."""
    text = f"name: golden\nstack: ovn\n{more}"
    return build_topology(parse_spec(text.encode(), "lab.yaml"), shared_nat=True)


CASES = {
    "default": "",
    "hostonly": "private: {attach: hostonly}\n",
    "other-ranges": "nat: {subnet: 10.9.0.0/23}\nprivate: {subnet: 172.20.0.0/16}\n",
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["nat", "private"])
def test_golden_networks(name: str, kind: str) -> None:
    make = nat_network if kind == "nat" else private_network
    xml = make(lab(CASES[name]), f"labctl-golden-{kind}")
    file = GOLDEN / f"{name}.{kind}.xml"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(xml, encoding="utf-8")
        pytest.fail(f"{file.name} was missing and is written now: read it, then run this again")
    assert xml == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.xml")), ids=lambda file: file.name)
def test_the_golden_networks_fit_libvirts_schema(file: Path, require: Callable[..., None]) -> None:
    require("virt-xml-validate", "xmllint")
    validate = shutil.which("virt-xml-validate")
    assert validate is not None
    done = subprocess.run([validate, file, "network"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_node_has_its_lease_for_ever() -> None:
    """vagrant-libvirt finds a machine by its lease, which the node does not renew any more."""
    shape = lab()
    root = ElementTree.fromstring(nat_network(shape, "n"))
    hosts = {host.get("mac"): host for host in root.iter("host")}
    assert set(hosts) == {node.eth0.mac for node in shape.nodes}
    assert len({host.get("ip") for host in hosts.values()}) == len(shape.nodes)
    for node in shape.nodes:
        host = hosts[node.eth0.mac]
        assert host.get("ip") == str(node.eth0.address.ip)
        lease = host.find("lease")
        assert lease is not None
        assert lease.get("expiry") == "0"
    (ip,) = root.findall("ip")
    assert (ip.get("address"), ip.get("netmask")) == (str(shape.nat_gateway), "255.255.255.0")
    # No addresses for strangers, and nobody at the addresses that the router takes.
    assert root.find("ip/dhcp/range") is None


def test_the_host_is_on_the_private_network_only_if_asked() -> None:
    assert ElementTree.fromstring(private_network(lab(), "n")).find("ip") is None
    shape = lab("private: {attach: hostonly}\n")
    (ip,) = ElementTree.fromstring(private_network(shape, "n")).findall("ip")
    assert ip.get("address") == str(shape.private[1])
    assert ip.find("dhcp") is None


def test_no_node_gets_the_hosts_address() -> None:
    with pytest.raises(SpecError, match="is the host's own address"):
        lab("nodes: {controller: {eth1: 192.168.33.1}, compute-01: {}}\n")


def test_resolvers() -> None:
    shape = topology("name: x\nnat: {subnet: 10.9.0.0/24, gateway: 10.9.0.7}\n")
    assert VirtualBox().resolver(shape) == "10.9.0.3"
    assert Libvirt().resolver(shape) == "10.9.0.7"


@pytest.mark.parametrize(
    ("value", "factor"), [(None, 3), ("", 3), ("1", 1), (" 7 ", 7), ("100", 100)]
)
def test_the_timeout_factor_is_the_users(
    monkeypatch: pytest.MonkeyPatch, value: str | None, factor: int
) -> None:
    monkeypatch.setattr("labctl.providers.libvirt.hypervisor.kvm_works", lambda: True)
    monkeypatch.delenv("LABCTL_PATIENCE", raising=False)
    if value is not None:
        monkeypatch.setenv("LABCTL_PATIENCE", value)
    assert VirtualBox().timeout_factor == factor
    assert Libvirt().timeout_factor == factor


@pytest.mark.parametrize("value", ["abc", "-3", "inf", "101", "1_0", "0"])
@pytest.mark.parametrize("hypervisor", [VirtualBox, Libvirt])
def test_a_timeout_factor_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, hypervisor: type[VirtualBox | Libvirt]
) -> None:
    monkeypatch.setenv("LABCTL_PATIENCE", value)
    with pytest.raises(LabError, match=r"a whole number from 1 to 100") as caught:
        _ = hypervisor().timeout_factor
    assert caught.value.code == 2


@pytest.mark.parametrize(("kvm", "timeout_factor"), [(True, 3), (False, 10)])
def test_emulation_is_slow_and_says_so(
    monkeypatch: pytest.MonkeyPatch, kvm: bool, timeout_factor: int
) -> None:
    asked: list[bool] = []

    def works() -> bool:
        asked.append(kvm)
        return kvm

    monkeypatch.setattr("labctl.providers.libvirt.hypervisor.kvm_works", works)
    libvirt = Libvirt()
    assert libvirt.timeout_factor == libvirt.timeout_factor == timeout_factor
    driver = libvirt.environment().get("LABCTL_LIBVIRT_DRIVER", "kvm")
    assert driver == ("kvm" if kvm else "qemu")
    assert len(asked) == 1  # it is a trial that takes a process


def test_virtualbox_that_is_gone_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert VirtualBox().leftovers(topology()) == []


@pytest.mark.parametrize("hypervisor", [VirtualBox, Libvirt])
def test_features(hypervisor: type[VirtualBox] | type[Libvirt]) -> None:
    entry = find(hypervisor.name)
    assert entry.features is hypervisor.features
    assert entry.features.own_clock
    assert not entry.features.needs_root
    assert entry.features.shared_nat == (hypervisor is Libvirt)
