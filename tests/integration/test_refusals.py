"""Real uvicorn: how a handshake is refused, and that the worker outlives what is thrown at it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import websockets

from tests.clients import Browser, log_in
from tests.integration import raw
from tests.integration.conftest import SERVERS, RunningSite
from tests.servers import Site
from tests.waiting import LIMIT_SECONDS, limit

PATH = "/ws/orgs/acme/notifications/"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


async def refusal(site: Site, path: str = PATH, **headers: str) -> tuple[int, Any]:
    """Status and body with which a handshake is refused."""
    url = site.url.replace("http", "ws", 1) + path
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with websockets.connect(
            url, additional_headers=headers, compression=None, open_timeout=LIMIT_SECONDS
        ):
            pass
    response = caught.value.response
    return response.status_code, response.body


async def refused_code(site: Site, path: str = PATH, **headers: str) -> tuple[int, str]:
    status, body = await refusal(site, path, **headers)
    return status, json.loads(body)["error"]["code"]


async def is_alive(browser: Browser) -> bool:
    async with browser.socket() as socket:
        await socket.synced()
    return True


async def test_anonymous_gets_401_and_a_json_body(site: Site) -> None:
    assert await refused_code(site, Origin=site.url) == (401, "unauthenticated")


async def test_stranger_gets_one_answer_for_a_foreign_and_an_unknown_organisation(site: Site) -> None:
    async with log_in(site, "carol") as carol:
        headers = {"Origin": site.url, "Cookie": carol.cookie}
        foreign = await refusal(site, PATH, **headers)
        assert foreign == await refusal(site, "/ws/orgs/nowhere/notifications/", **headers)
    assert foreign[0] == 403


async def test_unknown_path_gets_403(site: Site) -> None:
    assert await refused_code(site, "/ws/nowhere/", Origin=site.url) == (403, "forbidden")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
async def test_foreign_page_gets_403_though_the_cookie_is_good(site: Site, origin: str) -> None:
    async with log_in(site, "alice") as alice:
        assert await refused_code(site, Origin=origin, Cookie=alice.cookie) == (403, "forbidden")


async def test_cookie_without_origin_gets_403(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        assert await refused_code(site, Cookie=alice.cookie) == (403, "forbidden")


async def test_malformed_cursor_gets_400(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        headers = {"Origin": site.url, "Cookie": alice.cookie}
        assert await refused_code(site, f"{PATH}?since=1", **headers) == (400, "bad_request")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH, {f"X-Header-{number}": "x" for number in range(200)}),
        (PATH, {"X-Long": "x" * 65_536}),
        (f"{PATH}?{'x' * 16_384}", {}),
        (f"/ws/orgs/{'x' * 16_384}/notifications/", {}),
    ],
    ids=["200 headers", "a header of 64 KB", "a query of 16 KB", "a path of 16 KB"],
)
async def test_oversized_handshake_is_not_let_in_and_the_worker_lives(
    site: Site, path: str, headers: dict[str, str]
) -> None:
    url = site.url.replace("http", "ws", 1) + path
    async with log_in(site, "alice") as alice:
        headers = {"Origin": site.url, "Cookie": alice.cookie, **headers}
        # uvicorn answers none that its WebSocket parser refuses.
        with pytest.raises((websockets.InvalidHandshake, TimeoutError)):
            await websockets.connect(url, additional_headers=headers, compression=None, open_timeout=2)
        assert await is_alive(alice)


MESSAGES = {"binary": (b"1", 1003), "20 KB": ("x" * 20_000, 4413), "20 MB": ("x" * 20_000_000, 1009)}


@pytest.mark.parametrize(("message", "code"), MESSAGES.values(), ids=MESSAGES)
async def test_message_that_may_not_be_sent_closes_that_socket_alone(
    site: Site, message: str | bytes, code: int
) -> None:
    async with log_in(site, "alice") as alice, alice.socket() as socket:
        await socket.synced()
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.connection.send(message)
        assert await socket.closed() == code
        assert await is_alive(alice)


async def test_flood_is_throttled_and_closed_with_4429(site: Site) -> None:
    async with log_in(site, "alice") as alice, alice.socket() as socket:
        await socket.synced()
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(10_000):
                await socket.send({"type": "ping"})
        assert await socket.closed() == 4429
        assert socket.types().count("pong") < 200
        assert await is_alive(alice)


LOST = ["Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("lost", LOST, ids=["both", "Upgrade", "Connection"])
async def test_handshake_that_lost_headers_at_a_proxy_gets_426_and_the_reason(
    running_site: RunningSite, server: str, lost: str
) -> None:
    site = running_site(server)
    async with log_in(site, "alice") as alice:
        reader, writer = await raw.connect(site.url)
        writer.write(raw.handshake(site.url, alice.cookie).replace(lost.encode(), b""))
        async with limit("an answer to the handshake"):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await reader.readexactly(int(re.findall(r"content-length: (\d+)", head)[0]))
        writer.close()
    assert head.split()[1] == "426"
    assert "\r\nupgrade: websocket\r\n" in head
    assert "a proxy in front has to pass them on" in json.loads(body)["error"]["message"]
