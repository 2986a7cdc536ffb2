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
from tests.servers import EXAMPLE, Site
from tests.shell import Shell
from tests.waiting import LIMIT_SECONDS, eventually, limit


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.integration.impatient",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parent), str(EXAMPLE), os.environ.get("PYTHONPATH", "")]),
    }
    with Site(server="frames", environ=environ) as site:
        yield site


@pytest.fixture(scope="module")
def publisher(site: Site) -> Shell:
    return site.shell


@pytest.mark.parametrize("text", ["", "é\u2028\U0001f600", "x" * 200, "x" * 65_000], ids=len)
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_frames_of_every_size_arrive_as_they_were_published(
    site: Site, publisher: Shell, text: str, compression: str | None
) -> None:
    async with log_in(site, "alice") as alice:
        connecting = websockets.connect(
            f"{site.url.replace('http', 'ws', 1)}{raw.PATH}",
            additional_headers={"Cookie": alice.cookie},
            origin=site.url,  # type: ignore[arg-type]
            compression=compression,
            open_timeout=LIMIT_SECONDS,
            ping_interval=None,
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


@pytest.mark.slow
async def test_reader_that_is_slow_gets_all_in_order(site: Site, publisher: Shell) -> None:
    """More than the buffers hold, so that ready frames and waiting for the socket come by turns."""
    address = urlsplit(site.url)
    async with log_in(site, "alice") as alice:
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect((address.hostname, address.port))
            narrow.setblocking(False)
            connecting = websockets.connect(
                f"{site.url.replace('http', 'ws', 1)}{raw.PATH}",
                additional_headers={"Cookie": alice.cookie},
                origin=site.url,  # type: ignore[arg-type]
                max_queue=1,
                open_timeout=LIMIT_SECONDS,
                ping_interval=None,
                sock=narrow,
            )
            async with connecting as connection:
                publishing = asyncio.create_task(asyncio.to_thread(publish_all, publisher, 300))
                numbers: list[int] = []
                async with limit("300 events", seen=lambda: numbers[-5:]):
                    while len(numbers) < 300:
                        frame = json.loads(await connection.recv())
                        events = frame["events"] if frame["type"] == "batch" else [frame]
                        numbers += [event["number"] for event in events if "number" in event]
                        await asyncio.sleep(0.002)  # slower than they come
                await publishing
                assert numbers == list(range(300))


def publish_all(publisher: Shell, count: int) -> None:
    for number in range(count):
        publisher.publish({"number": number, "text": "x" * 20_000})


@pytest.mark.slow
async def test_reader_that_reads_nothing_is_let_go(site: Site, publisher: Shell) -> None:
    address = urlsplit(site.url)
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob, bob.socket() as his:
        await his.synced()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((address.hostname, address.port))
            deaf.sendall(raw.handshake(site.url, alice.cookie))
            await asyncio.to_thread(publish_all, publisher, 500)
            await his.until(lambda one: len(one.events) == 500)
            log = site.folder / "log"
            await eventually(lambda: "code=4408" in log.read_text(), "the deaf one is closed")


@pytest.mark.slow
async def test_server_that_stops_says_so(site: Site) -> None:
    with Site(server="frames") as other:
        async with log_in(other, "alice") as alice, alice.socket() as hers:
            await hers.synced()
            await asyncio.to_thread(other.stop)
            assert await hers.closed() == 1012
            assert "going_away" in hers.types()
