"""Drawings are legible whatever is drawn: nothing overlaps, nothing is cut off."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.graph.layout import Drawing, lay_out
from labctl.graph.mermaid import mermaid
from labctl.graph.model import (
    INTERNET,
    Graph,
)
from labctl.graph.shapes import DrawnBox, Line, Text, clean, measure, shorten, shown_place
from labctl.graph.svg import svg
from labctl.graph.terminal import drawing
from labctl.terminal.text import cell_width
from tests.unit.graph.graphs import NASTY, big, graphs


# -- what must hold --------------------------------------------------------------------------------
def overlap(a: DrawnBox, b: DrawnBox) -> bool:
    return a.x < b.right and b.x < a.right and a.y < b.bottom and b.y < a.bottom


def every(drawn: Drawing) -> Iterator[DrawnBox]:
    for box in drawn.boxes:
        yield from box.walk()


def texts(drawn: Drawing) -> Iterator[Text]:
    yield from drawn.texts
    for box in every(drawn):
        yield from box.texts


def lines(drawn: Drawing) -> Iterator[Line]:
    yield from drawn.lines
    for box in every(drawn):
        yield from box.lines


def rectangle(text: Text) -> DrawnBox:
    return DrawnBox("text", text.width, text.y + 2 - text.top, text.x, text.top)


def check(drawn: Drawing) -> None:
    whole = DrawnBox("all", drawn.width, drawn.height)
    parents = [replace(whole, children=drawn.boxes, texts=drawn.texts), *every(drawn)]
    for parent in parents:
        inside = [*parent.children, *(rectangle(one) for one in parent.texts)]
        for one in inside:
            assert parent.x <= one.x, (parent, one)
            assert one.right <= parent.right, (parent, one)
            assert parent.y <= one.y, (parent, one)
            assert one.bottom <= parent.bottom, (parent, one)
        for a, b in combinations(inside, 2):
            assert not overlap(a, b), (parent.kind, a, b)
    written = [rectangle(one) for one in texts(drawn) if one.text]
    for line in lines(drawn):
        for (x1, y1), (x2, y2) in zip(line.points, line.points[1:], strict=False):
            assert x1 == x2 or y1 == y2, line
            stroke = DrawnBox("l", abs(x2 - x1) + 1, abs(y2 - y1) + 1, min(x1, x2), min(y1, y2))
            assert stroke.x >= 0
            assert stroke.right <= drawn.width
            assert stroke.bottom <= drawn.height
            for text in written:
                assert not overlap(stroke, text), (line, text)


@given(graphs())
def test_nothing_overlaps_and_nothing_is_cut_off(graph: Graph) -> None:
    check(lay_out(graph))


@pytest.mark.parametrize(
    ("computes", "instances"), [(1, 1), (1, 20), (2, 3), (4, 9), (10, 20), (10, 1)]
)
def test_a_lab_of_any_size_is_legible(computes: int, instances: int) -> None:
    graph = big(computes, instances)
    drawn = lay_out(graph)
    check(drawn)
    assert drawn.width < 2000
    assert drawn.height < 3500
    assert max(cell_width(line) for line in plain(graph, 100)) <= 100


@given(graphs())
def test_the_svg_is_xml_and_has_every_place_once(graph: Graph) -> None:
    root = ElementTree.fromstring(svg(graph))
    places = [one.get("data-place") for one in root.iter() if one.get("data-place")]
    assert len(places) == len(set(places))
    # Many tunnels are drawn as one, and no packet is seen at any of them.
    taken = {
        shown_place(host.name, one.name)
        for host in graph.hosts
        for one in host.interfaces
        if one.kind != "tunnel"
    }
    assert (taken | {INTERNET} if graph.hosts else taken) <= set(places)
    logical = {one.get("data-logical") for one in root.iter()}
    assert {one.name for one in graph.switches} <= logical
    assert {one.name for one in graph.routers} <= logical


@given(graphs(), st.integers(40, 130))
def test_the_terminal_drawing_has_its_width(graph: Graph, width: int) -> None:
    for line in plain(graph, width):
        assert cell_width(line) <= max(width, 44)
        assert "\x1b" not in line


@given(graphs())
def test_no_name_gets_out_of_its_label_in_mermaid(graph: Graph) -> None:
    for line in mermaid(graph).splitlines():
        before, *rest = line.split('"')
        assert len(rest) in (0, 2), line
        assert rest == [] or rest[0], line  # Mermaid reads no empty label
        if rest:
            assert not set(rest[0].replace("<br/>", "")) & set('<>&"`[]{}|\\*%'), line
        assert not set(before) & set("<>&`\\*%\x1b"), line


def plain(graph: Graph, width: int) -> list[str]:
    return ["".join(span.text for span in line) for line in drawing(graph, width)]


# -- texts -----------------------------------------------------------------------------------------
@given(NASTY, st.integers(2, 40))
def test_a_shortened_text_fits(text: str, cells: int) -> None:
    assert cell_width(shorten(clean(text), cells)) <= cells


def test_chinese_takes_two_cells() -> None:
    assert measure("節點", "mono") == measure("abcd", "mono")


def test_a_missing_tunnel_is_named() -> None:
    graph = big(2, 1)
    said = "\n".join(plain(replace(graph, tunnels=graph.tunnels[:-1]), 100))
    assert "none between compute-01 – compute-02" in said
