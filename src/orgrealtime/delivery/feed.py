"""The live end of one organisation's stream in this process: read once, sent to every connection."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from orgrealtime import stream
from orgrealtime.concurrency.batching import Batcher
from orgrealtime.delivery.chunks import Chunk, cut
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.registry import Registry
from orgrealtime.delivery.tail import Tail
from orgrealtime.delivery.topics import TopicIndex, Unseen
from orgrealtime.errors import INTERNAL_ERROR, StreamReset
from orgrealtime.keys import organization_keys
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.protocol.keys import name_of
from orgrealtime.stream import Head, Page
from orgrealtime.stream.access import Topics
from orgrealtime.stream.database import HANDSHAKE, LIVE, is_away
from orgrealtime.stream.topics import has_providers

logger = logging.getLogger("orgrealtime.feed")

RECENT_EVENTS = 200  # that are kept for clients that come back, if a page has room for them
MAX_CHUNKS = 8  # readers at different places: beyond that a frame is made anew
YIELD_EVERY = 200  # connections served before the loop may do something else
CURSOR_SECONDS = 10.0  # between two positions told past what a client may not see: they tell how much that is
RETRY_SECONDS = (0.2, 1.0)
READS_TOGETHER = 2  # before a stream is waited for: what another process locks now is free by the next
READS_ALONE = 2  # at once; the others are left to reads together

Query = tuple[Any, Cursor]


class FeedReader:
    """Reads what comes after a cursor in an organisation's stream, for all feeds of one event loop.

    The feeds that are behind at the same moment are read by one statement. `before_sending` is called whenever events
    have been read and are about to be sent, and `after_reset` with a connection that goes on elsewhere in its stream.
    """

    def __init__(
        self,
        before_sending: Callable[[], None],
        after_reset: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        self.before_sending = before_sending
        self.after_reset = after_reset
        self._turns = asyncio.Semaphore(READS_ALONE)  # first come, first served
        self._batcher = Batcher[Query, Page | None](LIVE.wrap(_read_together), LIVE.wrap(is_away))

    async def read(self, organization_id: Any, after: Cursor, *, is_far_behind: bool = False) -> Page:
        """Return the next events after a cursor, committed ones without a number included; raise StreamReset.

        A reader that is far behind, as after a burst, gets a page in turn with others of its kind.
        """
        page = None if is_far_behind else await self._read_with_others(organization_id, after)
        if page is None:
            async with self._turns:
                page = await LIVE.run(_read_alone, organization_id, after)
        self.before_sending()
        return page

    async def _read_with_others(self, organization_id: Any, after: Cursor) -> Page | None:
        for _ in range(READS_TOGETHER):
            page = await self._batcher.ask((organization_id, after))
            if page is not None:
                return page
        return None

    async def heads(self, organization_ids: Collection[Any]) -> dict[Any, Head]:
        """Return how far the streams of these organisations are."""
        return await LIVE.run(stream.heads, organization_ids)

    async def close(self) -> None:
        """End all work; reads that still wait are cancelled."""
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


class Feed:
    """Follows one organisation's stream and offers what it finds to its connections, which `registry` knows."""

    def __init__(
        self, organization_id: Any, position: Position, reader: FeedReader, registry: Registry
    ) -> None:
        self.organization_id = organization_id
        self.key = self.key_of(organization_id)
        self.epoch = position.epoch
        self.tail = Tail(position.head)
        self._topics = TopicIndex()
        self._unseen = Unseen(position.head)
        self._waiting: set[Connection] = set()
        self._replaced_at = 0  # the number of the last event that says anew what others have said
        self._reader = reader
        self._registry = registry
        self._end: Any = None  # when the event at the head of the tail was created; None: it isn't known
        self._chunks: dict[int, Chunk] = {}
        self._is_behind = False
        self._is_far_behind = False
        self._task: asyncio.Task[None] | None = None
        self._reaching: asyncio.Task[None] | None = None
        self._cursor_timer: asyncio.TimerHandle | None = None

    @staticmethod
    def key_of(organization_id: Any) -> str:
        """Return the name of an organisation, under which its feed is known."""
        return organization_keys().name(organization_id)

    @property
    def connections(self) -> Collection[Connection]:
        """The connections to this organisation."""
        return self._registry.of_organization(self.key)

    def add(self, connection: Connection) -> None:
        """Serve a connection from its cursor on."""
        connection.feed = self
        self._topics.add(connection, connection.access.topics)
        self._registry.add(connection)

    def remove(self, connection: Connection) -> None:
        """Serve a connection no longer."""
        self._topics.discard(connection, connection.access.topics)
        self._waiting.discard(connection)
        self._registry.remove(connection)

    def change_topics(self, connection: Connection, before: Topics) -> None:
        """Note that a connection has other topics than before."""
        self._topics.discard(connection, before)
        self._topics.add(connection, connection.access.topics)

    def ask_again(self, connection: Connection) -> None:
        """Have the access of a connection checked that may have jumped over changes of it, before it gets an event."""
        if has_providers():
            self._reader.after_reset(connection)

    def wait(self, connection: Connection) -> None:
        """Have a connection go on with whatever is read next."""
        self._waiting.add(connection)

    def has_replaced_since(self, seq: int) -> bool:
        """Tell whether an event after number `seq` says anew what events before it have said."""
        return self._replaced_at > seq

    def cursor_at(self, seq: int) -> str:
        """The cursor of a reader that has seen everything up to `seq`."""
        return str(Cursor(self.epoch, seq))

    def position(self) -> Position:
        """Where this feed stands."""
        return Position(self.epoch, self.tail.head, 0)

    def covers(self, cursor: Cursor) -> bool:
        """Tell whether everything after the cursor is in the tail, so that the database needn't be asked."""
        return cursor.epoch == self.epoch and self.tail.start <= cursor.seq <= self.tail.head

    async def reach_back(self) -> None:
        """Have the newest events before the tail in it too, read once for all handshakes of the moment."""
        if self._reaching is None:
            self._reaching = asyncio.get_running_loop().create_task(self._read_recent())
        await asyncio.wait([self._reaching])  # if it is cancelled, each handshake that waits here reads alone

    def chunk_after(self, seq: int) -> Chunk | None:
        """Return the next frame's worth of events after `seq`, or None if the tail doesn't reach back that far."""
        chunk = self._chunks.get(seq)
        if chunk is None:
            events = self.tail.after(seq)
            if events is None:
                return None
            if len(self._chunks) >= MAX_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            chunk = self._chunks[seq] = next(cut(events, self.tail.head, self.cursor_at))
        return chunk

    def wake(self) -> None:
        """Look for new events, now or right after the look that is under way."""
        self._is_behind = True
        if self._task is None and self.connections:
            self._task = asyncio.get_running_loop().create_task(self._advance())

    def before_sending(self) -> None:
        """Do what has to be done before events are sent that have been read just now."""
        self._reader.before_sending()

    def owe_cursors(self) -> None:
        """Tell connections soon how far they are past what they may not see."""
        if self._cursor_timer is None:
            self._cursor_timer = asyncio.get_running_loop().call_later(CURSOR_SECONDS, self._send_cursors)

    def stop(self) -> None:
        """End all work."""
        if self._task is not None:
            self._task.cancel()
        if self._reaching is not None:
            self._reaching.cancel()
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()

    def _send_cursors(self) -> None:
        self._cursor_timer = None
        has_unseen = self._unseen.start < self.tail.head
        for connection in tuple(self.connections):
            if has_unseen and connection.epoch == self.epoch and self._unseen.are_none_of(connection):
                connection.skip(self.tail.head)
            connection.send_cursor()

    async def _advance(self) -> None:
        delay, longest = RETRY_SECONDS
        try:
            while self._is_behind and self.connections:
                self._is_behind = False
                try:
                    await self._read()
                    delay = RETRY_SECONDS[0]
                except Exception as error:
                    if delay == RETRY_SECONDS[0]:  # once for each row of failures
                        logger.warning(
                            "the stream can't be read, trying again",
                            extra={
                                "organization_id": str(self.organization_id),
                                "error": type(error).__name__,
                            },
                        )
                    self._is_behind = True
                    await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, no secret
                    delay = min(delay * 2, longest)
        finally:
            self._task = None

    async def _read(self) -> None:
        after = Cursor(self.epoch, self.tail.head)
        try:
            page = await self._reader.read(self.organization_id, after, is_far_behind=self._is_far_behind)
        except StreamReset as reset:
            position = reset.position
            if reset.reason == "ahead":
                position = await LIVE.run(stream.renew, self.organization_id, after)
            await self._reset(position, reset.reason)
            return
        if None not in (self._end, page.joint) and self._end != page.joint:
            # An older database has been put in place, and others have written past the place where this feed stands.
            await self._reset(await LIVE.run(stream.renew, self.organization_id, after), "epoch")
            return
        end, self._end = page.end or page.joint or self._end, None
        self._is_far_behind = page.has_more
        self._is_behind = self._is_behind or page.has_more
        # Frame by frame: a burst larger than the tail must not throw off it connections that are up to date.
        for chunk in cut(page.events, page.seq, page.position.cursor_at):
            if chunk.seq > self.tail.head:
                await self.offer(chunk)
        self._end = end

    async def offer(self, chunk: Chunk) -> None:
        """Send what follows the tail to all connections that may see something of it."""
        before = Cursor(self.epoch, self.tail.head)
        self._forget_replaced(chunk)
        self.tail.extend(chunk.events, chunk.seq)
        self._chunks = {before.seq: chunk}
        if chunk.is_topical:
            self._unseen.add(chunk)
            self.owe_cursors()
            await self._serve(lambda connection: connection.take(chunk, before), self._concerned(chunk))
            return
        unseen, self._unseen = self._unseen, Unseen(self.tail.head)
        self._waiting.clear()
        if unseen.start == before.seq:
            await self._serve(lambda connection: connection.take(chunk, before), self.connections)
        else:
            await self._serve(
                lambda connection: _take_after(unseen, connection, chunk, before), self.connections
            )

    def _concerned(self, chunk: Chunk) -> set[Connection]:
        """The connections that may get something of a chunk whose events all have topics, or that wait for it."""
        connections = self._topics.of(chunk.topics) | self._waiting
        self._waiting.clear()
        if chunk.change is not None:
            for user in chunk.change.grants | chunk.change.withdraws:
                connections.update(self._registry.of_user(name_of(str(user))))
        return connections

    def _forget_replaced(self, chunk: Chunk) -> None:
        for event in chunk.events if chunk.is_replaceable else ():
            if event.replaces and event.subject is not None:
                self._replaced_at = event.seq
                self.tail.forget(event.subject)

    async def _read_recent(self) -> None:
        began_at = self.tail.head
        try:
            page = await HANDSHAKE.run(stream.read_recent, self.organization_id, RECENT_EVENTS)
        except Exception as error:
            self._reaching = None  # the handshakes that wait read alone, and the next one may try again
            logger.warning(
                "recent events can't be read",
                extra={"organization_id": str(self.organization_id), "error": type(error).__name__},
            )
            return
        # Meanwhile the window may have moved on, out of reach of what was read.
        is_joined = page.position.epoch == self.epoch and page.seq >= self.tail.start
        if self.has_replaced_since(min(began_at, page.seq)):
            # What was read may be older than what has replaced it; the next handshake may try again.
            self._reaching = None
            return
        missing = [event for event in page.events if event.seq <= self.tail.start]
        if is_joined and missing:
            self.tail.prepend(missing, missing[0].seq - 1)

    async def _reset(self, position: Position, reason: str) -> None:
        logger.error(
            "the stream isn't the one that was followed; clients are told to reset",
            extra={"organization_id": str(self.organization_id), "reason": reason},
        )
        self.epoch = position.epoch
        self.tail = Tail(position.head)
        self._end = None
        self._reaching = None
        self._chunks.clear()
        self._unseen = Unseen(position.head)
        self._replaced_at = 0
        await self._serve(lambda connection: connection.reset(position, reason), self.connections)
        await self._serve(Connection.pump, self.connections)

    async def _serve(self, action: Callable[[Connection], None], connections: Collection[Connection]) -> None:
        for number, connection in enumerate(tuple(connections), 1):
            if connection.feed is self:
                try:
                    action(connection)
                except Exception:
                    logger.exception("a connection can't be served", extra={"connection_id": connection.id})
                    connection.close(INTERNAL_ERROR, "serving it failed")
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)


def _take_after(unseen: Unseen, connection: Connection, chunk: Chunk, before: Cursor) -> None:
    """Have a connection take a chunk, past events before it that only others were given."""
    if connection.seq < before.seq and connection.epoch == before.epoch and unseen.are_none_of(connection):
        connection.skip(before.seq)
    connection.take(chunk, before)
