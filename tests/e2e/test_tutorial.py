"""What the second tutorial leads to, in a real browser: two people who talk in a room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ROOM = "/orgs/acme/chat/general/"


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    project = Project()
    project.follow_tutorial()
    project.follow("tutorial/chat-room.md")
    project.start()
    yield project
    project.close()


@pytest.fixture
def people(browser: Browser, project: Project) -> Iterator[list[Page]]:
    """Alice and Bob, each in a browser of their own, at the room."""
    with ExitStack() as stack:
        yield [_at_the_room(stack, browser, project, name) for name in ("alice", "bob")]


def _at_the_room(stack: ExitStack, browser: Browser, project: Project, name: str) -> Page:
    context = stack.enter_context(closing(browser.new_context(base_url=project.url)))
    page = context.new_page()
    page.goto(f"/accounts/login/?next={ROOM}")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", "demo")
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"**{ROOM}")
    expect(_messages(page).filter(has_text="Hello from the shell")).to_have_count(1)
    return page


def _messages(page: Page) -> Locator:
    return page.locator("org-room").get_by_role("article")


def test_two_people_talk_in_the_room_of_the_tutorial(project: Project, people: list[Page]) -> None:
    alice, bob = people
    field = alice.locator("org-room").get_by_role("textbox")
    field.fill("Good morning")
    field.press("Enter")
    for page in people:
        said = _messages(page).filter(has_text="Good morning")
        expect(said).to_have_count(1)
        expect(said).to_contain_text("alice")
    bob.goto("/orgs/acme/")
    bob.fill("input[name=text]", "Milk")
    bob.press("input[name=text]", "Enter")
    expect(_messages(alice).filter(has_text="bob has a new note: Milk")).to_have_count(1)
    bob.goto(ROOM)
    expect(_messages(bob)).to_have_count(3)


def test_what_is_written_while_the_server_is_down_is_sent_once(project: Project, people: list[Page]) -> None:
    alice, bob = people
    expect(alice.locator("org-room").get_by_role("textbox")).to_be_visible()
    project.stop()
    field = alice.locator("org-room").get_by_role("textbox")
    field.fill("Are you there?")
    field.press("Enter")
    expect(_messages(alice).filter(has_text="Are you there?")).to_have_count(1)
    project.start()
    expect(_messages(bob).filter(has_text="Are you there?")).to_have_count(1, timeout=60_000)
    bob.reload()
    expect(_messages(bob).filter(has_text="Are you there?")).to_have_count(1)
