"""A lesson: one tutorial day as data. The format is documented in docs/lessons.md.

Text is written in `en` and `zh-TW`. Commands, facts and claims are Jinja2 templates over the lab's
topology (`lab`, `instance`), so a lesson holds for the values a lab really has.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
)

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import Language, current_language, tr
from labctl.probes.openstack import PROBES as OPENSTACK
from labctl.probes.ovn import PROBES as OVN
from labctl.probes.wire import PROBES as WIRE
from labctl.spec.problems import KeyPath, SpecError, quoted
from labctl.spec.source import YamlSource
from labctl.topology import Topology

PROBES = {**OPENSTACK, **OVN, **WIRE}
"""Every probe that claims and facts may ask, by its name."""
CAPTURED = ("wire.packets", "wire.pairs")
"""Probes that look at what the checkpoint's captures saw."""
NODES = ("controller", "gateway", "hypervisor")
"""What `node.NAME` in a template may be."""

FIRST = {"openstack": "floating-ip", "ovn": "ovn-snat-dnat"}
"""The built-in lesson that a new lab is there for, by its stack."""

Row = Mapping[str, Any]
"""One line of what a probe saw: column -> value."""


_CJK = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
_BETWEEN_CJK = re.compile(f"(?<={_CJK}) (?={_CJK})")


Id = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


def _by_name(sets: Any) -> Any:
    """A list of names as a mapping of names to no template."""
    # Anything but a list of texts is left to complain about itself.
    texts = isinstance(sets, list | tuple) and all(isinstance(one, str) for one in sets)
    return dict.fromkeys(sets, "") if texts else sets


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
"""Names of shell variables, each with the template of its value; a plain list has none."""


def without_gaps(text: str) -> str:
    """Chinese text without the spaces that YAML joins folded lines with."""
    return _BETWEEN_CJK.sub("", text)


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class Text(_Model):
    """The same words in both languages."""

    en: str
    """English."""
    zh_tw: str = Field(alias="zh-TW")
    """Traditional Chinese, as in Taiwan."""

    def __str__(self) -> str:
        return self.said_in(current_language())

    def said_in(self, language: Language) -> str:
        """The words in that language."""
        if language != "zh-TW":
            return self.en.strip()
        return without_gaps(self.zh_tw).strip()


class Look(_Model):
    """A question to a probe."""

    probe: str
    """Which probe is asked."""
    arguments: Mapping[str, str] = Field(default={}, alias="with")
    """Its arguments; templates."""
    where: Mapping[str, Any] = {}
    """Only rows whose columns match; see `matches`."""


class Fact(Look):
    """A value of the running lab that claims are stated with: a column of the row that is seen."""

    column: str
    """The column of the first such row that is the fact."""


class Claim(Look):
    """One sentence that a checkpoint proves."""

    id: Id
    """Error messages and JSON name it; once in a lesson."""
    text: Text
    """The sentence that is proved, for the learner; a template."""
    count: int | str | None = None
    """How many rows there must be (a number, or a template that gives one); None: at least one."""
    each: Mapping[str, Any] = {}
    """What every row's columns must match."""
    within: float = Field(5, ge=0, le=3600, allow_inf_nan=False)
    """Seconds the claim may take to come true: a first ping is often lost to ARP."""
    until: str = ""
    """Id of the later checkpoint that makes it untrue; `check` asks for it only before that."""


class Capture(_Model):
    """A tcpdump that runs while the checkpoint's commands run."""

    node: str
    """As in a checkpoint, but not `instance`."""
    interface: str
    """As `ip link` on that node calls it."""
    filter: str
    """A pcap filter; a template."""


class Checkpoint(_Model):
    """One step: explain, run, prove, and how to take it back."""

    id: Id
    """Its name in commands; once in a lesson."""
    title: Text
    """No template."""
    explain: Text
    """Shown before anything runs; a template."""
    task: Text | None = None
    """What to do, without the commands, for the learner who types them; a template."""
    hints: Sequence[Text] = ()
    """Each says a little more than the one before; templates."""
    node: str = "controller"
    """`controller`, `gateway`, `hypervisor` (of the first instance), `instance`, or a node."""
    run: Sequence[str]
    """Shell commands, each a script of its own; templates that insert quoted words."""
    sets: Variables = {}
    """Shell variables of `run` that later checkpoints, and the learner, still have.

    A mapping gives for each the template of its value, for when the learner typed the commands.
    """
    capture: Sequence[Capture] = ()
    """Where to listen while `run` runs. Then `run` must change nothing: `check` runs it again."""
    claims: Sequence[Claim] = Field(min_length=1)
    """What is proved afterwards."""
    undo: str = ""
    """Shell commands that take the step back; must not fail when there is nothing to take back.

    They run where `run` ran; on the controller if that was an instance.
    """

    @property
    def only_looks(self) -> bool:
        """Whether its commands change nothing, for there is nothing to take back."""
        return not self.undo


class Lesson(_Model):
    """One tutorial day."""

    id: Id
    """Its name in commands; the position in the lesson is remembered under it."""
    title: Text
    """No template."""
    goal: Text
    """One sentence for the list of lessons; no template."""
    stack: Literal["openstack", "ovn"] | None = None
    """What a lab must be made of for this lesson; None: either will do."""
    needs: Sequence[str] = ()
    """Ids of built-in lessons that have to be passed before."""
    facts: Mapping[str, Fact] = {}
    """Values of the running lab that claims are stated with, by name."""
    checkpoints: Sequence[Checkpoint] = Field(min_length=1)
    """The steps, in order."""

    _source: YamlSource | None = PrivateAttr(None)

    def read_from(self, source: YamlSource) -> None:
        """Note the file it was read from, for messages that name a line."""
        self._source = source

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that id. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.id == name:
                return checkpoint
        raise KeyError(name)

    def require(self, topology: Topology) -> None:
        """Raises LabError (wrong use) if a lab is not made of what the lesson needs.

        That includes the nodes it names: SpecError, at their lines.
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
        if self._source is not None and (wrong := list(self._unknown_nodes(topology))):
            raise SpecError(self._source.problem(*one) for one in wrong)

    def _unknown_nodes(self, topology: Topology) -> Iterator[tuple[KeyPath, str, str]]:
        """(path, message, mend) for every node that the lab does not have, or nobody listens on."""
        names = [node.name for node in topology.nodes]
        for name, fact in self.facts.items():
            yield from _unknown_sender(fact, ("facts", name), names)
        for number, checkpoint in enumerate(self.checkpoints):
            path: KeyPath = ("checkpoints", number)
            if checkpoint.node not in (*NODES, "instance", *names):
                yield _no_node((*path, "node"), checkpoint.node, names)
            heard: set[str] = set()
            for place, capture in enumerate(checkpoint.capture):
                if capture.node not in (*NODES, *names):
                    yield _no_node((*path, "capture", place, "node"), capture.node, names)
                heard |= _meant(capture.node, topology)
            for place, claim in enumerate(checkpoint.claims):
                where = (*path, "claims", place)
                yield from _unknown_sender(claim, where, names)
                asked = claim.where.get("node") if claim.probe == "wire.packets" else None
                if isinstance(asked, str) and "{" not in asked and asked not in heard:
                    message = tr("no capture of this checkpoint listens on {name}",
                                 name=quoted(asked))  # fmt: skip
                    mend = tr("known are {names}", names=", ".join(sorted(heard)))
                    yield (*where, "where", "node"), message, mend


def _meant(node: str, topology: Topology) -> set[str]:
    """The names of the nodes that an alias may stand for."""
    match node:
        case "controller":
            return {topology.controller.name}
        case "gateway":
            return {topology.gateways[0].name}
        case "hypervisor":
            return {one.name for one in topology.computes}
    return {node}


def _unknown_sender(
    look: Look, path: KeyPath, names: Sequence[str]
) -> Iterator[tuple[KeyPath, str, str]]:
    sender = look.arguments.get("from", "controller") if look.probe == "wire.ping" else "controller"
    if "{" not in sender and sender not in (*NODES, "instance", *names):
        yield _no_node((*path, "with", "from"), sender, names)


def _no_node(path: KeyPath, name: str, names: Sequence[str]) -> tuple[KeyPath, str, str]:
    known = ", ".join((*NODES, *names))
    return (
        path,
        tr("this lab has no node {name}", name=quoted(name)),
        tr("known are {names}", names=known),
    )
