"""Lessons from a stranger: whatever is in one is refused in words, soon, and in little memory."""

import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from labctl.errors import LabError
from labctl.lessons.load import parse_lesson
from labctl.lessons.model import Lesson
from labctl.lessons.templates import fill, fill_all
from labctl.spec.problems import SpecError
from tests.unit.fakes import topology

SECONDS = 30
"""Of the processor, for one lesson. A hundredth is usual; a template nested as deep as Python goes
takes ten, with its memory measured."""
MEMORY = 64 << 20
"""Bytes, for one lesson."""


def values() -> dict[str, Any]:
    lab = topology()
    return {
        "lab": lab,
        "instance": lab.instances[0],
        "node": SimpleNamespace(controller=lab.controller, gateway=lab.gateways[0]),
        "fact": SimpleNamespace(ip="10.0.2.213"),
    }


VALUES = values()


def both(text: str) -> dict[str, str]:
    return {"en": text, "zh-TW": text}


def lesson_with(explain: str, run: str = "true") -> dict[str, Any]:
    claim = {"id": "k", "text": both("a"), "probe": "ovn.nat"}
    checkpoint = {"id": "c", "title": both("a"), "explain": both(explain), "run": [run],
                  "claims": [claim]}  # fmt: skip
    facts = {"ip": {"probe": "ovn.nat", "column": "external_ip"}}
    return {"id": "x", "title": both("a"), "goal": both("a"), "facts": facts,
            "checkpoints": [checkpoint]}  # fmt: skip


def complaints(data: object) -> list[str]:
    """What is said when a lesson is read and, as in a replay, every template of it filled in."""
    text = yaml.safe_dump(data, allow_unicode=True).encode()
    try:
        lesson: Lesson = parse_lesson(text, "x.yaml")
    except SpecError as refused:
        return refused.message.splitlines()
    said: list[str] = []
    for checkpoint in lesson.checkpoints:
        texts = [str(checkpoint.explain), *checkpoint.scripts, checkpoint.undo]
        conditions = [[one.arguments, one.where, one.each] for one in checkpoint.claims]
        for value, quoting in ((text, quoting) for text in texts for quoting in (False, True)):
            try:
                fill(value, VALUES, quoting=quoting)
            except LabError as error:
                said.append(error.message)
        for condition in conditions:
            try:
                fill_all(condition, VALUES)
            except LabError as error:
                said.append(error.message)
    return said


def bounded(data: object) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        said = complaints(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [line for line in said if not line.startswith("x.yaml:")] == []
    assert most < MEMORY
    assert time.process_time() - began < SECONDS


# -- what is known to hurt ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ('{{ "a" * 10**9 }}', "a value in it becomes too large"),
        ("{{ [1] * 10**9 }}", "a value in it becomes too large"),
        ("{{ 9**(9**9) }}", "a number in it has too many digits"),
        ("{{ 2**200 * 2**200 }}", "a number in it has too many digits"),
        ("{{ [].pop() }}", "it calls pop, which a template cannot"),
        ("{{ '%999999999d' % 1 }}", "it calls %, which a template cannot"),
        ("{{ '{:>999999999}'.format(1) }}", "it calls format, which a template cannot"),
        ("{{ 'a'.ljust(10**8) }}", "it calls ljust, which a template cannot"),
        ("{{ lab.nat.subnets() | list }}", "it calls subnets, which a template cannot"),
        ("{% for a in range(10**9) %}a{% endfor %}", "it takes more than 10000 steps"),
        ("{{ range(10**99) | list }}", "too large to convert|too many"),
        ("{% for a in range(999) %}{% for b in range(999) %}a{% endfor %}{% endfor %}",
         "it takes more than 10000 steps"),
        ("{% for a in lab.nat.__class__('10.0.0.0/8') %}a{% endfor %}", "unsafe"),
        ("{% set a = 'aaaaaaaa' %}" + "{% set a = a ~ a ~ a ~ a %}" * 20 + "{{ a }}",
         "a value in it becomes too large"),
        ("{% set a = ['aaaaaaaa'] %}" + "{% set a = [a, a, a, a] %}" * 20 + "{{ a }}",
         "a value in it becomes too large"),
        ("{% set a = 'a' * 60000 %}{{ a | replace('a', a) }}", "a value in it becomes too large"),
        ("{% set a = 'a' * 60000 %}{{ a | join(a) }}", "a value in it becomes too large"),
        ("{{ 5 | round(10**9, 'ceil') }}", "a number in it has too many digits"),
        ("{% for a in range(9999) %}" + "a" * 9999 + "{% endfor %}", "text that is too long"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ lab.nodes[9] }}", "no element|out of range"),
        ("{{ 2.0 ** 99999 }}", "Result too large|out of range"),
        ("{{ [3, 'a'] | sort }}", "not supported"),
    ],
)  # fmt: skip
def test_a_template_that_computes_too_much_is_refused(template: str, said: str) -> None:
    began = time.process_time()
    parse_lesson(yaml.safe_dump(lesson_with(template)).encode(), "x.yaml")  # computes nothing
    with pytest.raises(LabError, match=rf"^x\.yaml:\d+: checkpoints.*cannot fill in .*({said})"):
        fill(template, VALUES)
    assert time.process_time() - began < SECONDS
    bounded(lesson_with(template, template))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ (lab.nodes | selectattr('name', 'equalto', 'compute-01') | first).eth1.mac[:8] }}",
         "52:54:00"),
        ("{{ lab.nodes | map(attribute='name') | join(', ') }}", "network-controller, compute-01"),
        ("{% for node in lab.nodes %}{{ loop.index }}{{ node.name }}{% if not loop.last %}, "
         "{% endif %}{% endfor %}", "1network-controller, 2compute-01"),
        ("{{ 'a b'.split()[1] }} {{ 5 + lab.nodes | length }} {{ 2 ** 10 * 3 }}", "b 7 3072"),
        ("{{ lab.nat[5] }} {{ lab.nat | first }} {{ 'x' ~ 1 ~ instance.name }}",
         "10.0.2.5 10.0.2.0 x1vm_1"),
        ("{% set a = {'b': 'c'} %}{{ a.get('b') }} {{ a.items() | list }}", "c [('b', 'c')]"),
        ("{% raw %}{{ x }}{% endraw %}{# nothing #}", "{{ x }}"),
    ],
)  # fmt: skip
def test_what_lessons_need_still_works(template: str, text: str) -> None:
    assert fill(template, VALUES) == text


def test_a_template_of_the_largest_size_is_read() -> None:
    bounded(lesson_with("{{ lab.lab }}" * 480, "{% if lab.lab %}a{% endif %}" * 300))
    with pytest.raises(SpecError, match="it is longer than 32768 characters"):
        parse_lesson(yaml.safe_dump(lesson_with("{{ 1 }}" + "a" * 40_000)).encode(), "x.yaml")


# -- whatever else -----------------------------------------------------------------------------
LANGUAGE = r"""
{{ }} {% %} {# #} for if in set else endfor endif macro endmacro call filter block include import
range(9) range(99999) lab lab.nat lab.nodes fact.ip fact node instance.name loop loop.index a b x
( ) [ ] { } . , : | ~ + - * ** / // % == < and or not is defined first list join
replace('a','bb') map upper sort format center(9) 1 0 9 99999 1e999 "a" 'b' none true .pop()
.split() .items() [0] [9] [::2] __class__ \ ' " `
"""
WORDS = st.sampled_from(LANGUAGE.split())
TEMPLATES = st.one_of(
    st.lists(WORDS, max_size=25).map(" ".join),
    st.lists(WORDS, max_size=12).map(lambda words: "{{ " + " ".join(words) + " }}"),
    st.builds(
        lambda before, inner, after, n: before * n + inner + after * n,
        st.sampled_from(["(", "[", "-", "not ", "{% if a %}", "{{", "a.", "a|", "1+", "{"]),
        st.sampled_from(["1", "a", "x"]),
        st.sampled_from([")", "]", "", "{% endif %}", "}}", "|upper", "[0]", "}"]),
        st.integers(1, 3000),
    ).map(lambda text: text if text.startswith(("{%", "{{")) else "{{ " + text + " }}"),
)  # fmt: skip
PARTS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), TEMPLATES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
PLACES: tuple[tuple[str | int, ...], ...] = (
    ("id",), ("title",), ("facts",), ("facts", "ip"), ("facts", "ip", "where"), ("needs",),
    ("checkpoints",), ("checkpoints", 0), *(("checkpoints", 0, key) for key in (
        "id", "node", "run", "sets", "capture", "undo", "hints", "task", "claims")),
    *(("checkpoints", 0, "claims", 0, key) for key in (
        "id", "text", "probe", "with", "where", "each", "count", "within", "until")),
)  # fmt: skip


@pytest.mark.timeout(600)  # 300 examples, each with its memory measured
@given(TEMPLATES, TEMPLATES)
@example("{{ 99999 * '" + "a" * 30_000 + "' }}", "a")
def test_no_template_breaks_labctl(explain: str, run: str) -> None:
    bounded(lesson_with(explain, run))


@pytest.mark.timeout(600)
@given(st.sampled_from(PLACES), PARTS)
@example(("checkpoints", 0, "claims", 0, "within"), float("inf"))
@example(("checkpoints", 0, "claims", 0, "count"), 10**5000)
@example(("checkpoints", 0, "claims", 0, "where"), {"type": {"in": [1], "between": 3}})
@example(("checkpoints", 0, "claims", 0, "each"), {"type": {"matches": "(" * 5000}})
def test_no_lesson_breaks_labctl(place: tuple[str | int, ...], part: Any) -> None:
    data: Any = lesson_with("{{ fact.ip }}")
    inside = data
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = part
    try:
        yaml.safe_dump(data)
    except (ValueError, yaml.YAMLError):
        return  # a number of five thousand digits is no text that Python writes
    bounded(data)
