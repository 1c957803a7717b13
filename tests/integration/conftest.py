"""What several integration tests drive."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import browser
from tests.integration.page_server import Served, page_of

LONGEST = "test_virtualbox.py"
"""Ten minutes in one file, which one process runs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file begins first, or all processors but one wait for it at the end."""
    items.sort(key=lambda item: item.path.name != LONGEST)


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
