"""A lesson: one tutorial day as data. The format is documented in docs/lessons.md.

Text is written in `en` and `zh-TW`. Commands, facts and claims are Jinja2 templates over the lab's
topology (`lab`, `instance`), so a lesson holds for the values a lab really has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import Language, current_language, tr
from labctl.probes.openstack import PROBES as OPENSTACK
from labctl.probes.ovn import PROBES as OVN
from labctl.probes.wire import PROBES as WIRE
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
        # YAML joins folded lines with a space, which Chinese does not have.
        return _BETWEEN_CJK.sub("", self.zh_tw).strip()


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
    within: float = 5
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

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of that id. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.id == name:
                return checkpoint
        raise KeyError(name)

    def summary(self) -> LessonSummary:
        """For programs; its texts are in the current language."""
        ids = [checkpoint.id for checkpoint in self.checkpoints]
        return LessonSummary(self.id, str(self.title), str(self.goal), self.stack, self.needs, ids)

    def require(self, topology: Topology) -> None:
        """Raises LabError (wrong use) if a lab is not made of what the lesson needs."""
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
