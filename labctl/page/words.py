"""The texts of the page itself, in the language of the labctl that serves it."""

from collections.abc import Mapping

from labctl.i18n import tr


def page_words() -> Mapping[str, str]:
    """By the name that the page's template and scripts know it by."""
    return {
        "lesson": tr("lesson"),
        "terminals": tr("terminals"),
        "network": tr("the network now"),
        "whole": tr("Whole drawing"),
        "start": tr("Start"),
        "practice": tr("Practise"),
        "next": tr("Next"),
        "check": tr("Check"),
        "hint": tr("Hint"),
        "solve": tr("Solve"),
        "previous": tr("Previous"),
        "goto": tr("Go here"),
        "copy": tr("Copy"),
        "copied": tr("copied"),
        "run": tr("Run in the terminal"),
        "task": tr("your task"),
        "passed": tr("passed"),
        "begun": tr("failed"),
        "now": tr("next"),
        "open": tr("not run"),
        "expected": tr("expected"),
        "seen": tr("seen"),
        "evidence": tr("evidence"),
        "close": tr("Close this terminal"),
        "new": tr("New terminal on {node}", node="{node}"),
        "ended": tr("The shell has ended."),
        "connecting": tr("connecting …"),
        "lost": tr("The server does not answer. Is `labctl open` still running?"),
        "choose": tr("Choose a lesson"),
        "other": tr("Other lessons"),
        "log": tr("What labctl does"),
        "running": tr("runs …"),
        "done": tr("done in {seconds} s", seconds="{seconds}"),
        "failed": tr("failed"),
        "none": tr("No terminal is open."),
        "drawing": tr("is being drawn …"),
        "end": tr("All checkpoints of this lesson passed."),
        "hints": tr("{given} of {of} hints given", given="{given}", of="{of}"),
    }
