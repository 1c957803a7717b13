"""The report in a real browser: headless Chromium, driven by Playwright."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from labctl.access.packets import Frame, frames
from labctl.report.page import render
from labctl.walks.model import Hop, Point
from labctl.walks.walk import Walk
from tests.conftest import in_ci
from tests.unit.graph.graphs import big
from tests.unit.report.reports import SHOWN, RecordedReport, walks_of
from tests.unit.walks.walks import NEVER_LEFT, PLAYED, WALKS

AXE = Path(__file__).parents[1] / "page" / "node_modules" / "axe-core" / "axe.min.js"
LANGUAGES = ("en", "zh-TW")
PHONE, LAPTOP, PAPER = 390, 1366, 688
"""Pixels; A4 without its margins."""


# -- pages -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Written:
    """A report on disk, and the walks that it shows, in its order."""

    file: Path
    walks: Sequence[Walk]


def written(directory: Path, **how: Any) -> Written:
    with pytest.MonkeyPatch.context() as patch:
        made = RecordedReport(directory, patch, **how)
        file = directory / "report.html"
        file.write_text(render(made.page(), "en"), encoding="utf-8")
    return Written(file, walks_of(made))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A lab after its lesson, with some walks."""
    return written(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The same lab, with guests that try to break out of the page."""
    return written(tmp_path_factory.mktemp("hostile"), hostile=True)


@dataclass
class Opener:
    """Opens reports, and hears whatever a page complains of or asks the network for."""

    browser: Browser

    @contextmanager
    def __call__(self, report: Written, width: int = LAPTOP, **how: Any) -> Iterator[Page]:
        """A page in a context of its own; afterwards it must have been silent."""
        how.setdefault("reduced_motion", "reduce")
        context = self.browser.new_context(viewport={"width": width, "height": 800}, **how)
        page = context.new_page()
        page.set_default_timeout(15_000)
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        url = report.file.as_uri()
        page.goto(url)
        yield page
        context.close()
        assert said == []
        assert set(asked) == {url}


@pytest.fixture
def opened(chromium: Browser) -> Opener:
    return Opener(chromium)


def do(walk: Locator, what: str) -> None:
    # By force: a button with aria-disabled can be pressed, and does nothing.
    walk.locator(f'[data-do="{what}"]').click(force=True)


def open_walk(walk: Locator) -> None:
    walk.evaluate("walk => { walk.open = true }")
    expect(walk.locator(".stage svg")).to_have_count(1)


def place_at(walk: Locator) -> str | None:
    return walk.locator("li.current").get_attribute("data-place")


def step_at(walk: Locator) -> int:
    return int(walk.locator("li.current").get_attribute("data-step") or 0)


# -- the walk --------------------------------------------------------------------------------------
def identity(frame: Frame) -> tuple[Any, ...]:
    """What no rewrite on the way changes."""
    quoted = frame.quoted and frame.quoted.ip_id
    return (
        frame.protocol, frame.kind, frame.ip_id, frame.sequence, frame.flags, frame.payload, quoted,
    )  # fmt: skip


def headers(frame: Frame) -> dict[str, str]:
    """What the page has to show of a frame, from the bytes that tcpdump wrote."""
    shown = {
        "src": frame.src, "dst": frame.dst, "ttl": str(frame.ttl), "src_mac": frame.src_mac,
        "dst_mac": frame.dst_mac, "tunnel": "–",
    }  # fmt: skip
    for name in ("source_port", "destination_port", "identifier"):
        if getattr(frame, name) is not None:
            shown[name] = str(getattr(frame, name))
    if frame.tunnel:
        shown["tunnel"] = f"{frame.tunnel_src} → {frame.tunnel_dst}, VNI {frame.vni}"
    return shown


def captured(case: str) -> list[Frame]:
    """Every frame of every capture of a walk."""
    found = []
    for file in (WALKS / case).glob("*.pcap"):
        node, _, interface = file.name.removesuffix(".pcap").partition(".")
        if content := file.read_bytes():
            found += frames(content, node, interface)
    return found


def where(node: str, interface: str) -> str:
    return "internet" if node == "internet" else f"{node}/{interface}"


def sightings(found: Sequence[Frame], of: Frame) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (where(one.node, one.interface), tuple(sorted(headers(one).items())))
        for one in found
        if identity(one) == identity(of)
    }


@pytest.fixture(scope="module")
def all_walks(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Every recorded walk on one page."""
    return written(tmp_path_factory.mktemp("walks"), walks=PLAYED)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A walk from the last row of a large lab to the first."""
    graph = big(10, 20)
    kept = [one for one in graph.hosts if one.name != "compute-02"]
    last = [one for one in graph.hosts if one.name == "compute-02"]
    graph = replace(graph, hosts=(*kept, *last))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedReport, "graph", lambda made: graph)
        return written(tmp_path_factory.mktemp("spread"), walks=["east-west", "out"])


def test_what_is_played_is_what_was_captured(all_walks: Written, opened: Opener) -> None:
    with opened(all_walks) as page:
        for number, case in enumerate(reversed(PLAYED), 1):
            walk = page.locator(f"#walk-{number}")
            open_walk(walk)
            played = played_steps(walk)
            found = captured(case)
            for path in (all_walks.walks[number - 1].request, all_walks.walks[number - 1].reply):
                if path is None:
                    assert not [one for one in played if one[0] == "reply"], case
                    continue
                shown = [(place, fields) for way, place, fields in played if way == path.direction]
                aside = {as_shown(hop) for hop in path.aside}
                expected = sightings(found, path.hops[0].frame)
                assert {*shown, *aside} == expected, f"{case}: {path.direction}"
                assert len(shown) == len(path.hops), case


def test_a_packet_that_did_not_leave_is_crossed_out_at_its_sender(
    tmp_path: Path, opened: Opener
) -> None:
    cases = sorted(NEVER_LEFT)
    with opened(written(tmp_path, walks=cases)) as page:
        for number, _ in enumerate(cases, 1):
            walk = page.locator(f"#walk-{number}")
            open_walk(walk)
            expect(walk.locator("svg .packet.lost .mark")).to_have_text("✗")
            expect(walk.locator(".now")).to_contain_text("did not leave")
            walk.locator('[data-do="play"]').click()
            expect(walk.locator("li.current")).to_have_count(1)
        assert page.locator("svg .packet.lost").count() == len(cases)


def as_shown(hop: Hop) -> tuple[str, tuple[tuple[str, str], ...]]:
    return where(hop.node, hop.interface), tuple(sorted(headers(hop.frame).items()))


STEPS_SHOWN = """walk => [...walk.querySelectorAll("li[data-step]")].map(() => {
  const now = walk.querySelector("li.current");
  const fields = [...now.querySelectorAll("tr[data-field]")]
    .filter((row) => row.checkVisibility())
    .map((row) => [row.dataset.field, row.querySelector(".value").innerText]);
  const label = walk.querySelector(".stage svg .header text")?.textContent ?? null;
  const { direction, place } = now.dataset;
  walk.querySelector('[data-do="next"]').click();
  return { direction, place, label, fields: Object.fromEntries(fields) };
})"""
"""What there is to be seen at each step, on the way from the first to the last."""


def played_steps(walk: Locator) -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Direction, place and headers at every hop, one step after the other."""
    played = []
    for step in walk.evaluate(STEPS_SHOWN):
        if step["direction"] == "end":
            continue
        fields = step["fields"]
        for name in ("src_mac", "dst_mac"):
            fields[name] = fields[name].split()[0]  # whose it is, is said behind it
        fields["tunnel"] = fields["tunnel"].split(" = ")[0]
        fields = {
            one: fields[one] for one in sorted(fields) if one not in ("kind", "option", "vlan")
        }
        if step["label"] is not None:
            # The packet on the picture carries the same addresses as the table below it.
            assert fields["src"] in step["label"]
            assert fields["dst"] in step["label"]
            name = "hop limit" if ":" in fields["src"] else "TTL"
            assert step["label"].endswith(f"{name} {fields['ttl']}")
        played.append((step["direction"], step["place"], tuple(fields.items())))
    return played


PACKET = """walk => [...walk.querySelectorAll("li[data-step]")].map(() => {
  const svg = walk.querySelector(".stage svg"), dot = svg.querySelector(".packet circle");
  const { place } = walk.querySelector("li.current").dataset;
  const box = svg.querySelector(`[data-place="${CSS.escape(place)}"]`).getBoundingClientRect();
  const at = dot.getBoundingClientRect();
  walk.querySelector('[data-do="next"]').click();
  return [place, at.x + at.width / 2 - box.right, at.y + at.height / 2 - box.top];
})"""
"""Of each step, its place and how far from that the packet is drawn, in pixels."""


def test_the_packet_is_where_it_was_seen(report: Written, opened: Opener) -> None:
    for width in (PHONE, LAPTOP):
        with opened(report, width) as page:
            for number in range(1, len(report.walks) + 1):
                walk = page.locator(f"#walk-{number}")
                open_walk(walk)
                seen = walk.evaluate(PACKET)
                assert seen
                for place, *off in seen:
                    assert off == pytest.approx([0, 0], abs=2), place


RUNS = """walk => {
  const svg = walk.querySelector(".stage svg");
  const pieces = [...svg.querySelectorAll(".walking .trail, .walking polyline.missing")]
    .flatMap((trail) => {
      const seen = trail.getScreenCTM();
      const points = [...trail.points].map((one) => one.matrixTransform(seen));
      return points.slice(1).map((b, n) => [points[n], b]);
    });
  const over = (element) => {
    const box = element.getBoundingClientRect();
    return pieces.some(([a, b]) => Math.max(a.x, b.x) > box.left && Math.min(a.x, b.x) < box.right
      && Math.max(a.y, b.y) > box.top && Math.min(a.y, b.y) < box.bottom);
  };
  const all = (selector) => [...svg.querySelectorAll(selector)];
  return {
    slanted: pieces.filter(([a, b]) => Math.min(Math.abs(a.x - b.x), Math.abs(a.y - b.y)) > 0.1),
    words: all("text").filter((one) => !one.closest(".walking") && over(one))
      .map((one) => one.textContent),
    through: all("[data-bridge], [data-segment]").filter((one) => over(one.querySelector(".b")))
      .map((one) => one.dataset.bridge ?? one.dataset.segment),
  };
}"""
"""What a walk's trails run over or through."""


def test_the_packet_goes_through_what_is_drawn(
    all_walks: Written, spread: Written, opened: Opener
) -> None:
    for report, language in ((all_walks, "en"), (spread, "en"), (spread, "zh-TW")):
        with opened(report) as page:
            page.locator(f'[data-language="{language}"]').click()
            nodes = "[...document.querySelectorAll('[data-node]')].map((one) => one.dataset.node)"
            drawn = {*page.evaluate(nodes), "internet"}
            for number, recorded in enumerate(report.walks, 1):
                walk = page.locator(f"#walk-{number}")
                open_walk(walk)
                walk.locator("button.to").last.click()
                runs = walk.evaluate(RUNS)
                assert runs["slanted"] == runs["words"] == [], f"{number}: {language}"
                # br-phy is where eth1 is, in containers: whoever comes to eth1 is in it.
                through = {one for one in runs["through"] if not one.endswith("/br-phy")}
                assert through == passed(recorded, drawn), f"{number}: {language}"


OF_BR_EX = {"br-ex", "eth0"}
"""Ports of one bridge: what goes from one to the other goes through no other bridge."""


def passed(walk: Walk, drawn: set[str]) -> set[str]:
    """What a walk must run through on a picture of those nodes, from where it was seen."""
    found: set[str] = set()
    paths = [path.hops for path in (walk.request, walk.reply) if path is not None]
    ways: list[tuple[Hop, Hop | Point]] = [pair for hops in paths for pair in pairwise(hops)]
    if walk.lost is not None and walk.lost.expected is not None:
        ways.append((paths[-1][-1], walk.lost.expected))  # the dashed line
    for a, b in ways:
        ends = {a.node, b.node}
        if not ends <= drawn:
            continue
        if "internet" in ends:
            found.add(f"nat/{next(iter(ends - {'internet'}))}")
        elif len(ends) == 2:
            found.add("private")
        elif a.interface != b.interface and not {a.interface, b.interface} <= OF_BR_EX:
            found.add(f"{a.node}/br-int")
        found |= {f"{one.node}/br-ex" for one in (a, b) if one.interface in OF_BR_EX}
    return found


def test_a_lost_packet_ends_where_it_was_lost(report: Written, opened: Opener) -> None:
    blocked = [number for number, one in enumerate(report.walks, 1) if one.lost is not None]
    assert blocked
    with opened(report) as page:
        walk = page.locator(f"#walk-{blocked[0]}")
        open_walk(walk)
        for _ in range(walk.locator("li[data-step]").count()):
            do(walk, "next")
        lost = report.walks[blocked[0] - 1].lost
        assert lost is not None
        assert lost.expected is not None
        assert place_at(walk) == f"{lost.node}/{lost.interface}"
        expect(walk.locator("svg .packet.lost")).to_have_count(1)
        expect(walk.locator("svg circle.missing")).to_have_count(1)
        expect(walk.locator(".now")).to_contain_text("no answer")


def test_the_router_that_worked_on_it_is_lit(report: Written, opened: Opener) -> None:
    with opened(report) as page:
        walk = page.locator("#walk-1")
        expect(walk.locator("svg .lit")).to_have_count(0)
        do(walk, "next")  # into the tunnel, routed by r
        lit = walk.locator("svg .lit")
        expect(lit).to_have_count(1)
        expect(lit).to_have_attribute("data-logical", "router/r")
        plain = walk.locator("svg [data-logical]:not(.lit) > rect.b").first
        stroke = "one => getComputedStyle(one).strokeWidth"
        assert lit.locator("> rect.b").evaluate(stroke) != plain.evaluate(stroke)


def test_the_translating_router_and_the_packet_are_in_view(
    all_walks: Written, opened: Opener
) -> None:
    # A laptop's window of 1280 × 800 pixels (less what the browser itself takes of the 800).
    with opened(all_walks, 1280) as page:
        number = len(PLAYED) - PLAYED.index("in")  # DNAT and SNAT of router r; the newest is first
        walk = page.locator(f"#walk-{number}")
        open_walk(walk)
        walk.evaluate("walk => walk.scrollIntoView()")
        walk.locator("button.to").nth(1).evaluate("button => button.click()")
        expect(walk.locator("svg .router.lit")).to_have_count(1)
        for what in ("svg .router.lit", "svg .packet circle", "svg .headers"):
            seen = walk.locator(what).evaluate(
                """one => {
                const box = one.getBoundingClientRect();
                const frame = one.closest(".stage").getBoundingClientRect();
                return box.top >= frame.top && box.bottom <= Math.min(frame.bottom, innerHeight)
                  && box.left >= frame.left && box.right <= frame.right;
                }"""
            )
            assert seen, what


def test_in_the_tunnel_the_outer_header_is_around_the_inner(
    report: Written, opened: Opener
) -> None:
    for width in (PHONE, LAPTOP):
        with opened(report, width) as page:
            walk = page.locator("#walk-1")
            expect(walk.locator("svg .around")).to_have_count(0)
            do(walk, "next")  # into the tunnel
            around = walk.locator("svg .around text")
            expect(around).to_contain_text("192.168.33.")
            expect(around).to_contain_text("Geneve VNI")
            inside = walk.locator("svg .headers").evaluate(
                """headers => {
                const outer = headers.querySelector(":scope > rect").getBoundingClientRect();
                const boxes = [".header rect", ".around text"].map((one) =>
                  headers.querySelector(one).getBoundingClientRect());
                return boxes.every((box) => box.left > outer.left && box.right < outer.right
                  && box.top >= outer.top && box.bottom < outer.bottom)
                  && boxes[1].top < boxes[0].top;
                }"""
            )
            assert inside
            listed = walk.locator("li.current .outer")
            expect(listed.locator(".line.say")).to_be_visible()
            do(walk, "first")
            expect(walk.locator("svg .headers > rect")).to_have_count(0)


ON_CABLES = """walk => {
  const svg = walk.querySelector(".stage svg");
  const corners = (line) => [...line.points].map((one) => one.matrixTransform(line.getScreenCTM()));
  const pieces = (line) => corners(line).slice(1).map((b, n) => [corners(line)[n], b]);
  const lines = [...svg.querySelectorAll(".l")].flatMap(pieces);
  // Pieces between a node and a network, above or below it: only cables are drawn there.
  const hosts = [...svg.querySelectorAll(".host > .b, .net > .b, .internet > .b")]
    .map((one) => one.getBoundingClientRect());
  const outside = ({ x, y }) => !hosts.some((box) =>
    x >= box.left && x <= box.right && y >= box.top && y <= box.bottom);
  const on = ({ x, y }) => lines.some(([a, b]) =>
    x >= Math.min(a.x, b.x) - 1 && x <= Math.max(a.x, b.x) + 1 &&
    y >= Math.min(a.y, b.y) - 1 && y <= Math.max(a.y, b.y) + 1);
  const upright = [...svg.querySelectorAll(".walking .trail.request")].flatMap(pieces)
    .filter(([a, b]) => Math.abs(a.x - b.x) < 0.5)
    .map(([a, b]) => ({ x: a.x, from: Math.min(a.y, b.y), to: Math.max(a.y, b.y) }));
  const points = upright.flatMap(({ x, from, to }) =>
    Array.from({ length: Math.floor(to - from) }, (_, n) => ({ x, y: from + n + 0.5 })));
  const between = points.filter(outside);
  return [between.length, between.filter((point) => !on(point)).length];
}"""
"""(pixels of trails between nodes and networks, those of them that are on no cable)."""


def test_between_nodes_and_networks_a_path_is_on_the_cables(
    all_walks: Written, opened: Opener
) -> None:
    lengths: list[int] = []
    with opened(all_walks) as page:
        for number, recorded in enumerate(all_walks.walks, 1):
            crossing = {hop.node for hop in recorded.request.hops}
            if len(crossing) < 2:
                continue
            walk = page.locator(f"#walk-{number}")
            open_walk(walk)
            walk.locator("button.to").last.evaluate("button => button.click()")
            between, off = walk.evaluate(ON_CABLES)
            lengths.append(between)  # none where the other node is not in the picture
            assert off <= 8, number  # around the frame of what it ends at
    assert sum(length > 20 for length in lengths) >= 8


def test_walks_stand_at_their_steps_and_the_inventory_is_last(
    report: Written, opened: Opener
) -> None:
    with opened(report) as page:
        assert page.locator("main > section > h2").evaluate_all(
            "all => all.map((one) => one.id)"
        ) == ["picture", "lessons", "walks", "lab"]
        expect(page.locator("#walks ~ .walk")).to_have_count(0)
        # One pings 8.8.8.8 from the instance, as that checkpoint does; the others were made last.
        assert page.locator("details.walk").evaluate_all(
            "all => all.map((one) => [one.id, one.closest('.checkpoints > li').id])"
        ) == [
            ["walk-1", "floating-ip--ping-out"],
            ["walk-2", "floating-ip--ssh-in"],
            ["walk-3", "floating-ip--ssh-in"],
        ]
        # A walk in a lesson that is closed begins once both are open.
        page.locator("details.lesson").first.evaluate("lesson => { lesson.open = false }")
        walk = page.locator("#walk-2")
        walk.evaluate("walk => { walk.open = true }")
        page.locator("details.lesson").first.evaluate("lesson => { lesson.open = true }")
        expect(walk.locator(".stage svg .packet")).to_have_count(1)


# -- the controls ----------------------------------------------------------------------------------
def test_stepping_with_the_buttons(report: Written, opened: Opener) -> None:
    with opened(report) as page:
        walk = page.locator("#walk-1")
        count = walk.locator("li[data-step]").count()
        assert step_at(walk) == 1
        do(walk, "next")
        do(walk, "next")
        assert step_at(walk) == 3
        do(walk, "previous")
        assert step_at(walk) == 2
        expect(walk.locator(".now")).to_contain_text(f"2/{count}")
        expect(walk.locator('[aria-current="step"]')).to_have_count(1)
        do(walk, "first")
        assert step_at(walk) == 1
        do(walk, "previous")
        assert step_at(walk) == 1
        expect(walk.locator('[data-do="previous"]')).to_have_attribute("aria-disabled", "true")
        walk.locator("button.to").nth(count - 1).click()
        assert step_at(walk) == count
        do(walk, "next")
        assert step_at(walk) == count


def test_stepping_with_the_keyboard(report: Written, opened: Opener) -> None:
    with opened(report) as page:
        walk = page.locator("#walk-1")
        count = walk.locator("li[data-step]").count()
        walk.locator('[data-do="play"]').focus()
        for key, there in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", count),
                           ("Home", 1)):  # fmt: skip
            page.keyboard.press(key)
            assert step_at(walk) == there, key
        page.keyboard.press("p")
        expect(walk).to_have_class(re.compile("playing"))
        page.keyboard.press("p")
        expect(walk).not_to_have_class(re.compile("playing"))
        # Enter and the space bar press the button that has the focus, as everywhere.
        walk.locator('[data-do="next"]').focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Space")
        assert step_at(walk) == 3


def test_everything_is_reached_by_tab(report: Written, opened: Opener) -> None:
    with opened(report) as page:
        seen: set[str] = set()
        wanted = {"first", "previous", "play", "next", "speed", *LANGUAGES, "system", "light",
                  "dark", "skip", "to"}  # fmt: skip
        for _ in range(200):
            if wanted <= seen:
                break
            page.keyboard.press("Tab")
            seen.add(
                page.evaluate(
                    """() => { const { dataset, className } = document.activeElement;
                    return dataset.do ?? dataset.language ?? dataset.theme ?? className; }"""
                )
            )
        assert wanted <= seen


def test_playing_and_pausing(report: Written, opened: Opener) -> None:
    with opened(report) as page:
        walk = page.locator("#walk-1")
        count = walk.locator("li[data-step]").count()
        # The page's time stands still but for what we let pass: a busy machine changes nothing.
        page.clock.install(time=0)
        page.reload()
        page.clock.pause_at(60_000)
        expect(walk.get_by_text("Play", exact=True)).to_be_visible()
        do(walk, "play")
        expect(walk.get_by_text("Pause", exact=True)).to_be_visible()
        page.clock.run_for(1400)
        assert step_at(walk) == 1
        page.clock.run_for(200)  # 1.5 s in all: nothing was rewritten at the first hop
        assert step_at(walk) == 2
        page.clock.run_for(2400)
        assert step_at(walk) == 2
        page.clock.run_for(200)  # 2.6 s: there is more to read
        assert step_at(walk) == 3
        do(walk, "play")
        page.clock.run_for(30_000)
        assert step_at(walk) == 3
        walk.locator('[data-do="speed"]').select_option("4")
        do(walk, "play")
        page.clock.run_for(400)
        assert step_at(walk) == 4
        page.clock.run_for(10_000)
        assert step_at(walk) == count
        expect(walk).not_to_have_class(re.compile("playing"))
        do(walk, "play")  # at its end it begins anew
        assert step_at(walk) == 1
        page.clock.run_for(400)
        assert step_at(walk) == 2


POSITIONS = """walk => new Promise((resolve) => {
  const seen = new Set(), began = performance.now();
  const look = () => {
    const dot = walk.querySelector(".packet circle");
    seen.add(`${dot.getAttribute("cx")} ${dot.getAttribute("cy")}`);
    if (performance.now() - began < 900) requestAnimationFrame(look); else resolve(seen.size);
  };
  walk.querySelector('[data-do="next"]').click();
  look();
})"""


def test_motion_only_for_those_who_want_it(report: Written, opened: Opener) -> None:
    with opened(report, reduced_motion="no-preference") as page:
        assert page.locator("#walk-1").evaluate(POSITIONS) >= 3
    with opened(report, reduced_motion="reduce") as page:
        assert page.locator("#walk-1").evaluate(POSITIONS) == 1


# -- language and colours --------------------------------------------------------------------------
def test_the_language_switch(report: Written, opened: Opener) -> None:
    with opened(report) as page:
        heading = page.locator("#walks")
        assert heading.inner_text() == "Packet walks"
        page.get_by_role("button", name="中文").click()
        assert heading.inner_text() == "封包追蹤"
        assert page.evaluate("document.documentElement.lang") == "zh-TW"
        expect(page.locator('[data-language="zh-TW"]')).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".stage svg").first).to_have_attribute("lang", "zh-TW")
        # What is not a name is said in one language only, and marked as it.
        shown = page.evaluate(
            """() => [...document.querySelectorAll(".tongue")]
            .filter((one) => one.checkVisibility()).map((one) => one.lang)"""
        )
        assert set(shown) == {"zh-TW"}
        page.reload()
        assert heading.inner_text() == "封包追蹤"
        # A walk that is closed meanwhile speaks the other language when it is opened again.
        walk = page.locator("#walk-1")
        do(walk, "next")
        walk.evaluate("walk => { walk.open = false }")
        page.get_by_role("button", name="English").click()
        assert heading.inner_text() == "Packet walks"
        open_walk(walk)
        expect(walk.locator(".stage svg")).to_have_attribute("lang", "en")
        expect(walk.locator(".packet circle")).to_have_count(1)
        assert step_at(walk) == 2


COLOURS = """() => ["body", ".drawing:not([hidden]) svg .bg", ".stage svg .bg"].map((one) => {
  const style = getComputedStyle(document.querySelector(one));
  return one === "body" ? style.backgroundColor : style.fill;
})"""


def test_the_colours(report: Written, opened: Opener) -> None:
    seen: dict[str, list[str]] = {}
    for system in ("light", "dark"):
        with opened(report, color_scheme=system) as page:
            own = page.evaluate(COLOURS)
            for theme in ("light", "dark"):
                page.locator(f'[data-theme="{theme}"]').click()
                found = page.evaluate(COLOURS)
                assert found == seen.setdefault(theme, found)
            page.reload()
            assert page.evaluate(COLOURS) == seen["dark"]
            page.locator('[data-theme="system"]').click()
            assert page.evaluate(COLOURS) == own == seen[system]
    assert not set(seen["light"]) & set(seen["dark"])


@pytest.mark.parametrize(
    ("theme", "language", "width"),
    [
        ("light", "en", LAPTOP),
        ("light", "zh-TW", PHONE),
        ("dark", "en", PHONE),
        ("dark", "zh-TW", LAPTOP),
    ],
)
def test_axe_finds_nothing(
    report: Written, opened: Opener, theme: str, language: str, width: int
) -> None:
    if not AXE.is_file():
        reason = "axe-core is missing; `scripts/setup.sh tools` installs it"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    with opened(report, width, color_scheme=theme) as page:
        page.locator(f'[data-language="{language}"]').click()
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        said = [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert said == []
        assert len(found["passes"]) > 20  # it did look


# -- guests that mean harm -------------------------------------------------------------------------
SKELETON = """() => [...document.querySelectorAll("body *")]
  .filter((one) => !one.closest("svg"))
  .map((one) => [one.tagName, ...one.getAttributeNames().filter((name) => name !== "tabindex")])"""


def test_no_guest_can_change_the_page(hostile: Written, report: Written, opened: Opener) -> None:
    with opened(report) as page:
        clean = page.evaluate(SKELETON)
    with opened(hostile) as page:
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        walk = page.locator("#walk-1")
        for _ in range(walk.locator("li[data-step]").count()):
            do(walk, "next")
        do(walk, "first")
        assert page.evaluate("window.hit") is None
    with opened(hostile) as page:
        # Names that are not those of the lesson's commands leave the walks at another step.
        assert sorted(page.evaluate(SKELETON)) == sorted(clean)
        inside = page.evaluate(
            """() => [...document.querySelectorAll("svg, svg *")].flatMap((one) =>
            [one.tagName, ...one.getAttributeNames().filter((name) => /^on|href/.test(name))])"""
        )
        assert set(inside) <= {
            "svg", "title", "desc", "style", "g", "rect", "circle", "polyline", "text", "tspan",
        }  # fmt: skip
        text = page.evaluate("document.body.textContent")
        for at in (".terminal", ".claims", "#instances + div", ".hops", ".trace"):
            assert SHOWN in page.locator(at).first.evaluate("one => one.textContent"), at
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
        assert "\x1b" not in hostile.file.read_text("utf-8")


def test_the_page_forbids_itself_what_is_not_its_own(report: Written, chromium: Browser) -> None:
    page = chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(report.file.as_uri())
    page.evaluate(
        """() => {
        const script = document.createElement("script");
        script.textContent = "window.hit = 1";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "https://labctl.invalid/x.png";
        document.body.append(image);
        document.body.setAttribute("onclick", "window.hit = 2");
        document.body.click();
        }"""
    )
    assert page.evaluate("window.hit") is None
    page.wait_for_timeout(200)
    assert all("Content Security Policy" in one for one in refused)
    assert len(refused) >= 3
    page.close()


# -- layouts ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [PHONE, 768, LAPTOP])
def test_nothing_sticks_out(report: Written, opened: Opener, width: int, language: str) -> None:
    with opened(report, width) as page:
        page.locator(f'[data-language="{language}"]').click()
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            """() => [...document.querySelectorAll("button, summary, h1, h2, h3, h4, .chip")]
            .filter((one) => one.checkVisibility())
            .filter((one) => { const box = one.getBoundingClientRect();
              return box.left < 0 || box.right > innerWidth + 1; }).map((one) => one.textContent)"""
        )
        assert cut == []


def test_paper(report: Written, opened: Opener, tmp_path: Path) -> None:
    with opened(report, PAPER, color_scheme="dark") as page:
        page.evaluate("addEventListener('beforeprint', () => { window.printed = true })")
        pdf = page.pdf(format="A4", path=tmp_path / "report.pdf")
        assert pdf.startswith(b"%PDF-")
        # Three walks, eleven checkpoints with what they printed, the pictures and the tables.
        assert 3 < len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 13
        others = page.locator(".lesson.not-begun")
        assert page.evaluate("window.printed") is True
        assert page.locator("details[open]").count() < page.locator("details").count()
        expect(page.locator('[data-theme="system"]')).to_have_attribute("aria-pressed", "true")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        # Of lessons that were not begun the title and the goal, however many the course has.
        assert others.count() > 3
        assert others.locator("li").filter(visible=True).count() == 0
        assert others.locator(".goal").filter(visible=True).count() == others.count()
        assert set(page.evaluate(COLOURS)) == {"rgb(255, 255, 255)"}
        expect(page.locator(".controls").first).to_be_hidden()
        for row in (".hops li:first-child .fields tr", ".changes li"):
            assert page.locator(f"{row}:visible").count() == page.locator(row).count() > 0
        # A walk fits on a page with its headings and its picture: none begins in mid-page and
        # breaks off (1 mm is 96 / 25.4 pixels; A4 less two margins of 14 mm).
        for height in page.locator("details.walk").evaluate_all(
            "all => all.map((one) => one.getBoundingClientRect().height)"
        ):
            assert height <= (297 - 2 * 14) * 96 / 25.4
        assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
        overflowing = page.evaluate(
            """() => [...document.querySelectorAll(".scroll")]
            .filter((one) => one.scrollWidth > one.clientWidth + 1)
            .map((one) => `${one.className} ${one.scrollWidth} ${one.clientWidth}`)"""
        )
        assert overflowing == []
        # A client's table is wider than a page, and is a table on paper, too.
        wide = page.locator(".folded:not(:empty)")
        assert wide.count() > 0
        assert wide.filter(visible=True).count() == wide.count()
        assert page.locator(".unfolded").filter(visible=True).count() == 0
        folded = wide.evaluate_all(
            """(all) => all.map((one) => {
              const range = document.createRange();
              range.selectNodeContents(one);
              const tops = [...range.getClientRects()].map((box) => Math.round(box.top));
              return [new Set(tops).size, one.textContent.split("\\n").length];
            }).filter(([rows, lines]) => rows !== lines)"""
        )
        assert folded == []


def test_without_scripts_everything_is_there(report: Written, opened: Opener) -> None:
    with opened(report, java_script_enabled=False) as page:
        expect(page.locator(".controls").first).to_be_hidden()
        expect(page.locator(".switches")).to_be_hidden()
        first = page.locator("#walk-1")
        assert first.locator(".fields:visible").count() == first.locator(".fields").count() > 0
        expect(page.locator(".drawing svg").first).to_be_visible()


def test_a_lab_that_is_down_and_did_nothing(opened: Opener, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = RecordedReport(tmp_path, patch, walks=(), up=False)
        for path in (made.state.root / "records").rglob("*.json"):
            path.unlink()
        made.state.lesson_position.unlink()
        file = tmp_path / "report.html"
        file.write_text(render(made.page(), "zh-TW"), encoding="utf-8")
    with opened(Written(file, ())) as page:
        assert page.evaluate("document.documentElement.lang") == "zh-TW"
        expect(page.locator("main")).to_contain_text("還沒有追蹤過封包")
        expect(page.locator(".chip.passed")).to_have_count(0)
        expect(page.locator(".drawing[lang='zh-TW'] svg")).to_be_visible()
