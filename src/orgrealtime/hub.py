"""Who in this process is listening, and waking them: one hub per event loop."""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from collections.abc import Collection, Coroutine
from typing import Any

from orgrealtime import bell, database, stream
from orgrealtime.bell import Ear, Hint
from orgrealtime.conf import get_settings
from orgrealtime.connection import Connection
from orgrealtime.cursors import Position
from orgrealtime.errors import CloseCode
from orgrealtime.feed import Feed
from orgrealtime.recheck import recheck

logger = logging.getLogger("orgrealtime.hub")

JOIN_AGAIN_SECONDS = 120.0
LINGER_SECONDS = 30.0
# A session ends after its logout signal, and some layers confirm a subscription late: look once more.
SECOND_LOOK_SECONDS = 0.7
STALL_SECONDS = 1.0


class Hub:
    """Holds the feeds of the organisations that have connections here, and looks after what rings can't promise."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Feed] = {}
        self._ear = Ear(self._heard)
        self._works: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        bell.add_listener(self)
        self._work(self._heal())
        self._work(self._check_access_regularly())

    def feed(self, organization_id: Any) -> Feed | None:
        """Return the feed of an organisation if it has one; may be called from any thread."""
        return self._feeds.get(str(organization_id))

    def attach(self, connection: Connection, organization_id: Any, position: Position) -> Feed:
        """Put a connection on its organisation's feed, which starts at `position` if it is new."""
        key = str(organization_id)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(organization_id, position, self._on_empty)
            self._work(self._listen(feed))
        self._cancel_timer(key)
        feed.add(connection)
        if (position.epoch, position.head) != (feed.epoch, feed.tail.head):
            feed.wake()
        return feed

    def hear(self, hint: Hint) -> None:
        """Take a hint from any thread of this process."""
        if self._loop.is_closed():
            bell.remove_listener(self)
        else:
            self._loop.call_soon_threadsafe(self._heard, hint)

    async def check_access(self, connections: Collection[Connection]) -> None:
        """Check again whether these connections may go on, and close those that may not."""
        verdicts = await database.run(recheck, connections) if connections else {}
        for connection, verdict in verdicts.items():
            if isinstance(verdict, CloseCode):
                connection.close(verdict, "access ended")
            else:
                connection.access = verdict

    async def close(self) -> None:
        """End all work of this hub; its connections are no longer served."""
        bell.remove_listener(self)
        for timer in self._timers.values():
            timer.cancel()
        for feed in self._feeds.values():
            feed.stop()
        for task in self._works:
            task.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        await self._ear.close()

    # ------------------------------------------------------------------------------------------------- rings

    def _heard(self, hint: Hint) -> None:
        if hint.organization is None:
            feeds = list(self._feeds.values())
        else:
            feeds = [self._feeds[hint.organization]] if hint.organization in self._feeds else []
        if hint.user is None:
            for feed in feeds:
                feed.wake()
            return
        connections = [connection for feed in feeds for connection in feed.connections]
        concerned = [connection for connection in connections if str(connection.access.user_id) == hint.user]
        if concerned:
            self._work(self._check_twice(concerned))

    async def _check_twice(self, connections: list[Connection]) -> None:
        await self._try(self.check_access(connections))
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        await self._try(
            self.check_access([connection for connection in connections if connection.feed is not None])
        )

    # ------------------------------------------------------------------------------------------------- feeds

    async def _listen(self, feed: Feed) -> None:
        await self._ear.join(feed.organization_id)
        feed.wake()  # what was committed before the layer knew us
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        feed.wake()

    def _on_empty(self, feed: Feed) -> None:
        # Kept for a while: those who reconnect find the tail, and nothing is joined and left for every page view.
        key = str(feed.organization_id)
        self._cancel_timer(key)
        if self._feeds.get(key) is feed and not self._loop.is_closed():
            self._timers[key] = self._loop.call_later(LINGER_SECONDS, self._forget, feed)

    def _forget(self, feed: Feed) -> None:
        key = str(feed.organization_id)
        self._timers.pop(key, None)
        if feed.connections or self._feeds.get(key) is not feed:
            return
        del self._feeds[key]
        feed.stop()
        self._work(self._ear.leave(feed.organization_id))

    def _cancel_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    # ----------------------------------------------------------------------------------------------- healing

    async def _heal(self) -> None:
        next_poll = self._loop.time()
        next_join = next_poll + JOIN_AGAIN_SECONDS
        while True:
            was_proved = self._ear.is_proved
            is_proved = await self._ear.prove()
            now = self._loop.time()
            if now >= next_poll or not is_proved or not was_proved:
                await self._try(self._poll())
                next_poll = now + get_settings().IDLE_POLL_SECONDS
            if now >= next_join or not is_proved:
                next_join = now + JOIN_AGAIN_SECONDS
                await self._ear.join_again()
            await self._sleep(get_settings().POLL_SECONDS)

    async def _poll(self) -> None:
        feeds = [feed for feed in self._feeds.values() if feed.connections]
        heads = await database.run(stream.heads, [feed.organization_id for feed in feeds]) if feeds else {}
        for feed in feeds:
            head = heads.get(feed.organization_id)
            if head is None or head.pending or (head.epoch, head.head) != (feed.epoch, feed.tail.head):
                feed.wake()

    async def _check_access_regularly(self) -> None:
        while True:
            await self._sleep(get_settings().ACCESS_CHECK_SECONDS)
            feeds = list(self._feeds.values())
            await self._try(
                self.check_access([connection for feed in feeds for connection in feed.connections])
            )

    async def _sleep(self, seconds: float) -> None:
        due = self._loop.time() + seconds * random.uniform(0.9, 1.0)  # noqa: S311 - spreads load, no secret
        await asyncio.sleep(due - self._loop.time())
        late = self._loop.time() - due
        if late > STALL_SECONDS:
            logger.warning("the event loop was blocked", extra={"seconds": round(late, 2)})

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            logger.warning("the database can't be asked, trying again", extra={"error": type(error).__name__})

    def _work(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def get_hub() -> Hub:
    """Return the hub of the running event loop, started if it is the first time."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub()
    return hub


async def close_hub() -> None:
    """End the hub of the running event loop, if there is one."""
    hub = _hubs.pop(asyncio.get_running_loop(), None)
    if hub is not None:
        await hub.close()
