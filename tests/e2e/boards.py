"""What people do on a board, in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.servers import Site
    from tests.shell import Shell


def open_board(page: Page, org: str = "acme") -> Page:
    page.goto(f"/orgs/{org}/")
    return live(page)


def live(page: Page) -> Page:
    expect(page.locator("#state-text")).to_have_text("Live")
    return page


def column(page: Page, status: str) -> Locator:
    return page.locator(f".column[data-status={status}]")


def card(page: Page, title: str) -> Locator:
    return page.locator(".card", has_text=title)


def any_title(page: Page) -> str:
    return page.locator(".card h3").first.inner_text()


def move(page: Page, title: str) -> str:
    """Press one of the buttons of a card; return the status that it gives."""
    button = card(page, title).locator(".moves button:visible").first
    status = button.get_attribute("value")
    assert status
    button.click()
    return status


def texts(page: Page, beginning: str) -> list[str]:
    """The texts of notes in the activity that begin so, oldest first."""
    entries = page.locator("#feed .what p").all_inner_texts()
    return [text[text.index(beginning) :] for text in reversed(entries) if beginning in text]


def publish(publisher: Shell, text: str, count: int = 1, org: str = "acme") -> list[str]:
    """Publish notes with these texts and a number."""
    wanted = [f"{text} {number}" for number in range(count)]
    for each in wanted:
        publisher.publish({"text": each}, org=org)
    return wanted


def eventually(page: Page, condition: Callable[[], Any]) -> None:
    """Wait until the condition holds, while the browser goes on."""
    until(condition, seen=lambda: page.locator("body").inner_text(), pause=lambda: page.wait_for_timeout(50))


def seed_a_day(site: Site) -> None:
    """Begin anew, as the demo does: with a day of history."""
    site.shell.run(
        "from django.contrib.auth.models import User; from django.core.management import call_command; "
        "from tracker.models import Organization; "
        "Organization.objects.all().delete(); User.objects.all().delete(); call_command('seed_demo')"
    )


class Sockets:
    """How many connections a site has opened since now, and how many of those it hasn't closed, by its log."""

    def __init__(self, site: Site) -> None:
        self._log = site.folder / "log"
        self._begin = self._log.stat().st_size

    def _which(self, what: str) -> set[str]:
        log = self._log.read_bytes()[self._begin :].decode(errors="replace")
        return set(re.findall(rf'connection {what} connection_id="([^"]+)"', log))

    @property
    def opened(self) -> int:
        return len(self._which("opened"))

    @property
    def open(self) -> int:
        return len(self._which("opened") - self._which("closed"))
