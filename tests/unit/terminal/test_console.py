"""What people see, on a pipe and on a terminal, and who gets which console."""

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.engine.events import (
    Event,
    EventBus,
    Note,
    OutputLine,
    PlannedStep,
    RunFinished,
    RunForecast,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from labctl.i18n import set_language
from labctl.terminal.console import Console, make_console
from labctl.terminal.live import LiveConsole
from labctl.terminal.plain import PlainConsole
from labctl.terminal.text import cell_width, sanitize

PLAN = (
    PlannedStep("image", "Bake the image"),
    PlannedStep("db", "MariaDB", 30.0),
    PlannedStep("ovn", "OVN", 12.4),
    PlannedStep("nova", "Nova"),
)
EVIL = "\x1b[2J[red]x[/red]\x07\x1b]0;t\x07"


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def plain(*, quiet: bool = False, width: int | None = None) -> tuple[PlainConsole, io.StringIO]:
    stream = io.StringIO()
    return PlainConsole(stream, quiet=quiet, width=width, clock=Clock()), stream


def failing_run(console: Console, clock: Clock) -> None:
    """Four steps: one there already, one done, one failed, one never started."""

    def after(seconds: float, event: Event) -> None:
        clock.now += seconds
        console(event)

    after(0, RunStarted("Create lab demo", PLAN))
    after(0, StepStarted("image", "Bake the image"))
    after(0.5, StepFinished("image", "already", 0.5))
    after(0, StepStarted("db", "MariaDB", "network-controller"))
    after(0, StepStarted("ovn", "OVN", "compute-01"))
    after(0, RunForecast(30.0))
    after(1, OutputLine("db", "network-controller", "stdout", f"Unpacking {EVIL}"))
    after(4, StepProgress("db", "loading schema"))
    after(16, StepProgress("db", f"slow {EVIL}"))
    after(0, StepFinished("ovn", "done", 21.0))
    after(1, Note("warning", f"clock {EVIL}"))
    after(0, StepFinished("db", "failed", 22.0, f"exit 1:\n  {EVIL}", "is it up?", "a/db.log"))
    after(0, StepFinished("nova", "skipped", 0.0, "not started"))
    after(0, RunFinished(False, 22.5))


# -- plain -------------------------------------------------------------------


def test_plain_lines_tell_the_run() -> None:
    stream, clock = io.StringIO(), Clock()
    failing_run(PlainConsole(stream, clock=clock), clock)
    assert stream.getvalue().splitlines() == [
        "",
        "Create lab demo",
        "[    0.0s] started  Bake the image",
        "[    0.5s] already  Bake the image",
        "[    0.5s] started  MariaDB (network-controller)",
        "[    0.5s] started  OVN (compute-01)",
        "[   21.5s] running  MariaDB (network-controller): slow [red]x[/red]",
        "[   21.5s] done     OVN (compute-01)  21.0s",
        "warning: clock [red]x[/red]",
        "[   22.5s] failed   MariaDB (network-controller)  22.0s",
        "    exit 1:",
        "      [red]x[/red]",
        "    hint  is it up?",
        "    log   a/db.log",
        "✗ Create lab demo · 1 done · 1 already done · 1 failed · 1 skipped · 22.5s",
    ]


def test_plain_columns_hold_in_chinese() -> None:
    set_language("zh-TW")
    stream, clock = io.StringIO(), Clock()
    failing_run(PlainConsole(stream, clock=clock), clock)
    lines = stream.getvalue().splitlines()
    assert "[    0.5s] 已完成   Bake the image" in lines
    assert "[   22.5s] 失敗     MariaDB（network-controller）  22.0s" in lines
    assert "    提示    is it up?" in lines
    assert "    記錄檔  a/db.log" in lines


def test_quiet_tells_only_what_is_wrong() -> None:
    stream, clock = io.StringIO(), Clock()
    console = PlainConsole(stream, quiet=True, clock=clock)
    failing_run(console, clock)
    console.heading("Lesson")
    console.explain("words")
    console.command("ls")
    console.output("file")
    console.say("more")
    console.claim(True, "holds")
    console.claim(False, "breaks")
    console.summary(False, "1 claim does not hold")
    assert stream.getvalue().splitlines() == [
        "warning: clock [red]x[/red]",
        "[   22.5s] failed   MariaDB (network-controller)  22.0s",
        "    exit 1:",
        "      [red]x[/red]",
        "    hint  is it up?",
        "    log   a/db.log",
        "✗ Create lab demo · 1 done · 1 already done · 1 failed · 1 skipped · 22.5s",
        "  ✗ breaks",
        "",
        "✗ 1 claim does not hold",
    ]


def test_a_run_without_failures_that_is_not_ok_was_interrupted() -> None:
    console, stream = plain()
    console(RunStarted("Create", PLAN))
    console(RunFinished(False, 1.0))
    assert stream.getvalue().endswith("✗ Create · interrupted · 1.0s\n")


def test_a_terminal_without_colour_breaks_between_words() -> None:
    console, stream = plain(width=30)
    console.error("the address pool covers the gateway", hint="shorten the pool at its end")
    assert stream.getvalue().splitlines() == [
        "✗ the address pool covers the",
        "  gateway",
        "  hint  shorten the pool at",
        "        its end",
    ]


def test_a_stream_that_cannot_say_it_all_gets_what_it_can() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    PlainConsole(stream).claim(True, "né")
    assert raw.getvalue() == "  ? né\n".encode("latin-1")


def test_a_reader_that_leaves_does_not_stop_the_work() -> None:
    tried: list[str] = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

    console = PlainConsole(Gone())
    console.say("one")
    console.say("two")
    assert len(tried) == 1  # and then nobody is there


# -- the page of a lesson ----------------------------------------------------


def lesson(console: Console) -> None:
    console.heading(f"2/9 Gateway {EVIL}")
    console.explain("The `router` gets\na **gateway**.")
    console.command("openstack router list \\\n  --long", prompt="network-controller#")
    console.output(f"| id | 中文 |\n{EVIL}\n\n")
    console.claim(True, "It has a port", evidence="SDK: one port")
    console.claim(False, "It has SNAT", evidence="lr-nat-list", expected="snat", seen="a\nb")
    console.summary(True, "9 checkpoints")


PAGE = [
    "",
    "2/9 Gateway [red]x[/red]",
    "The router gets a gateway.",
    "",
    "network-controller# openstack router list \\",
    "  --long",
    "| id | 中文 |",
    "[red]x[/red]",
    "",
    "  ✓ It has a port",
    "    evidence  SDK: one port",
    "  ✗ It has SNAT",
    "    expected  snat",
    "    seen      a",
    "              b",
    "    evidence  lr-nat-list",
    "",
    "✓ 9 checkpoints",
]


def test_a_lesson_reads_the_same_on_both_consoles() -> None:
    console, stream = plain()
    lesson(console)
    assert stream.getvalue().splitlines() == PAGE
    terminal = Terminal()
    lesson(LiveConsole(terminal, width=80))
    assert [line.rstrip() for line in sanitize(terminal.getvalue()).splitlines()] == PAGE


def test_colours_mark_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    console = LiveConsole(terminal, width=80)
    console.claim(False, "It has SNAT")
    console.claim(True, "It holds", evidence="name=n")
    assert "\x1b[31mIt has SNAT\x1b[0m" in terminal.getvalue()
    assert "\x1b[2m    evidence  \x1b[0mname=n" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


# -- live --------------------------------------------------------------------


def live(width: int, run: Callable[[Console, Clock], None]) -> list[str]:
    """Every line the terminal was ever sent, without its escapes."""
    terminal, clock = Terminal(), Clock()
    with LiveConsole(terminal, width=width, clock=clock) as console:
        run(console, clock)
    return [line.rstrip() for line in sanitize(terminal.getvalue()).splitlines()]


def test_live_scrolls_ends_and_redraws_what_runs() -> None:
    lines = live(80, failing_run)
    text = "\n".join(lines)
    assert "✓ already  Bake the image" in lines
    assert "✓   21.0s  OVN  (compute-01)" in lines
    assert "✗   22.0s  MariaDB  (network-controller)" in lines
    assert "    hint  is it up?" in lines
    assert "✗ Create lab demo · 1 done · 1 already done · 1 failed · 1 skipped · 22.5s" in lines
    # While OVN's end was printed, MariaDB was running, with its estimate and last words.
    running = r"[⠀-⣿] +21\.0s  MariaDB  \(network-controller\)  ~30s  slow \[red\]x\[/red\]"
    assert re.search(running, text)
    assert re.search(r"  [12]/4 · 21\.5s · about 9s left", text)
    assert "Nova" not in text, "what never started is only counted"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_of_the_display_is_wider_than_the_terminal(width: int) -> None:
    def run(console: Console, clock: Clock) -> None:
        title = "建立非常非常長的標題 with a very long English part as well"
        console(RunStarted("標題" * 30, (PlannedStep("a", title, 5), PlannedStep("b", title, 5))))
        for id in "ab":
            console(StepStarted(id, title, "network-controller-with-a-long-name"))
            console(StepProgress(id, "訊息" * 80))
        console(RunForecast(10.0))
        console(StepFinished("a", "done", 3.0))
        console(StepFinished("b", "failed", 3.0, "原因 " * 60, "hint " * 60, "log " * 60))
        console(RunFinished(False, 3.0))

    lines = live(width, run)
    assert any(line.endswith("…") for line in lines)
    assert max(cell_width(line) for line in lines) <= width
    assert max(cell_width(line) for line in lines) >= width - 2, "room is left unused"


def test_output_is_shown_until_a_step_says_better() -> None:
    def run(console: Console, clock: Clock) -> None:
        console(RunStarted("", (PlannedStep("a", "A"), PlannedStep("b", "B"))))
        for id in "ab":
            console(StepStarted(id, id.upper()))
            console(OutputLine(id, None, "stdout", f"output of {id}"))
        console(StepProgress("b", "progress of b"))
        console(OutputLine("b", None, "stdout", "noise"))
        console(StepStarted("c", "C"))
        console(StepFinished("c", "done", 0.1))

    text = "\n".join(live(80, run))
    assert "A  output of a" in text
    assert "B  progress of b" in text
    assert "noise" not in text


def test_events_of_steps_that_are_over_are_harmless() -> None:
    def run(console: Console, clock: Clock) -> None:
        console(StepProgress("ghost", "boo"))
        failing_run(console, clock)
        console(StepProgress("db", "late"))
        console(RunFinished(True, 1))
        console.close()

    assert "late" not in "\n".join(live(80, run))


def test_the_cursor_is_back_when_the_work_breaks() -> None:
    terminal = Terminal()

    def interrupted() -> None:
        with LiveConsole(terminal, width=80) as console:
            console(RunStarted("Create", PLAN))
            assert "\x1b[?25l" in terminal.getvalue()
            assert "\x1b[?25h" not in terminal.getvalue()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "\x1b[?25h" in terminal.getvalue()


def test_the_console_is_a_subscriber() -> None:
    terminal = Terminal()
    bus = EventBus()
    with LiveConsole(terminal, width=80) as console:
        bus.subscribe(console)
        bus.emit(Note("error", "no"))
    assert sanitize(terminal.getvalue()) == "error: no\n"


# -- choosing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "env", "kind"),
    [
        ({}, {"TERM": "xterm-256color"}, LiveConsole),
        ({"json": True}, {"TERM": "xterm-256color"}, LiveConsole),
        ({}, {"TERM": "xterm", "NO_COLOR": ""}, LiveConsole),
        ({}, {"TERM": "xterm", "NO_COLOR": "1"}, PlainConsole),
        ({}, {"TERM": "dumb"}, PlainConsole),
        ({}, {}, PlainConsole),
        ({"quiet": True}, {"TERM": "xterm"}, PlainConsole),
        ({"no_color": True}, {"TERM": "xterm"}, PlainConsole),
    ],
)
def test_a_terminal_gets_what_it_can_show(
    options: dict[str, Any], env: dict[str, str], kind: type
) -> None:
    console = make_console(stdout=Terminal(), stderr=Terminal(), env=env, **options)
    assert type(console) is kind


def test_neither_a_pipe_nor_a_terminal_in_another_encoding_is_redrawn() -> None:
    class Latin(Terminal):
        encoding = "iso-8859-1"

    for stdout in (io.StringIO(), Latin()):
        console = make_console(stdout=stdout, stderr=Terminal(), env={"TERM": "xterm"})
        assert type(console) is PlainConsole


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()])
def test_with_json_stdout_is_left_alone(stderr: io.StringIO) -> None:
    stdout = Terminal()
    console = make_console(json=True, stdout=stdout, stderr=stderr, env={"TERM": "xterm"})
    with console:
        failing_run(console, Clock())
        lesson(console)
    assert stdout.getvalue() == ""
    assert "MariaDB" in stderr.getvalue()


def test_plain_work_imports_neither_rich_nor_yaml() -> None:
    code = (
        "import sys, labctl.terminal.console, labctl.engine.steps, labctl.engine.wait\n"
        "labctl.terminal.console.make_console(env={}).say('hi')\n"
        "sys.exit(not {'rich', 'yaml'}.isdisjoint(sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"hi\n")
