"""The client in real pages: below a prefix, with another login, far behind, in many tabs, and without our client."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.middlebox import Middlebox
from tests.project import Project
from tests.servers import Server
from tests.waiting import LIMIT_SECONDS, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

LIVE = re.compile("^live (websocket|shared)$")  # the page's client and the element's share

PAGE = """{% load orgrealtime %}<!doctype html><title>Notes</title>
{% orgrealtime_client organization since=cursor %}
<p id="who">{{ request.user.username }}</p><p id="state"></p><ol id="notes"></ol>
<org-notifications org="{{ organization.slug }}" share-key="{{ request.user.pk }}"></org-notifications>
<script type="module">
  import { connect } from "orgrealtime";
  import "orgrealtime/notifications";
  const options = Object.fromEntries(new URLSearchParams(location.search));
  window.config = JSON.parse(document.getElementById("orgrealtime-config").textContent);
  window.connect = connect;
  window.onEvent = (event) => document.getElementById("notes").append(
    Object.assign(document.createElement("li"), { textContent: event.text }));
  window.client = connect({
    ...window.config,
    ...options,
    onEvent: (event) => window.onEvent(event),
    onReset: async ({ reason }) => {
      document.getElementById("notes").replaceChildren();
      document.title = reason;
      await window.letGo;
    },
    onState: ({ name, transport }) => (document.getElementById("state").textContent = `${name} ${transport}`),
  });
</script>
"""

BELOW_APP = """
inner = application

async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        if not scope["path"].startswith("/app/"):
            if scope["type"] == "websocket":
                await receive()
                return await send({"type": "websocket.close"})
            await send({"type": "http.response.start", "status": 404, "headers": []})
            return await send({"type": "http.response.body", "body": b"another application"})
        scope = {**scope, "path": scope["path"][4:], "raw_path": scope["path"][4:].encode()}
    await inner(scope, receive, send)
"""


# Django's own pattern for static files has the prefix, too.
STATIC_FILES = """
from django.contrib.staticfiles.views import serve
urlpatterns += [path("static/<path:path>", serve)]
"""


class BelowApp(Project):
    """A project of which only what lies below /app reaches Django, which knows it."""

    def follow_tutorial(self) -> list[list[str]]:
        commands = super().follow_tutorial()
        self.write(
            "config/settings.py, at the end", 'FORCE_SCRIPT_NAME = "/app"\nLOGIN_URL = "/app/accounts/login/"'
        )
        self.write("config/asgi.py, at the end", BELOW_APP)
        self.write("config/urls.py, at the end", STATIC_FILES)
        return commands

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/app/accounts/login/", timeout=LIMIT_SECONDS).close()
        except OSError:
            return False
        return True


def made(kind: Callable[[], Project]) -> Iterator[Project]:
    project = kind()
    project.follow_tutorial()
    project.write("teams/templates/teams/notes.html", PAGE)
    project.start()
    yield project
    project.close()


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    yield from made(Project)


@pytest.fixture(scope="module")
def below_app() -> Iterator[Project]:
    yield from made(BelowApp)


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """`new_context(url)`: a browser profile of its own."""
    contexts: list[BrowserContext] = []

    def new_context(url: str, init: str = "") -> BrowserContext:
        context = browser.new_context(base_url=url)
        context.set_default_timeout(LIMIT_SECONDS * 1000)
        context.add_init_script(init)
        contexts.append(context)
        return context

    yield new_context
    for context in contexts:
        context.close()


def log_in(page: Page, username: str, prefix: str = "", query: str = "") -> Page:
    page.goto(f"{prefix}/accounts/login/?next={prefix}/orgs/acme/{query}")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", "demo")
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"**{prefix}/orgs/acme/**")
    return page


def publish(project: Project, *texts: str, to: str = "") -> None:
    lines = [
        "from django.contrib.auth.models import User",
        "from orgrealtime import publish",
        "from teams.models import Organization",
        "acme = Organization.objects.get(slug='acme')",
        f"to = list(User.objects.filter(username={to!r})) or None",
        f"for text in {texts!r}: publish(acme, 'note_added', {{'text': text}}, to=to)",
    ]
    project.manage("shell", "-c", "\n".join(lines))


def notes(page: Page) -> Any:
    return page.locator("#notes li")


def test_page_below_a_script_prefix_follows_and_its_mistakes_are_told(
    below_app: Project, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(below_app.url).new_page()
    warnings: list[str] = []
    page.on("console", lambda message: message.type == "warning" and warnings.append(message.text))
    log_in(page, "alice", "/app", "?sinse=x")
    expect(page.locator("#state")).to_have_text(LIVE)
    page.get_by_role("button", name="Notifications").hover()
    expect(page.locator("org-notifications").locator("[data-state=live]")).to_have_count(1)
    publish(below_app, "below the prefix")
    expect(notes(page)).to_have_text(["below the prefix"])
    expect(page.get_by_role("button", name="1 unread")).to_be_visible()
    until(lambda: warnings or page.wait_for_timeout(50))
    assert 'there is no option "sinse"; did you mean "since"?' in warnings[0]


def test_page_of_one_user_begins_anew_when_another_logs_in(
    project: Project, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context(project.url)
    hers = log_in(context.new_page(), "alice")
    expect(hers.locator("#state")).to_have_text(LIVE)
    publish(project, "for all")
    expect(notes(hers)).to_have_text(["for all"])
    hers.evaluate("() => { window.letGo = new Promise((resolve) => (window.goOn = resolve)); }")
    alice = hers.evaluate("client.user")
    his = log_in(context.new_page(), "bob")
    expect(his.locator("#state")).to_have_text(LIVE)
    expect(hers).to_have_title("user")  # the reset: what the page showed of her is gone
    expect(notes(hers)).to_have_count(0)
    publish(project, "for bob", to="bob")
    expect(notes(his)).to_have_text(["for bob"])
    publish(project, "for alice", to="alice")
    hers.wait_for_timeout(500)
    expect(notes(hers)).to_have_count(0)
    hers.evaluate("goOn()")
    expect(notes(hers)).to_have_text(["for bob"])
    assert hers.evaluate("client.user") == his.evaluate("config.user") != alice
    expect(hers.locator("#state")).to_have_text(LIVE)


def test_page_that_is_far_behind_stays_alive_while_it_catches_up(
    project: Project, new_context: Callable[..., BrowserContext]
) -> None:
    page = log_in(new_context(project.url).new_page(), "alice")
    expect(page.locator("#state")).to_have_text(LIVE)
    since = page.evaluate("client.cursor")
    publish(project, *(f"note {number}" for number in range(1000)))
    page.evaluate(
        """since => {
          window.seen = 0; window.turns = 0;
          const busy = () => { const end = performance.now() + 4; while (performance.now() < end); };
          const timer = setInterval(() => window.turns++, 1);
          connect({ ...config, since, share: false, onReset() {}, onEvent() {
            busy();
            if (++window.seen === 1000) clearInterval(timer);
          } });
        }""",
        since,
    )
    page.wait_for_function("window.seen === 1000")
    # Four seconds of work; without turns only the frames of the socket would interrupt it, a few times.
    assert page.evaluate("window.turns") > 100


def test_eight_tabs_that_share_nothing_and_have_no_socket_are_all_live(
    project: Project, new_context: Callable[..., BrowserContext]
) -> None:
    blocked = "delete window.WebSocket; Object.defineProperty(navigator, 'locks', { value: undefined });"
    context = new_context(project.url, blocked)
    pages = [log_in(context.new_page(), "alice")]
    for _ in range(7):
        page = context.new_page()
        page.goto("/orgs/acme/")
        pages.append(page)
    for page in pages:
        page.wait_for_function("client.state.name === 'live'")
    publish(project, "for every tab")
    for page in pages:
        expect(notes(page)).to_have_text(["for every tab"])
    assert sum(page.evaluate("client.state.transport === 'sse'") for page in pages) <= 4


class Successor(Project):
    """Another server of the same project, which takes over from the first."""

    def __init__(self, project: Project) -> None:
        Server.__init__(self)
        self.popen_options = project.popen_options


def test_event_source_of_the_page_comes_back_after_a_restart_behind_a_proxy(
    project: Project, new_context: Callable[..., BrowserContext]
) -> None:
    box = Middlebox(project.port, buffers=False)
    with box.running(), Successor(project) as successor:
        page = log_in(new_context(box.url).new_page(), "alice")
        page.goto("/accounts/login/")  # a page without our client
        page.evaluate(
            """() => {
              window.got = [];
              window.source = new EventSource("/orgs/acme/notifications/stream/");
              source.onmessage = ({ data }) => {
                const frame = JSON.parse(data);
                window.got.push(frame.text ?? frame.type);
              };
            }"""
        )
        page.wait_for_function("got.includes('synced')")
        publish(project, "before")
        page.wait_for_function("got.includes('before')")
        # Longer than the three seconds that Chromium waits by itself. A 502 would end it for good.
        box.hand_over(successor.port, seconds=4.5)
        project.stop()
        publish(project, "while it was down")
        page.wait_for_function(
            "got.includes('while it was down') || source.readyState === EventSource.CLOSED"
        )
        got = page.evaluate("got")
        assert [one for one in got if one in {"before", "while it was down"}] == [
            "before",
            "while it was down",
        ]
        assert "going_away" in got
        page.context.close()
    project.start()
