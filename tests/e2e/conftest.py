"""The example project under uvicorn with two processes, and people in a real browser.

Here no test uses the database in this process: Playwright's event loop runs in its main thread.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# Without Playwright, everywhere but in the tox env `browser`, there is nothing to collect here.
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]

LogIn = Callable[[str], "Page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")


@pytest.fixture(scope="session", params=["PostgreSQL and Redis", "embedded"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Site]:
    embedded = {"REDIS_URL": "", "DATABASE_URL": f"sqlite:///{tmp_path_factory.mktemp('site')}/db.sqlite3"}
    is_embedded = request.param == "embedded"
    with servers.Site(workers=1 if is_embedded else 2, environ=embedded if is_embedded else {}) as site:
        yield site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: `CHROMIUM`, else the one on PATH, else Playwright's own."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    with sync_playwright() as playwright:
        # Chromium's sandbox doesn't work for root.
        chromium = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield chromium
        chromium.close()


@pytest.fixture
def log_in(browser: Browser, site: servers.Site) -> Iterator[LogIn]:
    """`log_in("alice")`: a page in a browser profile of her own, logged in."""
    contexts = []

    def log_in(username: str) -> Page:
        context = browser.new_context(base_url=site.url)
        contexts.append(context)
        page = context.new_page()
        page.goto("/accounts/login/")
        page.fill("input[name=username]", username)
        page.fill("input[name=password]", "demo")
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "/accounts/login/" not in url)
        return page

    yield log_in
    for context in contexts:
        context.close()
