"""Builds the ovn-trace command for a captured frame, and parses its output. Pure.

ovn-trace simulates a packet in the logical flows of the southbound database. It has no connection
table: `--ct` tells it what conntrack would answer. Translating a reply back needs that table, so it
does not do that, and says so in its output.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labctl.access.packets import Frame, is_ipv6
from labctl.walks.arp import ArpQuestion

Verdict = Literal["output", "drop", "unknown"]


@dataclass(frozen=True)
class Stage:
    """One logical table that the packet matched in, or what conntrack was assumed to answer."""

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
    """The ingress or egress half of a logical switch or router, as the packet passed it."""

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
    """localnet, vif, …; never patch: such a port leads to another switch or router."""


@dataclass(frozen=True)
class Trace:
    """The parsed output of one ovn-trace."""

    command: tuple[str, ...]
    pipelines: tuple[Pipeline, ...]
    outputs: tuple[Output, ...]
    verdict: Verdict
    assumed: str = ""
    """The translation that only conntrack knows and that was given to ovn-trace; else empty."""


# -- the command -----------------------------------------------------------------------------------
_CONNTRACK_ANSWERS = 8
"""ovn-trace takes one `--ct` for each lookup; two switches and a router make fewer than this."""


def command(datapath: str, inport: str, frame: Frame, state: str, then: str = "") -> list[str]:
    """argv that traces a frame from a logical port; `state` is for `--ct`, e.g. `est,rpl`.

    `datapath` is the UUID or the name of a logical switch or router. `then` is what conntrack
    answers from the second time on, if that is something else.
    """
    conntrack = [f"--ct={state}", *[f"--ct={then or state}"] * (_CONNTRACK_ANSWERS - 1)]
    return [
        "ovn-trace", "--detailed", "--no-friendly-names", *conntrack,
        datapath, microflow(inport, frame),
    ]  # fmt: skip


def arp_command(datapath: str, inport: str, question: ArpQuestion) -> list[str]:
    """argv that traces somebody's question who has an address; arguments as of `command`."""
    mac = question.asker_mac
    terms = [f'inport == "{inport}"', f"eth.src == {mac}"]
    if is_ipv6(question.target):
        terms += _solicitation(question)
    else:
        terms += [
            "eth.dst == ff:ff:ff:ff:ff:ff", "arp.op == 1", f"arp.sha == {mac}",
            f"arp.spa == {question.asker}", f"arp.tpa == {question.target}",
        ]  # fmt: skip
    return ["ovn-trace", "--detailed", "--no-friendly-names", datapath, " && ".join(terms)]


def _solicitation(question: ArpQuestion) -> list[str]:
    """A neighbor solicitation to the solicited-node address (RFC 4291, section 2.7.1)."""
    last = ipaddress.IPv6Address(question.target).packed[-3:]
    group = ipaddress.IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + last)
    return [
        f"eth.dst == 33:33:ff:{last[0]:02x}:{last[1]:02x}:{last[2]:02x}",  # RFC 2464, section 7
        f"ip6.src == {question.asker}", f"ip6.dst == {group}", "ip.ttl == 255", "nd_ns",
        f"nd.target == {question.target}", f"nd.sll == {question.asker_mac}",
    ]  # fmt: skip


_ICMPV6_TYPES = {
    "request": "128", "reply": "129", "router-solicitation": "133", "router-advertisement": "134",
    "neighbor-solicitation": "135", "neighbor-advertisement": "136",
}  # fmt: skip


def microflow(inport: str, frame: Frame) -> str:
    """A frame as an OVN expression: see ovn-trace(8), MICROFLOW."""
    ip = "ip6" if is_ipv6(frame.src) else "ip4"
    terms = [
        f'inport == "{inport}"',
        f"eth.src == {frame.src_mac}",
        f"eth.dst == {frame.dst_mac}",
        f"{ip}.src == {frame.src}",
        f"{ip}.dst == {frame.dst}",
        f"ip.ttl == {frame.ttl}",
    ]
    match frame.protocol:
        case "icmp":
            number = {"request": "8", "reply": "0"}.get(frame.kind, frame.kind)
            terms += [f"icmp4.type == {number}", f"icmp4.code == {frame.code or 0}"]
        case "icmp6":
            number = _ICMPV6_TYPES.get(frame.kind, frame.kind)
            terms += [f"icmp6.type == {number}", f"icmp6.code == {frame.code or 0}"]
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


# -- its output ---------------------------------------------------------------------------------
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
class _OpenPipeline:
    """A pipeline that is being read."""

    kind: str
    datapath: str
    inport: str
    outport: str
    stages: list[Stage] = field(default_factory=list)


def parse(text: str, command: Sequence[str] = ()) -> Trace:
    """Parse the output of `ovn-trace --detailed`. Lines of an unknown format are ignored."""
    lines = text.splitlines()
    pipelines: list[_OpenPipeline] = []
    outputs: list[Output] = []
    for number, line in enumerate(lines):
        next_line = lines[number + 1] if number + 1 < len(lines) else ""
        if not line.strip() or line.startswith("#") or _RULER.fullmatch(line):
            continue
        if line.strip().startswith("LOG: "):  # of an ACL that logs; it has a ruler, too
            continue
        if _RULER.fullmatch(next_line):
            _begin(line.strip(), pipelines)
        elif stage := _STAGE.fullmatch(line):
            if pipelines:
                pipelines[-1].stages.append(_stage(stage))
        elif started := [pipeline for pipeline in pipelines if pipeline.stages]:
            # A pipeline without a stage has a comment only, on what the stage before it did.
            _act(line.strip(), started[-1].stages, outputs)
    return Trace(
        command=tuple(command),
        pipelines=tuple(
            Pipeline(half.kind, half.datapath, half.inport, half.outport, tuple(half.stages))
            for half in pipelines
        ),
        outputs=tuple(outputs),
        verdict="output" if outputs else "drop" if pipelines else "unknown",
    )


def _begin(header: str, pipelines: list[_OpenPipeline]) -> None:
    """A heading: of a pipeline, or of an assumed answer of conntrack."""
    if match := _PIPELINE.fullmatch(header):
        arguments: dict[str, str] = dict(_ARGUMENT.findall(match[2]))
        pipelines.append(
            _OpenPipeline(
                match[1], arguments.get("dp", ""), arguments.get("inport", ""),
                arguments.get("outport") or arguments.get("mcgroup") or "",
            )
        )  # fmt: skip
    elif pipelines:
        action = _COMMENT.sub("", header).strip()
        notes = tuple(_COMMENT.findall(header))
        name = action.split("(")[0]
        pipelines[-1].stages.append(Stage(None, name, "", None, "", (action,), notes))


def _stage(match: "re.Match[str]") -> Stage:
    priority = match["priority"]
    return Stage(
        table=int(match["table"]),
        name=match["name"],
        match=match["match"],
        priority=int(priority) if priority else None,
        uuid=match["uuid"] or "",
        actions=(),
    )


def _act(line: str, stages: list[Stage], outputs: list[Output]) -> None:
    """Add an action or a comment to the stage that was read last."""
    last = stages[-1]
    notes = tuple(_COMMENT.findall(line))
    action = _COMMENT.sub("", line).strip().rstrip(";")
    stages[-1] = Stage(
        last.table, last.name, last.match, last.priority, last.uuid,
        (*last.actions, action) if action else last.actions, (*last.notes, *notes),
    )  # fmt: skip
    for note in notes:
        output = _OUTPUT.fullmatch(note)
        if output and output[2] != "patch":
            outputs.append(Output(output[1], output[2] or "vif"))


# -- summary ---------------------------------------------------------------------------------------
EventKind = Literal[
    "enters", "allowed", "denied", "rejected", "routed", "snat", "dnat", "unsnat", "undnat",
    "redirected", "output", "dropped",
]  # fmt: skip


@dataclass(frozen=True)
class TraceEvent:
    """One step of a trace that decides where the packet goes."""

    kind: EventKind
    datapath: str
    """UUID of the logical switch or router."""
    detail: str
    """The port, address, match or route, depending on `kind`."""
    table: str = ""
    uuid: str = ""
    """The first digits of the logical flow's UUID; empty where no flow decides."""


DROP_KINDS: tuple[EventKind, ...] = ("denied", "rejected", "dropped")
"""The events that stop a packet."""

_ACL = re.compile(r"ls_(?:in|out)_acl_(?:after_lb_)?eval")


def events(trace: Trace) -> list[TraceEvent]:
    """The steps that decide, in order."""
    steps: list[TraceEvent] = []
    for pipeline in trace.pipelines:
        if pipeline.kind == "ingress":
            steps.append(TraceEvent("enters", pipeline.datapath, pipeline.inport))
        for stage in pipeline.stages:
            steps += _decisions(stage, pipeline.datapath)
            if steps[-1:] and steps[-1].kind == "rejected":
                return steps  # what follows is about OVN's answer to it
    if trace.verdict == "drop" and not any(e.kind in ("denied", "dropped") for e in steps[-1:]):
        last = trace.pipelines[-1]
        end = last.stages[-1] if last.stages else Stage(None, "", "", None, "", ())
        denied = next((e for e in reversed(steps) if e.kind in ("denied", "rejected")), None)
        match = denied.detail if denied else end.match
        steps.append(TraceEvent("dropped", last.datapath, match, end.name, end.uuid))
    return steps


def _decisions(stage: Stage, datapath: str) -> list[TraceEvent]:
    actions = {}
    for action in stage.actions:
        left, _, right = action.partition(" = ")
        actions[left] = right
    decisions: list[TraceEvent] = []

    def add(kind: EventKind, detail: str) -> None:
        decisions.append(TraceEvent(kind, datapath, detail, stage.name, stage.uuid))

    if _ACL.fullmatch(stage.name):
        for register, kind in _ACL_VERDICTS.items():
            if actions.get(register) == "1":
                add(kind, stage.match)
    if stage.name == "lr_in_ip_routing" and "outport" in actions:
        via = actions.get("xxreg0") or actions.get("reg0", "")
        route = re.split(r"ip[46]\.dst == ", stage.match)[-1]
        add("routed", f"{route} via {via}" if _is_address(via) else route)
    for action in stage.actions if stage.table is not None else ():
        if translation := re.fullmatch(r"ct_(snat|dnat)(?:_in_czone)?\(([\da-f.:]+).*\)", action):
            add("snat" if translation[1] == "snat" else "dnat", translation[2])
        elif action in ("ct_snat", "ct_dnat") and stage.name in ("lr_in_unsnat", "lr_out_undnat"):
            add("unsnat" if action == "ct_snat" else "undnat", "")
    if stage.name == "lr_in_gw_redirect" and "outport" in actions:
        add("redirected", actions["outport"].strip('"'))
    for note in stage.notes:
        if output := _OUTPUT.fullmatch(note):
            add("output", output[1])
    if "drop" in stage.actions or "implicit drop" in stage.match:
        add("dropped", stage.match)
    return decisions


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_ACL_VERDICTS: Mapping[str, EventKind] = {
    "reg8[16]": "allowed",
    "reg8[17]": "denied",
    "reg8[18]": "rejected",
}
"""By register that the stage acl_eval sets to 1 (REGBIT_ACL_VERDICT_* in OVN's northd.c)."""
