"""provision/files/labctl-network, run for real in a network namespace with real interfaces.

Two things are played: Open vSwitch (a bridge is one more interface), and the sysfs directory that
tells cards from bridges, for no interface of a namespace has hardware behind it. tests/e2e has the
same script on real nodes with the real Open vSwitch.
"""

import json
import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "provision" / "files" / "labctl-network"
MAC = {"eth0": "52:54:00:00:00:10", "eth1": "52:54:00:00:00:11"}
FURTHER = {"eth2": "52:54:00:00:00:12", "eth3": "52:54:00:00:00:13"}

_INSIDE = """set -e
mount --make-rprivate /
mkdir -p /etc/labctl
mount -t tmpfs none /etc/labctl
mount -t tmpfs none /run
mount --bind "$1/net" /sys/class/net
ip link set lo up
touch "$1/ready"
exec sleep infinity
"""
# The kernel renames; what the script reads of sysfs follows.
_IP = """#!/bin/bash
{ip} "$@" || exit
if [ "$1 $2 $4" = "link set name" ]; then mv "{net}/$3" "{net}/$5"; fi
"""
_VSCTL = """#!/bin/bash
echo "$*" >>{here}/vsctl
[ ! -e {here}/ovs-is-dead ] || {{ sleep 0.2; exit 1; }}
shift # --timeout
while [ $# -gt 0 ]; do
    words=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do words+=("$1"); shift; done
    shift || true
    case "${{words[*]}}" in
        "--may-exist add-br "*)
            bridge=${{words[2]}}
            {ip} link show "$bridge" >/dev/null 2>&1 ||
                {ip} link add "$bridge" type veth peer name "p-$bridge"
            ;;
        "set bridge "*hwaddr=*)
            mac=${{words[*]}}
            {ip} link set "${{words[2]}}" address "${{mac##*hwaddr=}}"
            ;;
        "--if-exists del-br "*) {ip} link del "${{words[2]}}" 2>/dev/null || true ;;
    esac
done
"""


class Node:
    """A node with eth0 and eth1, or whatever they are called there."""

    def __init__(self, directory: Path, ip: str) -> None:
        self.directory = directory
        self._ip = ip
        (directory / "net").mkdir()
        (directory / "bin").mkdir()
        self.script("ip", _IP.format(ip=ip, net=directory / "net"))
        self.script("ovs-vsctl", _VSCTL.format(ip=ip, here=directory))
        self.script("systemctl", f'#!/bin/sh\necho "$*" >>{directory}/systemctl\n')
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--net", "bash", "-c", _INSIDE, "node", directory],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for _ in range(3000):
            if (directory / "ready").exists():
                return
            assert self._process.poll() is None, (directory / "log").read_text()
            time.sleep(0.01)
        raise AssertionError("no namespace")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def script(self, name: str, text: str) -> None:
        path = self.directory / "bin" / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def argv(self, command: str) -> list[str]:
        path = f"{self.directory}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        return ["nsenter", f"--target={self._process.pid}", "--mount", "--net", "--",
                "env", f"PATH={path}", "bash", "-c", command]  # fmt: skip

    def sh(self, command: str, expect: int = 0) -> str:
        done = subprocess.run(
            self.argv(command), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == expect, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def cards(self, **names: str) -> None:
        """Cards by their names now: cards(ens3="eth0") has the MAC of eth0 at ens3."""
        for name, nic in names.items():
            self.sh(f"{self._ip} link add {name} type veth peer name p-{name}")
            mac = (MAC | FURTHER)[nic]
            self.sh(f"{self._ip} link set {name} address {mac} up; ip link set p-{name} up")
            self.seen(name, mac, hardware=True)

    def seen(self, name: str, mac: str, *, hardware: bool) -> None:
        """What sysfs shows of an interface."""
        shown = self.directory / "net" / name
        shown.mkdir()
        (shown / "address").write_text(mac + "\n")
        if hardware:
            (shown / "device").mkdir()

    def environment(
        self, *, gateway: bool, extra: str = "", mappings: str = "", patience: int = 1
    ) -> None:
        values = {
            "NODE_NAME": "node-1",
            "DATAPATH": "system",
            "CONTROLLER_ADDRESS": "192.168.33.10",
            "ETH0_ADDRESS": "10.0.2.15/24",
            "ETH0_GATEWAY": "10.0.2.2",
            "ETH0_MAC": MAC["eth0"],
            "ETH1_ADDRESS": "192.168.33.10/24",
            "ETH1_MAC": MAC["eth1"],
            "BRIDGE_MAPPINGS": "extnet0:br-ex" if gateway else mappings,
            "EXTRA_NICS": extra,
            "HAS_BR_EX": "yes" if gateway else "no",
            "CMS_OPTIONS": "enable-chassis-as-gw" if gateway else "",
            "PATIENCE": str(patience),
        }
        asked = (SCRIPT.parent / "network.env").read_text(encoding="utf-8").split()
        assert list(values) == asked, "the script is given these in a lab"
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        self.sh(f"cat >/etc/labctl/network.env <<'E'\n{text}E")

    def network(self, *words: str, expect: int = 0) -> str:
        return self.sh(f"bash {SCRIPT} {' '.join(words)}", expect)

    def pend(self) -> None:
        """As 25-network.sh does before a change."""
        self.sh("touch /run/labctl-network.pending")

    @property
    def pending(self) -> bool:
        return self.sh("[ -e /run/labctl-network.pending ] && echo yes || true") == "yes\n"

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Of the interfaces that have any."""
        shown: list[dict[str, Any]] = json.loads(self.sh(f"{self._ip} -j -4 addr show"))
        return {
            one["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"]]
            for one in shown
            if one["ifname"] != "lo"
        }

    @property
    def macs(self) -> dict[str, str]:
        shown = json.loads(self.sh(f"{self._ip} -j link show"))
        return {one["ifname"]: one["address"] for one in shown if one["ifname"] != "lo"}

    @property
    def default_routes(self) -> list[tuple[str, str]]:
        shown = json.loads(self.sh(f"{self._ip} -j route show default"))
        return [(one["gateway"], one["dev"]) for one in shown]

    def systemctl(self) -> list[str]:
        path = self.directory / "systemctl"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def node(tmp_path: Path, require: Callable[..., None]) -> Iterator[Node]:
    require("unshare", "nsenter", "ip", "flock", "sysctl", root=True)
    ip = shutil.which("ip", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert ip is not None
    made = Node(tmp_path, ip)
    yield made
    made.stop()


PLAIN = {"eth0": ["10.0.2.15/24"], "eth1": ["192.168.33.10/24"]}
MOVED = {"eth1": ["192.168.33.10/24"], "br-ex": ["10.0.2.15/24"]}


# -- addresses -------------------------------------------------------------------------------------
def test_a_compute_has_its_addresses_and_one_way_out(node: Node) -> None:
    node.cards(eth0="eth0", eth1="eth1")
    # What a DHCP client, and an earlier lab.yaml, left.
    node.sh("ip addr add 10.0.2.15/25 dev eth0; ip addr add 172.16.0.9/24 dev eth1")
    node.sh("ip route add default via 172.16.0.1 dev eth1 metric 50")
    node.environment(gateway=False)
    for _ in range(2):
        node.network()
        assert node.addresses == PLAIN
        assert node.default_routes == [("10.0.2.2", "eth0")]
    assert "br-ex" not in node.macs


def test_the_gateways_address_moves_into_br_ex(node: Node) -> None:
    node.cards(eth0="eth0", eth1="eth1")
    node.sh("ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2 dev eth0")
    node.environment(gateway=True)
    for _ in range(2):
        node.network()
        assert node.addresses == MOVED
        assert node.default_routes == [("10.0.2.2", "br-ex")]
        assert node.macs["br-ex"] == MAC["eth0"]  # what the other side has learnt stays true
    asked = (node.directory / "vsctl").read_text()
    assert "--may-exist add-port br-ex eth0" in asked
    assert 'external_ids:ovn-bridge-mappings="extnet0:br-ex"' in asked
    assert 'external_ids:ovn-cms-options="enable-chassis-as-gw"' in asked
    assert "--timeout=30" in asked


def test_further_cards_get_their_names_bridges_and_addresses(node: Node) -> None:
    node.cards(eth0="eth0", eth1="eth1", ens9="eth2", ens8="eth3")
    extra = [
        f"eth2 {FURTHER['eth2']} 192.168.50.10/24 br-eth2",
        f"eth3 {FURTHER['eth3']} 192.168.60.10/24 -",
    ]
    node.environment(gateway=False, extra="\n".join(extra), mappings="flat0:br-eth2")
    expected = PLAIN | {"br-eth2": ["192.168.50.10/24"], "eth3": ["192.168.60.10/24"]}
    for _ in range(2):
        node.network()
        assert node.addresses == expected
        assert node.macs["eth2"] == node.macs["br-eth2"] == FURTHER["eth2"]
        assert node.default_routes == [("10.0.2.2", "eth0")]
    asked = (node.directory / "vsctl").read_text()
    assert "--may-exist add-port br-eth2 eth2" in asked
    assert 'external_ids:ovn-bridge-mappings="flat0:br-eth2"' in asked
    assert "br-ex" not in asked


# -- names -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "names",
    [
        {"eth0": "eth1", "eth1": "eth0"},
        {"ens3": "eth0", "ens4": "eth1"},
        {"enp0s3": "eth0", "eth0": "eth1"},
        {"eth1": "eth0", "ens4": "eth1"},
        {"was-eth0": "eth0", "eth1": "eth1"},  # killed between two renames
    ],
    ids=["swapped", "predictable", "one is right", "in the way", "half done"],
)
def test_cards_are_found_by_mac(node: Node, names: dict[str, str]) -> None:
    node.cards(**names)
    node.environment(gateway=False)
    node.network()
    assert {name: node.macs[name] for name in ("eth0", "eth1")} == MAC
    assert node.addresses == PLAIN
    assert not any(name.startswith("was-") for name in node.macs)
    node.network()
    assert node.addresses == PLAIN


def test_an_address_survives_the_new_name(node: Node) -> None:
    """The session that does this comes by it."""
    node.cards(ens3="eth0", ens4="eth1")
    node.sh("ip addr add 10.0.2.15/24 dev ens3; ip route add default via 10.0.2.2 dev ens3")
    node.environment(gateway=False)
    node.network()
    assert node.addresses == PLAIN
    assert node.default_routes == [("10.0.2.2", "eth0")]


def test_a_bridge_with_the_address_is_no_card(node: Node) -> None:
    node.sh(
        f"ip link add br-ex type veth peer name p-br-ex; ip link set br-ex address {MAC['eth0']}"
    )
    node.seen("br-ex", MAC["eth0"], hardware=False)
    node.cards(ens3="eth0", eth1="eth1")
    node.environment(gateway=False)
    node.network()
    assert {name: node.macs[name] for name in ("eth0", "eth1")} == MAC
    assert "br-ex" in node.macs


def test_cards_that_come_late_are_waited_for(node: Node) -> None:
    """At the boot of a slow machine: their driver is still being loaded."""
    node.environment(gateway=False)
    late = threading.Timer(1.5, lambda: node.cards(ens3="eth0", eth1="eth1"))
    late.start()
    try:
        node.network()
    finally:
        late.join()
    assert {name: node.macs[name] for name in ("eth0", "eth1")} == MAC


def test_no_card_has_the_address(node: Node) -> None:
    node.cards(eth1="eth1")
    node.environment(gateway=False, patience=0)  # else it would wait for one
    said = node.network(expect=1)
    assert said == (
        "no network card has the address 52:54:00:00:00:10, which is eth0 in lab.yaml\n"
    )


# -- keep or take back -----------------------------------------------------------------------------
@pytest.fixture
def moved(node: Node) -> Node:
    """A gateway just after the move, with the timer running."""
    node.cards(eth0="eth0", eth1="eth1")
    node.sh("ip addr add 10.0.2.15/24 dev eth0")
    node.environment(gateway=True)
    node.pend()
    node.network()
    return node


def test_keep_stops_the_timer_and_changes_nothing(moved: Node) -> None:
    assert moved.pending
    for _ in range(2):
        moved.network("keep")
        assert not moved.pending
        assert "stop labctl-rollback.timer" in moved.systemctl()
        assert moved.addresses == MOVED


def test_rollback_gives_eth0_its_address_again(moved: Node) -> None:
    said = moved.network("rollback")
    assert "nobody came back" in said
    assert moved.addresses == PLAIN
    assert moved.default_routes == [("10.0.2.2", "eth0")]
    # At the next boot it would move again; and what counts as started is not started again.
    assert moved.systemctl()[:2] == ["stop labctl-network", "disable --quiet labctl-network"]
    said = moved.network("keep", expect=1)
    assert "eth0 is not in br-ex" in said
    moved.pend()
    moved.network()
    moved.network("keep")
    assert moved.addresses == MOVED


def test_rollback_without_open_vswitch(moved: Node) -> None:
    """What keeps OVS from answering may be why nobody came back."""
    (moved.directory / "ovs-is-dead").touch()
    moved.network("rollback")
    assert moved.addresses == PLAIN
    assert "br-ex" in moved.macs
    assert moved.default_routes == [("10.0.2.2", "eth0")]


def test_rollback_after_keep_is_too_late(moved: Node) -> None:
    """The timer had gone off, and waited for keep."""
    moved.network("keep")
    moved.network("rollback")
    assert moved.addresses == MOVED


def test_keep_of_what_never_moved_leaves_the_timer(node: Node) -> None:
    node.cards(eth0="eth0", eth1="eth1")
    node.environment(gateway=True)
    node.pend()
    assert "eth0 is not in br-ex" in node.network("keep", expect=1)
    assert node.pending
    assert node.systemctl() == []


def test_a_compute_has_nothing_to_keep(node: Node) -> None:
    node.cards(eth0="eth0", eth1="eth1")
    node.environment(gateway=False)
    node.network()
    node.pend()
    assert node.network("keep") == ""
    assert not node.pending
    assert node.addresses == PLAIN


def test_keep_and_rollback_at_the_same_moment(moved: Node) -> None:
    """Whoever comes first has it; the other says so, and no half of both is left."""
    outcomes = []
    for _ in range(6):
        moved.pend()
        moved.network()
        both = [
            subprocess.Popen(
                moved.argv(f"bash {SCRIPT} {verb}"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for verb in ("rollback", "keep")
        ]
        codes = [process.wait(timeout=120) for process in both]
        assert codes[0] == 0
        kept = codes[1] == 0
        assert moved.addresses == (MOVED if kept else PLAIN)
        assert not moved.pending
        outcomes.append(kept)
    assert outcomes
