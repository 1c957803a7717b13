#!/usr/bin/env python3
"""A picture of a report's first packet walk: steps to one hop, takes what the browser shows.

usage: page-picture.py REPORT.html OUT.png [--hop N]

`make pictures` draws the one of the README. Needs Debian's chromium.
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1180, "height": 1000}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hop", type=int, default=4)
    wanted = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        page.goto(wanted.report.absolute().as_uri())
        walk = page.locator("details.walk[open]").first
        for _ in range(wanted.hop - 1):
            walk.locator("[data-do=next]").click()
        walk.evaluate("walk => window.scrollTo(0, walk.offsetTop - 70)")
        page.wait_for_timeout(500)
        page.screenshot(path=wanted.out)
        browser.close()


if __name__ == "__main__":
    main()
