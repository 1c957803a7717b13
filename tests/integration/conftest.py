"""What several integration tests drive."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import browser
from tests.integration.page_server import Served, page_of


@pytest.fixture(scope="module")
def chromium(require: Callable[..., None]) -> Iterator[Browser]:
    require("chromium")
    with browser.chromium() as started:
        yield started


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """The page of `labctl open`, served on 127.0.0.1."""
    running = Served(page_of(tmp_path))
    yield running
    running.stop()
