"""Exports in a real browser, from the click to the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.e2e.boards import eventually, live, open_board
from tests.e2e.conftest import LogIn

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.e2e.conftest import Console


def newest(page: Page) -> Locator:
    return page.locator("#exports li").first


def progress(page: Page) -> int:
    """Percent of the export that is under way, as soon as there is one."""
    return int(page.locator("#exports [data-status=running] progress").evaluate("bar => bar.value"))


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def test_an_export_goes_from_a_click_over_a_bar_to_a_file(log_in: LogIn) -> None:
    alice, bob = open_board(log_in("alice")), open_board(log_in("bob"))
    press(alice, "Export tasks")
    bar = newest(alice).get_by_role("progressbar", name="Progress of your export")
    expect(bar).to_be_visible()
    eventually(alice, lambda: progress(alice) >= 50)
    expect(alice.get_by_role("button", name="Export tasks")).to_be_disabled()
    expect(bob.get_by_role("progressbar")).to_have_count(0)
    expect(newest(alice).get_by_role("link", name="Download")).to_be_visible()
    expect(bar).to_be_hidden()
    expect(alice.get_by_role("button", name="Export tasks")).to_be_enabled()
    expect(newest(bob)).to_contain_text(re.compile("Alice.s export"))
    for page in (alice, bob):
        with page.expect_download() as caught:
            newest(page).get_by_role("link", name="Download").click()
        assert caught.value.suggested_filename.startswith("acme-tasks-")
        content = caught.value.path().read_text("utf-8-sig")
        assert content.startswith('"Task","Status",')
        assert "Renew the office insurance" in content


def test_a_reload_goes_on_with_the_bar(log_in: LogIn) -> None:
    alice = open_board(log_in("alice"))
    press(alice, "Export tasks")
    eventually(alice, lambda: progress(alice) >= 20)
    alice.reload()
    expect(newest(live(alice)).get_by_role("progressbar")).to_be_visible()
    expect(newest(alice).get_by_role("link", name="Download")).to_be_visible()


def test_an_export_that_fails_says_so(log_in: LogIn) -> None:
    alice = open_board(log_in("alice"))
    press(alice, "See one fail")
    expect(newest(alice)).to_contain_text("try again")
    expect(newest(alice).get_by_role("link")).to_have_count(0)
    expect(newest(alice).get_by_role("progressbar")).to_have_count(0)
    expect(alice.get_by_role("button", name="Export tasks")).to_be_enabled()
    expect(alice.locator(".toast").last).to_contain_text("Your export failed")


def test_the_link_is_of_no_use_to_others(log_in: LogIn, console: Console) -> None:
    console.allow("status of 403")
    alice, carol = open_board(log_in("alice")), open_board(log_in("carol"), "globex")
    press(alice, "Export tasks")
    link = newest(alice).get_by_role("link", name="Download")
    expect(link).to_be_visible()
    answer = carol.goto(str(link.get_attribute("href")))
    assert answer is not None
    assert answer.status == 403
