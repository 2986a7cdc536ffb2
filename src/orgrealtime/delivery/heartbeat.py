"""Heartbeats: how it is noticed, by the server and by its clients, that the other end is gone.

A WebSocket client pings every `HEARTBEAT_SECONDS`; an event stream has no way back, so there the server does. The
browser client's numbers are held against these by `tests/test_javascript.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from orgrealtime.conf import get_settings
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.stalls import STALL_SECONDS
from orgrealtime.errors import CloseCode

SILENT_HEARTBEATS = 3  # without a ping; browsers let a page in the background act once a minute
CHECK_SECONDS = 2.0
# Of an event stream: often enough for proxies that end what is silent, and for clients to notice that nothing comes.
STREAM_PING_SECONDS = 15.0
STREAM_SILENCE_SECONDS = 3 * STREAM_PING_SECONDS  # for TCP to give up a client that acknowledges nothing


async def close_silent_connections(connections: Iterable[Connection]) -> None:
    """Close connections whose client used to ping and has stopped, for ever: not every server sends pings itself."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + min(CHECK_SECONDS, get_settings().HEARTBEAT_SECONDS)
        await asyncio.sleep(due - loop.time())
        late = loop.time() - due
        if late > STALL_SECONDS:  # what clients have sent meanwhile waits to be read
            continue
        for connection in list(connections):
            if is_silent(connection, loop.time()):
                connection.close(CloseCode.SLOW_CONSUMER, "no ping any more")


def is_silent(connection: Connection, now: float) -> bool:
    """Tell whether a client that used to ping has stopped, by `now` of the loop's clock."""
    if connection.pinged_at is None:
        return False
    return now - connection.pinged_at > SILENT_HEARTBEATS * get_settings().HEARTBEAT_SECONDS
