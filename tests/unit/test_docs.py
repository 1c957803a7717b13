"""What people read is true: verbs, targets, links, tables and graphs that the docs show exist."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import typer
from pydantic import BaseModel

from labctl.access.packets import Frame
from labctl.cli.app import app
from labctl.engine.steps import Step
from labctl.lab import Lab
from labctl.lessons.load import available, parse_lesson
from labctl.lessons.matching import OPERATORS
from labctl.lessons.model import NODES, PROBES, Capture, Checkpoint, Claim, Fact, Lesson
from labctl.lessons.requirements import Requirements
from labctl.providers.nspawn.provider import NspawnProvider
from labctl.provisioning.seed import Seed
from labctl.provisioning.stages import Provisioner
from labctl.spec.load import parse_spec
from labctl.state import LabState, Secrets
from labctl.topology import Topology, build_topology

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
VERBS = set(cast(Any, typer.main.get_command(app)).commands)
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

FENCE = re.compile(r"^```(?P<language>\S*).*?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?P<ticks>`+)(?P<text>.+?)(?P=ticks)")
LINK = re.compile(r"!?\[[^]]*\]\((?P<to>[^)\s]+)\)|<img[^>]* src=\"(?P<image>[^\"]+)\"")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
)


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def prose(text: str) -> str:
    """The document without its fenced blocks."""
    return FENCE.sub("", text)


def code(text: str) -> Iterator[str]:
    """Everything that is set as code: fenced blocks and words in backticks."""
    yield from (block["text"] for block in FENCE.finditer(text) if block["language"] != "mermaid")
    yield from (span["text"] for span in CODE.finditer(prose(text)))


def blocks(name: str, language: str) -> list[str]:
    return [one["text"] for one in FENCE.finditer(read(name)) if one["language"] == language]


def anchors(document: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    titles = (title.strip().lower() for _, title in HEADING.findall(document.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


# -- what commands and links name ------------------------------------------------------------------
@every_document
def test_every_verb_exists(document: Path) -> None:
    named = re.compile(r"(?<![\w-])labctl(?: --lang \S+)?[ ]+(?P<verb>[a-z][a-z-]*)")
    used = {verb for text in code(document.read_text("utf-8")) for verb in named.findall(text)}
    assert used - VERBS == set()


@every_document
def test_every_make_target_exists(document: Path) -> None:
    named = re.compile(r"(?:^|[`$#] *|&& )make (?P<target>[a-z][a-z0-9-]*)", re.MULTILINE)
    texts = code(document.read_text("utf-8"))
    used = {target for text in texts for target in named.findall(text)}
    assert used - TARGETS == set()


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.finditer(prose(document.read_text("utf-8"))):
        to = link["to"] or link["image"]
        if re.match(r"[a-z]+:", to):
            continue
        path, _, part = to.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (part and part not in anchors(target)):
            broken.append(to)
    assert broken == []


def test_the_readme_in_chinese_has_the_same_sections() -> None:
    def levels(name: str) -> list[int]:
        return [len(marks) for marks, _ in HEADING.findall(prose(read(name)))]

    def links(name: str) -> list[str]:
        found = (link["to"] or link["image"] for link in LINK.finditer(prose(read(name))))
        return sorted(to for to in found if not to.startswith(("#", "README")))

    assert levels("README.zh-TW.md") == levels("README.md")
    assert links("README.zh-TW.md") == links("README.md")


@pytest.mark.parametrize("readme", ["README.md", "README.zh-TW.md"])
def test_every_verb_is_in_the_readme(readme: str) -> None:
    text = "\n".join(code(read(readme)))
    assert [verb for verb in sorted(VERBS) if f"labctl {verb}" not in text] == []


# -- lab.yaml --------------------------------------------------------------------------------------
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name.replace("-", "_"), ROOT / f"scripts/{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", ["README.md", "README.zh-TW.md", "docs/prove.md"])
def test_every_built_in_lesson_is_in_the_table(document: str) -> None:
    table = re.findall(r"^\| (`[^|]*`) \|", (ROOT / document).read_text("utf-8"), re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`([^`]+)`", row)}
    assert sorted({*available()} - named) == []


def test_the_fields_of_lab_yaml_are_current() -> None:
    document = read("docs/lab-yaml.md")
    assert script("lab-yaml-doc").document(document) == document, "run scripts/lab-yaml-doc.py"


@pytest.mark.parametrize("name", ["README.md", "README.zh-TW.md", "docs/lab-yaml.md"])
def test_every_lab_yaml_shown_is_valid(name: str) -> None:
    shown = [text for text in blocks(name, "yaml") if re.search(r"^name:", text, re.MULTILINE)]
    assert shown
    for text in shown:
        build_topology(parse_spec(text.encode(), "lab.yaml"))


# -- lessons ---------------------------------------------------------------------------------------
def rows(text: str) -> dict[str, str]:
    """Rows of all tables: the first cell, without its backticks, -> the rest of the row."""
    found = re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", text, re.MULTILINE)
    return dict(found)


def section(name: str, heading: str) -> str:
    """A heading with everything below it, up to the next one of its level."""
    text = read(name)
    marks, _, _ = heading.partition(" ")
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, f"{name} has no {heading!r}"
    return re.split(rf"^#{{1,{len(marks)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("model", [Lesson, Requirements, Checkpoint, Fact, Claim, Capture])
def test_every_field_of_a_lesson_is_described(model: type[BaseModel]) -> None:
    expected = {field.alias or name for name, field in model.model_fields.items()}
    assert set(rows(section("docs/lessons.md", f"### {model.__name__}"))) == expected


def test_every_probe_and_operator_is_described() -> None:
    probes = section("docs/lessons.md", "## Probes")
    described = {name for name in rows(probes) if "." in name}
    assert described == set(PROBES), "docs/lessons.md, Probes: a row for each"
    described = set(rows(section("docs/lessons.md", "### Conditions")))
    assert described == set(OPERATORS), "docs/lessons.md, Conditions: a row for each"
    first_cells = "\n".join(re.findall(r"^\| (`.+?) \|", probes, re.MULTILINE))
    assert {one.name for one in fields(Frame)} <= set(re.findall(r"`(\w+)`", first_cells))


def test_the_values_templates_see_are_the_topologys() -> None:
    text = section("docs/lessons.md", "## Templates")
    assert set(re.findall(r"\bnode\.([a-z]+)", text)) == set(NODES)
    named = set(re.findall(r"\blab\.(?!yaml\b)([a-z_]+)", text))
    properties = {name for name, it in vars(Topology).items() if isinstance(it, property)}
    values = {field.name for field in fields(Topology)} | properties
    assert named == values, "docs/lessons.md, Templates: what lessons may write"


def test_the_lesson_shown_is_a_lesson() -> None:
    shown = [text for text in blocks("docs/lessons.md", "yaml") if "checkpoints:" in text]
    whole, common, lesson = shown
    assert parse_lesson(whole.encode(), "chassis.yaml").id == "chassis"
    # As a file of its own it has a head, too.
    assert lesson.startswith("# lesson.yaml\n")
    lesson = f"id: mine\ntitle: Mine\ngoal: Share.\n{lesson}"
    parts = (("common.yaml", common.encode()),)
    ids = [point.id for point in parse_lesson(lesson.encode(), "lesson.yaml", parts).checkpoints]
    assert ids == ["look", "look-again"]


# -- architecture ----------------------------------------------------------------------------------
def rooms() -> list[str]:
    """What lies directly in labctl/, in the order of the contract: imports go down only."""
    settings = tomllib.loads(read("pyproject.toml"))
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    assert contract["exhaustive"] is True
    return list(contract["layers"])


def test_the_page_has_a_paragraph_for_every_room_in_their_order() -> None:
    shown = re.findall(r"^- \*\*`([a-z0-9_]+)(?:/|\.py)`\*\*", read("docs/architecture.md"), re.M)
    assert shown == rooms()


def stages() -> list[Step]:
    """Everything that `create` does, for a lab with nothing but a name."""
    topology = build_topology(parse_spec(b"name: x", "lab.yaml"))
    state = LabState(Path("nowhere"))
    provider = MagicMock(timeout_factor=1, resolver="", features=NspawnProvider.features)
    provisioner = Provisioner(topology, provider, state, Secrets.generate(), ROOT / "provision")
    lab = cast(Lab, SimpleNamespace(topology=topology))
    return [*provisioner.host_steps(), *provisioner.node_steps(), *Seed(lab).steps()]


def mermaid(steps: list[Step]) -> str:
    """The graph of the steps, without needs that follow from others."""
    needs = {step.id: set(step.needs) for step in steps}
    behind: dict[str, set[str]] = {}
    for step in steps:  # each stands behind what it needs
        behind[step.id] = needs[step.id].union(*(behind[need] for need in needs[step.id]))
    nodes = [step.node for step in steps if step.id.startswith("boot:")]
    places = {"on the host": [step for step in steps if step.node is None]}
    places |= {str(node): [one for one in steps if one.id.endswith(f":{node}")] for node in nodes}
    placed = {step.id for members in places.values() for step in members}
    places["through OpenStack's APIs"] = [step for step in steps if step.id not in placed]
    lines = ["flowchart TD"]
    for number, (place, members) in enumerate(places.items()):
        lines.append(f'    subgraph place{number}["{place}"]')
        lines += [f'        {word(step.id)}["{step.title}"]' for step in members]
        lines.append("    end")
    for step in steps:
        implied = set().union(*(behind[need] for need in needs[step.id]))
        lines += [
            f"    {word(need)} --> {word(step.id)}" for need in step.needs if need not in implied
        ]
    return "\n".join(lines) + "\n"


def word(id: str) -> str:
    return re.sub(r"\W", "_", id)


def test_the_graph_of_create_is_current() -> None:
    graphs = blocks("docs/architecture.md", "mermaid")
    shown = [text for text in graphs if "subgraph place0" in text]
    drawn = mermaid(stages())
    assert shown == [drawn], f"put this graph into docs/architecture.md:\n{drawn}"


def test_the_graph_can_be_drawn_top_down() -> None:
    order = [step.id for step in stages()]
    assert all(order.index(need) < order.index(step.id) for step in stages() for need in step.needs)


# -- habits ----------------------------------------------------------------------------------------
@every_document
def test_headings_do_not_skip_a_level(document: Path) -> None:
    levels = [len(marks) for marks, _ in HEADING.findall(prose(document.read_text("utf-8")))]
    assert levels[:1] == [1]
    assert all(below - above <= 1 for above, below in pairwise(levels))
