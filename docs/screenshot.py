"""Make docs/images/board.png: the embedded example as alice sees it in the middle of a working day.

`python docs/screenshot.py`, in an environment with the dependency groups `test` and `browser`, Chromium, and the font
Inter (Debian: fonts-inter).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.boards import eventually  # noqa: E402
from tests.e2e.conftest import chromium_options  # noqa: E402
from tests.servers import Site  # noqa: E402
from tests.shell import Shell  # noqa: E402

PICTURE = ROOT / "docs/images/board.png"
MOST_BYTES = 300_000
SIZE = {"width": 1280, "height": 860}

# Events of the last 23 hours: how many depends on the hour of the day.
PAST = """
import random
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from orgrealtime import publish
from orgrealtime.models import NotificationEvent
from tracker.models import Organization

random.seed(4)
acme = Organization.objects.get(slug="acme")
people = list(User.objects.filter(memberships__organization=acme))
titles = list(acme.tasks.values_list("pk", flat=True))
BUSY = [0, 0, 0, 0, 0, 0, 1, 3, 8, 12, 14, 9, 4, 10, 15, 12, 8, 4, 2, 1, 0, 1, 0, 0]
for hours in range(23, 0, -1):
    begin = timezone.now() - timedelta(hours=hours)
    for _ in range(BUSY[begin.hour]):
        actor = random.choice(people)
        if random.random() < 0.12:
            payload = {"job_id": "past", "status": "failed", "download_url": ""}
            event = publish(acme, "export_done", payload, actor=actor)
        elif random.random() < 0.12:
            event = publish(acme, "note", {"text": "Checkout 2.4 is deployed"})
        else:
            details = {"from": "todo", "to": random.choice(["todo", "doing", "done"])}
            payload = {"task_id": random.choice(titles), "action": "status_changed", "details": details}
            event = publish(acme, "task_event", payload, actor=actor)
        when = begin + timedelta(minutes=random.randrange(50))
        NotificationEvent.objects.filter(pk=event.pk).update(created_at=when)
"""


def open_board(page: Page, username: str) -> Page:
    page.goto("/accounts/login/")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", "demo")
    page.press("input[name=password]", "Enter")
    page.locator("#state[data-state=live]").wait_for()
    return page


def move(page: Page, title: str, status: str) -> None:
    page.locator(".card", has_text=title).locator(f"button[value={status}]").click()
    page.wait_for_timeout(400)


def work(alice: Page, bob: Page, publisher: Shell) -> None:
    """Something for every part of the page."""
    alice.get_by_role("button", name="Export tasks").click()
    alice.get_by_role("link", name="Download").first.wait_for()
    move(bob, "Order new badges", "doing")
    publisher.publish({"text": "Checkout 2.4 is deployed"})
    alice.wait_for_timeout(6500)  # until the first toasts have gone
    move(alice, "Move invoices", "done")
    alice.get_by_role("button", name="Export tasks").click()
    bar = alice.locator("#exports [data-status=running] progress")
    eventually(alice, lambda: bar.evaluate("bar => bar.value") >= 60)
    move(bob, "Write the customer survey", "doing")
    alice.mouse.move(0, 0)


def main() -> None:
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        environ = {
            "REDIS_URL": "",
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "EXPORT_SECONDS": "6",
            "DEBUG": "off",
        }
        with Site(environ=environ) as site:
            site.shell.run(PAST)
            browser = playwright.chromium.launch(**chromium_options())
            alice, bob = (
                open_board(browser.new_page(base_url=site.url, viewport=SIZE), name)
                for name in ("alice", "bob")
            )
            work(alice, bob, site.shell)
            alice.wait_for_timeout(1000)
            alice.screenshot(path=PICTURE, animations="disabled")
            browser.close()
    size = PICTURE.stat().st_size
    assert size <= MOST_BYTES, f"{PICTURE} has {size} bytes"


if __name__ == "__main__":
    main()
