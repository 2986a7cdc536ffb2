"""uvicorn with `--ws orgrealtime.uvicorn:FrameProtocol`: the same stream, written as ready frames."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import websockets

from tests.clients import Socket, log_in
from tests.integration import raw
from tests.publisher import Publisher
from tests.servers import EXAMPLE, Site

SEND_TIMEOUT = 2.0  # of tests.integration.impatient


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.integration.impatient",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parent), str(EXAMPLE), os.environ.get("PYTHONPATH", "")]),
    }
    with Site(server="frames", environ=environ) as site:
        yield site


@pytest.fixture(scope="module")
def publisher(site: Site) -> Iterator[Publisher]:
    with Publisher(site) as publisher:
        yield publisher


@pytest.mark.parametrize("text", ["", "é\u2028\U0001f600", "x" * 200, "x" * 65_000], ids=len)
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_frames_of_every_size_arrive_as_they_were_published(
    site: Site, publisher: Publisher, text: str, compression: str | None
) -> None:
    async with log_in(site.url, "alice") as alice:
        connecting = websockets.connect(
            f"{site.url.replace('http', 'ws', 1)}{raw.PATH}",
            additional_headers={"Cookie": alice.cookie},
            origin=site.url,  # type: ignore[arg-type]
            compression=compression,
        )
        async with connecting as connection:
            hers = Socket(connection)
            await hers.synced()
            for number in range(3):
                await asyncio.to_thread(publisher.publish, {"number": number, "text": text})
                await hers.send({"type": "ping"})  # answers go the ordinary way, in between
            await hers.until(lambda one: len(one.events) == 3 and one.types().count("pong") == 3)
            assert [(event["number"], event["text"]) for event in hers.events] == [
                (number, text) for number in range(3)
            ]
            await hers.close()


async def test_reader_that_is_slow_gets_all_in_order(site: Site, publisher: Publisher) -> None:
    """More than the buffers hold, so that ready frames and waiting for the socket come by turns."""
    address = urlsplit(site.url)
    async with log_in(site.url, "alice") as alice:
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect((address.hostname, address.port))
            narrow.setblocking(False)
            connecting = websockets.connect(
                f"{site.url.replace('http', 'ws', 1)}{raw.PATH}",
                additional_headers={"Cookie": alice.cookie},
                origin=site.url,  # type: ignore[arg-type]
                max_queue=1,
                sock=narrow,
            )
            async with connecting as connection:
                publishing = asyncio.create_task(asyncio.to_thread(publish_all, publisher, 300))
                numbers: list[int] = []
                async with asyncio.timeout(60):
                    while len(numbers) < 300:
                        frame = json.loads(await connection.recv())
                        events = frame["events"] if frame["type"] == "batch" else [frame]
                        numbers += [event["number"] for event in events if "number" in event]
                        await asyncio.sleep(0.002)  # slower than they come
                await publishing
                assert numbers == list(range(300))


def publish_all(publisher: Publisher, count: int) -> None:
    for number in range(count):
        publisher.publish({"number": number, "text": "x" * 20_000})


async def test_reader_that_reads_nothing_is_let_go(site: Site, publisher: Publisher) -> None:
    address = urlsplit(site.url)
    async with log_in(site.url, "alice") as alice, log_in(site.url, "bob") as bob, bob.socket() as his:
        await his.synced()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((address.hostname, address.port))
            deaf.sendall(raw.handshake(site.url, alice.cookie))
            await asyncio.to_thread(publish_all, publisher, 500)
            await his.until(lambda one: len(one.events) == 500)
            async with asyncio.timeout(SEND_TIMEOUT + 10):
                while "code=4408" not in (site.folder / "log").read_text():  # noqa: ASYNC110 - a file
                    await asyncio.sleep(0.1)


async def test_server_that_stops_says_so(site: Site) -> None:
    with Site(server="frames") as other:
        async with log_in(other.url, "alice") as alice, alice.socket() as hers:
            await hers.synced()
            await asyncio.to_thread(other.stop)
            await hers.until(lambda one: one.close_code is not None)
            assert hers.close_code == 1012
            assert "going_away" in hers.types()
