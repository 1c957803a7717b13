"""The state of a lab as one report: nodes, services, instances, lesson, where to log in."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NotRequired, cast

from typing_extensions import TypedDict

from labctl.actions import served
from labctl.errors import LabError
from labctl.faults.keeper import with_presence
from labctl.faults.records import read_records
from labctl.i18n import mark, tr, tr_n
from labctl.lessons.load import load_lesson
from labctl.lessons.model import Lesson
from labctl.lessons.progress import Position
from labctl.lessons.questions import answered_count, asking, counted
from labctl.probes import ProbeContext
from labctl.probes.openstack import servers
from labctl.probes.ovn import chassis
from labctl.provisioning.node_health import ask_node, node_troubles
from labctl.provisioning.services import units_of
from labctl.snapshots.health import troubles_between_nodes
from labctl.spec.model import Stack
from labctl.terminal.console import Console
from labctl.terminal.fit import table
from labctl.terminal.text import Span, one_line
from labctl.topology import Machine, Node

if TYPE_CHECKING:
    from labctl.lab import Lab

State = Literal["absent", "unfinished", "halted", "degraded", "up", "destroying"]


class NodeStatus(TypedDict):
    """A node."""

    name: str
    roles: list[str]
    running: bool
    eth0: str
    """Address with its prefix length, as 10.0.2.15/24."""
    eth1: str
    chassis: str | None
    """`geneve ADDRESS` as the southbound database has it; null: not registered."""
    services: dict[str, str]
    """What systemd says of each unit that must be active; `stopped`: by SIGSTOP, which systemd
    does not see."""
    failed: list[str]
    """Those of them that are not."""
    troubles: list[str]
    """What is wrong with it, for people: services, clock, Open vSwitch, addresses, and packets that
    are not answered."""


class InstanceStatus(TypedDict):
    """An instance, as Nova has it."""

    name: str
    status: str
    """ACTIVE, SHUTOFF, ERROR, …"""
    host: str | None
    """The node that it runs on."""
    fixed: list[str]
    """Addresses."""
    floating: list[str]
    security_groups: list[str]
    """Their names."""


class LessonStatus(TypedDict):
    """How far the learner is in the lesson that is being walked through."""

    id: str
    practice: bool
    """Whether the learner types the commands."""
    attempted: list[str]
    """Ids of the checkpoints that were begun and not taken back."""
    passed: list[str]
    """Those of them whose claims all held."""
    checkpoints: list[str]
    """Ids of all; empty when the lesson cannot be read any more."""
    next: str | None
    """The first that is not passed; null: none."""
    questions: int
    """How many questions it asks."""
    answered: int
    """How many of them the learner has answered without being told."""


class FaultStatus(TypedDict):
    """A fault that `labctl fault inject` has put into the lab."""

    fault: str
    node: str
    present: bool | None
    """Whether it is there now; somebody may have mended it. null: it cannot be found out."""


class Report(TypedDict):
    """What `status --json` prints."""

    lab: str
    file: str
    """Of the lab.yaml."""
    stack: Stack
    provider: str | None
    """null where no lab exists."""
    state: State
    nodes: list[NodeStatus]
    """Empty where no lab exists, or one that is half destroyed."""
    troubles: list[str]
    """What is wrong between nodes, for people: with OVN, Neutron or Nova. Empty where a node has
    troubles of its own: they come first."""
    instances: list[InstanceStatus]
    """Empty unless all nodes run and all services are active."""
    lesson: LessonStatus | None
    """null: none was begun."""
    faults: list[FaultStatus]
    """Those that were injected, but for secret ones."""
    login: dict[str, str]
    """By node: the command that logs in; empty unless all nodes run."""
    pages: list[str]
    """Addresses, without their token, at which a running `labctl open` serves this lab."""
    id: NotRequired[str]
    """Of the lab, which the names of all it has on the host carry; missing where none exists."""


def collect(lab: "Lab") -> Report:
    """The state of the lab. Nodes are asked in parallel; one that does not answer is no error."""
    topology = lab.topology
    report: Report = {
        "lab": topology.lab,
        "file": str(lab.file),
        "stack": topology.stack,
        "provider": None,
        "state": mark("absent"),
        "nodes": [],
        "troubles": [],
        "instances": [],
        "lesson": None,
        "faults": [],
        "login": {},
        "pages": [],
    }
    if not lab.state.exists:
        return report
    identity = lab.state.identity()
    report["provider"], report["id"] = identity.provider, identity.lab_id
    if lab.state.being_destroyed:
        report["state"] = mark("destroying")
        return report
    report["pages"] = served.addresses(lab.state)
    running = [node for node in topology.nodes if lab.provider.running(node)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        report["nodes"] = list(pool.map(lambda node: _node(lab, node, running), topology.machines))
    failed = {name for node in report["nodes"] if "controller" in node["roles"]
              for name in node["failed"]}  # fmt: skip
    # A database that is stopped would be waited for in vain.
    registered = {} if failed & {"ovn-ovsdb-server-sb", "ssh"} else _chassis(lab)
    for node in report["nodes"]:
        node["chassis"] = registered.get(node["name"])
    created = lab.state.created.exists()
    if _state(report, created=created) == "up":
        report["troubles"] = troubles_between_nodes(lab)
    report["state"] = _state(report, created=created)
    report["lesson"] = _lesson(lab)
    report["faults"] = _faults(lab)
    if created and all(node["running"] and not node["failed"] for node in report["nodes"]):
        report["instances"] = _instances(lab) if topology.stack == "openstack" else []
        report["login"] = {node.name: f"labctl ssh {node.name}" for node in topology.machines}
    return report


def _state(report: Report, *, created: bool) -> State:
    nodes = report["nodes"]
    if not created:
        return mark("unfinished")
    if not any(node["running"] for node in nodes):
        return mark("halted")
    well = not report["troubles"] and all(_well(node) for node in nodes)
    return mark("up") if well else mark("degraded")


def _well(node: NodeStatus) -> bool:
    registered = node["chassis"] or _is_client(node)
    return bool(node["running"] and registered and not node["troubles"])


def _is_client(node: NodeStatus) -> bool:
    return node["roles"] == ["client"]


def _node(lab: "Lab", node: Machine, running: Sequence[Node]) -> NodeStatus:
    services: dict[str, str] = {}
    troubles: list[str] = []
    runs = node in running if isinstance(node, Node) else lab.provider.running(node)
    if runs:
        units = units_of(node, lab.topology.stack)
        try:
            health = ask_node(lab.provider.guest(node), node, lab.topology, running)
        except (LabError, ValueError) as error:
            services, troubles = {"ssh": "unreachable"}, [str(error).splitlines()[0]]
        else:
            services = {unit: health.inactive.get(unit, "active") for unit in units}
            troubles = list(node_troubles(health, node, lab.topology, running))
    return {
        "name": node.name,
        "roles": sorted(node.roles),
        "running": runs,
        "eth0": str(node.eth0.address),
        "eth1": str(node.eth1.address) if isinstance(node, Node) else "",
        "chassis": None,
        "services": services,
        "failed": sorted(unit for unit, state in services.items() if state != "active"),
        "troubles": troubles,
    }


def _probe_context(lab: "Lab") -> ProbeContext:
    return ProbeContext(lab.topology, lab.cloud, lambda name: lab.controller)


def _chassis(lab: "Lab") -> dict[str, str]:
    """{node: "geneve ADDRESS"} as the southbound database has it; {} if it does not answer."""
    try:
        if not lab.provider.running(lab.topology.controller):
            return {}
        rows = chassis(_probe_context(lab), {})
    except (LabError, ValueError):
        return {}
    return {row["name"]: f"{row['encapsulation']} {row['address']}" for row in rows}


def _instances(lab: "Lab") -> list[InstanceStatus]:
    from labctl.access.cloud import API_ERRORS

    errors: tuple[type[Exception], ...] = (LabError, *API_ERRORS)
    try:
        return cast(list[InstanceStatus], servers(_probe_context(lab), {}))
    except errors:
        return []


def _faults(lab: "Lab") -> list[FaultStatus]:
    records = [record for record in read_records(lab.state) if not record.secret]
    return [
        {"fault": record.fault, "node": record.node, "present": there}
        for record, there in with_presence(lab, records)
    ]


def _lesson(lab: "Lab") -> LessonStatus | None:
    try:
        position = Position.from_json(lab.state.read_json(lab.state.lesson_position))
    except LabError:
        return None
    if position.current is None:
        return None
    progress = position.lessons[position.current]
    try:
        lesson: Lesson | None = load_lesson(progress.source)
    except LabError:
        lesson = None  # its file is gone or wrong: report at least what was passed
    ids = [checkpoint.id for checkpoint in lesson.checkpoints] if lesson is not None else []
    return {
        "id": position.current,
        "practice": position.practice,
        "attempted": list(progress.attempted),
        "passed": list(progress.passed),
        "checkpoints": ids,
        "next": next((id for id in ids if id not in progress.passed), None),
        "questions": len(asking(lesson)) if lesson is not None else 0,
        "answered": answered_count(lesson, progress) if lesson is not None else 0,
    }


def show(report: Report, console: Console, labctl: str) -> None:
    """Print the report for people. `labctl` is how the user called it, for commands to copy."""
    console.heading(tr("{lab}: {state}", lab=report["lab"], state=tr(report["state"])))
    if report["state"] == "absent":
        console.say(tr("make it with {command}", command=f"{labctl} create"))
        return
    if report["state"] == "destroying":
        console.say(tr("next: {command}", command=f"{labctl} {_NEXT_VERBS['destroying']}"))
        return
    rows = [
        (
            _well(node),
            [node["name"], "+".join(node["roles"]), node["eth0"].split("/")[0],
             node["eth1"].split("/")[0] or "-",
             "-" if _is_client(node) else (node["chassis"] or tr("none")).split()[0]],
        )
        for node in report["nodes"]
    ]  # fmt: skip
    _table([tr("node"), tr("roles"), "eth0", "eth1", tr("chassis")], rows, console)
    for node in report["nodes"]:
        if not node["running"]:
            console.say(tr("  {node}: not running", node=node["name"]))
        for trouble in node["troubles"]:
            console.say("  " + node["name"] + tr(": ") + one_line(trouble))
    for trouble in report["troubles"]:
        console.say("✗  " + one_line(trouble))
    for fault in report["faults"]:
        where = f"{fault['fault']} ({fault['node']})"
        if fault["present"] is False:
            text = tr("injected, and not there any more: {fault}", fault=where)
        else:
            text = tr("injected: {fault}", fault=where)
        console.say(text)
    if report["instances"]:
        console.say()
        rows = [
            (
                instance["status"] == "ACTIVE",
                [instance["name"], instance["status"], instance["host"] or "-",
                 " ".join(instance["fixed"]), " ".join(instance["floating"]) or "-"],
            )
            for instance in report["instances"]
        ]  # fmt: skip
        heads = [tr("instance"), tr("status"), tr("on"), tr("fixed"), tr("floating")]
        _table(heads, rows, console)
    console.say()
    next_verb = _NEXT_VERBS.get(report["state"])
    if lesson := report["lesson"]:
        total = len(lesson["checkpoints"])
        text = tr_n(
            "lesson {id}: {passed} of {total} checkpoint passed",
            "lesson {id}: {passed} of {total} checkpoints passed",
            n=total,
            id=lesson["id"],
            passed=len(lesson["passed"]),
            total=total or "?",
        )
        if answers := counted(lesson["answered"], lesson["questions"]):
            text = tr("; ").join((text, answers))
        if lesson["practice"]:
            text = tr("{text} ({detail})", text=text, detail=tr("practice"))
        console.say(text)
        if lesson["next"] and not next_verb:
            command = f"{labctl} next"
            console.say(tr("next: {command}", command=f"{command} ({lesson['next']})"))
    if next_verb:
        console.say(tr("next: {command}", command=f"{labctl} {next_verb}"))
    elif report["state"] == "degraded":
        down = not all(node["running"] for node in report["nodes"])
        verb = "fault clear" if report["faults"] else "up" if down else "reset"
        console.say(tr("to mend it: {command}", command=f"{labctl} {verb}"))
    for name in report["login"]:
        console.say(tr("log in: {command}", command=f"{labctl} ssh {name}"))
    for address in report["pages"]:
        text = tr(
            "`{command}` serves the page at {address}; its token was printed where it was started",
            command=f"{labctl} open",
            address=one_line(address),
        )
        console.say(text)


_NEXT_VERBS = {"unfinished": "create", "halted": "up", "destroying": "destroy"}
"""State -> the verb to run next."""


def _table(heads: list[str], rows: list[tuple[bool, list[str]]], console: Console) -> None:
    """Rows below their headings, each with a tick or a cross."""
    lines = [[Span(""), *(Span(head, "bold") for head in heads)]]
    for good, cells in rows:
        tick = Span("✓", "ok") if good else Span("✗", "bad")
        lines.append([tick, *(Span(one_line(cell)) for cell in cells)])
    console.write(list(table(lines, console.width)))
