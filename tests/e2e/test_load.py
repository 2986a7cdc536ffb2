"""The example's page while much happens: it stays usable. Counted in layouts and processor time, not in seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.e2e.boards import eventually, open_board

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

    from tests.e2e.conftest import Console, LogIn
    from tests.servers import Site

# Moves and notes in turn, one transaction each.
PUBLISH = """
import time
from django.contrib.auth.models import User
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization
acme, bob = Organization.objects.get(slug="acme"), User.objects.get(username="bob")
tasks = list(acme.tasks.values_list("pk", flat=True))
def happen(number):
    if number % 2:
        return publish(acme, "note", {{"text": f"busy {{number}}"}}, actor=bob)
    details = {{"from": "todo", "to": ["todo", "doing", "done"][number // len(tasks) % 3]}}
    payload = {{"task_id": tasks[number % len(tasks)], "action": "status_changed", "details": details}}
    publish(acme, "task_event", payload, actor=bob)
"""
BUSY = (
    PUBLISH
    + """
for number in range({count}):
    happen(number)
    time.sleep(1 / 50)
"""
)
AT_ONCE = (
    PUBLISH
    + """
with transaction.atomic():
    for number in range({count}):
        happen(number)
"""
)
COUNT_FRAMES = (
    "() => { window.frames_ = 0; (function frame() { frames_++; requestAnimationFrame(frame) })() }"
)
LAYOUTS = ["devtools.timeline", "disabled-by-default-devtools.timeline.stack"]
EVENTS = 400
# So much of the main thread's time may an event cost, that at 50 a second there is time left for 30 frames.
SECONDS_PER_EVENT = 0.015


def metrics(session: CDPSession) -> dict[str, Any]:
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


def shows(page: Page, text: str) -> None:
    expect(page.locator("#feed")).to_contain_text(text)


def forced_layouts(trace: bytes) -> list[str]:
    """The functions of a page that had things laid out anew in the midst of a task, as a trace tells it."""
    layouts = [event["args"] for event in json.loads(trace)["traceEvents"] if event["name"] == "Layout"]
    assert layouts
    calls = [call for each in layouts for call in each.get("beginData", {}).get("stackTrace", [])[:1]]
    return [f"{call['functionName']} {call['url']}" for call in calls if call["url"]]  # else Playwright's own


def test_fifty_events_a_second_are_laid_out_with_the_frames_and_leave_time(
    log_in: LogIn, site: Site, browser: Browser
) -> None:
    dave = open_board(log_in("dave"), "acme")
    session = dave.context.new_cdp_session(dave)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = metrics(session)
    site.shell.run(BUSY.format(count=EVENTS))
    shows(dave, f"busy {EVENTS - 1}")
    after = metrics(session)
    assert (after["TaskDuration"] - before["TaskDuration"]) / EVENTS < SECONDS_PER_EVENT
    browser.start_tracing(page=dave, categories=LAYOUTS)
    site.shell.run(BUSY.format(count=100))
    shows(dave, "busy 99")
    assert forced_layouts(browser.stop_tracing()) == []


def test_page_lives_while_it_catches_up_with_five_thousand_events(
    log_in: LogIn, site: Site, console: Console
) -> None:
    console.allow_lost_connections()
    dave = open_board(log_in("dave"), "acme")
    dave.locator("#bell").hover()
    expect(dave.locator("#bell").locator("[part=header]")).to_have_count(1)
    dave.context.set_offline(True)
    expect(dave.locator("#state")).not_to_have_attribute("data-state", "live")
    site.shell.run(AT_ONCE.format(count=5_000))
    # Whoever presses a key in each turn that the page takes is answered: this is how many turns there are.
    dave.evaluate(COUNT_FRAMES)
    dave.evaluate("() => { window.turns = 0; setInterval(() => turns++, 1) }")
    dave.evaluate(
        "() => document.querySelector('#bell').addEventListener('orgrealtime:event', () => { "
        "window.first ??= [turns, frames_]; window.last = [turns, frames_] })"
    )
    dave.context.set_offline(False)
    shows(dave, "busy 4999")
    eventually(dave, lambda: dave.locator("#state").get_attribute("data-state") == "live")
    turns, frames = dave.evaluate("[last[0] - first[0], last[1] - first[1]]")
    assert turns >= 10
    assert frames >= 5
    assert dave.locator("#bell").evaluate("bell => bell.shadowRoot.querySelectorAll('li').length") <= 50
