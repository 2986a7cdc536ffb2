"""Server-Sent Events from real servers: what is published elsewhere arrives, and who doesn't read is let go."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.clients import Browser, log_in
from tests.integration.conftest import SERVERS
from tests.integration.lookout import descriptors
from tests.servers import Site
from tests.shell import Shell
from tests.waiting import LIMIT_SECONDS, eventually

PATH = "/orgs/acme/notifications/stream/"
ESTABLISHED = "01"
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module", params=SERVERS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    environ = {"DJANGO_SETTINGS_MODULE": "impatient", "PYTHONPATH": str(FOLDER)}
    with Site(server=request.param, environ=environ) as site:
        yield site


@pytest.fixture
def publisher(site: Site) -> Shell:
    return site.shell


MANY = """
from orgrealtime import publish
from tracker.models import Organization
acme = Organization.objects.get(slug="acme")
for number in range(200):
    publish(acme, "note", {"number": number, "text": "x" * 60_000})
"""


def log_of(site: Site) -> str:
    return (site.folder / "log").read_text(errors="replace")


@asynccontextmanager
async def frames(browser: Browser, query: str = "") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with browser.http.stream("GET", PATH + query) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        yield (json.loads(line[6:]) async for line in answer.aiter_lines() if line.startswith("data: "))


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def peers(site: Site) -> set[int]:
    """The ports at the other end of the TCP connections that the server considers open."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = [line for line in lines if line[1].endswith(f":{site.port:04X}") and line[3] == ESTABLISHED]
    return {int(line[2].rpartition(":")[2], 16) for line in mine}


async def test_event_of_another_process_arrives_on_the_stream(site: Site, publisher: Shell) -> None:
    async with log_in(site, "alice") as alice, frames(alice) as hers:
        while (await anext(hers))["type"] != "synced":
            pass
        publisher.publish({"text": "ä"})
        event = await anext(hers)
        assert event["text"] == "ä"
    async with log_in(site, "alice") as alice, frames(alice, f"?since={event['cursor']}") as hers:
        publisher.publish({"text": "next"})
        types = [await anext(hers) for _ in range(3)]
        assert "next" in {frame.get("text") for frame in types}


async def test_reader_that_leaves_leaves_nothing_behind(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        before, closed = descriptors(site), log_of(site).count("connection closed")
        for number in range(1, 6):
            async with frames(alice) as hers:
                await anext(hers)
            await eventually(lambda count=closed + number: log_of(site).count("connection closed") == count)
        await eventually(lambda: descriptors(site) <= before + 2)


async def test_stranger_is_refused_with_a_status_and_a_body(site: Site) -> None:
    async with log_in(site, "carol") as carol:
        answer = await carol.http.get(PATH)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    async with httpx.AsyncClient(base_url=site.url, timeout=LIMIT_SECONDS) as http:
        assert (await http.get(PATH)).status_code == 401


@pytest.mark.slow
async def test_reader_that_reads_nothing_is_let_go_and_others_are_served(
    site: Site, publisher: Shell
) -> None:
    address = urlsplit(site.url)
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob, bob.socket() as his:
        await his.synced()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((address.hostname, address.port))
            deaf.sendall(
                f"GET {PATH} HTTP/1.1\r\nHost: {address.netloc}\r\nCookie: {alice.cookie}\r\n\r\n".encode()
            )
            await eventually(lambda: port_of(deaf) in peers(site))
            await asyncio.to_thread(publisher.run, MANY)
            await his.until(lambda one: len(one.events) == 200)
            await eventually(lambda: "code=4408" in log_of(site), "the deaf one is closed")
            if site.server == "uvicorn":  # granian keeps the connection until what it has taken is read
                await eventually(lambda: port_of(deaf) not in peers(site))
