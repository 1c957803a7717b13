"""What `labctl prove` found of a lesson: on disk, as a table, for programs and as a certificate."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from typing_extensions import TypedDict

from labctl import __version__
from labctl.errors import EXIT_CLAIM, LabError
from labctl.i18n import current_language, mark, tr, tr_n
from labctl.lessons.model import Lesson
from labctl.state import LabState
from labctl.terminal.text import one_line, sanitize

Phase = Literal["before", "after", "undone", "solved", "fault", "mended"]
"""When claims are asked: before their checkpoint; after it ran; after it was undone; after `solve`
in practice; with a fault in the lab; after the fault was taken back."""
_COLUMNS: Sequence[tuple[Phase, str]] = (
    ("before", mark("before")),
    ("after", mark("after")),
    ("undone", mark("undone")),
    ("solved", mark("solved")),
)

_MOST_SEEN = 160
"""Characters of what was seen that are shown for a claim; `--json` has all."""


@dataclass(frozen=True)
class Asked:
    """One claim as it was asked once."""

    subject: str
    """Id of the checkpoint that is proved; with a fault, and after it, that of the fault."""
    phase: Phase
    claim: str
    expected: bool | None
    """Whether it must hold; null: either, for the reason that the lesson gives."""
    holds: bool
    seen: str = ""
    """What was seen, where that is not as it must be."""

    @property
    def right(self) -> bool:
        """Whether it is as it must be."""
        return self.expected in (None, self.holds)

    @property
    def text(self) -> str:
        """What is wrong, in a sentence."""
        match self.phase, self.holds:
            case "before", _:
                text = tr("{claim} holds before {subject} already", claim=self.claim,
                          subject=self.subject)  # fmt: skip
            case "undone", False:
                text = tr("{claim} does not hold after {subject} was taken back",
                          claim=self.claim, subject=self.subject)  # fmt: skip
            case "undone", True:
                text = tr("{claim} still holds after {subject} was taken back", claim=self.claim,
                          subject=self.subject)  # fmt: skip
            case "after", _:
                text = tr("{claim} does not hold after {subject}", claim=self.claim,
                          subject=self.subject)  # fmt: skip
            case "solved", _:
                text = tr("{claim} does not hold after `solve` of {subject} in practice",
                          claim=self.claim, subject=self.subject)  # fmt: skip
            case "fault", True:
                text = tr("{claim} holds in spite of the fault {subject}", claim=self.claim,
                          subject=self.subject)  # fmt: skip
            case "fault", False:
                text = tr("{claim} fails with the fault {subject}, though it is not to tell of it",
                          claim=self.claim, subject=self.subject)  # fmt: skip
            case _:
                text = tr("{claim} does not hold after the fault {subject} was taken back",
                          claim=self.claim, subject=self.subject)  # fmt: skip
        seen = one_line(self.seen)
        seen = seen if len(seen) <= _MOST_SEEN else f"{seen[:_MOST_SEEN]}…"
        return tr("{text} ({detail})", text=text, detail=seen) if seen else text


@dataclass(frozen=True)
class Subject:
    """A checkpoint or a fault of the lesson."""

    id: str
    titles: Mapping[str, str]
    """Filled in, by language."""

    @property
    def title(self) -> str:
        """In the current language."""
        return self.titles[current_language()]


@dataclass
class Proof:
    """All that was asked, in order."""

    lesson: str
    digest: str
    """SHA-256 of the lesson's file."""
    lab: str
    at: float
    """When it was begun, in seconds since the epoch."""
    labctl: str = __version__
    seconds: float = 0.0
    whole: bool = True
    """Whether all checkpoints and faults were proved, and not some that were chosen."""
    failure: str = ""
    """Why it did not come to its end, if it did not."""
    checkpoints: list[Subject] = field(default_factory=list)
    faults: list[Subject] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it came to its end and all was as it must be."""
        return not self.failure and bool(self.asked) and not self.wrong

    @property
    def wrong(self) -> list[Asked]:
        """What was not as it must be."""
        return [asked for asked in self.asked if not asked.right]

    @property
    def never_failed(self) -> list[str]:
        """Ids of claims that held whenever they were asked: nothing shows that they can fail."""
        failed = {asked.claim for asked in self.asked if not asked.holds}
        return [id for id in dict.fromkeys(a.claim for a in self.asked) if id not in failed]

    def cell(self, subject: str, phase: Phase) -> str:
        """How many claims were as they must be, as `✓ 3` or `✗ 2/3`; `—`: none was asked."""
        asked = [a for a in self.asked if (a.subject, a.phase) == (subject, phase)]
        free = sum(a.expected is None for a in asked)
        right, count = sum(a.right for a in asked) - free, len(asked) - free
        if not asked:
            return "—"
        if not count:
            return f"(+{free})"
        text = f"✓ {count}" if right == count else f"✗ {right}/{count}"
        return f"{text} (+{free})" if free else text

    def fault_cells(self, fault: str) -> tuple[str, str, str]:
        """The same of a fault: claims that must fail, those that must hold, and after it."""
        cells = []
        for expected in (False, True):
            asked = [
                a
                for a in self.asked
                if (a.subject, a.phase) == (fault, "fault") and a.expected is expected
            ]
            right = sum(a.right for a in asked)
            done = f"✓ {right}" if right == len(asked) else f"✗ {right}/{len(asked)}"
            cells.append(done if asked else "—")
        return cells[0], cells[1], self.cell(fault, "mended")

    def error(self) -> LabError | None:
        """The error that the command ends with; None when all is proved."""
        if self.failure:
            return LabError(self.failure)
        if not self.wrong:
            return None
        message = tr_n(
            "lesson {id} is not proved: {n} claim is not as it must be",
            "lesson {id} is not proved: {n} claims are not as they must be",
            n=len(self.wrong),
            id=self.lesson,
        )
        return LabError(
            message,
            hint=tr("docs/prove.md says what a claim must do, and how a lesson names exceptions"),
            code=EXIT_CLAIM,
        )

    def to_json(self) -> "ProofJson":
        """For programs."""
        return {
            "lesson": self.lesson,
            "ok": self.ok,
            "whole": self.whole,
            "failure": self.failure or None,
            "seconds": round(self.seconds, 3),
            "lab": self.lab,
            "labctl": self.labctl,
            "digest": self.digest,
            "checkpoints": [subject.id for subject in self.checkpoints],
            "faults": [subject.id for subject in self.faults],
            "asked": self.asked,
            "never_failed": self.never_failed,
        }


class ProofJson(TypedDict):
    """What `labctl prove --json` prints."""

    lesson: str
    ok: bool
    """Whether it came to its end and every claim was as it must be."""
    whole: bool
    """Whether all checkpoints and faults were proved, and not some that were chosen."""
    failure: str | None
    """Why it did not come to its end, if it did not."""
    seconds: float
    lab: str
    """Name of the lab in which it was proved."""
    labctl: str
    """Version of labctl."""
    digest: str
    """SHA-256 of the lesson's file."""
    checkpoints: Sequence[str]
    """Ids of those that were proved."""
    faults: Sequence[str]
    """Ids of those that were put into the lab and taken back."""
    asked: Sequence[Asked]
    """Every claim each time it was asked."""
    never_failed: Sequence[str]
    """Ids of claims that held whenever they were asked: nothing shows that they can fail."""


# -- on disk ---------------------------------------------------------------------------------------
def digest_of(lesson: Lesson) -> str:
    """SHA-256 of the file that a lesson was read from, and of those of its parts.

    "" if one is not there any more.
    """
    file = Path(lesson.file)
    files = [file, *(file.parent / name for name in lesson.parts)]
    try:
        return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()
    except OSError:
        return ""


def write_proof(state: LabState, proof: Proof) -> None:
    """Keep what was found, for the transcript and the report."""
    state.write_json(state.proof(proof.lesson), asdict(proof))


def read_proof(state: LabState, lesson: Lesson) -> Proof | None:
    """The lesson's last proof; None if there is none, or the lesson's file was another then."""
    data = state.read_json(state.proof(lesson.id))
    if data is None or data.get("digest") != digest_of(lesson):
        return None
    for name in ("checkpoints", "faults"):
        data[name] = [Subject(**part) for part in data[name]]
    data["asked"] = [Asked(**part) for part in data["asked"]]
    return Proof(**data)


# -- for people ------------------------------------------------------------------------------------
def tables(proof: Proof) -> Iterator[list[list[str]]]:
    """The table of the checkpoints and that of the faults, each with its headings first."""
    heading = [tr("checkpoint"), *(tr(name) for _, name in _COLUMNS)]
    yield [
        heading,
        *(
            [subject.id, *(proof.cell(subject.id, phase) for phase, _ in _COLUMNS)]
            for subject in proof.checkpoints
        ),
    ]
    if proof.faults:
        yield [
            [tr("fault"), tr("must fail"), tr("must hold"), tr("mended")],
            *([fault.id, *proof.fault_cells(fault.id)] for fault in proof.faults),
        ]


def verdict(proof: Proof) -> str:
    """The result in one sentence."""
    if proof.failure:
        return tr("lesson {id}: the proof was not finished: {why}",
                  id=proof.lesson, why=proof.failure)  # fmt: skip
    if proof.wrong:
        return tr("lesson {id} is not proved", id=proof.lesson)
    if not proof.whole:
        return tr("lesson {id}: proved in part", id=proof.lesson)
    return tr("lesson {id} is proved", id=proof.lesson)


def certificate(proof: Proof) -> str:
    """Markdown for the transcript: what was proved, when, with which labctl, and the tables."""
    day = time.strftime("%Y-%m-%d", time.gmtime(proof.at))
    parts = [
        ("✓ " if proof.ok else "✗ ") + verdict(proof),
        tr(
            "*labctl {version}, {day}, lab {lab}, SHA-256 of the lesson {digest}.*",
            version=proof.labctl,
            day=day,
            lab=proof.lab,
            digest=proof.digest[:16],
        ),
        legend(),
    ]
    for rows in tables(proof):
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        parts.append("\n".join(lines))
    if proof.faults:
        faults = [f"- `{fault.id}`{tr(': ')}{fault.title}" for fault in proof.faults]
        parts.append("\n".join(faults))
    if wrong := [f"- ✗ {sanitize(asked.text)}" for asked in proof.wrong]:
        parts.append("\n".join(wrong))
    return "\n\n".join(parts)


def legend() -> str:
    """What the columns of the tables are."""
    return tr(
        "Each number counts claims that were as they must be: refuted before the checkpoint, proved"
        " after it, refuted after it was taken back, proved after `solve` in practice. In brackets"
        " those that may hold before, for a reason that the lesson gives. With a fault in the lab"
        " the claims that speak of it must fail and all others hold. A checkpoint that breaks the"
        " lab is refuted while it is broken, and proved after it was taken back."
    )
