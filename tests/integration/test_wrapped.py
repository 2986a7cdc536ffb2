"""Under middleware that wraps `send` a client that doesn't read is dropped, and holds its place until it is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients import Browser, log_in
from tests.integration import raw
from tests.integration.test_sse import PATH as STREAM
from tests.integration.test_sse import peers, port_of
from tests.servers import Site
from tests.waiting import LIMIT_SECONDS, eventually

FOLDER = Path(__file__).parent
MOST = 3  # connections of one user

pytestmark = pytest.mark.slow  # a site for each middleware, and clients that are waited for


class WrappedSite(Site):
    def __init__(self, application: str, options: Sequence[str] = ()) -> None:
        super().__init__(environ={"DJANGO_SETTINGS_MODULE": "three", "PYTHONPATH": str(FOLDER)})
        self.application, self.options = application, options

    def _command(self) -> Sequence[str]:
        python, _, module, _, *options = super()._command()
        return [python, "-m", module, self.application, *options, *self.options]


@pytest.fixture(
    scope="module", params=["wrapped:example", "wrapped:opentelemetry", "wrapped:sentry", "wrapped:both"]
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with WrappedSite(request.param) as site:
        yield site


def deaf(site: Site, request: bytes) -> socket.socket:
    """A client that sends a request and reads no more of the answer than its status."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(LIMIT_SECONDS)
    client.connect(("127.0.0.1", site.port))
    client.sendall(request)
    return client


def status(client: socket.socket) -> int:
    answer = b""
    while len(answer) < 12:
        answer += client.recv(12 - len(answer))
    return int(answer[9:])


def log_of(site: Site) -> str:
    return (site.folder / "log").read_text()


def notes(count: int, size: int) -> list[dict[str, Any]]:
    return [{"number": number, "text": "x" * size} for number in range(count)]


def get(site: Site, browser: Browser, path: str) -> bytes:
    netloc = urlsplit(site.url).netloc
    return f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\nCookie: {browser.cookie}\r\n\r\n".encode()


async def test_deaf_clients_are_dropped_and_never_more_than_their_places(site: Site) -> None:
    """Alice by the socket and bob by the event stream, each with places of their own."""
    begin = len(log_of(site))
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob:
        requests = (raw.handshake(site.url, alice.cookie), get(site, bob, STREAM))
        with ExitStack() as stack:

            async def fill(request: bytes) -> set[int]:
                """Take all places of one user; return the ports of those that were let in."""
                ports: set[int] = set()
                async with asyncio.timeout(LIMIT_SECONDS):
                    while len(ports) < MOST:
                        client = stack.enter_context(deaf(site, request))
                        if (code := await asyncio.to_thread(status, client)) in (101, 200):
                            ports.add(port_of(client))
                        else:
                            assert code == 429  # the places of those before are being given back
                one_more = stack.enter_context(deaf(site, request))
                assert await asyncio.to_thread(status, one_more) == 429
                return ports

            for _ in range(2):
                ports = set[int]().union(*[await fill(request) for request in requests])
                await asyncio.to_thread(site.shell.publish_each, notes(100, 60_000))  # which pile up
                await eventually(lambda held=ports: not held & peers(site), "they are dropped")
        assert log_of(site)[begin:].count("code=4408") == 2 * MOST * len(requests)


async def test_client_that_says_goodbye_and_doesn_t_read_is_dropped(site: Site) -> None:
    """What it hasn't read would keep the server from closing the connection, and its place would be free."""
    async with log_in(site, "alice") as alice:
        with deaf(site, raw.handshake(site.url, alice.cookie)) as client:
            assert await asyncio.to_thread(status, client) == 101
            await asyncio.to_thread(site.shell.publish_each, notes(100, 60_000))
            with suppress(OSError):
                client.sendall(raw.frame(raw.CLOSE, b"\x03\xe8"))
            await eventually(lambda: port_of(client) not in peers(site), "it is dropped")
