"""What the example's pages look like to people who need contrast, names, sizes or another language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.boards import card, live, move, open_board, seed_a_day
from tests.servers import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.e2e.conftest import Console, LogIn

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "200 percent": {"viewport": {"width": 640, "height": 430}},
    "forced colours": {"forced_colors": "active"},
    "German": {"locale": "de-DE"},
}
# What an element shows that isn't its text, each part of which tells it from its neighbours.
SHOWN = """element => {
  const style = getComputedStyle(element);
  const { backgroundColor, borderTopStyle, fontWeight, textDecorationLine, color, outlineStyle } = style;
  return [backgroundColor, borderTopStyle, fontWeight, textDecorationLine, color, outlineStyle].join();
}"""
STANDS_STILL = """() => Promise.allSettled(
  document.getAnimations().filter(each => each.effect.getTiming().iterations < Infinity).map(each => each.finished)
)"""
TEXTS = """() => {
  const texts = [], walk = node => {
    if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName)) return;
    for (const name of ["aria-label", "title", "placeholder"]) texts.push(node.getAttribute?.(name));
    if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent.trim());
    for (const child of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) walk(child);
  };
  walk(document.body);
  return texts.filter(text => /\\p{L}{2}/u.test(text ?? ""));
}"""
# What is the same in both languages: names, a password, and four words.
SAME = {
    "Tracker",
    "Acme",
    "Globex",
    "Alice",
    "Bob",
    "Carol",
    "Dave",
    "System",
    "Live",
    "Board",
    "Chat",
    "demo",
}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site as the demo begins: with a day of history."""
    folder = tmp_path_factory.mktemp("day")
    environ = {
        "EXPORT_SECONDS": "2",
        "DEBUG": "on",
        "REDIS_URL": "",
        "MEDIA_ROOT": str(folder / "media"),
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
    }
    with Site(environ=environ) as site:
        seed_a_day(site)
        yield site


def violations(page: Page, axe: str) -> list[str]:
    page.emulate_media(reduced_motion="reduce")  # what fades in has less contrast meanwhile
    page.evaluate(STANDS_STILL)
    page.evaluate(f"() => {{ {axe} }}")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [f"{each['id']}: {node['target']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_any_page_and_state(
    log_in: LogIn, console: Console, site: Site, axe: str, look: str
) -> None:
    console.allow("status of 40[13]", "net::ERR_")
    found: dict[str, list[str]] = {}
    dave = log_in("dave", **LOOKS[look])

    def check(state: str) -> None:
        if problems := violations(dave, axe):
            found[state] = problems

    dave.goto("/")
    check("organisations")
    open_dave = open_board(dave)
    check("board")
    site.shell.publish({"text": "for a toast"})
    expect(dave.locator(".toast")).to_be_visible()
    check("toast")
    dave.locator("#export button").first.click()
    expect(dave.get_by_role("progressbar")).to_be_visible()
    check("export under way")
    dave.locator("#bell").get_by_role("button").first.click()
    expect(dave.locator("#bell").get_by_role("list")).to_be_visible()
    check("open bell")
    dave.keyboard.press("Escape")
    dave.locator("#export button").last.click()
    expect(dave.locator("#exports [data-status=failed]")).to_be_visible()
    check("export that failed")
    move(open_dave, card(dave, "insurance").locator("h3").inner_text())
    dave.context.set_offline(True)
    expect(dave.locator("#banner")).to_be_visible()
    check("offline")
    dave.context.set_offline(False)
    live(dave)
    dave.context.clear_cookies()
    dave.locator(".card button:visible").first.click()
    expect(dave.locator("#problem")).to_be_visible()
    check("refused")
    dave.goto("/accounts/login/")
    check("login")
    dave.fill("input[name=username]", "dave")
    dave.fill("input[name=password]", "wrong")
    dave.press("input[name=password]", "Enter")
    expect(dave.get_by_role("alert")).to_be_visible()
    check("login that failed")
    assert found == {}


def test_axe_finds_nothing_on_a_page_that_one_may_not_see(log_in: LogIn, console: Console, axe: str) -> None:
    console.allow("status of 403")
    carol = log_in("carol")
    carol.goto("/orgs/acme/")
    assert violations(carol, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_bell_as_it_comes(log_in: LogIn, site: Site, axe: str, scheme: str) -> None:
    alice = log_in("alice", color_scheme=scheme)
    alice.goto("/orgs/acme/")
    alice.evaluate(
        "() => { for (const sheet of document.querySelectorAll('link[rel=stylesheet]')) sheet.remove(); "
        "document.documentElement.style.colorScheme = 'light dark' }"
    )
    site.shell.publish({"text": "with a link", "url": "/exports/"})
    alice.locator("#bell").evaluate("bell => { bell.open = true }")
    expect(alice.get_by_role("list", name="Notifications")).to_contain_text("with a link")
    assert [one for one in violations(alice, axe) if "org-notifications" in one] == []


def test_with_forced_colours_things_can_still_be_told_apart(log_in: LogIn, site: Site) -> None:
    alice = open_board(log_in("dave", forced_colors="active"))
    for one, other in (
        (".ranges input:checked + span", ".ranges input:not(:checked) + span"),
        (".places [aria-current]", ".places a:not([aria-current])"),
    ):
        assert alice.locator(one).evaluate(SHOWN) != alice.locator(other).first.evaluate(SHOWN)
    site.shell.publish({"text": "for a bar"})
    page_colour = alice.evaluate("getComputedStyle(document.body).backgroundColor")
    colours = {
        alice.locator(f".part[data-kind={kind}]").first.evaluate("e => getComputedStyle(e).backgroundColor")
        for kind in ("move", "export", "other")
    }
    assert len(colours - {page_colour}) == 3
    alice.locator("#bell").evaluate("bell => { bell.open = true }")
    dot = alice.get_by_role("button", name="Mark as read").first
    expect(dot).to_be_visible()
    assert dot.evaluate("e => getComputedStyle(e, '::before').backgroundColor") != page_colour


def test_the_first_page_shows_a_day_of_history(day: Site, browser: Any) -> None:
    page = browser.new_context(base_url=day.url).new_page()
    page.goto("/accounts/login/?next=/orgs/acme/")
    page.get_by_role("button", name="Alice Acme").click()
    live(page)
    assert int(page.locator("#pulse-count").inner_text()) >= 40
    for kind in ("move", "export", "other", "people"):
        assert int(page.locator(f"[data-kind={kind}] dd").inner_text()) > 0
    assert page.locator("#feed li").count() >= 40
    assert page.locator("#exports li").count() == 3
    with page.expect_download() as caught:
        page.locator("#exports .download").first.click()
    assert "Renew the office insurance" in caught.value.path().read_text("utf-8-sig")
    # The columns are what the moves have led to, and the newest of them is on top.
    newest = page.locator("#feed li", has=page.locator(".tag")).first
    title = newest.locator("p").inner_text().split("“")[1].split("”")[0]
    expect(page.locator(".column", has=card(page, title)).locator("h3").first).to_have_text(title)
    page.context.close()


def test_german_pages_are_german(day: Site, browser: Any) -> None:
    found = []
    for locale in ("en-GB", "de-AT"):
        page = browser.new_context(base_url=day.url, locale=locale).new_page()
        page.goto("/accounts/login/?next=/orgs/acme/")
        texts = page.evaluate(TEXTS)
        page.locator("button[value=alice]").click()
        page.locator("#state[data-state=live]").wait_for()
        page.locator("#bell").evaluate("bell => { bell.open = true }")
        expect(page.locator("#bell").get_by_role("listitem")).not_to_have_count(0)
        written = {title.inner_text() for title in page.locator("h3").all()}
        written |= set(page.locator("#feed p").all_inner_texts())
        found.append({text for text in texts + page.evaluate(TEXTS) if not any(w in text for w in written)})
        assert page.evaluate("document.documentElement.lang") == locale[:2]
        page.context.close()
    english, german = found
    notes = {"Checkout 2.4 is deployed", "The nightly backup is complete", "Support hours change on Monday"}
    assert english & german - SAME - notes == set()
