"""Collects the data of the report from a lab, whether it runs, is halted or does not exist yet."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from labctl import __version__
from labctl.actions.status import collect as status
from labctl.errors import LabError
from labctl.graph.model import Graph
from labctl.graph.planned import planned
from labctl.graph.svg import svg
from labctl.i18n import Language, tr, tr_list
from labctl.lessons.load import available, load_lesson
from labctl.lessons.model import Lesson
from labctl.lessons.progress import Position
from labctl.lessons.proof import read_proof
from labctl.lessons.transcript import Record, read_records, recorded_sources
from labctl.report.lessons import Step, checkpoint_of, lesson_shown
from labctl.report.page import ReportPage
from labctl.report.walks import WalkShown, walk_of, walk_shown, with_walk
from labctl.report.words import Both, both, same, speaking, utc
from labctl.topology import Machine, Node, Topology
from labctl.walks.walk import Walk

if TYPE_CHECKING:
    from labctl.lab import Lab


def collect(lab: "Lab") -> ReportPage:
    """All data of the report. What does not answer is shown as such, and raises nothing."""
    report = status(lab)
    topology = lab.topology
    walks = list(read_walks(lab))
    graphs = _graphs(lab, report["state"], walks)
    position = _position(lab)
    lessons = list(_lessons(lab, position))
    ran = {(lesson.id, id): record for lesson, records in lessons for id, record in records.items()}
    shown: dict[Step, list[WalkShown]] = {}
    others: list[WalkShown] = []
    for number, walk in enumerate(walks, 1):
        step = checkpoint_of(walk, ran)
        here = others if step is None else shown.setdefault(step, [])
        here.append(walk_shown(walk, graphs["en"], number))
    return ReportPage(
        title=same(topology.lab),
        state=both(lambda: tr(report["state"])),
        good=report["state"] == "up",
        facts=tuple(_facts(topology, report)),
        nodes=tuple(_node(topology, node) for node in report["nodes"]) or tuple(_planned(topology)),
        instances=tuple(report["instances"]),
        pictures=pictures(graphs),
        lessons=tuple(
            lesson_shown(lesson, records, position, shown, read_proof(lab.state, lesson))
            for lesson, records in lessons
        ),
        walks=tuple(others),
    )


def pictures(graphs: Mapping[Language, Graph]) -> dict[Language, str]:
    """By language: the network as SVG."""
    drawn: dict[Language, str] = {}
    for language, graph in graphs.items():
        with speaking(language):
            drawn[language] = svg(graph, prefix=f"net-{language}")
    return drawn


def _graphs(lab: "Lab", state: str, walks: Sequence[Walk]) -> dict[Language, Graph]:
    """By language: the network, completed by the interfaces that walks passed."""
    observed: Graph | None = None
    trouble = ""
    if state not in ("absent", "halted", "destroying"):
        from labctl.graph.observed import live

        try:
            observed = live(lab)
        except LabError as error:
            # Draw the planned network instead, with the reason as a note.
            trouble = error.message
    graphs: dict[Language, Graph] = {}
    for language in get_args(Language):
        with speaking(language):
            graph = observed or _planned_graph(lab, state, trouble)
        for walk in walks:
            graph = with_walk(graph, walk)
        graphs[language] = graph
    return graphs


def _planned_graph(lab: "Lab", state: str, trouble: str) -> Graph:
    graph = planned(lab.topology)
    if state == "halted":
        graph = replace(graph, hosts=tuple(replace(host, state="down") for host in graph.hosts))
    return replace(graph, notes=(*graph.notes, trouble)) if trouble else graph


def _facts(topology: Topology, report: Mapping[str, Any]) -> Iterator[tuple[Both, Both]]:
    def fact(name: Any, value: str) -> tuple[Both, Both]:
        return both(name), same(value)

    yield fact(lambda: tr("Stack"), topology.stack)
    yield fact(lambda: tr("Provider"), report["provider"] or "–")
    yield fact(lambda: tr("Private network"), str(topology.private))
    gateway = f"{topology.nat} → {topology.nat_gateway}"
    yield fact(lambda: tr("NAT network and its gateway"), gateway)
    yield fact(
        lambda: tr("External network"),
        f"{topology.external_network}, {topology.physical_network},"
        f" {topology.pool.start} – {topology.pool.end}",
    )
    yield fact(
        lambda: tr("Tenant network"),
        f"{topology.tenant_network}, {topology.tenant_cidr}, {topology.router}",
    )
    if report["faults"]:
        injected = [f"{fault['fault']} ({fault['node']})" for fault in report["faults"]]
        yield both(lambda: tr("Injected faults")), both(lambda: tr_list(injected))
    yield fact(lambda: tr("Report made"), f"{utc(time.time())}, labctl {__version__}")


def _node(topology: Topology, report: Mapping[str, Any]) -> dict[str, Any]:
    node = topology.machine(report["name"])
    registered = report["chassis"] or not isinstance(node, Node)
    good = report["running"] and registered and not report["failed"]
    running, failed = report["running"], report["failed"]

    def state() -> str:
        if not running:
            return tr("not running")
        return tr("not active: {units}", units=tr_list(failed)) if failed else tr("running")

    return {
        **report,
        "good": bool(good),
        "state": both(state),
        **_size(node),
    }


def _size(machine: Machine) -> dict[str, Any]:
    """A client has none: it is a container that shares this machine."""
    if not isinstance(machine, Node):
        return {"processors": "", "memory": ""}
    return {"processors": machine.spec.cpus, "memory": f"{machine.spec.memory} MiB"}


def _planned(topology: Topology) -> Iterator[dict[str, Any]]:
    for node in topology.machines:
        yield {
            "name": node.name,
            "roles": sorted(node.roles),
            "eth0": str(node.eth0.address),
            "eth1": str(node.eth1.address) if isinstance(node, Node) else "",
            "chassis": None,
            "good": False,
            "state": both(lambda: tr("planned")),
            **_size(node),
        }


# -- lessons and walks ----------------------------------------------------------------------------
def _position(lab: "Lab") -> Position:
    try:
        return Position.from_json(lab.state.read_json(lab.state.lesson_position))
    except LabError:
        return Position()


def _lessons(lab: "Lab", position: Position) -> Iterator[tuple[Lesson, dict[str, Record]]]:
    """The lessons for this lab with their records: first those that were begun."""
    sources = [begun.source for begun in position.lessons.values()]
    lessons = {lesson.id: lesson for lesson in _known([*recorded_sources(lab.state), *sources])}
    begun = [id for id in position.lessons if id in lessons]
    for id in dict.fromkeys((*begun, *lessons)):
        lesson = lessons[id]
        records = read_records(lab.state, lesson)
        if records or lesson.stack in (None, lab.topology.stack):
            yield lesson, records


def _known(sources: Sequence[str]) -> Iterator[Lesson]:
    """The built-in lessons, and those of these files; of two with one id the later one counts."""
    for source in (*available(), *(source for source in sources if source)):
        try:
            lesson = load_lesson(source)
            if lesson.id not in available() or source in available():
                yield lesson
        except LabError:
            continue  # a lesson file of the learner that was deleted


def read_walks(lab: "Lab") -> Iterator[Walk]:
    """The stored walks, newest first. Files of another labctl version are skipped."""
    for path in sorted(lab.state.walks.glob("*.json"), reverse=True):
        try:
            walk = walk_of(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError):
            continue
        if walk is not None:
            yield walk
