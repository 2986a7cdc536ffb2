"""What people do in a room, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.e2e.boards import live

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.shell import Shell

SAY = """
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings
from orgrealtime.chat import services
from orgrealtime.chat.models import Room
room = Room.objects.get(organization__slug="acme", slug={room!r})
author = User.objects.get(username={author!r})
with override_settings(ORGREALTIME_CHAT={{"MESSAGES_PER_MINUTE": 100_000, "ROOM_BURST": 100_000}}):
    with transaction.atomic():
        for number in range({count}):
            services.send(room.organization_id, author, room_id=room.pk, body=f"{text} {{number}}")
"""


def open_room(page: Page, room: str = "general") -> Page:
    page.goto(f"/orgs/acme/chat/?room={room}")
    live(page)
    expect(feed(page)).to_have_attribute("aria-busy", "false")
    return page


def feed(page: Page) -> Locator:
    return page.get_by_role("feed")


def messages(page: Page) -> Locator:
    return feed(page).get_by_role("article")


def message(page: Page, text: str) -> Locator:
    """The message that says this, or begins so."""
    return messages(page).filter(has_text=text)


def field(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Write a message")


def say(page: Page, text: str) -> None:
    field(page).fill(text)
    field(page).press("Enter")


def said(page: Page, beginning: str) -> list[str]:
    """The texts of messages that begin so, in their order."""
    texts = messages(page).locator("[part=body]").all_inner_texts()
    return [text for text in texts if text.startswith(beginning)]


def act(page: Page, text: str, name: str) -> None:
    """Press one of the buttons that a message shows when one turns to it."""
    message(page, text).hover()
    message(page, text).get_by_role("button", name=name).click()


def say_many(shell: Shell, text: str, count: int, author: str = "dave", room: str = "general") -> list[str]:
    """Have somebody say this so many times, numbered, at once."""
    shell.run(SAY.format(text=text, count=count, author=author, room=room))
    return [f"{text} {number}" for number in range(count)]
