"""Records of what a lesson's last run showed and proved, and the transcript made of them.

A record holds its texts in both languages, filled in with the lab's values at that time. They
cannot be filled in later: a floating IP, for example, is gone once the checkpoint is undone.
"""

import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from labctl.assets import assets
from labctl.errors import LabError
from labctl.i18n import Language, current_language, tr, tr_list
from labctl.lessons.claims import ClaimChecker
from labctl.lessons.evidence import ClaimResult
from labctl.lessons.model import Checkpoint, Lesson, Text
from labctl.lessons.templates import fill
from labctl.state import LabState
from labctl.terminal.text import sanitize

if TYPE_CHECKING:
    from labctl.lessons.results import CheckpointResult, CommandResult

Record = Mapping[str, Any]
"""JSON-ready: id, source (the lesson's file), at, explain, typed, commands, claims; where there is
one, question; of the last checkpoint also summary."""


def write_record(
    state: LabState,
    lesson: Lesson,
    checkpoint: Checkpoint,
    result: "CheckpointResult",
    checker: ClaimChecker,
) -> None:
    """Write the record of a checkpoint. A `result` without commands: the learner typed them."""
    values = checker.values()

    def both(text: Text) -> dict[str, str]:
        return {
            language: checker.fill_text(text.said_in(language), values)
            for language in get_args(Language)
        }

    typed = not result.commands
    commands = [_command(command) for command in result.commands]
    if typed:
        commands = [
            {
                "command": fill(script, values, quoting=True).strip(),
                "prompt": "$",
                "output": "",
            }
            for script in checkpoint.scripts
        ]
    texts = {claim.id: both(claim.text) for claim in checkpoint.claims}
    record = {
        "id": checkpoint.id,
        "source": lesson.file,
        "at": time.time(),
        "explain": both(checkpoint.explain),
        "typed": typed,
        "commands": commands,
        "claims": [{"texts": texts[claim.id], "result": asdict(claim)} for claim in result.claims],
    }
    if checkpoint.question is not None:
        question, given = checkpoint.question, result.question
        record["question"] = {
            "texts": both(question.text),
            "answer": given.answer if given is not None else "",
            "why": both(question.why) if question.why is not None else None,
        }
    if lesson.summary is not None and checkpoint is lesson.checkpoints[-1] and result.ok:
        record["summary"] = both(lesson.summary)  # with the values that the lesson ended with
    state.write_json(state.record(lesson.id, checkpoint.id), record)


def note_answer(state: LabState, lesson: Lesson, checkpoint: Checkpoint, answer: str) -> None:
    """Add the right answer to the record of a checkpoint, if it has one that asks."""
    record = state.read_json(state.record(lesson.id, checkpoint.id)) or {}
    if question := record.get("question"):
        record["question"] = {**question, "answer": answer}
        state.write_json(state.record(lesson.id, checkpoint.id), record)


def answer_shown(record: Record, language: Language) -> tuple[str, str, str]:
    """(question, its right answer, why) of a record; no answer: it is open, and no why then."""
    question = record.get("question")
    if not question:
        return "", "", ""
    answer = question["answer"]
    why = question["why"] if answer else None
    return question["texts"][language], answer, why[language] if why else ""


def _command(result: "CommandResult") -> dict[str, Any]:
    return {"command": result.command, "prompt": result.prompt, "output": sanitize(result.output)}


def recorded_sources(state: LabState) -> list[str]:
    """The files of the lessons that records are of, the latest record last."""
    sources: dict[float, str] = {}
    for path in state.records.glob("*/*.json"):
        with suppress(LabError, AttributeError, KeyError, TypeError, ValueError):
            record = state.read_json(path) or {}
            sources[float(record["at"])] = str(record["source"])
    return list(dict.fromkeys(sources[at] for at in sorted(sources)))


def read_records(state: LabState, lesson: Lesson) -> dict[str, Record]:
    """{checkpoint id: its record} for the checkpoints of a lesson that have one."""
    records: dict[str, Record] = {}
    for checkpoint in lesson.checkpoints:
        record = state.read_json(state.record(lesson.id, checkpoint.id))
        if record is not None:
            records[checkpoint.id] = record
    return records


def summary_of(lesson: Lesson, records: Mapping[str, Record]) -> Mapping[str, str]:
    """{language: the lesson's summary}; empty if it has none, or its end was not reached."""
    last = records.get(lesson.checkpoints[-1].id, {})
    summary: Mapping[str, str] = last.get("summary", {})
    return summary


# -- the tutorial's filter -------------------------------------------------------------------------
@cache
def _abbrev() -> ModuleType:
    """The program `abbrev` that runs on the nodes, so that transcripts show what learners see."""
    path = assets() / "provision" / "files" / "abbrev.py"
    spec = importlib.util.spec_from_file_location("labctl_abbrev", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def abbreviated(text: str) -> str:
    """Output with UUIDs cut to six digits and tables redrawn, as `abbrev` on the nodes does."""
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
    """The lab in which the records were made, and its nodes."""

    lab: str
    nodes: Sequence[str]


def transcript(
    lesson: Lesson, records: Mapping[str, Record], scene: Scene, certificate: str = ""
) -> str:
    """The lesson as Markdown, with the output of this lab, in the current language.

    `certificate` is what `labctl prove` found of it, if it was proved.
    """
    day = max((record["at"] for record in records.values()), default=time.time())
    parts = [
        f"# {lesson.title}",
        str(lesson.goal),
        tr(
            "*Recorded on {day} in the lab {lab} ({nodes}), by labctl.*",
            day=time.strftime("%Y-%m-%d", time.gmtime(day)),
            lab=scene.lab,
            nodes=tr_list(scene.nodes),
        ),
    ]
    for number, checkpoint in enumerate(lesson.checkpoints, 1):
        parts.append(f"## {number}. {checkpoint.title}")
        if record := records.get(checkpoint.id):
            parts += _checkpoint(record)
        else:
            parts.append(tr("*Not run yet.*"))
    if summary := summary_of(lesson, records):
        parts += [f"## {tr('Summary')}", summary[current_language()]]
    if certificate:
        parts += [f"## {tr('Proof')}", certificate]
    text = "\n\n".join(part for part in parts if part.strip()) + "\n"
    # It is shown on terminals, and a lesson or the lab may say anything. Scripts may need tabs.
    return sanitize(text, keep_tabs=True)


def _checkpoint(record: Record) -> Iterator[str]:
    yield record["explain"][current_language()]
    lines: list[str] = []
    for command in record["commands"]:
        lines.append(f"{command['prompt']} {command['command']}")
        if command["output"].strip():
            lines += [abbreviated(command["output"]), ""]
    if lines:
        yield fenced("\n".join(lines).rstrip(), "console")
    yield "\n".join(line for claim in record["claims"] for line in _claim(claim))
    question, answer, why = answer_shown(record, current_language())
    if question:
        yield f"**{tr('Question')}**{tr(': ')}{question}"
    if answer:
        yield f"**{tr('Answer')}**{tr(': ')}`{answer}`" + (f"\n\n{why}" if why else "")


def _claim(claim: Mapping[str, Any]) -> Iterator[str]:
    result = ClaimResult(**claim["result"])
    mark = "✓" if result.holds else "✗"
    yield f"- {mark} {claim['texts'][current_language()]}"
    for evidence in result.evidence:
        text = abbreviated(sanitize(evidence)).replace("`", "'")
        yield f"  - `{text}`"


def fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
