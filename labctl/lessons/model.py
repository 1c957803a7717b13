"""A lesson: one tutorial day as data. The format is documented in docs/lessons.md.

Text is written in `en`, in `zh-TW` or in both. Commands, facts and claims are Jinja2 templates that
use the lab's topology (`lab`, `instance`), so a lesson fits labs with other names and addresses.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import Language, current_language, tr, tr_list
from labctl.lessons.requirements import Requirements, how_to_mend, missing
from labctl.lessons.templates import fill
from labctl.probes.counters import PROBES as COUNTERS
from labctl.probes.failover import PROBES as FAILOVER
from labctl.probes.openstack import PROBES as OPENSTACK
from labctl.probes.ovn import PROBES as OVN
from labctl.probes.ovn_services import PROBES as OVN_SERVICES
from labctl.probes.run import PROBES as RUN
from labctl.probes.wire import PROBES as WIRE
from labctl.spec.problems import KeyPath, Problem, SpecError, quoted
from labctl.spec.source import YamlSource, mistyped
from labctl.topology import Machine, Topology

PROBES = {**OPENSTACK, **OVN, **OVN_SERVICES, **COUNTERS, **WIRE, **FAILOVER, **RUN}
"""{name: probe} of every probe that claims and facts may ask."""
CAPTURED = ("wire.packets", "wire.pairs", "wire.arp", "wire.neighbors", "wire.gaps")
"""Probes that read the frames which the checkpoint's captures saw."""
OF_COMMANDS = (*CAPTURED, "ovn.acl_log", "ovn.conntrack")
"""Probes of what a checkpoint's commands leave behind for a short time only."""
MEASURED = tuple(RUN)
"""Probes that read what the checkpoint's own commands did."""
NODES = ("controller", "gateway", "hypervisor", "client")
"""The names that a template may use in `node.NAME`."""

FIRST = {"openstack": "floating-ip", "ovn": "ovn-snat-dnat"}
"""{stack: the built-in lesson that labctl suggests for a new lab}."""

Row = Mapping[str, Any]
"""One row of what a probe saw: {column: value}."""


_CJK = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
_BETWEEN_CJK = re.compile(f"(?<={_CJK}) (?={_CJK})")


Id = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


def _by_name(sets: Any) -> Any:
    """A list of names as {name: ""}; other values as they are, for pydantic to report."""
    texts = isinstance(sets, list | tuple) and all(isinstance(name, str) for name in sets)
    return dict.fromkeys(sets, "") if texts else sets


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


_NAMES: dict[str, Any] = {"type": "string", "pattern": r"^[A-Za-z_]\w*$"}
Variables = Annotated[
    Mapping[_Name, str],
    BeforeValidator(_by_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _NAMES},
                {
                    "type": "object",
                    "propertyNames": {"pattern": _NAMES["pattern"]},
                    "additionalProperties": {"type": "string"},
                },
            ]
        }
    ),
]
"""{name of a shell variable: template of its value}; a plain list of names gives no templates."""


def without_gaps(text: str) -> str:
    """Chinese text without the spaces that YAML joins folded lines with."""
    return _BETWEEN_CJK.sub("", text)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Text(_Model):
    """A text in one language or in both; a plain text is one in English.

    A reader of the other language is shown the one that there is. The built-in lessons have both.
    """

    en: str = ""
    """English."""
    zh_tw: str = Field("", alias="zh-TW")
    """Traditional Chinese, as in Taiwan."""

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, given: Any) -> Any:
        # `en：Floating IP`, with the colon of a Chinese keyboard, was meant to be a key.
        key = isinstance(given, str) and given.startswith(("en", "zh-TW")) and mistyped(given)
        return {"en": given} if isinstance(given, str) and not key else given

    @model_validator(mode="after")
    def _not_empty(self) -> "Text":
        if not (self.en.strip() or self.zh_tw.strip()):
            raise PydanticCustomError("no_text", "must be text")
        return self

    def __str__(self) -> str:
        return self.said_in(current_language())

    def said_in(self, language: Language) -> str:
        """The text in that language; where there is none, in the other."""
        chinese = without_gaps(self.zh_tw).strip()
        if language == "zh-TW":
            return chinese or self.en.strip()
        return self.en.strip() or chinese


class ProbeQuery(_Model):
    """A question to a probe."""

    probe: str
    """Which probe is asked."""
    arguments: Mapping[str, str] = Field(default={}, alias="with")
    """Its arguments; templates."""
    where: Mapping[str, Any] = {}
    """Only rows whose columns match; see `matches`."""


class Fact(ProbeQuery):
    """A value of the running lab that claims use: one column of the first row that matches."""

    column: str
    """The column of that row; a list is given as its elements, with commas between them."""
    prefer: Mapping[str, Any] = {}
    """When several rows match: the first that meets this, if one does."""


class Looped(_Model):
    """A part of a checkpoint that may stand for several: see loops.py."""

    for_each: Literal["nodes", "computes", "gateways", "instances"] | None = None
    """Once for each of these; `item` in its templates is the node or the instance."""


class Claim(ProbeQuery, Looped):
    """One sentence that a checkpoint proves."""

    id: Id
    """Its name in error messages and JSON; unique in the lesson."""
    text: Text
    """The sentence that the learner reads; a template."""
    count: int | str | None = None
    """How many rows must match (a number, or a template that gives one); None: at least one."""
    each: Mapping[str, Any] = {}
    """What the columns of every such row must match."""
    delta: Mapping[str, Any] = {}
    """What the sum of a column over those rows must have grown by while `run` ran."""
    within: float = Field(5, ge=0, le=3600, allow_inf_nan=False)
    """Seconds the claim may take to come true: a first ping is often lost while ARP is resolved."""
    until: str = ""
    """Id of the later checkpoint that makes it untrue; `check` proves it only before that one."""
    holds_before: Text | None = None
    """Why it holds before its checkpoint, too; `labctl prove` then lets it. Not a template."""

    @property
    def needs_run(self) -> bool:
        """Whether it can be proved only while its checkpoint's commands run, or right after."""
        return self.probe in (*CAPTURED, *MEASURED) or bool(self.delta)


class Capture(Looped):
    """A tcpdump that runs while the checkpoint's commands run."""

    node: str
    """As in a checkpoint, but no instance; a template."""
    interface: str
    """Its name in `ip link` on that node, or NAMESPACE/NAME; a template."""
    filter: str
    """A pcap filter; a template."""


class _Script(Looped):
    """A script for the shell; in the file a plain text is enough where nothing else is said."""

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, given: Any) -> Any:
        return {"run": given} if isinstance(given, str) and not mistyped(given) else given


class Command(_Script):
    """A shell command of a checkpoint that is not on its node, or that is run for each of several.

    In the file a plain text is enough for one on the checkpoint's node.
    """

    run: str
    """A script for the shell; a template whose values are quoted for the shell."""
    node: str = ""
    """As in a checkpoint; empty: the checkpoint's. A template."""


class Background(_Script):
    """A command that runs while the checkpoint's other commands run, and is ended after them."""

    run: str = Field(min_length=1)
    """A script for the shell; a template whose values are quoted for the shell."""
    node: str = ""
    """As in a checkpoint, but no instance; empty: the checkpoint's node. A template."""


class Answer(ProbeQuery):
    """What the running lab answers to a question: a template, or a column of what a probe sees."""

    probe: str = ""
    """Which probe is asked; without `value`."""
    column: str = ""
    """The column of the rows that is the answer; it must be the same in all of them."""
    value: str = ""
    """Instead of a probe: a template that asks the lab, as by a fact."""
    kind: Literal["number", "address", "mac", "word"] = "word"
    """How the learner's answer is read and compared."""
    tolerance: float = Field(0, ge=0, allow_inf_nan=False)
    """By how much a number may differ."""

    def as_claim(self) -> Claim:
        """The claim that there is something which answers."""
        return Claim(
            id="answer",
            text=Text(en="answer"),
            probe=self.probe,
            where=self.where,
            within=3,
            **{"with": self.arguments},
        )


class Question(_Model):
    """A question that the learner answers after the checkpoint's commands ran."""

    text: Text
    """What is asked; a template."""
    answer: Answer
    """What the lab answers."""
    hint: Text | None = None
    """Shown after some wrong answers; a template."""
    why: Text | None = None
    """Why it is so; shown with the right answer. A template."""


class Checkpoint(_Model):
    """One step: explain, run, prove, and how to undo it."""

    id: Id
    """Its name in commands; unique in the lesson."""
    title: Text
    """Its heading; not a template."""
    explain: Text
    """Shown before anything runs; a template."""
    task: Text | None = None
    """What to do, without the commands, for the learner who types them; a template."""
    hints: Sequence[Text] = ()
    """Each tells a little more than the one before; templates."""
    node: str = "controller"
    """`controller`, `gateway`, `hypervisor` (of the first instance), `instance` (the first), or the
    name of a node or an instance; a template."""
    breaks: Sequence[Background] = Field((), alias="break")
    """Commands that break the lab, unseen, when the checkpoint begins: the learner is to find out
    what is wrong. `run` and `undo` mend it."""
    run: Sequence[Command]
    """Shell commands, each a script of its own; templates whose values are quoted for the shell."""
    background: Sequence[Background] = ()
    """Commands that are started before the first of `run`, and ended after the last."""
    sets: Variables = {}
    """Shell variables of `run` that are kept for later checkpoints and for the learner's shell.

    A mapping gives a template for each value, which is used when the learner typed the commands.
    """
    timeout: float = Field(300, ge=1, le=3600, allow_inf_nan=False)
    """Seconds that each command of `run`, and `undo`, may take in a container."""
    capture: Sequence[Capture] = ()
    """Where to capture while `run` runs. `check` runs `run` again, so it must change nothing."""
    claims: Sequence[Claim] = Field(min_length=1)
    """What is proved afterwards."""
    question: Question | None = None
    """What the learner is asked about it; the answer is compared with the running lab."""
    undo: str = ""
    """Shell commands that undo the step; must not fail when there is nothing to undo.

    They run where `run` ran; on the controller if that was an instance.
    """

    @property
    def scripts(self) -> list[str]:
        """The templates of its commands."""
        return [command.run for command in self.run]

    @property
    def only_looks(self) -> bool:
        """Whether its commands change nothing: then there is no `undo`."""
        return not self.undo

    def measured_once(self, claim: Claim) -> bool:
        """Whether the claim is about this one run of commands that must not just be run again."""
        return claim.needs_run and claim.probe not in CAPTURED and not self.only_looks


class Fault(_Model):
    """Something that `labctl prove` breaks behind the lesson's back, and mends again.

    Either rows of a database are changed, or a service is stopped.
    """

    id: Id
    """Its name in the proof; unique in the lesson."""
    text: Text
    """What is wrong then; a template."""
    after: str = ""
    """Id of the checkpoint after which it is tried; empty: the last one."""
    node: str = ""
    """Whose Open vSwitch, or whose service; as in a checkpoint, but no instance. Empty: OVN's
    northbound database. A template."""
    table: str = ""
    """A table of that database, such as `NAT`."""
    where: Mapping[str, Any] = {}
    """Which rows: conditions on its columns, as in a claim."""
    delete: bool = False
    """Delete those rows."""
    change: Mapping[str, Any] = Field(default={}, alias="set")
    """Set these columns of those rows; of a map, the keys of a mapping. Templates."""
    stop: str = Field("", pattern=r"^[A-Za-z0-9@._-]*$")
    """Stop this systemd unit of `node`."""
    fails: Sequence[Id] = Field(min_length=1)
    """Ids of the claims that must not hold then. All others must."""
    either: Sequence[Id] = ()
    """Ids of claims that may hold or not: it hangs on what a node still remembers, as of ARP."""


@dataclass(frozen=True)
class LessonSummary:
    """One lesson in what `lessons --json` prints."""

    id: str
    title: str
    goal: str
    stack: Literal["openstack", "ovn"] | None
    """What must run in the lab; null: either."""
    needs: Sequence[str]
    """Ids of the lessons that have to be passed before."""
    checkpoints: Sequence[str]
    """Their ids."""


class Lesson(_Model):
    """One tutorial day."""

    id: Id
    """Its name in commands; the position in the lesson is remembered under it."""
    title: Text
    """Its heading; not a template."""
    goal: Text
    """One sentence for the list of lessons; not a template."""
    stack: Literal["openstack", "ovn"] | None = None
    """The `stack` that the lab must have; None: any."""
    needs: Sequence[str] = ()
    """Ids of built-in lessons that have to be passed before."""
    requires: Requirements = Requirements()
    """What the lab must have, as lab.yaml says it."""
    parts: Annotated[Sequence[str], BeforeValidator(_as_list)] = ()
    """Files in the lesson's directory with facts, claims and checkpoints that it may `use`."""
    facts: Mapping[str, Fact] = {}
    """Values of the running lab that claims use, by name."""
    checkpoints: Sequence[Checkpoint] = Field(min_length=1)
    """The steps, in order."""
    faults: Sequence[Fault] = ()
    """What `labctl prove` breaks, and which claims must tell."""
    summary: Text | None = None
    """Shown when the last checkpoint has passed: what was seen, and what to look at next; a
    template."""

    _source: YamlSource | None = PrivateAttr(None)

    def read_from(self, source: YamlSource) -> None:
        """Note the file it was read from, for messages that name a line."""
        self._source = source

    @property
    def file(self) -> str:
        """Absolute path of the file it was read from; empty: none."""
        return str(Path(self._source.file).absolute()) if self._source is not None else ""

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that id. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.id == name:
                return checkpoint
        raise KeyError(name)

    def to_json(self) -> LessonSummary:
        """For programs; its texts are in the current language."""
        ids = [checkpoint.id for checkpoint in self.checkpoints]
        return LessonSummary(self.id, str(self.title), str(self.goal), self.stack, self.needs, ids)

    def require(self, topology: Topology) -> None:
        """Raise LabError (exit code 2) if the lab does not have what the lesson needs.

        That is its `stack`, what it `requires`, and the nodes that the lesson names: SpecError, at
        their lines.
        """
        if self.stack not in (None, topology.stack):
            raise LabError(
                tr(
                    "lesson {id} needs a lab with `stack: {needed}`; {lab} has `stack: {stack}`",
                    id=self.id,
                    needed=self.stack,
                    lab=topology.lab,
                    stack=topology.stack,
                ),
                hint=tr("the lesson for this lab is {lesson}", lesson=FIRST[topology.stack]),
                code=EXIT_USAGE,
            )
        if lacking := list(missing(self.requires, topology)):
            raise LabError(
                tr(
                    "lesson {id} needs what {lab} has not: {names}",
                    id=self.id,
                    lab=topology.lab,
                    names=tr("; ").join(each.what for each in lacking),
                ),
                hint=how_to_mend(lacking),
                code=EXIT_USAGE,
            )
        if self._source is not None and (wrong := list(self._unknown_nodes(topology))):
            raise SpecError(self._source.problem(*problem) for problem in wrong)

    def require_filters(
        self, ids: Set[str], topology: Topology, trouble: Callable[[str], str]
    ) -> None:
        """Raise SpecError if a capture of these checkpoints has a filter that tcpdump refuses.

        `trouble` gives tcpdump's words, or "" for a filter that it takes. Filters with facts are
        left out: they are known when the checkpoint is run.
        """
        if self._source is None:
            return
        wrong: list[Problem] = []
        for number, checkpoint in enumerate(self.checkpoints):
            for index, capture in enumerate(checkpoint.capture if checkpoint.id in ids else ()):
                filled = _known_value(capture.filter, topology)
                if filled is not None and (words := trouble(filled)):
                    path: KeyPath = ("checkpoints", number, "capture", index, "filter")
                    message = tr("is no filter of tcpdump's: {error}", error=words)
                    wrong.append(self._source.problem(path, message))
        if wrong:
            raise SpecError(wrong)

    def _unknown_nodes(self, topology: Topology) -> Iterator[tuple[KeyPath, str, str]]:
        """(path, message, fix) for every node that the lab lacks, or where nothing is captured."""
        names = node_names(topology)
        instances = instance_names(topology)
        for name, fact in self.facts.items():
            yield from _unknown_sender(fact, ("facts", name), names, instances)
        for number, checkpoint in enumerate(self.checkpoints):
            path: KeyPath = ("checkpoints", number)
            node = _known_value(checkpoint.node, topology)
            if node is not None and node not in ("instance", *instances, *names):
                yield _no_node((*path, "node"), node, names)
            for index, command in enumerate(checkpoint.background):
                node = _known_value(command.node, topology)
                if node and node not in names:
                    yield _no_node((*path, "background", index, "node"), node, names)
            for index, each in enumerate(checkpoint.run):
                node = _known_value(each.node, topology)
                if node and node not in ("instance", *instances, *names):
                    yield _no_node((*path, "run", index, "node"), node, names)
            captured: set[tuple[str, str]] | None = set()
            for index, capture in enumerate(checkpoint.capture):
                node = _known_value(capture.node, topology)
                interface = _known_value(capture.interface, topology)
                if node is not None and node not in names:
                    yield _no_node((*path, "capture", index, "node"), node, names)
                if node is None or interface is None:
                    captured = None  # known when the checkpoint is run
                elif captured is not None:
                    captured |= {(name, interface) for name in _nodes_of(node, topology)}
            for index, claim in enumerate(checkpoint.claims):
                claim_path = (*path, "claims", index)
                yield from _unknown_sender(claim, claim_path, names, instances)
                if captured is not None:
                    yield from _deaf_places(claim, claim_path, captured, topology)
            if checkpoint.question is not None:
                answer, answer_path = checkpoint.question.answer, (*path, "question", "answer")
                yield from _unknown_sender(answer, answer_path, names, instances)
                if captured is not None:
                    yield from _deaf_places(answer, answer_path, captured, topology)


def instance_names(topology: Topology) -> tuple[str, ...]:
    """The instances that commands may run in; none without OpenStack."""
    if topology.stack != "openstack":
        return ()
    return tuple(instance.name for instance in topology.instances)


def node_names(topology: Topology) -> tuple[str, ...]:
    """What lessons may call the lab's nodes and clients: `controller` and the like, and names."""
    aliases = (alias for alias in NODES if alias != "client" or topology.clients)
    return (*dict.fromkeys([*aliases, *(machine.name for machine in topology.machines)]),)


def first_client(topology: Topology) -> str:
    """The name of the client that lessons call `client`: the first, or the one that is named so.

    Where there is none, `client`.
    """
    names = [client.name for client in topology.clients]
    return names[0] if names and "client" not in names else "client"


def _known_value(template: str, topology: Topology) -> str | None:
    """What a template becomes; None if only the running lab can tell, or if it becomes nothing."""
    roles: dict[str, Machine] = {
        "controller": topology.controller,
        "gateway": topology.gateways[0],
    }
    if topology.clients:
        roles["client"] = topology.machine(first_client(topology))
    values = {"lab": topology, "instance": topology.instances[0], "node": roles}
    try:
        return fill(template, values).strip()
    except LabError:
        return None


_NODE = re.compile(r"\{\{ *node\.(\w+)\.name *\}\}")


def _deaf_places(
    claim: ProbeQuery, path: KeyPath, captured: Set[tuple[str, str]], topology: Topology
) -> Iterator[tuple[KeyPath, str, str]]:
    """Where a claim about packets looks and no capture of its checkpoint listens.

    Only places that the lab's description tells; `ClaimChecker.prove` finds the others.
    """
    asked: list[tuple[KeyPath, Any, Any]] = []
    if claim.probe in CAPTURED and claim.probe != "wire.pairs":
        asked = [((*path, "where", "node"), claim.where.get("node"), claim.where.get("interface"))]
    elif claim.probe == "wire.pairs":
        for name, value in claim.arguments.items():
            # A template may have spaces, and the interface is the last word.
            node, _, interface = value.strip().rpartition(" ")
            asked.append(((*path, "with", name), node.strip(), interface))
    for place, node, interface in asked:
        if not isinstance(node, str):
            continue
        alias = _NODE.fullmatch(node)
        if "{" in node and alias is None:
            continue
        names = _nodes_of(alias[1], topology) if alias else {node}
        known = isinstance(interface, str) and "{" not in interface
        if not any(n in names and (not known or i == interface) for n, i in captured):
            shown = node if alias is None else alias[1]
            if known and any(n in names for n, _ in captured):
                shown = f"{shown} {interface}"
            message = tr("no capture of this checkpoint listens on {name}", name=quoted(shown))
            places = {f"{n} {i}" for n, i in captured} if known else {n for n, _ in captured}
            yield place, message, tr("known are {names}", names=tr_list(sorted(places)))


def _nodes_of(node: str, topology: Topology) -> set[str]:
    """The names of the nodes that an alias may stand for."""
    match node:
        case "controller":
            return {topology.controller.name}
        case "gateway":
            return {topology.gateways[0].name}
        case "client":
            return {first_client(topology)}
        case "hypervisor":
            return {compute.name for compute in topology.computes}
    return {node}


_INSIDE = ("wire.ping", "wire.addresses")
"""Probes that may ask `from` within an instance."""


def _unknown_sender(
    query: ProbeQuery, path: KeyPath, names: Sequence[str], instances: Sequence[str]
) -> Iterator[tuple[KeyPath, str, str]]:
    sender = query.arguments.get("from")
    if sender is None:
        return
    inside = ("instance", *instances)
    known = (*inside, *names) if query.probe in _INSIDE else names
    if "{" not in sender and sender not in known:
        yield _no_node((*path, "with", "from"), sender, names)


def _no_node(path: KeyPath, name: str, names: Sequence[str]) -> tuple[KeyPath, str, str]:
    known = tr_list(names)
    return (
        path,
        tr("this lab has no node {name}", name=quoted(name)),
        tr("known are {names}", names=known),
    )
