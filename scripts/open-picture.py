#!/usr/bin/env python3
"""A picture of `labctl open`: the lesson, the network and a terminal of a real lab, in a browser.

usage: open-picture.py LABCTL OUT.png [--checkpoint ID] [--type COMMAND --until TEXT]
    [--width N] [--dark]

LABCTL is the command; it serves the lab of ./lab.yaml. `make pictures` draws the one of the README.
Needs Debian's chromium.
"""

import argparse
import re
import subprocess
from pathlib import Path

from playwright.sync_api import sync_playwright

HEIGHT = 940
SECONDS = 120
"""For whatever the page waits for, on a slow machine."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("labctl")
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", default="associate", help="the one that is opened")
    parser.add_argument(
        "--type", default="ovn-nbctl --columns=type,external_ip,logical_ip list NAT",
        help="what is typed in the terminal",
    )  # fmt: skip
    parser.add_argument("--until", default="dnat_and_snat", help="what that prints in the end")
    parser.add_argument("--width", type=int, default=1500, help="pixels")
    parser.add_argument("--dark", action="store_true")
    wanted = parser.parse_args()
    command = [wanted.labctl, "--lang", "en", "open", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            address = next(found[0] for line in served.stdout
                           if (found := re.search(r"http://\S+", line)))  # fmt: skip
            take(address, wanted)
        finally:
            served.terminate()


def take(address: str, wanted: argparse.Namespace) -> None:
    """Open the page, fill it, and write what the browser shows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(
            viewport={"width": wanted.width, "height": HEIGHT},
            color_scheme="dark" if wanted.dark else "light",
            reduced_motion="reduce",
        )
        page.set_default_timeout(SECONDS * 1000)
        page.goto(address)
        page.locator("#picture svg").wait_for()
        page.locator("#nodes button").first.click()
        page.locator(".xterm-rows", has_text="#").wait_for()
        page.locator(".xterm-screen").click()
        page.keyboard.type(wanted.type)
        page.keyboard.press("Enter")
        page.locator(".xterm-rows", has_text=wanted.until).wait_for()
        checkpoint = page.locator(f'[data-checkpoint="{wanted.checkpoint}"]')
        for shown in page.locator(".checkpoint[open]").all():
            if shown.get_attribute("data-checkpoint") != wanted.checkpoint:
                shown.locator("summary").first.click()
        if checkpoint.get_attribute("open") is None:
            checkpoint.locator("summary").click()
        checkpoint.evaluate("box => box.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(1000)
        page.screenshot(path=wanted.out)
        browser.close()


if __name__ == "__main__":
    main()
