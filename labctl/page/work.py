"""The verbs of a lesson, as the command line runs them, one at a time and in a thread.

`PageConsole` is the console of such a verb: what it shows becomes messages for the page.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labctl.engine.events import Event, OutputLine, RunForecast
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.terminal.text import Line, one_line, sanitize

if TYPE_CHECKING:
    from labctl.lessons.results import LessonOutcome
    from labctl.lessons.session import Session
    from labctl.terminal.console import Console

Message = Mapping[str, Any]
"""What is sent to the page, as JSON; `kind` says what it is."""
Publish = Callable[[Message], None]

MOST_OUTPUT = 20_000
"""Characters of one command's output that the page shows; the transcript has more."""


class PageConsole:
    """A console whose every part is a message to the page."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def __call__(self, event: Event) -> None:
        if not isinstance(event, OutputLine | RunForecast):  # the whole output comes at its end
            self._publish({"kind": "event", **cleaned(event.to_json())})

    @property
    def width(self) -> int | None:
        return None

    def write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self.say("".join(span.text for span in line))

    def heading(self, text: str) -> None:
        self._publish({"kind": "heading", "text": one_line(text)})

    def say(self, text: str = "") -> None:
        if text.strip():
            self._publish({"kind": "text", "text": sanitize(text)})

    def explain(self, text: str) -> None:
        self._publish({"kind": "explain", "text": sanitize(text)})

    def command(self, command: str, prompt: str = "$") -> None:
        text = sanitize(command.rstrip())
        self._publish({"kind": "command", "prompt": one_line(prompt), "text": text})

    def output(self, text: str) -> None:
        if text.strip():
            self._publish({"kind": "output", "text": sanitize(text.rstrip())[-MOST_OUTPUT:]})

    def claim(
        self, ok: bool, text: str, *, evidence: str = "", expected: str = "", seen: str = ""
    ) -> None:
        texts = {"text": one_line(text), "evidence": sanitize(evidence)}
        if not ok:
            texts |= {"expected": sanitize(expected), "seen": sanitize(seen)}
        self._publish({"kind": "claim", "ok": ok, **texts})

    def finding(
        self, level: str, text: str, *, impact: str = "", fix: str = "", commands: Any = ()
    ) -> None:
        del level, impact, fix, commands  # of the doctor, which no verb of a lesson asks
        self.say(text)

    def summary(self, ok: bool, text: str) -> None:
        self._publish({"kind": "summary", "ok": ok, "text": one_line(text)})

    def error(self, message: str, hint: str = "", log: str = "") -> None:
        texts = {"text": sanitize(message), "hint": sanitize(hint), "log": one_line(log)}
        self._publish({"kind": "error", **texts})

    def close(self) -> None:
        """A page needs no end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def cleaned(data: Any) -> Any:
    """JSON data whose every text is without control characters."""
    if isinstance(data, str):
        return sanitize(data)
    if isinstance(data, Mapping):
        return {key: cleaned(value) for key, value in data.items()}
    return [cleaned(value) for value in data] if isinstance(data, list | tuple) else data


_VERBS: "Mapping[str, Callable[[Session, str], LessonOutcome]]" = {
    "next": lambda lessons, _: lessons.next(),
    "check": lambda lessons, _: lessons.check(),
    "answer": lambda lessons, text: lessons.answer(text),
    "hint": lambda lessons, _: lessons.hint(),
    "solve": lambda lessons, _: lessons.solve(),
    "goto": lambda lessons, target: lessons.goto(target),
    "start": lambda lessons, lesson: lessons.start(lesson, practice=False),
    "practice": lambda lessons, lesson: lessons.start(lesson, practice=True),
}
"""By the name of the button: what it does, with its argument."""
LabVerb = Callable[[Lab, str, "Console", str], None]
"""Of the whole lab: does it, with the argument; the console, and how the user called labctl."""
WITH_LESSON = frozenset({"start", "practice"})
"""Those whose argument is a lesson that this lab must be able to run."""


class Work:
    """Runs one verb at a time; its messages end with one of the kind `done`."""

    def __init__(
        self,
        file: Path,
        publish: Publish,
        command: str,
        lab_verbs: Mapping[str, LabVerb] | None = None,
    ) -> None:
        """`command` is how the user called labctl, for hints.

        `lab_verbs` are run beside those of the lessons, by the name of the button.
        """
        self._file = file
        self._lab_verbs = lab_verbs or {}
        self._publish = publish
        self._command = command
        self._lock = threading.Lock()
        self.verb = ""
        """What runs now; empty: nothing."""
        self.ended = 0
        """How many verbs have come to their end."""
        self.seconds: dict[str, float] = {}
        """How long each verb with its argument took the last time that it succeeded."""

    @property
    def verbs(self) -> frozenset[str]:
        """All that can be begun."""
        return frozenset((*_VERBS, *self._lab_verbs))

    def begin(self, verb: str, argument: str = "") -> None:
        """Start one of `verbs`. Raises LabError when another one still runs."""
        with self._lock:
            if self.verb:
                raise LabError(tr("`{verb}` still runs", verb=self.verb))
            self.verb = verb
        threading.Thread(target=self._run, args=(verb, argument), daemon=True).start()

    def _run(self, verb: str, argument: str) -> None:
        began = time.monotonic()
        console = PageConsole(self._publish)
        self._publish({"kind": "begun", "verb": verb})
        failure: Exception | None
        try:
            failure = self._do(verb, argument, console)
        except Exception as error:
            failure = error
        seconds = round(time.monotonic() - began, 3)
        if failure is None and verb != "answer":
            self.seconds[f"{verb} {argument}".strip()] = seconds
        texts = {"text": "", "hint": ""}
        if failure is not None:
            message = getattr(failure, "message", "") or f"{type(failure).__name__}: {failure}"
            texts = {
                "text": sanitize(message),
                "hint": sanitize(getattr(failure, "hint", "") or ""),
            }
        ok = failure is None
        self.ended += 1
        self.verb = ""
        self._publish({"kind": "done", "verb": verb, "ok": ok, "seconds": seconds, **texts})

    def _do(self, verb: str, argument: str, console: PageConsole) -> Exception | None:
        """The failure that a verb of the lessons tells of; others raise theirs."""
        lab = Lab(self._file, console)
        if verb in self._lab_verbs:
            self._lab_verbs[verb](lab, argument, console, self._command)
            return None
        from labctl.actions.lessons import session  # loads the OpenStack SDK

        lesson = argument if verb in WITH_LESSON else ""
        typed = "start" if verb == "practice" else verb
        shown = "" if verb == "answer" else argument
        with session(lab, f"{typed} {shown}".strip(), console, lesson, self._command) as lessons:
            return _VERBS[verb](lessons, argument).failure
