"""The example's page in a real browser: what a member sees, and what nobody else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.servers import Site

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LogIn = Callable[[str], "Page"]


def open_board(page: Page, org: str = "acme") -> Page:
    page.goto(f"/orgs/{org}/")
    expect(page.locator("#state-text")).to_have_text("Live")
    return page


def column(page: Page, status: str) -> Locator:
    return page.locator(f".column[data-status={status}]")


def first_title(page: Page, status: str) -> str:
    return column(page, status).locator(".card h3").first.inner_text()


def move(page: Page, title: str, status: str) -> None:
    page.locator(".card", has_text=title).locator(f"button[value={status}]").click()


def test_members_see_each_others_changes_at_once(log_in: LogIn) -> None:
    alice, bob = open_board(log_in("alice")), open_board(log_in("bob"))
    for mover, watcher in ((alice, bob), (bob, alice)):
        title = first_title(mover, "todo")
        move(mover, title, "done")
        expect(column(watcher, "done")).to_contain_text(title, timeout=1000)
        expect(watcher.locator("#feed")).to_contain_text(title)


def test_a_member_of_another_organisation_sees_nothing(log_in: LogIn, site: Site) -> None:
    alice, carol = open_board(log_in("alice")), open_board(log_in("carol"), "globex")
    before = carol.locator("#feed li").count()
    move(alice, first_title(alice, "todo"), "doing")
    site.manage("orgrealtime_publish", "globex", "note", '{"text": "ours"}')
    expect(carol.locator("#feed li")).to_have_count(before + 1)
    answer = carol.goto("/orgs/acme/")
    assert answer is not None
    assert answer.status == 403


def test_what_happened_while_offline_is_there_afterwards_in_order_and_once(log_in: LogIn, site: Site) -> None:
    alice = open_board(log_in("alice"))
    alice.context.set_offline(True)
    expect(alice.locator("#state-text")).not_to_have_text("Live", timeout=60_000)
    for number in range(3):
        site.manage("orgrealtime_publish", "acme", "note", f'{{"text": "while away {number}"}}')
    alice.context.set_offline(False)
    expect(alice.locator("#state-text")).to_have_text("Live", timeout=40_000)
    texts = alice.locator("#feed li").all_inner_texts()
    assert len([text for text in texts if "note" in text or "while away" in text]) == 3


def test_markup_in_a_payload_is_shown_as_text_or_not_at_all(log_in: LogIn, site: Site) -> None:
    alice = open_board(log_in("alice"))
    errors: list[str] = []
    alice.on("pageerror", lambda error: errors.append(str(error)))
    alice.on("dialog", lambda dialog: errors.append(dialog.message))
    before = alice.locator("#feed li").count()
    site.manage("orgrealtime_publish", "acme", "note", '{"text": "<img src=x onerror=alert(1)>"}')
    expect(alice.locator("#feed li")).to_have_count(before + 1)
    assert alice.locator("#feed img[src=x]").count() == 0
    assert errors == []


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_fits_the_width(log_in: LogIn, width: int) -> None:
    alice = log_in("alice")
    alice.set_viewport_size({"width": width, "height": 800})
    open_board(alice)
    assert alice.evaluate("document.documentElement.scrollWidth") <= width
