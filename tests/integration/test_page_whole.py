"""The page as a whole in Chromium: widths, light and dark, keyboard, loaded again; axe-core.

What it shows is told to it as the server tells it, so that no lab is needed.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from labctl.graph.planned import planned
from labctl.graph.svg import svg
from labctl.i18n import set_language
from tests.conftest import in_ci
from tests.integration.page_server import Served, page_of
from tests.unit.fakes import topology

AXE = Path(__file__).parents[1] / "page" / "node_modules" / "axe-core" / "axe.min.js"
PHONE, LAPTOP, DESKTOP, WALL = 390, 1280, 1920, 2560
"""Pixels."""


def checkpoint(id: str, standing: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id, "title": f"The {id} checkpoint", "standing": standing, "next": False, "hints": 0,
        "of": 2, "explain": "", "commands": [], "claims": [], **more,
    }  # fmt: skip


LESSON = {
    "id": "shown", "title": "A lesson", "goal": "Show `everything`.", "practice": True, "passed": 1,
    "summary": "", "checkpoints": [
        checkpoint("first", "passed", explain="It is **explained**.\n\n- an item", commands=[
            {"prompt": "here#", "text": "ovn-nbctl show", "output": "switch n1"},
        ], claims=[{"ok": True, "text": "it is so"}, {"ok": False, "text": "it is not so"}]),
        checkpoint("second", "begun", next=True, hints=1),
        *(checkpoint(f"number-{n}", "open") for n in range(3, 12)),
    ],
}  # fmt: skip
ROW = {"name": "mine", "at": 1.8e9, "size": 48_800_000, "current": True, "cold": True,
       "warm": True, "lesson": "shown 1/11", "trouble": ""}  # fmt: skip
SNAPSHOTS = {
    "kind": "snapshots", "base": "base", "problem": "",
    "seconds": {"reset": 1.4, "restore mine": 2},
    "rows": [ROW, {**ROW, "name": "old", "current": False, "trouble": "its manifest was altered"}],
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"kind": "begun", "verb": "restore"},
    {"kind": "event", "event": "run_started", "title": "restore mine", "steps": []},
    {"kind": "event", "event": "step_started", "id": "a", "title": "the first step", "node": None},
    {"kind": "event", "event": "step_progress", "id": "a", "message": "half of it"},
    {"kind": "event", "event": "step_finished", "id": "a", "outcome": "done", "seconds": 1.25},
    {"kind": "event", "event": "step_started", "id": "b", "title": "the second", "node": "here"},
    {"kind": "event", "event": "step_finished", "id": "b", "outcome": "failed", "seconds": 2.0,
     "detail": "it broke", "hint": "mend it", "log": None},
    {"kind": "claim", "ok": True, "text": "a claim", "evidence": "evidence of it"},
]  # fmt: skip


@dataclass
class Shown:
    """A page that is served, full of everything that it can show."""

    served: Served
    browser: Browser
    sent: list[dict[str, Any]] = field(default_factory=list)
    """What the page asked to be done."""

    @contextmanager
    def at(self, width: int, state: str = "", **how: Any) -> Iterator[Page]:
        """The page in a browser of its own; afterwards it must have been silent."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, reduced_motion="reduce", **how
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        wrong: list[str] = []
        page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: self._note(request.method, request.post_data))
        page.goto(f"{self.served.origin}/?token={self.served.guard.token}{state}")
        page.locator("#course h2").wait_for(state="attached")  # the first thing it is told
        self.tell()
        page.locator("[data-checkpoint=first]").wait_for()
        page.locator("#picture svg").wait_for(state="attached")
        yield page
        context.close()
        assert wrong == []

    def _note(self, method: str, data: str | None) -> None:
        if method == "POST" and data:
            self.sent.append(json.loads(data))

    def tell(self, *messages: dict[str, Any]) -> None:
        lesson = {"kind": "lesson", "verb": "", "lesson": LESSON, "choices": []}
        drawing = svg(planned(topology()), prefix="living")
        style = re.findall("<style>(.*?)</style>", drawing, re.DOTALL)
        picture = {"kind": "picture", "style": "".join(style),
                   "svg": re.sub("<style>.*?</style>", "", drawing, flags=re.DOTALL)}  # fmt: skip
        for message in messages or (lesson, SNAPSHOTS, picture):
            self.served.page.feed.publish(message)

    def sent_in_time(self, page: Page, message: dict[str, Any]) -> bool:
        deadline = time.monotonic() + 15
        while message not in self.sent and time.monotonic() < deadline:
            page.wait_for_timeout(50)  # Playwright hears of requests only while it is asked
        return message in self.sent


@pytest.fixture
def shown(tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    monkeypatch.setenv("LABCTL_LANG", "en")
    set_language("en")
    page = page_of(tmp_path)
    # What is shown stays as these tests tell it.
    monkeypatch.setattr(page.picture, "start", lambda: None)
    served = Served(page)
    yield Shown(served, chromium)
    served.stop()


# -- axe-core --------------------------------------------------------------------------------------
def violations(page: Page) -> list[str]:
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 10  # it did look; at a dialog alone, if one is open
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize(
    ("theme", "language", "width"),
    [("light", "en", LAPTOP), ("dark", "zh-TW", PHONE)],
)
def test_axe_finds_nothing(shown: Shown, theme: Any, language: str, width: int) -> None:
    if not AXE.is_file():
        reason = "axe-core is missing; `scripts/setup.sh tools` installs it"
        (pytest.fail if in_ci() else pytest.skip)(reason)
    set_language(language)
    shown.served.open_terminal()
    try:
        with shown.at(width, color_scheme=theme) as page:
            shown.tell(*EVENTS)
            page.locator("#lines .failed").wait_for()
            page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
            page.evaluate(AXE.read_text("utf-8"))
            assert violations(page) == []
            shown.tell({"kind": "done", "verb": "restore", "ok": False, "seconds": 3.4,
                        "text": "it broke", "hint": "mend it"})  # fmt: skip
            page.locator("#work.bad").wait_for()
            page.locator("#keys").click()
            page.locator("dialog[open]").wait_for()
            assert violations(page) == []
            assert page.locator("html").get_attribute("lang") == language
    finally:
        set_language("en")


# -- widths ----------------------------------------------------------------------------------------
def test_the_page_fits_every_width(shown: Shown) -> None:
    shown.served.open_terminal()
    for width in (PHONE, LAPTOP, DESKTOP, WALL):
        with shown.at(width) as page:
            shown.tell(*EVENTS)
            page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
            size = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert size[0] <= width == size[1]
            boxes: dict[str, Any] = {name: page.locator(f"#{name}").bounding_box() or {}
                     for name in ("lesson", "network", "terminals")}  # fmt: skip
            assert all(box["width"] > 300 and box["height"] > 200 for box in boxes.values())
            lefts = {round(box["x"]) for box in boxes.values()}
            assert len(lefts) == {PHONE: 1, WALL: 3}.get(width, 2)  # columns


# -- the address -----------------------------------------------------------------------------------
def test_a_reload_is_where_one_was(shown: Shown) -> None:
    with shown.at(LAPTOP) as page:
        page.get_by_role("button", name="terminals", exact=True).click()
        page.locator("[data-checkpoint=number-11] > summary").click()
        expect(page).to_have_url(
            re.compile("/#lesson=shown&panels=lesson,network&checkpoint=number-11$")
        )
        assert "token" not in page.url
        page.reload()
        box = page.locator("[data-checkpoint=number-11]")
        expect(box).to_have_attribute("open", "")
        expect(box).to_be_in_viewport()
        expect(page.locator("#terminals")).to_be_hidden()
        address = page.url
    state = address[address.index("#") :]
    with shown.at(LAPTOP, state) as page:  # in another browser, from a bookmark
        expect(page.locator("[data-checkpoint=number-11]")).to_have_attribute("open", "")
        expect(page.locator("#terminals")).to_be_hidden()
        page.get_by_role("button", name="terminals", exact=True).click()
        expect(page.locator("#terminals")).to_be_visible()
        assert "panels" not in page.url


def test_an_address_of_another_lesson_or_with_nonsense_harms_nothing(shown: Shown) -> None:
    with shown.at(LAPTOP, "#lesson=x&checkpoint=%22]&panels=nothing,lesson,lesson") as page:
        expect(page.locator("#network")).to_be_hidden()
        expect(page).to_have_url(re.compile("#.*lesson=shown"))
        assert "checkpoint" not in page.url


# -- the keyboard ----------------------------------------------------------------------------------
def focused(page: Page) -> str:
    part: str = page.evaluate("document.activeElement.closest('section')?.id || ''")
    return part


def test_everything_can_be_done_by_keyboard(shown: Shown) -> None:
    shown.served.open_terminal()
    with shown.at(LAPTOP) as page:
        page.locator(".xterm-helper-textarea").wait_for(state="attached")
        for part in ("lesson", "network", "terminals"):
            page.keyboard.press("F6")
            assert focused(page) == part
        page.keyboard.type("echo typed-$((40+2))")
        page.keyboard.press("Enter")
        page.locator(".xterm-rows", has_text="typed-42").wait_for()
        page.keyboard.press("F6")  # the program's, in a terminal
        page.keyboard.press("Tab")
        assert focused(page) == "terminals"
        page.keyboard.press("Shift+F6")
        assert focused(page) == "network"
        page.keyboard.press("Shift+F6")
        assert focused(page) == "lesson"
        # Every control of the lesson is reached by Tab, and says what it does.
        names = []
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused(page) != "lesson":
                break
            names.append(page.evaluate("document.activeElement.textContent"))
        assert "Snapshots" in names
        assert [name for name in names if name.startswith("Reset")] == ["Reset (1.4 s)"]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.locator("dialog[open]").wait_for()
        page.keyboard.press("Escape")
        page.locator("dialog[open]").wait_for(state="detached")
        assert shown.sent == []
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert shown.sent_in_time(page, {"verb": "reset", "argument": ""})


# -- snapshots -------------------------------------------------------------------------------------
def test_snapshots_have_buttons_that_ask_first(shown: Shown) -> None:
    with shown.at(LAPTOP) as page:
        page.locator("#snapshots > summary").click()
        expect(page.locator("#saved li")).to_have_count(2)
        assert page.get_by_role("button", name="Restore: old").count() == 0  # it cannot be used
        button = page.get_by_role("button", name="Restore: mine")
        assert button.inner_text() == "Restore (2.0 s)"
        button.click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Delete: old").click()
        page.locator("dialog").get_by_role("button", name="Delete").click()
        assert shown.sent_in_time(page, {"verb": "delete", "argument": "old"})
        # There is no lab: what labctl says of it is shown.
        expect(page.locator("#work.bad")).to_contain_text("there is no lab here")
        page.locator("#name").fill("new")
        page.locator("#quick").check()
        page.locator("#name").press("Enter")
        assert shown.sent_in_time(page, {"verb": "save-warm", "argument": "new"})
        assert len(shown.sent) == 2


def test_what_labctl_does_is_told_step_by_step(shown: Shown) -> None:
    with shown.at(LAPTOP) as page:
        shown.tell(*EVENTS[:3])
        running = page.locator("#lines .step.running")
        expect(running.locator(".seconds")).to_have_text(re.compile(r"[0-9]\.[1-9] s"))
        expect(page.locator("#buttons button").last).to_be_disabled()
        shown.tell(*EVENTS[3:])
        done = page.locator("#lines .step.done")
        expect(done.locator(".seconds")).to_have_text("1.3 s")
        expect(page.locator("#lines .step.failed .seconds")).to_have_text("2.0 s")
        expect(page.locator("#lines p.bad")).to_contain_text("it broke")
        shown.tell({"kind": "done", "verb": "restore", "ok": True, "seconds": 3.4,
                    "text": "", "hint": ""})  # fmt: skip
        expect(page.locator("#work.good")).to_have_text("restore: done in 3.4 s")
        expect(page.locator("#buttons button").last).to_be_enabled()
