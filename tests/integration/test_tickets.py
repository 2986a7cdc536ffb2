"""Real servers: a client without cookies gets in by a ticket, one of a hundred that race with it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets

from tests.clients import Browser, log_in
from tests.integration.conftest import SERVERS, RunningSite
from tests.servers import Site
from tests.waiting import LIMIT_SECONDS


@pytest.fixture(scope="module", params=SERVERS)
def site(request: pytest.FixtureRequest, running_site: RunningSite) -> Site:
    return running_site(request.param)


async def fetch(browser: Browser) -> str:
    answer = await browser.post("/orgs/acme/notifications/ticket/")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def connect(site: Site, ticket: str, **options: Any) -> websockets.connect:
    url = f"{site.url.replace('http', 'ws', 1)}/ws/orgs/acme/notifications/"
    names = ["orgrealtime.v1", f"orgrealtime.ticket.{ticket}"]
    options = {"compression": None, "open_timeout": LIMIT_SECONDS, **options}
    return websockets.connect(url, subprotocols=[websockets.Subprotocol(name) for name in names], **options)


async def gets_in(site: Site, ticket: str, **options: Any) -> bool:
    try:
        async with connect(site, ticket, **options) as connection:
            return json.loads(await connection.recv())["type"] == "welcome"
    except websockets.InvalidStatus as refused:
        if refused.response.status_code not in {401, 403, 503}:  # the last if too many come at once
            raise
        return False


async def test_ticket_opens_one_connection_and_only_the_protocol_is_chosen(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        ticket = await fetch(alice)
    async with connect(site, ticket) as connection:
        assert connection.subprotocol == "orgrealtime.v1"
        assert json.loads(await connection.recv())["type"] == "welcome"
        chosen = connection.response.headers.get_all("Sec-WebSocket-Protocol")  # type: ignore[union-attr]
        assert chosen == ["orgrealtime.v1"]
    assert not await gets_in(site, ticket)


async def test_bad_ticket_is_refused_though_the_cookie_is_good(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        headers = {"Cookie": alice.cookie}
        assert not await gets_in(site, "unknown", origin=site.url, additional_headers=headers)
        async with alice.socket() as socket:
            await socket.synced()


async def test_page_that_got_the_ticket_may_use_it_and_no_other(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        first, second = await fetch(alice), await fetch(alice)
    assert await gets_in(site, first, origin=site.url)
    assert not await gets_in(site, second, origin="http://evil.example")


async def test_one_of_a_hundred_racing_handshakes_wins(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        ticket = await fetch(alice)
    outcomes = await asyncio.gather(*(gets_in(site, ticket) for _ in range(100)))
    assert outcomes.count(True) == 1
    assert ticket not in (site.folder / "log").read_text(errors="replace")
