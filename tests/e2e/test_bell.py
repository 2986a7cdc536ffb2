"""The bell in a real browser: where its list opens, what is marked, and how it is used without a mouse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.boards import live, open_board, publish

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.e2e.conftest import Console, LogIn
    from tests.servers import Site
    from tests.shell import Shell

SIZES = {
    "desktop": (1280, 860),
    "phone": (390, 844),
    "phone held sideways": (844, 390),
    "200 percent": (640, 430),
    "400 percent": (320, 256),
}
# Scrolled to its end: the upper edge of the panel and the lower edge of the last line.
EDGES = """bell => {
  const { children } = bell.shadowRoot, list = bell.shadowRoot.querySelector("ul");
  list.scrollTop = 1e6;
  const panel = children[1].getBoundingClientRect();
  return [panel.top, panel.left, list.lastElementChild.getBoundingClientRect().bottom, panel.right];
}"""
# A page whose bell stands in a box that clips what leaves it, below something that covers everything of the page.
CLIPPED = """() => {
  const box = document.querySelector(".tools");
  box.style.cssText = "overflow: hidden; transform: scale(1); height: 40px";
  const cover = document.createElement("div");
  cover.style.cssText = "position: fixed; inset: 0; z-index: 2147483647; pointer-events: none";
  document.body.append(cover);
}"""


def bell(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile("^Notifications"))


def lines(page: Page) -> Locator:
    return page.get_by_role("list", name="Notifications").get_by_role("listitem")


def dots(page: Page) -> Locator:
    return page.get_by_role("button", name="Mark as read")


@pytest.mark.parametrize("size", SIZES)
def test_the_list_is_never_taller_or_wider_than_the_window(
    log_in: LogIn, publisher: Shell, size: str
) -> None:
    width, height = SIZES[size]
    alice = open_board(log_in("alice", viewport={"width": width, "height": height}))
    last = publish(publisher, "a line of its own", 12)[-1]
    bell(alice).click()
    expect(lines(alice).first).to_contain_text(last)
    top, left, bottom, right = alice.locator("#bell").evaluate(EDGES)
    assert top >= 0
    assert left >= 0
    assert bottom <= height
    assert right <= width
    assert alice.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_of_the_page_clips_or_covers_the_list(log_in: LogIn, publisher: Shell) -> None:
    alice = open_board(log_in("alice"))
    (text,) = publish(publisher, "on top")
    alice.evaluate(CLIPPED)
    bell(alice).click()
    line = lines(alice).filter(has_text=text)
    expect(line).to_be_in_viewport(ratio=1)
    box = line.bounding_box()
    assert box
    point = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    found = alice.evaluate("([x, y]) => document.elementFromPoint(x, y).tagName", point)
    assert found == "ORG-NOTIFICATIONS"


def test_marks_stay_until_somebody_has_dealt_with_them(log_in: LogIn, publisher: Shell) -> None:
    alice = open_board(log_in("alice"))
    publish(publisher, "to be dealt with", 3)
    expect(bell(alice)).to_have_accessible_name("Notifications, 3 unread")
    expect(alice.locator("#bell").get_by_text("3", exact=True)).to_be_visible()
    bell(alice).click()
    expect(bell(alice)).to_have_accessible_name("Notifications")
    expect(dots(alice)).to_have_count(3)
    dots(alice).first.click()
    expect(dots(alice)).to_have_count(2)
    alice.reload()
    bell(live(alice)).click()
    expect(dots(alice)).to_have_count(2)
    other = open_board(alice.context.new_page())
    bell(other).click()
    other.get_by_role("button", name="Mark all as read").click()
    for page in (other, alice):
        expect(dots(page)).to_have_count(0)
        expect(page.get_by_role("button", name="Mark all as read")).to_be_hidden()


def test_everything_can_be_done_with_the_keyboard(log_in: LogIn, publisher: Shell) -> None:
    alice = open_board(log_in("alice"))
    publish(publisher, "by the keyboard", 2)
    expect(bell(alice)).to_have_accessible_name("Notifications, 2 unread")
    bell(alice).focus()
    alice.keyboard.press("Enter")
    expect(lines(alice).first).to_be_visible()  # whoever goes on before it is there has left it
    alice.keyboard.press("Tab")
    expect(alice.get_by_role("button", name="Mark all as read")).to_be_focused()
    alice.keyboard.press("Tab")
    expect(alice.get_by_role("list", name="Notifications")).to_be_focused()
    alice.keyboard.press("Tab")
    expect(dots(alice).first).to_be_focused()
    alice.keyboard.press("Enter")
    expect(dots(alice)).to_have_count(1)
    expect(alice.get_by_role("list", name="Notifications")).to_be_focused()
    alice.keyboard.press("Shift+Tab")
    alice.keyboard.press("Enter")
    expect(dots(alice)).to_have_count(0)
    alice.keyboard.press("Escape")
    expect(bell(alice)).to_be_focused()


def test_older_lines_come_when_one_scrolls_to_the_end(log_in: LogIn, site: Site) -> None:
    site.shell.run(
        "from django.db import transaction; from orgrealtime import publish; "
        "from tracker.models import Organization; acme = Organization.objects.get(slug='acme')\n"
        "with transaction.atomic():\n"
        "    for number in range(120): publish(acme, 'note', {'text': f'older line {number:03}'})"
    )
    alice = open_board(log_in("alice"))
    bell(alice).click()
    expect(lines(alice)).to_have_count(50)
    lines(alice).last.scroll_into_view_if_needed()
    expect(lines(alice)).to_have_count(100)
    lines(alice).last.scroll_into_view_if_needed()
    expect(lines(alice).filter(has_text="older line 000")).to_have_count(1)
    texts = lines(alice).filter(has_text="older line").all_inner_texts()
    numbers = [int(found[1]) for found in (re.search(r"older line (\d+)", text) for text in texts) if found]
    assert numbers == list(range(119, -1, -1))


@pytest.mark.parametrize("lang", ["en_US", "x-klingon", "zh-hans", "'\"><img>", "ar", ""])
def test_any_lang_of_a_page_will_do(log_in: LogIn, publisher: Shell, lang: str) -> None:
    alice = open_board(log_in("alice"))
    alice.evaluate("lang => { document.documentElement.lang = lang }", lang)
    (text,) = publish(publisher, "whatever the language")
    bell(alice).click()
    expect(lines(alice).first).to_contain_text(text)
    expect(lines(alice).first.locator("time")).not_to_be_empty()


def test_the_list_is_loaded_when_one_turns_to_the_bell(log_in: LogIn, publisher: Shell) -> None:
    alice = log_in("alice")
    asked: list[str] = []
    alice.on("request", lambda request: asked.append(request.url))
    open_board(alice)
    before = publish(publisher, "before the list", 2)
    expect(bell(alice)).to_have_accessible_name("Notifications, 2 unread")
    alice.wait_for_load_state("networkidle")
    assert [url for url in asked if "notifications" in url and url.endswith(".js")]
    assert [url for url in asked if "panel" in url] == []
    with alice.expect_response(re.compile(r"/panel\b.*\.js$")):
        bell(alice).hover()
    expect(bell(alice)).to_have_accessible_name("Notifications, 2 unread")
    bell(alice).click()
    expect(lines(alice).nth(0)).to_contain_text(before[1])
    expect(lines(alice).nth(1)).to_contain_text(before[0])


def test_a_list_that_cannot_be_loaded_says_so_and_is_tried_again(
    log_in: LogIn, publisher: Shell, console: Console
) -> None:
    console.allow("Failed to load resource|can't be loaded")
    alice = open_board(log_in("alice"))
    alice.route(re.compile(r"/panel\b.*\.js$"), lambda route: route.fulfill(status=404))
    (text,) = publish(publisher, "for a list that is late")
    expect(bell(alice)).to_have_accessible_name("Notifications, 1 unread")
    for _ in range(2):
        bell(alice).click()
        expect(alice.get_by_role("alert")).to_contain_text("The list can't be loaded")
        expect(alice.get_by_role("alert")).to_be_in_viewport(ratio=1)
        expect(bell(alice)).to_have_accessible_name("Notifications, 1 unread")
        alice.keyboard.press("Escape")
        expect(alice.get_by_role("alert")).to_be_hidden()
    alice.unroute_all()
    bell(alice).click()
    expect(lines(alice).first).to_contain_text(text)
    expect(alice.get_by_role("alert")).to_have_count(0)
    expect(bell(alice)).to_have_accessible_name("Notifications")
