"""The probe wire.arp: ARP that captures saw, bare and inside a tunnel."""

from pathlib import Path

from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from labctl.access.capture import Captured, Tap, capturing
from labctl.access.packets import arp_message, ethernet_frames
from labctl.lessons.model import PROBES
from labctl.probes import ProbeContext
from labctl.providers.host_capture import pcap
from labctl.walks.arp import messages_in
from tests.unit.fakes import FakeGuest, LocalGuest, no_cloud, topology

HOST, GATEWAY = "02:00:00:02:00:0a", "02:00:00:02:00:fe"
ASKS = Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff") / ARP(
    op=1, hwsrc=HOST, psrc="10.2.0.11", pdst="10.2.0.254"
)
ANSWERS = Ether(src=GATEWAY, dst=HOST) / ARP(
    op=2, hwsrc=GATEWAY, psrc="10.2.0.254", hwdst=HOST, pdst="10.2.0.11"
)
OUTER = Ether() / IP(src="192.168.33.20", dst="192.168.33.10") / UDP(dport=6081)
CONTENT = pcap([(100.0, bytes(OUTER / GENEVE() / ASKS)), (101.0, bytes(ANSWERS))])


def test_one_row_for_each_message() -> None:
    decoded = [
        arp_message("compute-01", "eth1", seconds, outer)
        for seconds, outer in ethernet_frames(CONTENT, "compute-01", "eth1")
    ]
    messages = [message for message in decoded if message is not None]
    context = ProbeContext(topology(), no_cloud, lambda name: FakeGuest(), arp=messages)
    at = {"node": "compute-01", "interface": "eth1"}
    assert PROBES["wire.arp"](context, {}) == [
        {**at, "time": 100.0, "tunnel": True, "asks": True, "sender": "10.2.0.11",
         "sender_mac": HOST, "target": "10.2.0.254"},
        {**at, "time": 101.0, "tunnel": False, "asks": False, "sender": "10.2.0.254",
         "sender_mac": GATEWAY, "target": "10.2.0.11"},
    ]  # fmt: skip


def test_a_walk_still_sees_bare_arp_only() -> None:
    assert [message.asks for message in messages_in(CONTENT, "compute-01", "eth1")] == [False]


def test_captures_in_a_namespace_give_arp_beside_the_frames(tmp_path: Path) -> None:
    guest = LocalGuest(tmp_path / "node", "compute-01")
    (guest.root / "run").mkdir()
    (guest.root / "seen.pcap").write_bytes(CONTENT)
    # ip netns exec NAME COMMAND…, of a namespace that is noted; tcpdump copies when it is stopped.
    guest.stub("ip", f'echo "$3" >{guest.root}/namespace; shift 3; exec "$@"')
    guest.stub(
        "tcpdump",
        'while [ "$1" != -w ]; do shift; done; file=$2\n'
        f'trap "cp {guest.root}/seen.pcap $file; exit" INT\n'
        "echo tcpdump: listening on tap-a >&2\n"
        "while :; do sleep 0.05; done",
    )
    tap = Tap("compute-01", "sw0-a/tap-a", "arp")
    with capturing([tap], lambda name: guest) as captured:
        assert isinstance(captured, Captured)
    assert [(message.interface, message.tunnel) for message in captured.arp] == [
        ("sw0-a/tap-a", True), ("sw0-a/tap-a", False),
    ]  # fmt: skip
    assert captured == []
    assert (guest.root / "namespace").read_text() == "sw0-a\n"
