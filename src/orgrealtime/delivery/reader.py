"""Reading for the feeds of one event loop: those that are behind at the same moment by one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orgrealtime import stream
from orgrealtime.concurrency.batching import Batcher
from orgrealtime.errors import StreamReset
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import Page, database

Query = tuple[Any, Cursor]

TOGETHER = 2  # times, before a stream is waited for: who numbers it at this moment has done so in the next


class Reader:
    """Reads what comes after a cursor in an organisation's stream, for all who ask while it reads together."""

    def __init__(self) -> None:
        self._batcher = Batcher[Query, Page | None](database.LIVE.run, _read_together)

    async def read(self, organization_id: Any, after: Cursor) -> Page:
        """Return the next events after a cursor, committed ones without a number included; raise StreamReset."""
        for _ in range(TOGETHER):
            page = await self._batcher.ask((organization_id, after))
            if page is not None:
                return page
        return await database.LIVE.run(_read_alone, organization_id, after)

    async def close(self) -> None:
        """End all work; who still waits is cancelled."""
        await self._batcher.close()


def _read_together(queries: Sequence[Query]) -> list[Page | StreamReset | None]:
    cursors = dict(queries)
    found = stream.follow(cursors)
    return [found.get(key) if cursors[key] == after else None for key, after in queries]


def _read_alone(organization_id: Any, after: Cursor) -> Page:
    page = stream.follow_one(organization_id, after)
    if isinstance(page, StreamReset):
        raise page
    return page
