"""Make the pictures of the example in docs/images: its first page, the open bell, a room, a phone, and the dark one.

`python docs/screenshot.py`, in an environment with the dependency groups `test` and `browser`, Chromium, and the fonts
Inter and Noto Color Emoji (Debian: fonts-inter, fonts-noto-color-emoji).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.boards import eventually, seed_a_day  # noqa: E402
from tests.e2e.conftest import chromium_options  # noqa: E402
from tests.servers import Site  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs/images"
MOST_BYTES = 300_000
SIZE = {"width": 1280, "height": 860}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}
BELL = {"x": 660, "y": 0, "width": 620, "height": 540}


def open_board(browser: Browser, site: Site, username: str, **options: Any) -> Page:
    page = browser.new_page(base_url=site.url, **{"viewport": SIZE, "locale": "en-GB", **options})
    page.goto("/accounts/login/?next=/orgs/acme/")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", "demo")
    page.press("input[name=password]", "Enter")
    page.locator("#state[data-state=live]").wait_for()
    return page


def move(page: Page, title: str, status: str) -> None:
    page.locator(".card", has_text=title).locator(f"button[value={status}]").click()
    page.wait_for_timeout(600)


def take(page: Page, name: str, **options: Any) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(1_000)
    page.screenshot(path=IMAGES / name, animations="disabled", **options)
    size = (IMAGES / name).stat().st_size
    assert size <= MOST_BYTES, f"{name} has {size} bytes"


def open_bell(page: Page) -> None:
    page.locator("#bell").evaluate("bell => { bell.open = true }")
    page.locator("#bell").get_by_role("listitem").first.wait_for()
    page.locator(".toast").first.wait_for(state="hidden")


def open_room(page: Page) -> Page:
    page.goto("/orgs/acme/chat/")
    page.locator("#state[data-state=live]").wait_for()
    page.get_by_role("article").last.wait_for()
    return page


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox").fill(text)
    page.get_by_role("textbox").press("Enter")
    page.get_by_role("article").filter(has_text=text).wait_for()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        environ = {
            "REDIS_URL": "",
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "MEDIA_ROOT": f"{folder}/media",
            "EXPORT_SECONDS": "6",
            "DEBUG": "off",
        }
        with Site(environ=environ) as site:
            seed_a_day(site)
            browser = playwright.chromium.launch(**chromium_options())
            alice, bob = (open_board(browser, site, name) for name in ("alice", "bob"))
            phone = open_board(browser, site, "alice", **PHONE)
            dark = open_board(browser, site, "alice", color_scheme="dark")
            move(bob, "Order new badges", "doing")
            site.shell.publish({"text": "Checkout 2.5 is deployed"})
            move(alice, "Move invoices", "done")
            alice.get_by_role("button", name="Export tasks").click()
            bar = alice.locator("#exports [data-status=running] progress")
            eventually(alice, lambda: bar.evaluate("bar => bar.value") >= 40)
            take(alice, "board.png")
            alice.get_by_role("button", name="Export tasks").and_(alice.locator(":enabled")).wait_for()
            move(bob, "Write the customer survey", "doing")
            for page in (alice, phone, dark):
                open_bell(page)
            take(alice, "bell.png", clip=BELL)
            take(phone, "phone.png")
            take(dark, "dark.png")
            for page in (alice, bob, phone, dark):
                open_room(page)
            say(bob, "Checkout 2.5 is live 🚀 Who tests it on a phone?")
            say(alice, "I do. Give me five minutes.")
            for page in (alice, bob):
                page.get_by_role("article").last.hover()
            bob.get_by_role("button", name="React with 👍").click()
            alice.get_by_role("button", name="👍 1").wait_for()
            take(alice, "chat.png")
            take(phone, "chat-phone.png")
            take(dark, "chat-dark.png")
            browser.close()


if __name__ == "__main__":
    main()
