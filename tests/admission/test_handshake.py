"""A handshake that is larger than any browser's is refused, whatever the server lets through."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from orgrealtime.stream import database
from tests.sockets import Headers, Sockets, browser_headers, log_in

OVERSIZED: dict[str, Headers] = {
    "200 headers": [(f"x-{number}".encode(), b"x") for number in range(200)],
    "a header of 64 KB": [(b"x-long", b"x" * 65_536)],
}


@pytest.mark.parametrize("more", OVERSIZED.values(), ids=OVERSIZED)
async def test_member_with_oversized_headers_is_refused_with_4400(
    sockets: Sockets, alice: User, more: Headers
) -> None:
    headers = browser_headers(await database.LIVE.run(log_in, alice))
    assert await sockets.refused(scope={"headers": [*headers, *more]}) == 4400


async def test_member_with_an_oversized_query_is_refused_with_4400(sockets: Sockets, alice: User) -> None:
    assert await sockets.refused(alice, query="x" * 16_384) == 4400


async def test_member_with_large_cookies_is_let_in(sockets: Sockets, alice: User) -> None:
    headers = [*browser_headers(await database.LIVE.run(log_in, alice)), (b"x-more", b"x" * 12_000)]
    await (await sockets.open(scope={"headers": headers})).synced()
