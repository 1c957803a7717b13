"""What ovn-trace says: the question built from a real frame, the answer parsed. Pure.

ovn-trace walks a packet through the logical flows of the southbound database. It keeps no table of
connections: what conntrack would answer is told to it (`--ct`), and translations of replies back,
which only that table knows, it leaves out and says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl.access.packets import Frame

Verdict = Literal["output", "drop", "unknown"]


@dataclass(frozen=True)
class Stage:
    """One logical table that had a say, or what conntrack was taken to answer."""

    table: int | None
    """Number of the table in its pipeline; None for conntrack."""
    name: str
    match: str
    priority: int | None
    uuid: str
    """The first digits of the logical flow's UUID."""
    actions: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """ovn-trace's comments."""


@dataclass(frozen=True)
class Pipeline:
    """A pass through one half of a logical switch or router."""

    kind: str
    """ingress, egress or multicast."""
    datapath: str
    """UUID of the logical switch or router."""
    inport: str
    outport: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Output:
    """Where the packet leaves the logical network."""

    port: str
    type: str
    """localnet, vif, …; patch ports between switches and routers are not the end of the way."""


@dataclass(frozen=True)
class Trace:
    """One answer of ovn-trace."""

    command: tuple[str, ...]
    pipelines: tuple[Pipeline, ...]
    outputs: tuple[Output, ...]
    verdict: Verdict
    assumed: str = ""
    """What was told to it because only conntrack knows."""


# -- asking ----------------------------------------------------------------------------------------
_CONNTRACK_ANSWERS = 8
"""More than a packet passes on its way through two switches and a router."""


def command(datapath: str, inport: str, frame: Frame, state: str) -> list[str]:
    """argv that traces a frame from a logical port; `state` is what conntrack answers there.

    `datapath` is the UUID or the name of a logical switch or router.
    """
    conntrack = [f"--ct={state}"] * _CONNTRACK_ANSWERS
    return [
        "ovn-trace", "--detailed", "--no-friendly-names", *conntrack,
        datapath, microflow(inport, frame),
    ]  # fmt: skip


def microflow(inport: str, frame: Frame) -> str:
    """A frame in the language of logical flows."""
    terms = [
        f'inport == "{inport}"',
        f"eth.src == {frame.src_mac}",
        f"eth.dst == {frame.dst_mac}",
        f"ip4.src == {frame.src}",
        f"ip4.dst == {frame.dst}",
        f"ip.ttl == {frame.ttl}",
    ]
    match frame.protocol:
        case "icmp":
            number = {"request": "8", "reply": "0"}.get(frame.kind, frame.kind)
            terms += [f"icmp4.type == {number}", f"icmp4.code == {frame.code or 0}"]
        case "tcp" | "udp" as protocol:
            terms += [
                protocol,
                f"{protocol}.src == {frame.source_port}",
                f"{protocol}.dst == {frame.destination_port}",
            ]
            if protocol == "tcp":
                terms.append(f"tcp.flags == {_flags(frame.flags)}")
        case number:
            terms.append(f"ip.proto == {number}")
    return " && ".join(terms)


def _flags(letters: str) -> int:
    return sum(1 << "FSRPAUEC".index(letter) for letter in letters if letter in "FSRPAUEC")


# -- understanding ---------------------------------------------------------------------------------
_RULER = re.compile(r"\s*-{3,}\s*")
_PIPELINE = re.compile(r"(ingress|egress|multicast)\((.*)\)")
_ARGUMENT = re.compile(r'(\w+)="([^"]*)"')
_STAGE = re.compile(
    r"\s*(?P<table>\d+)\. (?P<name>\w+)(?: \([^()]*\))?:"
    r" (?P<match>.*?)(?:, priority (?P<priority>\d+), uuid (?P<uuid>\w+))?"
)
_COMMENT = re.compile(r"/\* (.*?) \*/;?")
_OUTPUT = re.compile(r'output to "([^"]*)", type "([^"]*)"')


@dataclass
class _Open:
    """A pipeline that is being read."""

    kind: str
    datapath: str
    inport: str
    outport: str
    stages: list[Stage] = field(default_factory=list)


def parse(text: str, command: Sequence[str] = ()) -> Trace:
    """The answer to `ovn-trace --detailed`. What is not understood is left out."""
    lines = text.splitlines()
    pipelines: list[_Open] = []
    outputs: list[Output] = []
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if not line.strip() or line.startswith("#") or _RULER.fullmatch(line):
            continue
        if _RULER.fullmatch(below):
            _begin(line.strip(), pipelines)
        elif stage := _STAGE.fullmatch(line):
            if pipelines:
                pipelines[-1].stages.append(_stage(stage))
        elif pipelines and pipelines[-1].stages:
            _act(line.strip(), pipelines[-1].stages, outputs)
    return Trace(
        command=tuple(command),
        pipelines=tuple(
            Pipeline(one.kind, one.datapath, one.inport, one.outport, tuple(one.stages))
            for one in pipelines
        ),
        outputs=tuple(outputs),
        verdict="output" if outputs else "drop" if pipelines else "unknown",
    )


def _begin(header: str, pipelines: list[_Open]) -> None:
    """A headline: of a pipeline, or of what conntrack is taken to have answered."""
    if found := _PIPELINE.fullmatch(header):
        given: dict[str, str] = dict(_ARGUMENT.findall(found[2]))
        pipelines.append(
            _Open(
                found[1], given.get("dp", ""), given.get("inport", ""),
                given.get("outport") or given.get("mcgroup") or "",
            )
        )  # fmt: skip
    elif pipelines:
        said = _COMMENT.sub("", header).strip()
        notes = tuple(_COMMENT.findall(header))
        pipelines[-1].stages.append(Stage(None, said.split("(")[0], "", None, "", (said,), notes))


def _stage(found: "re.Match[str]") -> Stage:
    priority = found["priority"]
    return Stage(
        table=int(found["table"]),
        name=found["name"],
        match=found["match"],
        priority=int(priority) if priority else None,
        uuid=found["uuid"] or "",
        actions=(),
    )


def _act(line: str, stages: list[Stage], outputs: list[Output]) -> None:
    """An action or a comment belongs to the stage that was read last."""
    last = stages[-1]
    notes = tuple(_COMMENT.findall(line))
    action = _COMMENT.sub("", line).strip().rstrip(";")
    stages[-1] = Stage(
        last.table, last.name, last.match, last.priority, last.uuid,
        (*last.actions, action) if action else last.actions, (*last.notes, *notes),
    )  # fmt: skip
    for note in notes:
        found = _OUTPUT.fullmatch(note)
        if found and found[2] != "patch":
            outputs.append(Output(found[1], found[2] or "vif"))


# -- in short --------------------------------------------------------------------------------------
EventKind = Literal[
    "enters", "allowed", "denied", "rejected", "routed", "snat", "dnat", "unsnat", "undnat",
    "redirected", "output", "dropped",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """What a person wants to know of a trace."""

    kind: EventKind
    datapath: str
    """UUID of the logical switch or router."""
    detail: str
    """The port, address, match or route it is about."""
    table: str = ""


_ACL = re.compile(r"ls_(?:in|out)_acl_(?:after_lb_)?eval")


def events(trace: Trace) -> list[Event]:
    """The few stages that decide, in order."""
    found: list[Event] = []
    for pipeline in trace.pipelines:
        if pipeline.kind == "ingress":
            found.append(Event("enters", pipeline.datapath, pipeline.inport))
        for stage in pipeline.stages:
            found += _decided(stage, pipeline.datapath)
    if trace.verdict == "drop" and not any(e.kind in ("denied", "dropped") for e in found[-1:]):
        last = trace.pipelines[-1]
        name, match = (last.stages[-1].name, last.stages[-1].match) if last.stages else ("", "")
        denied = next((e for e in reversed(found) if e.kind in ("denied", "rejected")), None)
        found.append(Event("dropped", last.datapath, denied.detail if denied else match, name))
    return found


def _decided(stage: Stage, datapath: str) -> list[Event]:
    actions = {}
    for action in stage.actions:
        left, _, right = action.partition(" = ")
        actions[left] = right
    found: list[Event] = []

    def add(kind: EventKind, detail: str) -> None:
        found.append(Event(kind, datapath, detail, stage.name))

    if _ACL.fullmatch(stage.name):
        for register, kind in _ACL_VERDICTS.items():
            if actions.get(register) == "1":
                add(kind, stage.match)
    if stage.name == "lr_in_ip_routing" and "outport" in actions:
        via = actions.get("reg0", "")
        route = stage.match.rpartition("ip4.dst == ")[2]
        add("routed", f"{route} via {via}" if re.fullmatch(r"[\d.]+", via) else route)
    for action in stage.actions if stage.table is not None else ():
        if given := re.fullmatch(r"ct_(snat|dnat)(?:_in_czone)?\(([\d.]+).*\)", action):
            add("snat" if given[1] == "snat" else "dnat", given[2])
        elif action in ("ct_snat", "ct_dnat") and stage.name in ("lr_in_unsnat", "lr_out_undnat"):
            add("unsnat" if action == "ct_snat" else "undnat", "")
    if stage.name == "lr_in_gw_redirect" and "outport" in actions:
        add("redirected", actions["outport"].strip('"'))
    for note in stage.notes:
        if output := _OUTPUT.fullmatch(note):
            add("output", output[1])
    if "drop" in stage.actions or "implicit drop" in stage.match:
        add("dropped", stage.match)
    return found


_ACL_VERDICTS: Mapping[str, EventKind] = {
    "reg8[16]": "allowed",
    "reg8[17]": "denied",
    "reg8[18]": "rejected",
}
