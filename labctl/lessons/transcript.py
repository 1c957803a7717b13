"""What a lesson's last run said and proved, kept for `labctl transcript`, and the transcript.

A record holds its words in both languages, with the values of the lab as they were: the floating IP
of a run is gone when the run has been taken back.
"""

import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from labctl.assets import assets
from labctl.i18n import Language, current_language, tr
from labctl.lessons.claims import ClaimChecker
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.model import Checkpoint, Lesson, Text
from labctl.lessons.templates import fill
from labctl.state import LabState
from labctl.terminal.text import sanitize

if TYPE_CHECKING:
    from labctl.lessons.results import CheckpointResult, CommandResult

Record = Mapping[str, Any]
"""JSON-ready: id, at, explain, typed, commands, claims."""


def write_record(
    state: LabState,
    lesson: Lesson,
    checkpoint: Checkpoint,
    result: "CheckpointResult",
    checker: ClaimChecker,
) -> None:
    """Keep what a checkpoint said and proved; without commands the learner has typed them."""
    values = checker.values()

    def both(text: Text) -> dict[str, str]:
        return {one: checker.words(text.said_in(one), values) for one in get_args(Language)}

    typed = not result.commands
    commands = [_command(one) for one in result.commands]
    if typed:
        commands = [
            {"command": fill(one, values, quoting=True).strip(), "prompt": "$", "output": ""}
            for one in checkpoint.run
        ]
    texts = {claim.id: both(claim.text) for claim in checkpoint.claims}
    record = {
        "id": checkpoint.id,
        "at": time.time(),
        "explain": both(checkpoint.explain),
        "typed": typed,
        "commands": commands,
        "claims": [{"texts": texts[one.id], "result": asdict(one)} for one in result.claims],
    }
    state.write_json(state.record(lesson.id, checkpoint.id), record)


def _command(one: "CommandResult") -> dict[str, Any]:
    return {"command": one.command, "prompt": one.prompt, "output": sanitize(one.output)}


def read_records(state: LabState, lesson: Lesson) -> dict[str, Record]:
    """The records of a lesson's checkpoints, as far as there are any, by the checkpoints' ids."""
    found = {one.id: state.read_json(state.record(lesson.id, one.id)) for one in lesson.checkpoints}
    return {id: record for id, record in found.items() if record is not None}


# -- the tutorial's filter -------------------------------------------------------------------------
@cache
def _abbrev() -> ModuleType:
    """`abbrev` as the nodes have it: what is published cannot differ from what learners see."""
    path = assets() / "provision" / "files" / "abbrev.py"
    spec = importlib.util.spec_from_file_location("labctl_abbrev", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def abbreviated(text: str) -> str:
    """Output with UUIDs cut to six digits and tables drawn anew, as `abbrev` on the nodes does."""
    lines: list[str] = []
    table: list[str] = []
    for line in [*text.rstrip().split("\n"), ""]:
        if line.startswith(("+-", "|")):
            table.append(line)
            continue
        lines += [*(_abbrev().redraw(table) if table else []), _abbrev().shorten(line)]
        table = []
    return "\n".join(lines).rstrip()


# -- the transcript --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scene:
    """Where the records were made."""

    lab: str
    nodes: Sequence[str]


def transcript(lesson: Lesson, records: Mapping[str, Record], scene: Scene) -> str:
    """The lesson as Markdown, with the output of this lab, in the current language."""
    day = max((one["at"] for one in records.values()), default=time.time())
    parts = [
        f"# {lesson.title}",
        str(lesson.goal),
        tr(
            "*Recorded on {day} in the lab {lab} ({nodes}), by labctl.*",
            day=time.strftime("%Y-%m-%d", time.gmtime(day)),
            lab=scene.lab,
            nodes=", ".join(scene.nodes),
        ),
    ]
    for number, checkpoint in enumerate(lesson.checkpoints, 1):
        parts.append(f"## {number}. {checkpoint.title}")
        if record := records.get(checkpoint.id):
            parts += _checkpoint(record)
        else:
            parts.append(tr("*Not run yet.*"))
    text = "\n\n".join(part for part in parts if part.strip()) + "\n"
    # It is shown on terminals, and a lesson or the lab may say anything. Scripts may need tabs.
    return sanitize(text, keep_tabs=True)


def _checkpoint(record: Record) -> Iterator[str]:
    yield record["explain"][current_language()]
    lines: list[str] = []
    for one in record["commands"]:
        lines.append(f"{one['prompt']} {one['command']}")
        if one["output"].strip():
            lines += [abbreviated(one["output"]), ""]
    if lines:
        yield fenced("\n".join(lines).rstrip(), "console")
    yield "\n".join(line for one in record["claims"] for line in _claim(one))


def _claim(one: Mapping[str, Any]) -> Iterator[str]:
    result = ClaimResult(**one["result"])
    mark = "✓" if result.holds else "✗"
    yield f"- {mark} {one['texts'][current_language()]}"
    for evidence in result.evidence:
        text = abbreviated(sanitize(evidence)).replace("`", "'")
        yield f"  - `{text}`"


def fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
