"""What the built-in lessons take back: in a real shell, on an API where one call or another fails.

An undo that does not see that a listing failed finds nothing to take back, and reports success.
"""

import json
import re
from pathlib import Path

import pytest

from labctl.assets import lessons
from labctl.engine.steps import StepContext
from labctl.errors import LabError
from labctl.lessons.load import load_lesson
from labctl.lessons.model import PROBES, Checkpoint, Lesson
from labctl.lessons.templates import fill
from tests.unit.fakes import LocalGuest, topology
from tests.unit.lessons.bench import COMPUTE, Bench, lesson

CLIENTS = ("openstack", "ovn-nbctl", "ovn-sbctl", "ovs-vsctl", "ovs-appctl")
CLIENT = """
here=$(dirname "$0")/..
echo "${0##*/} $*" >>"$here/calls"
call=$(wc -l <"$here/calls")
[ "$call" != "$(cat "$here/fails" 2>/dev/null)" ] || { echo 'HTTP 503' >&2; exit 1; }
# What is in use cannot be deleted at first.
case "$*" in
    *delete*|*unset*) [ ! -e "$here/in-use" ] || { rm "$here/in-use"; exit 1; } ;;
    'server list'*) echo 'id-1 vm_1' ;;
    *' list'*) echo id-1 ;;
    lr-list) echo 'abcd (r)' ;;
    *' show'*-f\\ json) echo '{}' ;;
    *' show'*) echo id-2 ;;
esac
"""
ASKS = re.compile(r"^\S+ .*(\blist\b|\bshow\b|\S+-list\b|\bfind\b|\bget\b)")
LESSONS = sorted(lessons().glob("*.yaml"))
ROOMY = topology("name: ovn-tutorial\nnetworks: {eth2: {physical_network: physnet1}}\n")


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an instance runs is asked of OpenStack; the computes are there without an answer."""
    monkeypatch.setitem(PROBES, "openstack.servers", lambda context, arguments: [])


def undoable() -> list[tuple[Lesson, Checkpoint]]:
    return [
        (lesson, checkpoint)
        for lesson in (load_lesson(str(file)) for file in LESSONS)
        for checkpoint in lesson.checkpoints
        if checkpoint.undo
    ]


UNDOABLE = undoable()
IDS = [f"{lesson.id}/{checkpoint.id}" for lesson, checkpoint in UNDOABLE]
# Some only end processes and remove files, and ask nobody.
ASKING = [what for what in UNDOABLE if re.search(rf"\b({'|'.join(CLIENTS)})\b", what[1].undo)]
ASKING_IDS = [f"{lesson.id}/{checkpoint.id}" for lesson, checkpoint in ASKING]


def undo(
    directory: Path, what: tuple[Lesson, Checkpoint], *, fails: int = 0, in_use: bool = False
) -> tuple[list[str], bool]:
    """Take a checkpoint back while call number `fails` fails: (the calls, whether it worked)."""
    bench = Bench(directory)
    bench.topology = ROOMY
    on_compute = LocalGuest(directory / "compute", COMPUTE)
    bench.guests[COMPUTE] = on_compute
    for guest in (bench.node, on_compute):
        for client in CLIENTS:
            guest.stub(client, CLIENT)
        guest.stub("jq", "echo id-3")
        (guest.root / "fails").write_text(f"{fails}\n")
        if in_use:
            (guest.root / "in-use").touch()
    runner = bench.runner(what[0])
    try:
        runner.undo(what[1], StepContext("undo"))
        worked = True
    except LabError:
        worked = False
    calls = [
        line
        for guest in (bench.node, on_compute)
        if (guest.root / "calls").exists()
        for line in (guest.root / "calls").read_text().splitlines()
    ]
    return calls, worked


@pytest.mark.parametrize("in_use", [False, True], ids=["plain", "in-use"])
@pytest.mark.parametrize("what", ASKING, ids=ASKING_IDS)
def test_taking_back_fails_when_what_it_asks_fails(
    what: tuple[Lesson, Checkpoint], in_use: bool, tmp_path: Path
) -> None:
    calls, worked = undo(tmp_path / "all", what, in_use=in_use)
    assert worked or in_use, calls
    assert calls, "an undo that calls nothing is not seen here"
    for number, call in enumerate(calls, 1):
        if ASKS.match(call):
            told = undo(tmp_path / str(number), what, fails=number, in_use=in_use)
            assert not told[1], f"`{call}` failed, and it was reported as taken back"


@pytest.mark.parametrize("what", ASKING, ids=ASKING_IDS)
def test_taking_back_fails_when_nothing_answers(
    what: tuple[Lesson, Checkpoint], tmp_path: Path
) -> None:
    calls, worked = undo(tmp_path, what, fails=1)
    assert calls
    assert not worked


@pytest.mark.parametrize("what", UNDOABLE, ids=IDS)
def test_no_undo_hides_a_failure(what: tuple[Lesson, Checkpoint], tmp_path: Path) -> None:
    """By its text: a shell ignores what fails in a loop's head, in a pipe, in a condition."""
    bench = Bench(tmp_path)
    bench.topology = ROOMY
    values = bench.runner(what[0]).checker.values()
    script = fill(what[1].undo, values, quoting=True).replace("\\\n", " ")
    for line in script.splitlines():
        assert not re.search(r"\bin\s+(\"?\$\(|`)", line), f"list first, or exit: {line}"
        assert not re.search(rf"\b({'|'.join(CLIENTS)})\b[^|]*[^|]\|[^|]", line), f"a pipe: {line}"
        assert not re.search(rf"\b(if|while|until)\b.*\b({'|'.join(CLIENTS)})\b", line), line
        if re.search(r"=\$\((?!jq)", line):
            assert re.search(r"\) \|\| exit$", line), f"without `|| exit`: {line}"
        # openstackclient 7.4 takes the option, and lists the rules of both kinds nevertheless.
        assert not re.search(r"rule list\b.*--ethertype", line), f"lists all rules: {line}"


def test_the_test_of_the_texts_sees_something() -> None:
    assert len(UNDOABLE) >= 14
    assert len(ASKING) >= 14
    only_looking = {"tracing", "datapath-flows"}
    assert {lesson.id for lesson, _ in UNDOABLE} == {path.stem for path in LESSONS} - only_looking


def test_killed_while_it_takes_a_checkpoint_back_it_is_not_passed(bench: Bench) -> None:
    file = bench.state.lesson_position
    words = "title: {en: Step, zh-TW: 步驟}, explain: {en: x, zh-TW: 甲}"
    room = bench.classroom(
        lesson(
            f"""
  - {{id: a, {words}, run: [touch a], claims: [HOLDS], undo: rm a}}
  - {{id: b, {words}, run: [mkdir b], claims: [HOLDS], undo: "cp {file} seen; rm -rf b"}}
  - {{id: c, {words}, run: ['true'], claims: [HOLDS]}}
"""
        )
    )
    assert room.replay("test").failure is None
    assert room.goto("test/b").failure is None
    killed = json.loads(bench.text("seen"))  # what a kill during the commands leaves
    progress = killed["lessons"]["test"]
    assert (progress["attempted"], progress["passed"]) == (["a", "b"], ["a"])
    bench.state.write_json(file, killed)
    assert room.goto("test/c").failure is None
    assert bench.ran() == ["undo:test/b", "b"]


IN_USE = """
here=$(dirname "$0")/..
echo "$*" >>"$here/calls"
case "$*" in
    'network delete'*|'subnet delete'*) [ -e "$here/tried" ] || { touch "$here/tried"; exit 1; } ;;
    *'list -f json'|*'--long -f json'|*'--external -f json') echo '[]' ;;
    'network list --provider-physical-network'*) echo id-other-name ;;
    'subnet show'*) echo id-network ;;
    'router list'*) echo id-r; echo id-r2 ;;
    'floating ip list'*) echo id-ip1; echo id-ip2 ;;
    'port list'*)
        echo 'port-1 network:distributed'
        echo 'port-2 network:router_interface'
        echo 'port-3 network:router_gateway'
        echo 'port-4 compute:nova'
        echo 'port-5 ' ;;
    'port show'*) echo id-r ;;
esac
"""
CLEARED = [
    "floating ip delete id-ip1 id-ip2",
    "router unset --external-gateway id-r",
    "router unset --external-gateway id-r2",
    "router remove port id-r port-2",
    "port set --device-owner none port-3",
    "port delete port-3",
    "port delete port-4",
    "port delete port-5",
]


@pytest.mark.parametrize("name", ["floating-ip", "external-network-snat"])
@pytest.mark.parametrize(
    ("checkpoint", "deleted"),
    [
        ("external-network", "network delete id-other-name"),
        ("external-subnet", "subnet delete id-by-jq"),
    ],
)
def test_what_stands_in_the_way_is_taken_back_whatever_its_name(
    bench: Bench, name: str, checkpoint: str, deleted: str
) -> None:
    bench.node.stub("openstack", IN_USE)
    # The network has the physical network, but neither the name nor the kind.
    bench.node.stub("jq", "echo id-by-jq" if checkpoint == "external-subnet" else "true")
    what = load_lesson(name)
    bench.runner(what).undo(what.checkpoint(checkpoint), StepContext("undo"))
    changes = [
        call for call in bench.text("calls").splitlines() if not re.search(r"\b(list|show)\b", call)
    ]
    assert changes == [deleted, *CLEARED, deleted]
