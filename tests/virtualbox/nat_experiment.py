"""Asks VirtualBox's NAT what no document says: see docs/virtualbox-nat.md.

Run it inside the rig (under three minutes on two idle cores):

    python -m tests.virtualbox.rig exec -- python -m tests.virtualbox.nat_experiment [--json FILE]

One tiny guest with two NAT adapters: eth0 is virtio, its NAT as Vagrant makes it; eth1 is an Intel
82540EM with `--nat-localhostreachable2 on`. `stranger` in the guest speaks for hosts with other MAC
and IP addresses than eth0's; VirtualBox itself records every frame of eth0 (`--nictrace1`). The
Internet is 8.8.8.8 on the loopback of the network namespace.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.virtualbox.frames import describe_frames
from tests.virtualbox.rig import box
from tests.virtualbox.serial import SerialShell

MACHINE = "labctl-nat"
EIGHTS = "8.8.8.8"
CARD = "08:00:27:ab:00:01"
ROUTER = "fa:16:3e:00:02:11"
"""MAC of OVN's router port: .211 always, .215 as well while floating IPs are centralized."""
FLOATING = "fa:16:3e:00:02:15"
"""MAC of .215 with distributed floating IPs."""
NAT_MAC = "52:54:00:12:35:00"
"""VirtualBox's own, as it turned out."""
FORWARDS = {
    "ssh": (2201, "10.0.2.15", 22),
    "unpinned": (2202, "", 22),
    "api": (2203, "10.0.2.15", 8774),
    "api-2": (2204, "10.0.2.15", 9696),
    "router": (2211, "10.0.2.211", 22),
    "floating": (2215, "10.0.2.215", 22),
    "fresh": (2219, "10.0.2.219", 22),
}
"""name -> port on 127.0.0.1, guest address (empty: not pinned), guest port"""


@dataclass
class Observation:
    """One question put to NAT."""

    name: str
    question: str
    answer: str
    said: list[str] = field(default_factory=list)
    """What the guest's or the host's end reported."""
    frames: list[str] = field(default_factory=list)
    """What VirtualBox recorded at eth0 meanwhile."""


def manage(*arguments: str) -> str:
    """VBoxManage, which must succeed."""
    done = subprocess.run(
        ["VBoxManage", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"VBoxManage {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def make_machine(work: Path) -> None:
    """The guest, defined and started."""
    with tarfile.open(box()) as archive:
        archive.extractall(work, filter="data")
    manage("import", str(work / "box.ovf"), "--vsys", "0", "--vmname", MACHINE)
    manage("modifyvm", MACHINE, "--mac-address1", CARD.replace(":", ""),
           "--nic1", "nat", "--nictype1", "virtio", "--nat-localhostreachable1", "off",
           "--nictrace1", "on", "--nictracefile1", str(work / "eth0.pcap"),
           "--nic2", "nat", "--nictype2", "82540EM", "--nat-localhostreachable2", "on",
           "--nat-net2", "10.0.3.0/24",
           "--uart1", "0x3f8", "4", "--uartmode1", "server", str(work / "serial"))  # fmt: skip
    for name, (port, address, guest) in FORWARDS.items():
        manage("modifyvm", MACHINE, "--natpf1", f"{name},tcp,127.0.0.1,{port},{address},{guest}")
    manage("startvm", MACHINE, "--type", "headless")


@contextmanager
def internet() -> Iterator[None]:
    """Who answers on TCP port 80 and UDP port 7 of 8.8.8.8; the kernel answers pings itself.

    Port 80 is open on 127.0.0.1 as well: the laptop's own service.
    """
    tcp = socket.create_server(("", 80))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((EIGHTS, 7))

    def accept() -> None:
        while True:
            try:
                connection, _ = tcp.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"this is the Internet")

    def echo() -> None:
        while True:
            try:
                data, peer = udp.recvfrom(2000)
            except OSError:
                return
            if peer is None:  # shut down
                return
            udp.sendto(data, peer)

    for work in (accept, echo):
        threading.Thread(target=work, daemon=True).start()
    with tcp, udp:
        yield
        # close() alone leaves the threads in their calls
        for one in (tcp, udp):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def first_words(port: int, timeout: float = 25) -> str:
    """What is said by whoever a forwarded port leads to; "" when nobody says anything."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(200).decode(errors="replace").strip()
    except OSError:
        return ""


def who(port: int, timeout: float = 25) -> str:
    """The same, as a name."""
    words = first_words(port, timeout)
    return "dropbear on 10.0.2.15" if words.startswith("SSH-2.0-dropbear") else words or "nobody"


class Experiment:
    """The questions, in an order in which one does not spoil the next."""

    def __init__(self, work: Path, shell: SerialShell) -> None:
        self.observations: list[Observation] = []
        self._trace = work / "eth0.pcap"
        self._slices: list[tuple[int, int]] = []
        self._shell = shell

    def stranger(
        self, mac: str, address: str, *command: str, options: str = ""
    ) -> tuple[bool, str]:
        """Whether `stranger` in the guest got its answer, and what it said."""
        device = "eth1" if address.startswith("10.0.3.") else "eth0"
        words = " ".join(command)
        code, said = self._shell.run(f"stranger {options} {device} {mac} {address} {words}")
        if code > 1:
            raise RuntimeError(f"stranger {words}: {said}")
        return code == 0, said

    @contextmanager
    def serving(self, mac: str, address: str, words: str, options: str = "") -> Iterator[list[str]]:
        """Meanwhile `stranger` answers at that address; at the end the list holds what it saw."""
        seen: list[str] = []
        device = "eth1" if address.startswith("10.0.3.") else "eth0"
        self._shell.run(
            f"stranger {options} -w 600 {device} {mac} {address} serve 22 {words}"
            " >/tmp/serving 2>&1 & echo $! >/tmp/serving.pid; sleep 0.5"
        )
        try:
            yield seen
        finally:
            time.sleep(0.3)
            _, text = self._shell.run("kill $(cat /tmp/serving.pid); cat /tmp/serving")
            seen += text.splitlines()

    def ask(self, name: str, question: str, look: Callable[[], tuple[str, str]]) -> None:
        """Record what `look` answers, with the frames seen meanwhile."""
        before = self._trace.stat().st_size
        answer, said = look()
        time.sleep(0.2)
        self._slices.append((before, self._trace.stat().st_size))
        observation = Observation(name, question, answer, said.splitlines())
        self.observations.append(observation)
        sys.stderr.write(f"{name}: {answer}\n")

    def ask_stranger(
        self, name: str, question: str, mac: str, address: str, *command: str, options: str = ""
    ) -> None:
        """The same, where the answer is stranger's yes or no."""

        def look() -> tuple[str, str]:
            answered, said = self.stranger(mac, address, *command, options=options)
            return "yes" if answered else "no", said

        self.ask(name, question, look)

    def add_frames(self) -> None:
        """Fill in the frames, once the machine is off and the trace complete."""
        content = self._trace.read_bytes()
        for observation, (start, end) in zip(self.observations, self._slices, strict=True):
            observation.frames = list(describe_frames(content[max(start, 24) : end]))


def ask_everything(experiment: Experiment, shell: SerialShell) -> None:
    """All questions."""
    ask, stranger = experiment.ask, experiment.ask_stranger
    ask_outward(stranger)
    ask_gateway(experiment, shell)
    ask_forwards(experiment, shell)
    ask_moves(experiment, shell)

    def range_closed() -> tuple[str, str]:
        setting = Path("/proc/sys/net/ipv4/ping_group_range")
        before = setting.read_text()
        setting.write_text("1 0")
        try:
            answered, said = experiment.stranger(ROUTER, "10.0.2.211", "ping", EIGHTS)
        finally:
            setting.write_text(before)
        return "yes" if answered else "no", said

    ask("ping-range-closed", "ping 8.8.8.8 from .211 while net.ipv4.ping_group_range lets nobody"
        " open ping sockets (VirtualBox runs as root here)", range_closed)  # fmt: skip


def ask_outward(stranger: Callable[..., None]) -> None:
    """Traffic from other addresses with another MAC, and whether its answers come back."""
    stranger("arp-unknown", "Does NAT answer ARP for an address nobody has (10.0.2.99)?",
             ROUTER, "10.0.2.211", "arp", "10.0.2.99")  # fmt: skip
    stranger("no-arp-quiet", "UDP from .218, which neither sends nor answers ARP: answered?",
             "fa:16:3e:00:02:18", "10.0.2.218", "udp", EIGHTS, "7", "hello",
             options=f"-q -v {NAT_MAC}")  # fmt: skip
    stranger("no-arp", "UDP from .217, which never sent ARP but answers it: answered?",
             "fa:16:3e:00:02:17", "10.0.2.217", "udp", EIGHTS, "7", "hello",
             options=f"-v {NAT_MAC}")  # fmt: skip
    for suffix, mac, address in (
        ("211", ROUTER, "10.0.2.211"),
        ("215", FLOATING, "10.0.2.215"),
        ("215-router", ROUTER, "10.0.2.215"),
        ("card2", ROUTER, "10.0.3.211"),
    ):
        by = f"from {address} at {mac}"
        gateway = address.rpartition(".")[0] + ".2"
        stranger(f"arp-{suffix}", f"ARP for {gateway} {by}: answered?",
                 mac, address, "arp", gateway)  # fmt: skip
        stranger(f"ping-{suffix}", f"ping {EIGHTS} {by}: answered?", mac, address, "ping", EIGHTS)
        stranger(f"udp-{suffix}", f"UDP to {EIGHTS} {by}: answered?",
                 mac, address, "udp", EIGHTS, "7", "hello")  # fmt: skip
        stranger(f"tcp-{suffix}", f"TCP to {EIGHTS} {by}: connected, and data back?",
                 mac, address, "tcp", EIGHTS, "80")  # fmt: skip


def ask_gateway(experiment: Experiment, shell: SerialShell) -> None:
    """Pinging the gateway, with and without localhostreachable."""

    def own(command: str) -> Callable[[], tuple[str, str]]:
        def look() -> tuple[str, str]:
            code, said = shell.run(command)
            return "yes" if code == 0 else "no", said

        return look

    experiment.ask("ping-own", f"ping {EIGHTS} from 10.0.2.15, eth0's own address: answered?",
                   own(f"ping -c 1 -W 8 {EIGHTS}"))  # fmt: skip
    experiment.ask("ping-gateway-own", "ping 10.0.2.2 from 10.0.2.15: answered?",
                   own("ping -c 1 -W 8 10.0.2.2"))  # fmt: skip
    experiment.ask_stranger("ping-gateway-211", "ping 10.0.2.2 from .211: answered?",
                            ROUTER, "10.0.2.211", "ping", "10.0.2.2")  # fmt: skip
    experiment.ask_stranger("ping-gateway-reachable",
                            "the same with nat-localhostreachable on (eth1): answered?",
                            ROUTER, "10.0.3.211", "ping", "10.0.3.2")  # fmt: skip
    experiment.ask_stranger("tcp-gateway", "TCP to 10.0.2.2, a service of the laptop's: connected?",
                            ROUTER, "10.0.2.211", "tcp", "10.0.2.2", "80")  # fmt: skip
    experiment.ask_stranger("tcp-gateway-reachable",
                            "the same with nat-localhostreachable on (eth1): connected?",
                            ROUTER, "10.0.3.211", "tcp", "10.0.3.2", "80")  # fmt: skip


def ask_forwards(experiment: Experiment, shell: SerialShell) -> None:
    """Where forwarded ports lead."""
    ask = experiment.ask
    for port in (8774, 9696):
        shell.run(f"nc -ll -p {port} -e echo port-{port}-on-15 >/dev/null 2>&1 & sleep 0.3")

    def forward(name: str) -> Callable[[], tuple[str, str]]:
        return lambda: (who(FORWARDS[name][0]), "")

    ask("forward-ssh-first", "The pinned forward leads to", forward("ssh"))
    ask("forward-unpinned-first", "The forward without guest_ip leads to", forward("unpinned"))
    with experiment.serving(ROUTER, "10.0.2.211", "router-on-211"):
        experiment.stranger(ROUTER, "10.0.2.211", "announce")
        experiment.stranger(ROUTER, "10.0.2.211", "arp", "10.0.2.2")
        ask("forward-ssh", "After .211 was the last to send ARP, the pinned forward leads to",
            forward("ssh"))  # fmt: skip
        ask("forward-unpinned", "and the one without guest_ip to", forward("unpinned"))
        ask("forward-api", "and a second pinned forward (port 8774) to", forward("api"))
        ask("forward-router", "and a forward pinned to 10.0.2.211 to", forward("router"))
    with experiment.serving(ROUTER, "10.0.2.215", "instance-on-215"):
        ask("forward-floating", "A forward pinned to 10.0.2.215 (the floating IP) leads to",
            forward("floating"))  # fmt: skip
    with experiment.serving("fa:16:3e:00:02:19", "10.0.2.219", "host-on-219") as seen:
        ask("forward-fresh", "A forward pinned to .219, which has never sent a frame, leads to",
            forward("fresh"))  # fmt: skip
    experiment.observations[-1].said += seen

    def several() -> tuple[str, str]:
        found: dict[int, str] = {}
        ports = [FORWARDS[name][0] for name in ("api", "api-2")] * 4
        threads = [
            threading.Thread(target=lambda i=i, port=port: found.update({i: who(port)}))
            for i, port in enumerate(ports)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = {name: list(found.values()).count(name) for name in set(found.values())}
        return ", ".join(f"{count} × {name}" for name, count in sorted(counts.items())), ""

    ask("forward-several", "Eight connections at once by two forwards, four each, lead to", several)

    def many() -> tuple[str, str]:
        shell.run(
            "for n in $(seq 10 29); do"
            " stranger -w 2 eth0 fa:16:3e:00:03:$n 10.0.2.1$n arp 10.0.2.2; done"
        )
        return who(FORWARDS["ssh"][0]), ""

    ask("forward-after-many", "After 20 more addresses have sent ARP (NAT's table holds 16)"
        " the pinned forward leads to", many)  # fmt: skip


def ask_moves(experiment: Experiment, shell: SerialShell) -> None:
    """10.0.2.15 moves from eth0 to a bridge."""
    ask = experiment.ask
    other = "fa:16:3e:00:02:0f"

    def pinned(timeout: float = 25) -> tuple[str, str]:
        return who(FORWARDS["ssh"][0], timeout), ""

    def soon() -> tuple[str, str]:  # where nobody is expected
        return pinned(10)

    def session() -> tuple[str, str]:
        """A connection by the forward, kept while the kernel's own MAC address changes."""
        shell.run("nc -l -p 8774 -e cat >/dev/null 2>&1 & sleep 0.3")
        said = []
        with socket.create_connection(("127.0.0.1", FORWARDS["api"][0]), 10) as connection:

            def echoed(text: bytes, seconds: float) -> bool:
                connection.settimeout(seconds)
                try:
                    connection.sendall(text)
                    return connection.recv(100) == text
                except OSError:
                    return False

            said.append(f"before: {echoed(b'one', 25)}")
            # Promiscuous as a bridge port: the card itself goes on listening to its old MAC only.
            shell.run(f"ip link set eth0 promisc on; ip link set eth0 address {other}")
            shell.run("sleep 0.5")
            said.append(f"MAC changed, nothing sent: {echoed(b'two', 10)}")
            shell.run("arping -U -c 1 -I eth0 10.0.2.15")
            connection.settimeout(60)
            try:
                after = connection.recv(100) == b"two"
            except OSError:
                after = False
            said.append(f"gratuitous ARP sent: {after}")
        return "; ".join(said), ""

    shell.run("killall nc; sleep 0.2")
    ask("session", "A session by the forward, while eth0 gets another MAC: does data arrive?",
        session)  # fmt: skip
    ask("forward-new-mac", "and a new connection by the pinned forward leads to", pinned)
    shell.run(f"ip link set eth0 address {CARD}; arping -U -c 1 -I eth0 10.0.2.15")
    shell.run("ip address flush dev eth0")
    ask("forward-nobody", "With 10.0.2.15 taken off eth0 the pinned forward leads to", soon)
    with experiment.serving(CARD, "10.0.2.15", "bridge-on-15"):
        ask("forward-same-mac", "10.0.2.15 on a bridge with eth0's MAC, no ARP sent: leads to",
            pinned)  # fmt: skip
    with experiment.serving(other, "10.0.2.15", "bridge-on-15"):
        ask("forward-other-mac", "on a bridge with another MAC, no ARP sent: leads to", soon)
        experiment.stranger(other, "10.0.2.15", "announce")
        ask("forward-other-mac-announced", "and after a gratuitous ARP: leads to", pinned)


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.virtualbox.nat_experiment")
    parser.add_argument("--json", type=Path, help="write the observations there")
    arguments = parser.parse_args()
    work = Path(os.environ["LABCTL_RIG_WORK"]) / "nat"
    work.mkdir()
    make_machine(work)
    shell = SerialShell(work / "serial")
    experiment = Experiment(work, shell)
    with internet():
        ask_everything(experiment, shell)
    shell.close()
    manage("controlvm", MACHINE, "poweroff")
    experiment.add_frames()
    if arguments.json:
        found = [asdict(observation) for observation in experiment.observations]
        text = json.dumps(found, indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    for one in experiment.observations:
        sys.stdout.write(f"## {one.name}\n{one.question} **{one.answer}**\n")
        for line in one.said:
            sys.stdout.write(f"    {line}\n")
        for line in one.frames[:12]:
            sys.stdout.write(f"    | {line}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
