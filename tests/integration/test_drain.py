"""What a stopping server does for its sockets, on both servers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
import websockets

from tests.clients import Browser, log_in
from tests.integration.conftest import SERVERS
from tests.servers import Site
from tests.stopwatch import Stopwatch
from tests.waiting import eventually

GRACE = 30.0  # seconds within which a stopping server has to be gone


@pytest.fixture(scope="module", params=SERVERS)
def module_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site(server=request.param) as site:
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """The server, started for each test on the same data."""
    module_site.start()
    yield module_site
    module_site.stop()


def tell_to_stop(site: Site, number: int = signal.SIGTERM) -> None:
    os.kill(site.pid, number)


async def ends(site: Site) -> None:
    """Wait until the server has ended."""
    process = site.process
    assert process is not None
    await eventually(lambda: process.poll() is not None, "the server has ended")


async def half_open(browser: Browser, port: int) -> socket.socket:
    """A socket that has been let in and whose client neither reads nor answers from then on."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    lines = [
        "GET /ws/orgs/acme/notifications/ HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Origin: {browser.url}",
        f"Cookie: {browser.cookie}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = await asyncio.to_thread(raw.recv, 12)
    assert answer == b"HTTP/1.1 101", answer
    return raw


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
async def test_signal_tells_clients_closes_them_with_1012_and_ends(site: Site, number: int) -> None:
    """SIGINT too, with which some platforms stop a process, for the server has no terminal."""
    async with log_in(site, "alice") as alice, alice.socket() as one, alice.socket() as other:
        for client in (one, other):
            await client.synced()
        with Stopwatch() as watch:
            tell_to_stop(site, number)
            for client in (one, other):
                assert await client.closed() == 1012
                assert client.frames[-1]["type"] == "going_away"
                assert client.frames[-1]["window_ms"] >= 500
            await ends(site)
            watch.check(GRACE, "the server has ended")


@pytest.mark.slow
async def test_draining_server_refuses_new_sockets_and_delivers_to_the_old_ones(site: Site) -> None:
    async with log_in(site, "alice") as alice, alice.socket() as old:
        await old.synced()
        with Stopwatch() as watch, closing(await half_open(alice, site.port)):  # for which the server waits
            await asyncio.to_thread(site.shell.publish, {"number": 1})
            tell_to_stop(site)
            await old.until(lambda it: "going_away" in it.types())
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with alice.socket():
                    pass
            assert refused.value.response.status_code in {403, 503}
            await asyncio.to_thread(site.shell.publish, {"number": 2})
            await old.closed()
            await ends(site)
            watch.check(GRACE, "the server has ended")
        numbers = [event["number"] for event in old.events]
        assert numbers in ([1], [1, 2])  # what came after the close is found by the cursor:
        await asyncio.to_thread(site.start)
        async with alice.socket(query=f"since={old.cursor}") as again:
            await again.synced()
            assert numbers + [event["number"] for event in again.events] == [1, 2]


@pytest.mark.slow
async def test_half_open_clients_dont_keep_a_server_from_ending(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        silent = [await half_open(alice, site.port) for _ in range(3)]
        # more than the kernel and the server buffer
        await asyncio.to_thread(site.shell.publish_each, [{"text": "x" * 60_000}] * 60)
        with Stopwatch() as watch:
            tell_to_stop(site)
            await ends(site)
            watch.check(GRACE, "the server has ended")
        for raw in silent:
            raw.close()


@pytest.mark.slow
async def test_second_sigterm_hurries(site: Site) -> None:
    async with log_in(site, "alice") as alice, alice.socket() as client:
        await client.synced()
        tell_to_stop(site)
        await client.until(lambda it: "going_away" in it.types())
        tell_to_stop(site)
        await client.closed()
        with Stopwatch() as watch:
            await ends(site)
            watch.check(GRACE, "the server has ended")
