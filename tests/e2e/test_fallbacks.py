"""Browsers in networks that let no WebSocket through, or no stream either: the same events at the same cursor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.middlebox import Middlebox
from tests.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE = """{% load orgrealtime %}<!doctype html><title>Notes</title>
{% orgrealtime_client organization since=cursor %}
<p id="state"></p><ol id="notes"></ol>
<script type="module">
  import { connect } from "orgrealtime";
  connect({
    ...JSON.parse(document.getElementById("orgrealtime-config").textContent),
    pollInterval: 500,
    onEvent: (event) => document.getElementById("notes").append(
      Object.assign(document.createElement("li"), { textContent: event.text })),
    onState: ({ name, transport }) => (document.getElementById("state").textContent = `${name} ${transport}`),
  });
</script>
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    project = Project()
    project.follow_tutorial()
    (project.folder / "teams/templates/teams/notes.html").write_text(PAGE)
    project.start()
    yield project
    project.close()


def open_page(browser: Browser, box: Middlebox, without: str | None = None) -> Page:
    """Open alice's page; `without` is what the browser can't load."""
    page = browser.new_context(base_url=box.url).new_page()
    if without:
        page.route(without, lambda route: route.abort())
    page.goto("/accounts/login/?next=/orgs/acme/")
    page.fill("input[name=username]", "alice")
    page.fill("input[name=password]", "demo")
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/orgs/acme/")
    return page


def publish(project: Project, text: str) -> None:
    project.manage("orgrealtime_publish", "acme", "note_added", f'{{"text": "{text}"}}')


@pytest.mark.parametrize(("buffers", "transport"), [(False, "sse"), (True, "polling")])
def test_page_gets_every_event_once_without_a_websocket(
    browser: Browser, project: Project, buffers: bool, transport: str
) -> None:
    box = Middlebox(project.port, buffers=buffers)
    with box.running():
        page = open_page(browser, box)
        publish(project, "while it looks for a way")
        expect(page.locator("#state")).to_have_text(f"live {transport}")
        for number in range(3):
            publish(project, f"live {number}")
        expect(page.locator("#notes li")).to_have_text(
            ["while it looks for a way", "live 0", "live 1", "live 2"]
        )
        assert box.refused >= 2
        page.context.close()


def test_page_gets_its_events_also_while_the_module_of_the_fallbacks_cant_be_loaded(
    browser: Browser, project: Project
) -> None:
    box = Middlebox(project.port, buffers=False)
    with box.running():
        page = open_page(browser, box, without="**/fallbacks*.js")
        for number in range(2):
            with page.expect_event("requestfailed"):
                publish(project, f"without {number}")
            expect(page.locator("#notes li").last).to_have_text(f"without {number}")
        page.unroute_all()
        expect(page.locator("#state")).to_have_text("live sse")
        publish(project, "with")
        expect(page.locator("#notes li")).to_have_text(["without 0", "without 1", "with"])
        page.context.close()


def test_access_that_ends_ends_a_stream(browser: Browser, project: Project) -> None:
    box = Middlebox(project.port, buffers=False)
    with box.running():
        page = open_page(browser, box)
        expect(page.locator("#state")).to_have_text("live sse")
        member = "Membership.objects.get(user__username='alice')"
        project.manage("shell", "-c", f"from teams.models import Membership; {member}.delete()")
        # No Redis here: the regular check finds it.
        expect(page.locator("#state")).to_have_text("forbidden undefined")
        page.context.close()
