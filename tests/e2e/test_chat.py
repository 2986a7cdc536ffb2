"""Rooms in a real browser: two people, a break in between, a long history, and what it all looks like."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.e2e.boards import eventually, live
from tests.e2e.rooms import act, feed, field, message, messages, open_room, said, say, say_many
from tests.e2e.test_look import LOOKS, violations

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.e2e.conftest import Console, LogIn
    from tests.servers import Site

NODES = "feed => feed.querySelectorAll('*').length"
LIST = "document.querySelector('org-room').shadowRoot.querySelector('[part=list]')"
MOST_NODES = 300


def test_people_in_a_room_see_what_the_others_say_and_it_is_there_after_a_reload(log_in: LogIn) -> None:
    alice, bob = open_room(log_in("alice")), open_room(log_in("bob"))
    say(alice, "Hello Bob")
    expect(message(bob, "Hello Bob")).to_be_visible()
    say(bob, "Hello Alice")
    for page in (alice, bob):
        expect(message(page, "Hello Alice")).to_be_visible()
        assert said(page, "Hello") == ["Hello Bob", "Hello Alice"]
        page.reload()
        expect(message(page, "Hello Alice")).to_be_visible()
        assert said(page, "Hello") == ["Hello Bob", "Hello Alice"]
    expect(message(bob, "Hello Alice")).to_have_attribute("part", re.compile("own"))
    expect(message(alice, "Hello Alice")).not_to_have_attribute("part", re.compile("own"))


def test_what_is_said_while_one_is_offline_comes_when_one_is_back(
    log_in: LogIn, site: Site, console: Console
) -> None:
    console.allow_lost_connections()
    alice = open_room(log_in("alice"))
    expect(field(alice)).to_be_visible()
    alice.context.set_offline(True)
    expect(alice.locator("#banner")).to_be_visible()
    wanted = say_many(site.shell, "while away", 50)
    alice.context.set_offline(False)
    expect(message(alice, wanted[-1])).to_be_visible()
    # What is scrolled out of sight isn't in the document.
    shown = said(alice, "while away")
    assert shown == wanted[-len(shown) :]
    loaded = alice.evaluate("document.querySelector('org-room').chat.messages.map(({ body }) => body)")
    assert [body for body in loaded if body.startswith("while away")] == wanted


def test_messages_are_edited_and_deleted_while_somebody_is_away(log_in: LogIn, console: Console) -> None:
    console.allow_lost_connections()
    alice, bob = open_room(log_in("alice"), "leads"), open_room(log_in("bob"), "leads")
    say(alice, "with a tipo")
    say(alice, "better unsaid")
    expect(message(bob, "better unsaid")).to_be_visible()
    bob.context.set_offline(True)
    expect(bob.locator("#banner")).to_be_visible()
    act(alice, "with a tipo", "Edit")
    expect(field(alice)).to_have_value("with a tipo")
    say(alice, "with a typo")
    expect(message(alice, "with a typo")).to_contain_text("edited")
    act(alice, "better unsaid", "Delete")
    expect(message(alice, "better unsaid")).to_be_visible()
    message(alice, "better unsaid").get_by_role("button", name="Really delete?").click()
    expect(message(alice, "better unsaid")).to_have_count(0)
    bob.context.set_offline(False)
    expect(message(bob, "with a typo")).to_contain_text("edited")
    expect(message(bob, "better unsaid")).to_have_count(0)
    expect(message(bob, "This message was deleted.").last).to_be_visible()


def test_a_message_typed_offline_is_sent_once_when_one_is_back(log_in: LogIn, console: Console) -> None:
    console.allow_lost_connections()
    alice, bob = open_room(log_in("alice"), "random"), open_room(log_in("bob"), "random")
    say(alice, "accepted")
    expect(message(bob, "accepted")).to_be_visible()
    expect(message(alice, "accepted")).not_to_have_attribute("part", re.compile("pending|sent"))
    alice.keyboard.press("ArrowUp")
    expect(field(alice)).to_have_value("accepted")
    alice.keyboard.press("Escape")
    alice.context.set_offline(True)
    expect(alice.locator("#banner")).to_be_visible()
    say(alice, "typed offline 1")
    say(alice, "typed offline 2")
    expect(message(alice, "typed offline 2")).to_contain_text("Sending")
    alice.keyboard.press("ArrowUp")
    expect(field(alice)).to_have_value("")
    assert said(bob, "typed offline") == []
    alice.context.set_offline(False)
    expect(message(bob, "typed offline 2")).to_be_visible()
    expect(message(alice, "typed offline 2")).not_to_contain_text("Sending")
    for page in (alice, bob):
        page.reload()
        expect(message(page, "typed offline 2")).to_be_visible()
        assert said(page, "typed offline") == ["typed offline 1", "typed offline 2"]


def test_reactions_are_counted_for_everybody(log_in: LogIn) -> None:
    alice, bob = open_room(log_in("alice"), "leads"), open_room(log_in("bob"), "leads")
    say(alice, "what do you think")
    act(bob, "what do you think", "React with 👍")
    mine = message(bob, "what do you think").get_by_role("button", name="👍 1")
    theirs = message(alice, "what do you think").get_by_role("button", name="👍 1")
    expect(mine).to_have_attribute("aria-pressed", "true")
    expect(theirs).to_have_attribute("aria-pressed", "false")
    expect(theirs).to_have_attribute("title", "Bob")
    theirs.click()
    expect(message(bob, "what do you think").get_by_role("button", name="👍 2")).to_be_visible()
    mine = message(bob, "what do you think").get_by_role("button", name="👍 2")
    mine.click()
    expect(message(alice, "what do you think").get_by_role("button", name="👍 1")).to_be_visible()


def test_a_reply_quotes_what_it_answers(log_in: LogIn) -> None:
    alice, bob = open_room(log_in("alice"), "leads"), open_room(log_in("bob"), "leads")
    say(alice, "who goes there")
    act(bob, "who goes there", "Reply")
    expect(bob.locator("[part=context]")).to_contain_text("Reply to Alice")
    bob.keyboard.type("it is I")
    bob.keyboard.press("Enter")
    reply = messages(alice).filter(has=alice.locator("[part=body]", has_text="it is I"))
    expect(reply.locator("[part=quote]")).to_have_text("Alice: who goes there")
    expect(bob.locator("[part=context]")).to_be_empty()


def test_the_field(log_in: LogIn) -> None:
    alice = open_room(log_in("alice"), "leads")
    send = alice.get_by_role("button", name="Send")
    before = messages(alice).count()
    field(alice).fill(" \n ")
    send.click()
    expect(field(alice)).to_have_value(" \n ")
    assert messages(alice).count() == before
    field(alice).fill("first line")
    field(alice).press("Shift+Enter")
    alice.keyboard.type("second line")
    # What an input method is given isn't for the field to send.
    field(alice).evaluate(
        "field => field.dispatchEvent(new KeyboardEvent('keydown', "
        "{ key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
    )
    expect(field(alice)).to_have_value("first line\nsecond line")
    alice.keyboard.press("Enter")
    expect(message(alice, "first line")).to_contain_text("second line")
    expect(message(alice, "first line")).not_to_have_attribute("part", re.compile("pending|sent"))
    expect(field(alice)).to_have_value("")
    alice.keyboard.press("ArrowUp")
    expect(field(alice)).to_have_value("first line\nsecond line")
    alice.keyboard.press("Escape")
    expect(field(alice)).to_have_value("")
    field(alice).fill("é" * 4000)
    expect(alice.get_by_text("4000 / 4000")).to_be_visible()
    expect(field(alice)).to_have_attribute("aria-invalid", "false")
    field(alice).fill("e\u0301" * 4000)  # as many, once they are put together
    expect(alice.get_by_text("4000 / 4000")).to_be_visible()
    field(alice).fill("x" * 4001)
    expect(alice.get_by_text("4001 / 4000")).to_be_visible()
    expect(field(alice)).to_have_attribute("aria-invalid", "true")
    send.click()
    expect(field(alice)).to_have_value("x" * 4001)


def test_text_is_text(log_in: LogIn) -> None:
    alice = open_room(log_in("alice"), "leads")
    say(alice, "<img src=x onerror=alert(1)><b>bold</b>")
    expect(message(alice, "<img src=x onerror=alert(1)><b>bold</b>")).to_be_visible()
    say(alice, "שלום עולם")
    body = message(alice, "שלום עולם").locator("[part=body]")
    expect(body).to_have_attribute("dir", "auto")
    expect(body).to_have_css("direction", "rtl")


def test_everything_can_be_done_with_the_keyboard(log_in: LogIn) -> None:
    alice = open_room(log_in("alice"), "leads")
    say(alice, "by the keyboard 1")
    say(alice, "by the keyboard 2")
    expect(message(alice, "by the keyboard 2")).not_to_have_attribute("part", re.compile("pending"))
    field(alice).focus()
    alice.keyboard.press("Shift+Tab")
    expect(message(alice, "by the keyboard 2")).to_be_focused()
    alice.keyboard.press("ArrowUp")
    expect(message(alice, "by the keyboard 1")).to_be_focused()
    expect(message(alice, "by the keyboard 1")).to_have_accessible_name(
        re.compile(r"^Alice: by the keyboard 1, \d")
    )
    alice.keyboard.press("Tab")
    expect(alice.get_by_role("button", name="React with 👍")).to_be_focused()
    alice.keyboard.press("Enter")
    expect(message(alice, "by the keyboard 1").get_by_role("button", name="👍 1")).to_be_visible()
    message(alice, "by the keyboard 1").focus()
    alice.keyboard.press("Escape")
    expect(field(alice)).to_be_focused()


def test_what_is_new_is_marked_and_told(log_in: LogIn, site: Site) -> None:
    alice = open_room(log_in("alice"), "random")
    say_many(site.shell, "long ago", 30, room="random")
    expect(message(alice, "long ago 29")).to_be_visible()
    alice.evaluate(f"{LIST}.scrollTop -= 400")
    jump = alice.get_by_role("button", name="To the newest")
    expect(jump).to_be_visible()
    before = alice.evaluate(f"{LIST}.scrollTop")
    say_many(site.shell, "news", 2, room="random")
    jump = alice.get_by_role("button", name="New messages: 2")
    expect(jump).to_be_visible()
    assert alice.evaluate(f"{LIST}.scrollTop") == pytest.approx(before, abs=2)
    expect(alice.locator("org-room [part=announcement]")).to_have_text(re.compile("news|New messages"))
    jump.click()
    expect(message(alice, "news 0")).to_contain_text("New messages")
    expect(message(alice, "news 1")).to_be_in_viewport()
    expect(jump).to_be_hidden()


def test_the_newest_stays_in_sight_however_fast_they_come(log_in: LogIn) -> None:
    alice = open_room(log_in("alice"), "leads")
    say(alice, "slow")
    expect(message(alice, "slow")).not_to_have_attribute("part", re.compile("pending|sent"))
    # What came since the list was drawn isn't what somebody has scrolled away from.
    alice.evaluate(
        f"""async () => {{
          const {{ chat }} = document.querySelector('org-room');
          for (let number = 0; number < 60; number++) {{
            chat.messages.push({{ ...chat.messages.at(-1), message_id: 5e6 + number, body: `fast ${{number}}` }});
            chat.isWatched = !chat.isWatched;
            {LIST}.dispatchEvent(new Event("scroll"));
            if (number % 7 === 0) await new Promise(requestAnimationFrame);
          }}
        }}"""
    )
    expect(message(alice, "fast 59")).to_be_in_viewport()


def test_other_rooms_tell_of_news_and_one_goes_there(log_in: LogIn) -> None:
    alice, bob = open_room(log_in("alice"), "general"), open_room(log_in("bob"), "leads")
    say(bob, "look here")
    link = alice.get_by_role("link", name="Leads")
    expect(link.locator(".news")).to_be_visible()
    link.click()
    expect(message(alice, "look here").last).to_be_visible()
    expect(link).to_have_attribute("aria-current", "page")
    expect(link.locator(".news")).to_be_hidden()
    alice.go_back()
    expect(alice.get_by_role("link", name="General")).to_have_attribute("aria-current", "page")
    expect(message(alice, "look here")).to_have_count(0)


def test_who_is_not_in_a_private_room_sees_none_of_it(log_in: LogIn) -> None:
    dave = open_room(log_in("dave"), "leads")
    expect(dave.get_by_role("link", name="Leads")).to_have_count(0)
    expect(dave.get_by_role("heading", name="General")).to_be_visible()
    expect(dave.get_by_role("link", name="Alice")).to_be_visible()


def test_another_login_takes_everything_away(log_in: LogIn, console: Console) -> None:
    console.allow("status of 403", "net::ERR_")
    alice = open_room(log_in("alice"), "leads")
    say(alice, "for alice and bob alone")
    expect(message(alice, "for alice and bob alone")).to_be_visible()
    other = alice.context.new_page()
    other.goto("/accounts/login/")
    other.fill("input[name=username]", "dave")
    other.fill("input[name=password]", "demo")
    other.press("input[name=password]", "Enter")
    other.wait_for_url(lambda url: "login" not in url)
    live(alice)
    expect(message(alice, "for alice and bob alone")).to_have_count(0)


class LongHistory:
    """A history of 10,000 messages, for a browser; the room itself has another one."""

    def __init__(self, page: Page, count: int = 10_000) -> None:
        self.count = count
        self.pages = 0
        page.route(re.compile("/messages/"), self._answer)

    def _answer(self, route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        before, limit = int(query.get("before", [self.count])[0]), int(query["limit"][0])
        self.pages += 1
        first = max(0, before - limit)
        found = [self._message(number) for number in range(first, before)]
        room = route.fetch(url=route.request.url.partition("?")[0] + "?limit=1").json()
        page = {**room, "messages": found, "has_older": first > 0, "has_newer": False}
        route.fulfill(body=json.dumps(page), content_type="application/json")

    def _message(self, number: int) -> dict[str, Any]:
        return {
            "message_id": 1_000_000 + number,
            "position": number,
            "client_message_id": None,
            "author": 2 + number // 3 % 2,
            "body": f"message {number}" + " with more to say than fits into one line of it" * (number % 5),
            "version": 1,
            "reply_to": None,
            "reactions": [],
            "created_at": f"2026-11-{1 + number * 20 // self.count:02}T10:{number % 60:02}:00Z",
            "edited_at": None,
            "deleted": False,
        }


def test_ten_thousand_messages_are_a_few_nodes_and_scroll_without_a_jump(log_in: LogIn) -> None:
    alice = log_in("alice", viewport={"width": 1000, "height": 800})
    LongHistory(alice)
    open_room(alice)
    expect(message(alice, "message 9999")).to_be_in_viewport()
    # From page to page to the first message, each time with the first row in sight where it was.
    load = "document.querySelector('org-room').chat.loadOlder()"
    assert feed(alice).evaluate(NODES) <= MOST_NODES
    most = 0
    while alice.evaluate("document.querySelector('org-room').chat.messages.length") < 600:
        shift = alice.evaluate(
            f"""async () => {{
              const list = {LIST};
              list.scrollTop = 100;
              await new Promise(requestAnimationFrame);
              await new Promise(requestAnimationFrame);
              const top = list.getBoundingClientRect().top;
              const seen = [...list.querySelectorAll('article')]
                .find(each => each.getBoundingClientRect().bottom > top);
              const before = seen.getBoundingClientRect().top;
              await {load};
              await new Promise(requestAnimationFrame);
              await new Promise(requestAnimationFrame);
              return seen.isConnected ? seen.getBoundingClientRect().top - before : NaN;
            }}"""
        )
        assert abs(shift) <= 2, shift
        most = max(most, feed(alice).evaluate(NODES))
    assert most <= MOST_NODES
    alice.evaluate(
        "(async () => { const { chat } = document.querySelector('org-room'); "
        "while (chat.hasOlder) await chat.loadOlder(); })()"
    )
    assert alice.evaluate("document.querySelector('org-room').chat.messages.length") == 10_000
    assert feed(alice).evaluate(NODES) <= MOST_NODES
    # By the wheel over many screens: each step goes as far as the wheel has turned.
    for _ in range(40):
        alice.evaluate(f"{LIST}.scrollTop -= 300")
        alice.evaluate("new Promise(requestAnimationFrame)")
        most = max(most, feed(alice).evaluate(NODES))
    assert most <= MOST_NODES
    say(alice, "after all of them")
    expect(message(alice, "after all of them")).to_be_in_viewport()
    assert feed(alice).evaluate(NODES) <= MOST_NODES


def test_older_messages_come_when_one_scrolls_up(log_in: LogIn, site: Site) -> None:
    wanted = say_many(site.shell, "history", 160, room="random")
    alice = open_room(log_in("alice"), "random")
    expect(message(alice, wanted[-1])).to_be_in_viewport()

    def scrolled_up() -> bool:
        alice.evaluate(f"{LIST}.scrollTop = 0")
        return wanted[0] in said(alice, "history")

    eventually(alice, scrolled_up)
    assert feed(alice).evaluate(NODES) <= MOST_NODES
    shown = said(alice, "history")
    assert shown == wanted[: len(shown)]
    alice.get_by_role("button", name="To the newest").click()
    expect(message(alice, wanted[-1])).to_be_in_viewport()


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_in_a_room(
    log_in: LogIn,
    site: Site,
    axe: str,
    console: Console,
    look: str,
) -> None:
    console.allow_lost_connections()
    found: dict[str, list[str]] = {}
    bob = log_in("bob", **LOOKS[look])
    say_many(site.shell, "to look at", 3, author="dave")

    def check(state: str) -> None:
        if problems := violations(bob, axe):
            found[state] = problems

    bob.goto("/orgs/acme/chat/")
    live(bob)
    expect(message(bob, "to look at 2").last).to_be_visible()
    check("room")
    field = bob.locator("org-room textarea")
    field.fill("mine")
    field.press("Enter")
    last = messages(bob).last
    expect(last).to_have_attribute("part", re.compile("own"))
    expect(last).not_to_have_attribute("part", re.compile("pending|sent"))
    last.click()
    last.locator("[part=actions] button").first.click()
    expect(last.locator("[part=reaction]")).to_be_visible()
    check("message with its buttons")
    last.locator("[part=actions] button").nth(-2).click()
    expect(bob.locator("[part=context]")).not_to_be_empty()
    check("editing")
    bob.keyboard.press("Escape")
    bob.context.set_offline(True)
    expect(bob.locator("#banner")).to_be_visible()
    field.fill("offline")
    field.press("Enter")
    expect(messages(bob).last).to_have_attribute("part", re.compile("pending"))
    check("offline")
    bob.context.set_offline(False)
    live_text = bob.locator("#state[data-state=live]")
    expect(live_text).to_be_visible()
    assert bob.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert found == {}


def test_who_is_typing_is_shown(log_in: LogIn) -> None:
    alice, bob = open_room(log_in("alice"), "leads"), open_room(log_in("bob"), "leads")
    field(bob).press_sequentially("hm")
    expect(alice.get_by_text("Bob is typing")).to_be_visible()
    expect(bob.get_by_text("is typing")).to_have_count(0)
    field(bob).press("Enter")
    expect(alice.get_by_text("Bob is typing")).to_have_count(0)
