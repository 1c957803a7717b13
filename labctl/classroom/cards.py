"""A card for each learner: a page to print, a table for programs, and each learner's key."""

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

from labctl.classroom.ends import end_of, shown
from labctl.classroom.engine import Machine
from labctl.classroom.join import BEGIN
from labctl.classroom.keys import ClassKeys
from labctl.classroom.model import ClassSpec
from labctl.i18n import current_language, tr
from labctl.user_files import delete_for_user, directory_for_user, new_for_user, write_for_user

_STYLE = """
body { font-family: sans-serif; margin: 1cm; }
article { border: 1px dashed #888; padding: 5mm 7mm; margin: 0 0 6mm; break-inside: avoid; }
h2 { margin: 0 0 2mm; } p { margin: 1.5mm 0; }
code { font-size: 110%; border: 1px solid #ccc; padding: 0 1mm; }
"""


def write_cards(
    spec: ClassSpec, class_directory: Path, machines: Sequence[Machine], directory: Path
) -> None:
    """Write cards.html, cards.csv and LEARNER.key into a directory. Raises LabError.

    `class_directory` is where class.yaml is. A key is readable by its owner alone.
    """
    keys = ClassKeys(spec, class_directory)
    directory_for_user(directory)
    end = end_of(spec, machines)
    ends = shown(end) if end else ""
    cards = [(machine, command(spec, machine)) for machine in machines]
    for machine, _ in cards:
        file = directory / key_file(machine)
        delete_for_user(file)
        new_for_user(file, keys.learners_file(machine.learner), secret=True)
    write_for_user(directory / "cards.html", _page(spec, cards, ends))
    write_for_user(directory / "cards.csv", _table(spec, cards, ends))


def key_file(machine: Machine) -> str:
    """The name of the file with a learner's private key."""
    return f"{machine.learner}.key"


def command(spec: ClassSpec, machine: Machine) -> str:
    """What a learner types to log in, where their key file is."""
    port = f" -p {machine.port}" if machine.port != 22 else ""
    return f"ssh -i {key_file(machine)}{port} {machine.user or spec.user}@{machine.address}"


def _page(spec: ClassSpec, cards: Sequence[tuple[Machine, str]], ends: str) -> str:
    articles = "\n".join(_article(machine, words, ends) for machine, words in cards)
    return (
        f'<!doctype html>\n<html lang="{current_language()}"><head><meta charset="utf-8">'
        f"<title>{html.escape(spec.name)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{articles}\n</body></html>\n"
    )


def _article(machine: Machine, words: str, ends: str) -> str:
    key = tr("Your key is the file {file}: keep it to yourself.", file=key_file(machine))
    text = tr("The class ends at {time}; what you want to keep, copy before.", time=ends)
    until = f"<p>{html.escape(text)}</p>" if ends else ""
    shared = tr("Then type this, so that your teacher can look and help in your terminal:")
    return (
        f"<article><h2>{html.escape(machine.learner)}</h2>"
        f"<p>{html.escape(tr('Log in with'))} <code>{html.escape(words)}</code></p>"
        f"<p>{html.escape(key)}</p>"
        f"<p>{html.escape(shared)} <code>{html.escape(BEGIN)}</code></p>{until}</article>"
    )


def _table(spec: ClassSpec, cards: Sequence[tuple[Machine, str]], ends: str) -> str:
    sink = io.StringIO()
    table = csv.writer(sink, lineterminator="\n")
    table.writerow(["learner", "address", "user", "key", "command", "port", "ends"])
    for machine, words in cards:
        user = machine.user or spec.user
        row = [machine.learner, machine.address, user, key_file(machine), words, machine.port, ends]
        table.writerow(row)
    return sink.getvalue()
