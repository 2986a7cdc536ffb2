"""The example project in real servers, and people in a real browser.

Here no test uses the database in this process: Playwright's event loop runs in its main thread. What the browser's
console calls an error fails the test, unless `console.allow` has said that it will come. The Playwright trace of a test
that failed is kept in `$TRACES` (default: `test-results` in the repository's root), for `playwright show-trace`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import servers
from tests.clients import LOG_IN
from tests.shell import Shell
from tests.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HERE = Path(__file__).parent
# The lightest first: the shell has no user interface.
CHROMIUM_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WITH_SERVERS = "PostgreSQL, Redis and a worker"
LOOKS = {"test_bell", "test_firefox", "test_load", "test_look"}
ROOMS = "test_chat"
IN_ANY_ROOM = "test_people_in_a_room_see_what_the_others_say_and_it_is_there_after_a_reload"
TRACES = Path(os.environ.get("TRACES") or HERE.parent.parent / "test-results")

# Without Playwright, everywhere but in the tox env `browser`, there is nothing to collect here.
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]

LogIn = Callable[..., "Page"]
Failed = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")
    items[:] = [item for item in items if not _is_seen_elsewhere(item)]


def _is_seen_elsewhere(item: pytest.Item) -> bool:
    """Tell whether a test is for one of the two sites, and this is the other.

    What things look like, and what that costs, is the same on both; rooms are looked at with two workers, and in one
    process but once.
    """
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    site, file = params.get("site"), item.path.stem
    if item.path.parent != HERE or site is None:
        return False
    if file == ROOMS and not item.name.startswith(IN_ANY_ROOM):
        return bool(site != WITH_SERVERS)
    return file in LOOKS and bool(site == WITH_SERVERS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    item.stash[Failed] = item.stash.get(Failed, False) or report.failed
    return report


@pytest.fixture(scope="session", params=["embedded", WITH_SERVERS])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Site]:
    environ = {"EXPORT_SECONDS": "2", "DEBUG": "on"}
    if request.param == "embedded":
        database = f"sqlite:///{tmp_path_factory.mktemp('site')}/db.sqlite3"
        with servers.Site(environ={**environ, "REDIS_URL": "", "DATABASE_URL": database}) as site:
            yield site
        return
    with ExitStack() as stack:
        # Not the shared one: a worker takes the tasks of every site at its broker.
        redis = stack.enter_context(servers.Redis())
        site = stack.enter_context(servers.Site(workers=2, environ={**environ, "REDIS_URL": redis.url}))
        stack.enter_context(servers.Worker(site))
        yield site


@pytest.fixture(scope="session")
def publisher(site: servers.Site) -> Shell:
    return site.shell


def chromium_options() -> dict[str, Any]:
    """Chromium: `CHROMIUM`, else the lightest one on PATH, else Playwright's own."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    # Chromium's sandbox doesn't work for root.
    return {"executable_path": path, "chromium_sandbox": os.geteuid() != 0}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=LIMIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**chromium_options())
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NO NPM: NO PAGE IS CHECKED BY AXE")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), "axe-core@4"]
    subprocess.run(command, check=True, timeout=300)
    return Path(folder, "node_modules/axe-core/axe.min.js").read_text()


class Console:
    """What went wrong in the pages of a test."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._allowed: list[str] = []

    def allow(self, *patterns: str) -> None:
        self._allowed += patterns

    def allow_lost_connections(self) -> None:
        """Browsers report what can't be reached, and nothing keeps them from it."""
        self.allow("net::ERR_", "^WebSocket connection to", "status of 503")

    def listen(self, context: BrowserContext) -> None:
        context.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))

    def unexpected(self) -> list[str]:
        return [text for text in self.errors if not any(re.search(one, text) for one in self._allowed)]


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def log_in(
    request: pytest.FixtureRequest, browser: Browser, site: servers.Site, console: Console
) -> Iterator[LogIn]:
    """`log_in("alice")`: an empty page in a browser profile of her own, which has a session of hers."""
    contexts: list[BrowserContext] = []

    def log_in(username: str, **options: Any) -> Page:
        context = browser.new_context(base_url=site.url, **options)
        context.set_default_timeout(LIMIT_SECONDS * 1000)
        contexts.append(context)
        console.listen(context)
        context.tracing.start(title=f"{username}: {request.node.nodeid}", snapshots=True)
        # The form would have the password checked, which takes long.
        session = site.shell.run(LOG_IN.format(username=username))
        context.add_cookies([{"name": "sessionid", "value": session, "url": site.url}])
        return context.new_page()

    yield log_in
    unexpected = console.unexpected()
    has_failed = request.node.stash.get(Failed, False) or unexpected
    for number, context in enumerate(contexts):
        context.tracing.stop(path=trace_of(request, number) if has_failed else None)
        context.close()
    assert unexpected == []


def trace_of(request: pytest.FixtureRequest, number: int) -> Path:
    TRACES.mkdir(exist_ok=True)
    return TRACES / f"{re.sub(r'[^a-zA-Z0-9]+', '-', request.node.name)}-{number}.zip"
