"""ARP as it was captured: who asked, who answered."""

from collections.abc import Iterable

from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from labctl.providers.host_capture import pcap
from labctl.walks.arp import ArpAnswer, ArpQuestion, messages_in, questions

NODE, ROUTER, OTHER = "52:54:00:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:03"


def asks(mac: str, address: str, target: str) -> Ether:
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=address, pdst=target)


def answers(mac: str, address: str, to: str, asker: str) -> Ether:
    return Ether(src=mac, dst=to) / ARP(op=2, hwsrc=mac, psrc=address, hwdst=to, pdst=asker)


def capture(*packets: Ether, first: float = 100.0) -> bytes:
    return pcap([(first + number, bytes(packet)) for number, packet in enumerate(packets)])


def asked_in(captures: Iterable[tuple[str, str, bytes]]) -> tuple[ArpQuestion, ...]:
    return questions(
        message
        for node, interface, content in captures
        for message in messages_in(content, node, interface)
    )


def test_a_question_that_nobody_answers() -> None:
    content = capture(*[asks(NODE, "10.0.2.15", "10.0.2.211")] * 3)
    (question,) = asked_in([("gw", "br-ex", content), ("gw", "eth0", content)])
    assert question == ArpQuestion(
        target="10.0.2.211", asker="10.0.2.15", asker_mac=NODE, node="gw", interface="br-ex",
        seen=("gw br-ex", "gw eth0"), times=3, answers=(),
    )  # fmt: skip


def test_one_owner_and_two() -> None:
    (one, two) = questions(
        messages_in(
            capture(
                asks(NODE, "10.0.2.15", "10.0.2.2"),
                answers(ROUTER, "10.0.2.2", NODE, "10.0.2.15"),
                answers(ROUTER, "10.0.2.2", NODE, "10.0.2.15"),
                asks(NODE, "10.0.2.15", "10.0.2.211"),
                answers(ROUTER, "10.0.2.211", NODE, "10.0.2.15"),
                answers(OTHER, "10.0.2.211", NODE, "10.0.2.15"),
                answers(OTHER, "10.0.2.211", ROUTER, "10.0.2.99"),
            ),
            "gw",
            "eth0",
        )
    )
    assert one.answers == (ArpAnswer(ROUTER, "gw", "eth0"),)
    assert [answer.mac for answer in two.answers] == [ROUTER, OTHER]


def test_an_announcement_is_no_question() -> None:
    assert not questions(
        messages_in(capture(asks(ROUTER, "10.0.2.211", "10.0.2.211")), "gw", "eth0")
    )


def test_what_is_no_arp_of_the_network_itself_is_left_out() -> None:
    inside = Ether() / IP() / UDP(dport=6081) / GENEVE() / asks(NODE, "10.0.2.15", "10.0.2.2")
    plain = Ether() / IP() / UDP()
    short = Ether(type=0x0806) / b"\0\1"
    content = capture(inside, plain, short)
    assert messages_in(content, "gw", "eth1") == []
    assert messages_in(b"", "gw", "eth1") == []
