"""A learner at the page of `labctl open`: a real Chromium, which clicks, types and reads."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from playwright.sync_api import BrowserContext, Locator, Page

T = TypeVar("T")


@contextmanager
def opened(directory: Path) -> Iterator[tuple[str, int]]:
    """`labctl open` on the lab of a directory, as a process; its address and the process's ID."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl", "open", "--no-browser"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "LABCTL_LANG": "en"},
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if address := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line):
                break
        else:
            raise AssertionError("labctl open printed no address")
        yield address[0], process.pid
    finally:
        process.terminate()
        with process:
            process.wait(30)


class Learner:
    """One window of the browser that shows the page."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(120_000)
        self.wrong: list[str] = []
        """Errors of the page's own scripts."""
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(address)
        self.page.locator("#nodes button").first.wait_for()

    # -- terminals -------------------------------------------------------------------------------
    def open(self, name: str) -> int:
        """A new terminal on a node or an instance; its number."""
        before = set(self.numbers())
        self.page.locator("#nodes button", has_text=re.compile(rf"^\+ {re.escape(name)}$")).click()
        until(lambda: set(self.numbers()) - before, f"a terminal of {name}", 200)
        (number,) = set(self.numbers()) - before
        return number

    def console(self, name: str) -> int:
        """The terminal on an instance's console, which is one for all: the one there is, or a new
        one; its number."""
        self.page.locator("#nodes button", has_text=re.compile(rf"^\+ {re.escape(name)}$")).click()
        tab = self.page.locator("#tabs [role=tab][aria-selected=true]", has_text=name)
        tab.wait_for(timeout=200_000)
        return int(str(tab.get_attribute("id")).removeprefix("tab-"))

    def numbers(self) -> list[int]:
        """Of all terminals."""
        ids = self.page.locator("#tabs [role=tab]").evaluate_all("tabs => tabs.map(t => t.id)")
        return [int(name.removeprefix("tab-")) for name in ids]

    def screen(self, number: int) -> Locator:
        """A terminal."""
        return self.page.locator(f"#screen-{number}")

    def shown(self, number: int) -> str:
        """What one sees of a terminal now."""
        rows = self.screen(number).locator(".xterm-rows > div")
        return "\n".join(line.rstrip("\xa0 ") for line in rows.all_inner_texts())

    def use(self, number: int) -> None:
        """Go to a terminal: by its tab if it is not shown, and with a click into it."""
        if not self.screen(number).is_visible():
            self.page.locator(f"#tab-{number}").click()
        self.screen(number).locator(".xterm-screen").click(position={"x": 30, "y": 10})

    def type(self, number: int, line: str) -> None:
        """Type a line, key by key, and Enter."""
        self.use(number)
        self.page.keyboard.type(line)
        self.page.keyboard.press("Enter")

    def run(self, number: int, command: str, timeout: float = 400) -> str:
        """Type a command of a node's shell and wait until it has ended; what is shown then."""
        mark = f"ended-{time.monotonic_ns() % 10**9}"
        self.type(number, f"{command}; echo '{mark[:5]}'{mark[5:]}")
        return self.wait(number, rf"^{mark}", timeout)

    def wait(self, number: int, pattern: str, timeout: float = 200) -> str:
        """Wait until something is shown in a terminal; all that is shown then."""
        found = until(
            lambda: text if re.search(pattern, text := self.shown(number), re.MULTILINE) else None,
            lambda: f"{pattern} in\n{self.shown(number)}",
            timeout,
        )
        return str(found)

    # -- the lesson ------------------------------------------------------------------------------
    def click(self, name: str) -> None:
        """Click on one of the buttons below the lesson."""
        self.page.locator("#buttons").get_by_role("button", name=name, exact=True).click()

    def passed(self) -> int:
        """How many checkpoints have passed."""
        return self.page.locator("#course details.checkpoint.passed").count()

    def check(self, passed: int) -> float:
        """Click Check, and wait until so many checkpoints have passed; seconds."""
        began = time.monotonic()
        self.click("Check")
        until(
            lambda: self.passed() == passed,
            lambda: f"{passed} checkpoints: {self.page.locator('#lesson').inner_text()[-3000:]}",
            600,
        )
        return time.monotonic() - began


def until(ask: Callable[[], T], description: str | Callable[[], str], timeout: float) -> T:
    """Ask until the answer is something; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := ask()):
        if time.monotonic() > deadline:
            said = description if isinstance(description, str) else description()
            raise AssertionError(f"in {timeout:g} s there was not: {said}")
        time.sleep(0.05)
    return answer
