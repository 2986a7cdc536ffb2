"""Where a connection begins in its organisation's stream: from the feed's tail if it reaches back, else read for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from orgrealtime import stream
from orgrealtime.delivery.feed import RECENT_EVENTS, Feed
from orgrealtime.delivery.hub import Hub
from orgrealtime.errors import StreamReset
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.protocol.query_string import Beginning
from orgrealtime.stream import Page
from orgrealtime.stream.access import Access
from orgrealtime.stream.database import HANDSHAKE


class Start(NamedTuple):
    """Where a connection begins: after number `seq`, with what was read for it alone, or with a reset."""

    position: Position
    seq: int
    page: Page | None = None
    reset: StreamReset | None = None

    @property
    def cursor(self) -> Cursor:
        """The cursor after which the connection begins."""
        return Cursor(self.position.epoch, self.seq)


async def find_start(
    hub: Hub, organization_id: Any, access: Access, beginning: Beginning, position: Position
) -> Start:
    """Return where a client begins that has asked for `beginning`; the stream stands at `position` or later."""
    try:
        if beginning.last is not None:
            return await _before_last(hub, organization_id, access, beginning.last, position)
        if beginning.since is not None:
            return await _after(hub, organization_id, access, beginning.since, position)
    except StreamReset as reset:
        return Start(reset.position, reset.position.head, reset=reset)
    return Start(position, position.head)


async def _before_last(
    hub: Hub, organization_id: Any, access: Access, count: int, position: Position
) -> Start:
    feed = await _recent(hub, organization_id, position, count)
    if feed.epoch == position.epoch and feed.tail.head >= position.head:
        seq = feed.tail.before_last(count, access.sees)
        if seq is None and feed.tail.start <= position.floor:
            seq = feed.tail.start
        if seq is not None:
            return Start(position, seq)
    page = await HANDSHAKE.run(
        stream.read_last, organization_id, access=access, limit=count, position=position
    )
    seq = page.events[0].seq - 1 if page.events else page.position.head
    return Start(page.position, seq, page)


async def _after(hub: Hub, organization_id: Any, access: Access, since: Cursor, position: Position) -> Start:
    seq = position.resume(since)
    if seq == position.head:
        return Start(position, seq)
    if (await _recent(hub, organization_id, position, position.head - seq)).covers(since):
        return Start(position, seq)
    page = await HANDSHAKE.run(stream.read, organization_id, since, access=access, position=position)
    return Start(page.position, seq, page)


async def _recent(hub: Hub, organization_id: Any, position: Position, count: int) -> Feed:
    """The feed of the organisation, with the newest events in its tail if that is likely to be enough."""
    feed = hub.open_feed(organization_id, position)
    if feed.tail.start > max(0, position.head - count) and count <= RECENT_EVENTS:
        await feed.reach_back()
    return feed
