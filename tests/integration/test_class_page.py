"""The teacher's page as it runs: a real server, Chromium, and learners that are made up."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.exceptions import InvalidStatus

from labctl.classroom.pace import Pace
from labctl.classroom.page import VERB, ClassPage
from labctl.classroom.status import ClassStatus, LearnerStatus
from labctl.classroom.table import heads, row
from labctl.errors import LabError
from labctl.i18n import set_language
from tests.documents import expect_document
from tests.integration.page_server import Served

AXE = Path(__file__).parents[1] / "page" / "node_modules" / "axe-core" / "axe.min.js"
CRAFTED = "<img src=x onerror=alert(1)>{{7*7}}"


def learner(name: str, **pace: Any) -> LearnerStatus:
    found: Pace = {
        "lesson": "ovn-geneve", "checkpoint": "tunnel", "passed": 2, "checkpoints": 6, "hints": 0,
        "here": 120.0, "idle": 5.0, "failing": [], "troubles": [], "stuck": False,
    }  # fmt: skip
    found.update(pace)  # type: ignore[typeddict-item]
    return {
        "learner": name, "state": "running", "address": "192.0.2.1", "ssh": True, "reason": "",
        "pace": found, "silent": "",
    }  # fmt: skip


def thirty() -> list[LearnerStatus]:
    learners = [learner(f"learner-{number:02}") for number in range(1, 31)]
    learners[2] = learner("learner-03", stuck=True, failing=[CRAFTED])
    silent: LearnerStatus = {
        "learner": "learner-05", "state": "failed", "address": "", "ssh": False,
        "reason": "No valid host was found", "pace": None, "silent": "",
    }  # fmt: skip
    learners[4] = silent
    return learners


class Class:
    """A class whose state the test says."""

    def __init__(self) -> None:
        self.learners = thirty()
        self.broken = ""
        self.asked = 0

    def __call__(self) -> ClassStatus:
        self.asked += 1
        if self.broken:
            raise LabError(self.broken)
        report: ClassStatus = {
            "name": "ovn-day", "engine": "openstack", "ends": "2027-03-05T17:00+08:00",
            "ended": False, "learners": self.learners, "others": [],
        }  # fmt: skip
        return report


class Shown:
    def __init__(self) -> None:
        self.state = Class()
        self.served = Served(ClassPage("ovn-day", self.state, 0.2), verb=VERB)
        self.address = f"{self.served.origin}/?token={self.served.guard.token}"


@pytest.fixture
def shown() -> Iterator[Shown]:
    set_language("en")
    made = Shown()
    yield made
    made.served.stop()
    set_language("en")


@pytest.fixture
def page(shown: Shown, chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1280, "height": 900})
    troubles: list[str] = []
    opened.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.goto(shown.address)
    expect(opened.locator("tbody tr")).to_have_count(30)
    yield opened
    opened.close()
    assert troubles == []


# -- who gets in -----------------------------------------------------------------------------------
def test_nothing_is_told_without_token_or_cookie(shown: Shown) -> None:
    for path in ("/", "/?token=wrong", "/class/class.js", "/nothing"):
        answer, body = shown.served.get(path)
        assert (answer.status, VERB in body) == (403, True)
    for cookie, origin in (("none", ""), (shown.served.cookie, "http://evil.example")):
        with pytest.raises(InvalidStatus) as refusal:
            shown.served.socket("/events", cookie=cookie, origin=origin)
        assert refusal.value.response.status_code == 403
    headers = {"Cookie": shown.served.cookie, "Host": "evil.example"}
    assert shown.served.get("/", headers)[0].status == 403
    assert shown.state.asked == 0


def test_no_request_changes_anything(shown: Shown) -> None:
    headers = {"Cookie": shown.served.cookie, "Origin": shown.served.origin}
    for path in ("/", "/events", "/do", "/terminals", "/class/class.js"):
        for method in ("POST", "PUT", "DELETE"):
            assert shown.served.request(method, path, headers, "{}")[0].status in (404, 405)


def test_every_answer_forbids_foreign_content(shown: Shown) -> None:
    for path in ("/", "/class/class.js", "/static/colors.css"):
        answer, _ = shown.served.get(path, {"Cookie": shown.served.cookie})
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    for path in ("/class/../page.py", "/class/%2e%2e/page.py"):
        assert shown.served.get(path, {"Cookie": shown.served.cookie})[0].status == 404


def test_what_comes_is_what_status_prints_as_json(shown: Shown) -> None:
    with shown.served.socket("/events") as socket:
        message = json.loads(socket.recv(timeout=30))
    expect_document("class-status", message["report"])
    assert message["report"] == json.loads(json.dumps(shown.state()))
    assert len(message["rows"]) == 30


def test_a_class_that_nobody_looks_at_is_not_asked(shown: Shown) -> None:
    with shown.served.socket("/events") as socket:
        socket.recv(timeout=30)
    time.sleep(1)  # the page is gone, and a look that was begun has ended
    asked = shown.state.asked
    time.sleep(1)
    assert shown.state.asked == asked > 0


# -- what it shows ---------------------------------------------------------------------------------
def test_who_is_stuck_is_seen_and_texts_stay_texts(page: Page) -> None:
    row = page.locator("tbody tr").nth(2)
    expect(row).to_have_class("stuck")
    expect(row).to_contain_text(CRAFTED)
    expect(page.locator("#notes")).to_contain_text("stuck: learner-03")
    expect(page.locator("#notes")).to_contain_text("2027-03-05 17:00 +08:00")
    assert page.locator("tbody img").count() == 0
    expect(page.locator("tbody tr").nth(4)).to_contain_text("No valid host was found")


def test_each_value_is_under_its_heading(shown: Shown, page: Page) -> None:
    said = page.locator("thead th").all_text_contents()
    assert said == ["state", *heads().values()]
    first = row(shown.state.learners[0])["cells"]
    cells = page.locator("tbody tr").nth(0).locator("td")
    assert cells.all_text_contents() == ["✓ all well", *(first[name] for name in heads())]
    assert cells.evaluate_all("cells => cells.map((cell) => cell.dataset.head)") == said


def test_it_follows_the_class(shown: Shown, page: Page) -> None:
    shown.state.learners = [learner("learner-01", checkpoint=None, passed=6)]
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("ovn-geneve/done (6/6)")
    shown.state.broken = "the cloud answered 503"
    expect(page.locator("#asked")).to_contain_text("the cloud answered 503")
    expect(page.locator("tbody tr")).to_have_count(1)  # what was known last stays
    shown.state.broken = ""
    expect(page.locator("#asked")).to_contain_text("as of")
    assert page.locator("tbody tr").count() == 1


def test_a_server_that_is_gone_is_told(chromium: Browser) -> None:
    set_language("en")
    shown = Shown()
    opened = chromium.new_page()
    opened.goto(shown.address)
    expect(opened.locator("tbody tr")).to_have_count(30)
    shown.served.stop()
    expect(opened.locator("#asked")).to_contain_text(VERB)
    assert opened.locator("tbody tr").count() == 30
    opened.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh-TW"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    chromium: Browser,
    theme: Literal["light", "dark"],
    language: str,
    width: int,
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is missing; `scripts/setup.sh tools` installs it")
    set_language(language)
    shown = Shown()
    opened = chromium.new_page(
        viewport={"width": width, "height": 800}, color_scheme=theme, bypass_csp=True
    )
    try:
        opened.goto(shown.address)
        expect(opened.locator("tbody tr")).to_have_count(30)
        opened.add_script_tag(path=AXE)
        found = opened.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [rule["id"] for rule in found["violations"]] == []
        assert len(found["passes"]) > 10
        cut = opened.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert cut is False
        assert opened.locator("html").get_attribute("lang") == language
    finally:
        opened.close()
        shown.served.stop()
        set_language("en")
