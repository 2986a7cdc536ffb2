"""The example's page while connections come and go: every event once, in order, and the page says how it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.boards import Sockets, eventually, live, open_board, publish, texts
from tests.e2e.conftest import LogIn
from tests.servers import Site
from tests.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.e2e.conftest import Console


@pytest.fixture
def members(site: Site) -> Iterator[None]:
    """Who is removed in the test is a member again afterwards."""
    yield
    site.shell.run("from django.core.management import call_command; call_command('seed_demo')")


def state(page: Page) -> str:
    return page.locator("#state-text").inner_text()


def test_what_happened_while_offline_comes_once_and_in_order(
    log_in: LogIn, publisher: Shell, console: Console
) -> None:
    console.allow_lost_connections()
    alice = open_board(log_in("alice"))
    alice.context.set_offline(True)
    expect(alice.locator("#state-text")).to_have_text("Offline")
    expect(alice.locator("#banner")).to_contain_text("You are offline")
    wanted = publish(publisher, "while away", 50)
    assert texts(alice, "while away") == []
    alice.context.set_offline(False)
    live(alice)
    expect(alice.locator("#banner")).to_be_hidden()
    eventually(alice, lambda: len(texts(alice, "while away")) >= 50)
    assert texts(alice, "while away") == wanted
    expect(alice.locator(".toast")).to_contain_text("50 things happened")


def test_a_server_that_is_killed_and_comes_back_is_caught_up_with(
    log_in: LogIn, site: Site, publisher: Shell, console: Console
) -> None:
    console.allow_lost_connections()
    alice = open_board(log_in("alice"))
    site.kill()
    expect(alice.locator("#banner")).to_contain_text("The connection is lost")
    eventually(alice, lambda: state(alice) == "Reconnecting")
    expect(alice.locator("#state-countdown")).to_contain_text("s")
    wanted = publish(publisher, "server down", 5)
    site.start()
    live(alice)
    expect(alice.locator("#banner")).to_be_hidden()
    eventually(alice, lambda: len(texts(alice, "server down")) >= 5)
    assert texts(alice, "server down") == wanted


TRY_AGAIN_AND_AGAIN = """async () => {
    const { ConnectionState } = await import("/static/tracker/connection.js");
    const state = new ConnectionState("Acme");
    state.show({ name: "live", transport: "websocket" });
    for (let number = 0; number < 40; number++) {
        state.show({ name: number % 2 ? "connecting" : "waiting", retryAt: Date.now() });
        await new Promise((goOn) => setTimeout(goOn, 100));
        if (!document.getElementById("banner").hidden) return true;
    }
    return false;
}"""


def test_a_break_is_told_though_every_attempt_is_short(log_in: LogIn) -> None:
    assert open_board(log_in("alice")).evaluate(TRY_AGAIN_AND_AGAIN)


def test_three_tabs_have_one_socket_and_outlive_the_one_that_holds_it(
    log_in: LogIn, site: Site, publisher: Shell
) -> None:
    sockets = Sockets(site)
    leader = open_board(log_in("alice"))
    others = [open_board(leader.context.new_page()) for _ in range(2)]
    first = publish(publisher, "with leader", 5)
    for tab in (leader, *others):
        eventually(tab, lambda tab=tab: texts(tab, "with leader") == first)
    assert (sockets.open, sockets.opened) == (1, 1)

    second = publish(publisher, "tabs before", 10)
    leader.close()
    third = publish(publisher, "tabs after", 10)
    for tab in others:
        eventually(tab, lambda tab=tab: len(texts(tab, "tabs after")) >= 10)
        assert texts(tab, "tabs ") == second + third
        live(tab)
    eventually(others[0], lambda: sockets.open == 1)
    assert sockets.opened == 2


def test_all_tabs_say_so_when_one_has_signed_out(
    log_in: LogIn, site: Site, publisher: Shell, console: Console
) -> None:
    console.allow(
        "status of 401", "^WebSocket connection to"
    )  # the next tab that wants to connect is refused
    sockets = Sockets(site)
    alice = open_board(log_in("alice"))
    others = [open_board(alice.context.new_page()) for _ in range(2)]
    alice.get_by_role("button", name="Sign out").click()
    for tab in others:
        expect(tab.locator("#state-text")).to_have_text("Signed out")
        expect(tab.get_by_role("status").filter(has_text="signed out")).to_be_visible()
        expect(tab.get_by_role("link", name="Sign in")).to_be_visible()
    eventually(others[0], lambda: sockets.open == 0)
    publish(publisher, "after signing out")
    others[0].wait_for_timeout(1500)
    assert [texts(tab, "after signing out") for tab in others] == [[], []]
    assert sockets.open == 0


def test_who_is_removed_is_told_and_hears_no_more(
    log_in: LogIn, site: Site, publisher: Shell, members: None, console: Console
) -> None:
    console.allow("status of 403")  # the page asks once whether it may still
    bob, dave = open_board(log_in("bob")), open_board(log_in("dave"))
    site.shell.run(
        "from tracker.models import Membership; Membership.objects.get(user__username='bob').delete()"
    )
    # At once by Redis; without it the access is looked at twice a minute.
    expect(bob.locator("#state-text")).to_have_text("No access")
    expect(bob.locator("#banner")).to_contain_text("You are no longer a member of Acme")
    (text,) = publish(publisher, "without bob")
    eventually(dave, lambda: texts(dave, "without bob") == [text])
    assert texts(bob, "without bob") == []
    # Nothing on the page can be used any more.
    assert bob.locator("#workspace[inert]").count() == 1


def test_without_sockets_events_come_as_a_stream(log_in: LogIn, publisher: Shell) -> None:
    alice = log_in("alice")
    alice.context.add_init_script("delete globalThis.WebSocket")
    open_board(alice)
    wanted = publish(publisher, "by stream", 5)
    eventually(alice, lambda: texts(alice, "by stream") == wanted)
    assert state(alice) == "Live"  # and not "Polling"


def test_without_sockets_and_streams_the_page_polls(
    log_in: LogIn, publisher: Shell, console: Console
) -> None:
    console.allow_lost_connections()
    alice = log_in("alice")
    alice.context.add_init_script("delete globalThis.WebSocket")
    alice.context.route("**/notifications/stream/*", lambda route: route.abort())
    alice.goto("/orgs/acme/")
    expect(alice.locator("#state-text")).to_have_text("Polling")
    wanted = publish(publisher, "by polling", 5)
    eventually(alice, lambda: texts(alice, "by polling") == wanted)
