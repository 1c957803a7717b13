"""What the evidence of a claim shows a person: the columns it names, and what does not fit."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from labctl.access.capture import Captured
from labctl.access.ovsdb import Rows
from labctl.access.packets import Frame
from labctl.engine.steps import StepContext
from labctl.errors import LabError
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.model import Claim
from tests.unit.fakes import FakeGuest
from tests.unit.lessons.bench import COMPUTE, CONTROLLER, Bench, lesson

FRAME = Frame(
    node=CONTROLLER, interface="eth0", time=1.0, tunnel=False, tunnel_src=None, tunnel_dst=None,
    vni=None, option_class=None, option_data=None, src_mac="02:00:00:00:00:01",
    dst_mac="02:00:00:00:00:02", src="10.0.2.15", dst="10.0.2.214", ttl=64, protocol="icmp",
    kind="request", identifier=7, sequence=1, length=84,
)  # fmt: skip
LINE = "eth0 of network-controller: icmp request 10.0.2.15 > 10.0.2.214, 02:00:00:00:00:01 > 02:00:00:00:00:02, ttl 64"  # noqa: E501


def claim_of(conditions: str) -> Claim:
    only = f"{{id: c, text: {{en: x, zh-TW: 甲}}, {conditions}, within: 0}}"
    (claim,) = (
        lesson(f"""
  - id: one
    WORDS
    run: []
    capture: [{{node: controller, interface: eth0, filter: icmp}}]
    claims:
      - {only}
""")
        .checkpoints[0]
        .claims
    )
    return claim


@pytest.fixture
def prove(bench: Bench) -> Any:
    def proved(conditions: str, rows: Rows) -> ClaimResult:
        bench.rows["rows"] = rows
        what = lesson("\n  - {id: one, TITLES, run: [], claims: [HOLDS]}\n".replace(
            "TITLES", "title: {en: x, zh-TW: 甲}, explain: {en: x, zh-TW: 甲}"))  # fmt: skip
        return bench.runner(what).checker.prove(
            claim_of(f"probe: test.rows, {conditions}"), Captured()
        )

    return proved


SUBNET = {"network": "ext_n2", "cidr": "10.0.2.0/24", "gateway": "10.0.2.9", "dhcp": False}


@pytest.mark.parametrize(
    ("conditions", "rows", "evidence"),
    [
        # The column that does not fit.
        (
            "where: {network: ext_n2}, count: 1, each: {cidr: 10.0.2.0/24, gateway: 10.0.2.2}",
            [SUBNET],
            ["network=ext_n2, cidr=10.0.2.0/24, ✗ gateway=10.0.2.9"],
        ),
        # The number that does not fit; the rows do.
        (
            "count: 1, each: {address: {in: 10.0.2.0/24}}",
            [{"address": "10.0.2.211"}, {"address": "10.0.2.212"}],
            ["✗ 2 of the kind, 1 expected:", "address=10.0.2.211", "address=10.0.2.212"],
        ),
        # None and what is empty is shown, too, where the claim asks for it.
        (
            "each: {fixed_address: 172.16.100.10}",
            [{"fixed_address": None}],
            ["✗ fixed_address=null"],
        ),
        ("each: {groups: {contains: a}}", [{"groups": []}], ["✗ groups=[]"]),
        ("each: {name: a}", [{"name": ""}], ['✗ name=""']),
        ("each: {up: true}", [{"up": False}], ["✗ up=false"]),
        # Of many rows the wrong ones come first.
        (
            "each: {n: {one_of: [0, 1, 2, 3]}}",
            [{"n": n} for n in range(5)],
            ["✗ n=4", "n=0", "n=1", "… 5 rows in all"],
        ),
        # When there is none, those that come nearest.
        (
            "where: {a: 1, b: 2}, count: 1",
            [{"a": 7, "b": 8}, {"a": 9, "b": 2}],
            ["✗ nothing of the kind, 1 expected; there is: ✗ a=9, b=2 | ✗ a=7, ✗ b=8"],
        ),
        ("count: 1", [], ["✗ nothing, 1 expected"]),
        ("where: {a: 1}", [], ["nothing"]),
    ],
)
def test_what_does_not_fit_is_marked(
    prove: Any, conditions: str, rows: Rows, evidence: list[str]
) -> None:
    result = prove(conditions, rows)
    assert (result.holds, result.evidence) == (False, evidence)


def test_where_all_fits_nothing_is_marked(prove: Any) -> None:
    result = prove("where: {network: ext_n2}, count: 1, each: {gateway: 10.0.2.9}", [SUBNET])
    assert (result.holds, result.evidence) == (True, ["network=ext_n2, gateway=10.0.2.9"])


def seen(frame: Frame, *columns: str, wrong: tuple[str, ...] = ()) -> str:
    (text,) = ClaimResult(
        "c", "x", not wrong, "wire.packets", "", [asdict(frame)], 0.1, columns, wrong=[list(wrong)]
    ).evidence
    return text


def test_a_packet_shows_what_the_claim_is_about() -> None:
    assert seen(FRAME, "src", "ttl") == LINE
    assert seen(FRAME, "src", "ttl", wrong=("src", "ttl")) == f"{LINE}; ✗ src=10.0.2.15, ✗ ttl=64"
    assert seen(FRAME, "length") == f"{LINE}; length=84"
    assert seen(FRAME, "vlan", wrong=("vlan",)) == f"{LINE}; ✗ vlan=null"
    tagged = replace(FRAME, vlan=3002)
    assert seen(tagged, "vlan", wrong=("vlan",)) == f"{LINE}, vlan 3002; ✗ vlan=3002"
    syn = replace(FRAME, protocol="tcp", kind="", source_port=40000, destination_port=2222,
                  flags="S", identifier=None, sequence=None)  # fmt: skip
    text = seen(syn, "destination_port", "flags")
    assert "tcp 10.0.2.15:40000 > 10.0.2.214:2222," in text
    assert text.endswith("ttl 64, flags S")


# -- nobody listened -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ("where: {node: '{{ node.hypervisor.name }}'}", "listens on compute-01"),
        ("where: {node: {one_of: [a, b]}}", "listens on …"),
        (
            "where: {node: '{{ lab.computes[0].name }}', interface: eth0}",
            "listens on eth0 of compute-01",
        ),
    ],
)
def test_that_nobody_saw_a_packet_is_no_proof_where_nobody_listened(
    bench: Bench, conditions: str, why: str
) -> None:
    claim = claim_of(f"probe: wire.packets, {conditions}, count: 0")
    checker = bench.runner(
        lesson("\n  - id: one\n    WORDS\n    run: []\n    claims: [HOLDS]\n")
    ).checker
    bench.cloud = lambda: None
    captured = Captured()
    captured.windows = {(CONTROLLER, "eth0"): (0.0, 9.0)}
    known = checker.cached_reads()
    with known as cache:
        cache.get_or_ask(("openstack.servers",), list)
        result = checker.prove(claim, captured)
        assert not result.holds
        assert result.error == f"no capture of this checkpoint {why}"
        captured.windows = {(CONTROLLER, "eth0"): (0.0, 9.0), (COMPUTE, "eth0"): (0.0, 9.0),
                            ("a", "eth0"): (0.0, 9.0)}  # fmt: skip
        assert checker.prove(claim, captured).holds


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        (FakeGuest(CONTROLLER).on("tcpdump", exit=1, stderr="eth0: No such device"), "No such"),
        (FakeGuest(CONTROLLER).on("tcpdump", "1.0").on("kill -INT", "9.0\n\n").on(
            "ping", exit=1), "`ping -c 1 8.8.8.8` failed, so nothing was sent"),
    ],
    ids=["capture", "command"],
)  # fmt: skip
def test_check_proves_no_silence_by_a_capture_or_a_command_that_failed(
    bench: Bench, guest: FakeGuest, why: str
) -> None:
    bench.guests[CONTROLLER] = guest
    what = lesson("""
  - id: one
    WORDS
    run: [ping -c 1 8.8.8.8]
    capture: [{node: controller, interface: eth0, filter: icmp}]
    claims:
      - {id: c, text: {en: x, zh-TW: 甲}, probe: wire.packets, count: 0}
""")
    runner = bench.runner(what)
    (checkpoint,) = what.checkpoints
    runner.check([(checkpoint, list(checkpoint.claims))], StepContext("check"))
    ((claim,),) = (result.claims for result in runner.results)
    assert not claim.holds
    assert why in claim.seen_text


def test_a_capture_that_fails_ends_a_run(bench: Bench) -> None:
    bench.guests[CONTROLLER] = FakeGuest(CONTROLLER).on("tcpdump", exit=1, stderr="No such device")
    what = lesson("""
  - id: one
    WORDS
    run: ['true']
    capture: [{node: controller, interface: eth0, filter: icmp}]
    claims:
      - {id: c, text: {en: x, zh-TW: 甲}, probe: wire.packets, count: 0}
""")
    with pytest.raises(LabError, match="No such device"):
        bench.runner(what).run(what.checkpoints[0], StepContext("one"))
