"""Terminals of the page in Chromium: side by side, by keyboard alone, over a broken connection.

The server runs, and so does the shell behind it: bash on a real terminal.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, expect

from tests.integration.page_server import Served


@pytest.fixture
def context(chromium: Browser, served: Served) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.origin)
    yield context
    context.close()


def window(context: BrowserContext, served: Served) -> Page:
    page = context.new_page()
    page.goto(f"{served.origin}/?token={served.guard.token}")
    return page


def rows(page: Page, number: int) -> str:
    lines = page.locator(f"#screen-{number} .xterm-rows > div").all_inner_texts()
    return "\n".join(line.rstrip("\xa0 ") for line in lines)


def wait(true: Callable[[], object], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def shows(page: Page, number: int, pattern: str) -> None:
    """Wait until a terminal shows something."""
    wait(lambda: re.search(pattern, rows(page, number), re.MULTILINE), lambda: rows(page, number))


def type_into(page: Page, number: int, line: str) -> None:
    page.locator(f"#screen-{number} .xterm-screen").click(position={"x": 20, "y": 5})
    page.keyboard.type(f"{line}\n")


def size_of(page: Page, number: int) -> tuple[int, int]:
    """What the shell believes: rows and columns."""
    mark = f"{time.monotonic_ns()}"[-6:]
    type_into(page, number, f"stty size; echo {mark[:2]}''{mark[2:]}")
    shows(page, number, f"^{mark}")
    found = re.findall(r"^(\d+) (\d+)$", rows(page, number), re.MULTILINE)
    return int(found[-1][0]), int(found[-1][1])


def test_a_stream_of_events_that_died_in_a_laptops_sleep_is_made_again(
    served: Served, context: BrowserContext
) -> None:
    """No browser notices that: the page asks, and the server answers one that lives."""
    page = context.new_page()
    streams: list[WebSocketRoute] = []
    sleeps = [False]

    def carry(stream: WebSocketRoute) -> None:
        server = stream.connect_to_server()
        number = len(streams)
        streams.append(stream)

        def pass_on(message: str | bytes) -> None:
            if number or not sleeps[0]:
                stream.send(message)

        stream.on_message(server.send)
        server.on_message(pass_on)

    page.route_web_socket(re.compile("/events$"), carry)
    page.goto(f"{served.origin}/?token={served.guard.token}")
    page.locator("#nodes button").first.wait_for(timeout=60_000)
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.wait_for_timeout(4500)  # longer than an answer may take
    assert len(streams) == 1, "it lives"
    sleeps[0] = True
    page.evaluate("dispatchEvent(new Event('focus'))")
    served.page.feed.publish({"kind": "instances", "names": ["slept-through-this"]})
    expect(page.locator("#nodes button").last).to_have_text("+ slept-through-this", timeout=15_000)
    assert len(streams) == 2
    assert page.locator("#connection").inner_text() == ""


def test_two_side_by_side_as_they_were_after_a_reload(
    served: Served, context: BrowserContext
) -> None:
    first, second = served.open_terminal(), served.open_terminal()
    page = window(context, served)
    expect(page.locator("#tabs [role=tab]")).to_have_count(2)
    page.locator("#split").click()
    for number in (first, second):
        expect(page.locator(f"#screen-{number}")).to_be_visible()
    _, half = size_of(page, first)
    divider = page.locator("#divider")
    divider.focus()
    page.keyboard.press("PageDown")  # by keyboard, 10 per cent
    expect(divider).to_have_attribute("aria-valuenow", "60")
    left, right = (
        page.locator(selector).bounding_box() for selector in (".screen.first", ".screen.second")
    )
    assert left is not None
    assert right is not None
    assert left["width"] > right["width"] * 1.3
    box = divider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 4, box["y"] + 50)  # and by mouse
    page.mouse.down()
    page.mouse.move(box["x"] - 300, box["y"] + 50, steps=4)
    page.mouse.up()
    ratio = int(divider.get_attribute("aria-valuenow") or 0)
    assert 15 < ratio < 45
    shown = page.locator(".screen.first").get_attribute("id")
    number = int(str(shown).removeprefix("screen-"))
    assert size_of(page, number)[1] < half, "the shell has the size of what is shown"
    type_into(page, number, "seq 12000; echo all-''printed")
    shows(page, number, "^all-printed")
    page.reload()
    expect(divider).to_have_attribute("aria-valuenow", str(ratio))
    expect(page.locator(".screen.first")).to_have_attribute("id", str(shown))
    expect(page.locator(".screen.second")).to_be_visible()
    shows(page, number, "^all-printed")
    page.locator(f"#screen-{number} .xterm-screen").click(position={"x": 20, "y": 5})
    page.keyboard.press("Control+Shift+A")
    page.keyboard.press("Control+Shift+C")
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert 10_000 <= len([line for line in lines if line.strip().isdecimal()]) < 10_100


def test_copied_and_pasted_by_keyboard(served: Served, context: BrowserContext) -> None:
    number = served.open_terminal()
    page = window(context, served)
    type_into(page, number, "echo copy''-me")
    shows(page, number, "^copy-me")
    for _ in range(2):
        page.keyboard.press("Control+Shift+ArrowUp")
    page.keyboard.press("Control+Shift+ArrowDown")
    page.keyboard.press("Control+Shift+C")
    assert page.evaluate("navigator.clipboard.readText()").strip() == "copy-me"
    page.evaluate("navigator.clipboard.writeText('echo pasted-$((40 + 2))')")
    page.keyboard.press("Control+Shift+V")
    page.keyboard.press("Enter")
    shows(page, number, "^pasted-42")
    page.keyboard.press("Shift+F6")  # a terminal takes Tab: there must be another way out
    expect(page.locator("#terminals :focus")).to_have_count(0)


def test_a_connection_that_broke_goes_on_where_it_was(
    served: Served, context: BrowserContext, require: Callable[..., None]
) -> None:
    require("ss", root=True)
    number = served.open_terminal()
    page = window(context, served)
    type_into(page, number, "for i in $(seq 300); do echo line-$i; done; sleep 2; echo meanwhile")
    shows(page, number, "^line-300$")
    page.keyboard.press("Shift+PageUp")
    wait(lambda: "line-300" not in rows(page, number), lambda: rows(page, number))
    before = rows(page, number)
    sent: list[int] = []
    page.on(
        "websocket",
        lambda socket: socket.on(
            "framereceived",
            lambda data: sent.append(len(data)) if isinstance(data, bytes) else None,
        ),
    )
    page.evaluate("""() => { const rows = document.querySelector('.xterm-rows');
        window.lost = 0;
        new MutationObserver(() => { if (!rows.innerText.trim()) window.lost += 1; })
            .observe(rows, { childList: true, subtree: true, characterData: true }); }""")
    broken = subprocess.run(
        ["ss", "--kill", "--tcp", f"( sport = :{served.port} or dport = :{served.port} )"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if not broken.stdout.strip():
        pytest.skip("this kernel breaks no connections for ss (CONFIG_INET_DIAG_DESTROY)")
    note = page.locator(f"#screen-{number} p")
    expect(note).to_be_visible()
    assert rows(page, number) == before, "one can read on meanwhile"
    expect(note).to_be_hidden(timeout=10_000)
    assert rows(page, number) == before, "and one's place in the text is kept"
    page.keyboard.press("Shift+PageDown")
    shows(page, number, "^meanwhile")
    assert page.evaluate("window.lost") == 0
    assert sum(sent) < 200, "only what was missed is sent again"
    type_into(page, number, "echo again-''typed")
    shows(page, number, "^again-typed")


def test_two_pages_share_a_size_and_answer_a_question_once(
    served: Served, context: BrowserContext
) -> None:
    number = served.open_terminal()
    wide = window(context, served)
    _, columns = size_of(wide, number)
    small = window(context, served)
    small.set_viewport_size({"width": 1000, "height": 700})
    wait(lambda: size_of(small, number)[1] < columns - 20, lambda: size_of(small, number))
    # Where is the cursor? Each answer is typed into the shell.
    ask = "clear; printf '\\033[6n'; read -rs -t 1 -N 60 answers; printf '%q over\\n' \"$answers\""
    type_into(wide, number, ask)
    shows(small, number, "over$")
    assert re.findall(r"\[\d+;\d+R", rows(small, number)) == ["[1;1R"]
    small.close()
    wait(lambda: size_of(wide, number)[1] == columns, lambda: size_of(wide, number))
    wide.reload()  # the question comes again, and must not be answered again
    shows(wide, number, "over$")
    type_into(wide, number, "echo no-''rest")
    shows(wide, number, "^no-rest")
    shows(wide, number, r"^\$ echo no-''rest$")
