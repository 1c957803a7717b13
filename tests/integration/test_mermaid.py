"""What `labctl graph` writes for Markdown, read and drawn by Mermaid itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from playwright.sync_api import Browser, Page

from labctl.graph.mermaid import mermaid
from labctl.graph.model import Graph
from labctl.graph.planned import planned
from labctl.i18n import set_language
from tests.unit.fakes import topology
from tests.unit.graph.graphs import CASES, HOSTILE, RecordedLab, big, graphs, renamed

MERMAID = (
    Path(__file__).parents[1] / "page" / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
)
DRAW = """async (text) => {
  document.body.innerHTML = (await mermaid.render("drawn", text)).svg;
  return [...document.querySelectorAll(".nodeLabel, .edgeLabel, .cluster-label")]
    .map((one) => one.textContent.trim());
}"""


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Page]:
    assert MERMAID.exists(), "scripts/setup.sh tools"
    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_script_tag(path=MERMAID)
    # As GitHub has it: nothing of a diagram may run.
    page.evaluate("mermaid.initialize({startOnLoad: false, securityLevel: 'strict'})")
    yield page
    page.close()
    assert asked == []


def drawn(page: Page, graph: Graph) -> list[str]:
    """The labels of the picture. Fails where Mermaid finds a mistake."""
    labels: Any = page.evaluate(DRAW, mermaid(graph))
    return list(labels)


@pytest.mark.parametrize("language", ["en", "zh-TW"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_lab_is_drawn(page: Page, case: str, language: str) -> None:
    set_language(language)
    try:
        for graph in (planned(topology(CASES[case])), RecordedLab(case).graph()):
            labels = " ".join(drawn(page, graph))
            for host in graph.hosts:
                assert host.name in labels
                assert all(vm.name in labels for vm in host.vms)
            assert all(switch.label in labels for switch in graph.switches)
    finally:
        set_language("en")


def test_a_large_lab_is_drawn(page: Page) -> None:
    labels = " ".join(drawn(page, big(10, 20)))
    assert all(f"compute-{number:02d}" in labels for number in range(1, 11))
    assert all(f"vm_{number}" in labels for number in range(1, 21))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_guest_calls_itself_is_only_text(page: Page, name: str) -> None:
    page.evaluate("() => { window.hit = null; window.alert = () => { window.hit = true } }")
    labels = drawn(page, renamed(name))
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.body.querySelector('script, [onload]')") is None
    assert any("script" in label or "onload" in label or "red" in label for label in labels)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(graphs())
def test_any_graph_is_understood(page: Page, graph: Graph) -> None:
    understood = page.evaluate("(text) => mermaid.parse(text)", mermaid(graph))
    assert understood["diagramType"].startswith("flowchart")
