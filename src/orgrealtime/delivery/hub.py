"""Who in this process is listening, and waking them: one hub per event loop."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from typing import Any

from django.db import Error as AnyDatabaseError

from orgrealtime import stream
from orgrealtime.admission.gate import Gate
from orgrealtime.admission.lookup import Lookup
from orgrealtime.admission.quotas import Quotas
from orgrealtime.admission.rechecks import Rechecks
from orgrealtime.concurrency import background
from orgrealtime.concurrency.limiter import Limiter
from orgrealtime.conf import get_settings
from orgrealtime.delivery import bell
from orgrealtime.delivery.bell import Hint, Subscription
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.drain import drain
from orgrealtime.delivery.feed import Feed
from orgrealtime.delivery.reader import Reader
from orgrealtime.protocol.cursors import Position
from orgrealtime.stream import database

logger = logging.getLogger("orgrealtime.hub")

JOIN_AGAIN_SECONDS = 120.0
LINGER_SECONDS = 30.0
SECOND_LOOK_SECONDS = 0.7  # some layers confirm a subscription late
STALL_SECONDS = 1.0
TICK_SECONDS = 1.0
LEAST_SECONDS = 0.2  # between two rounds of healing


class Hub:
    """Holds the feeds of the organisations that have connections here, and looks after what rings can't promise."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Feed] = {}
        self.census = Quotas()
        self.door = Gate()
        self.turnstile = Limiter()
        self.reception = Lookup()
        self._reader = Reader()
        self._guard = Rechecks(self._work)
        self._ear = Subscription(self._heard)
        self._works: set[asyncio.Task[Any]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._joining: asyncio.Task[None] | None = None
        self.is_draining = False  # nobody is let in any more
        bell.add_listener(self)
        self._work(self._heal())
        self._work(self._check_access_regularly())
        self._work(self._check_ends())

    @property
    def is_dead(self) -> bool:
        """Whether the loop of this hub has ended, so that it can serve nobody any more."""
        return self._loop.is_closed()

    def feed(self, organization_id: Any) -> Feed | None:
        """Return the feed of an organisation if it has one."""
        return self._feeds.get(str(organization_id))

    def open_feed(self, organization_id: Any, position: Position) -> Feed:
        """Return the feed of an organisation, which starts at `position` if it is new, for somebody who will attach."""
        feed = self.feed(organization_id)
        if feed is not None and not feed.connections and feed.epoch != position.epoch:
            feed.stop()  # it lingered while another database was restored, and would reset who comes now
            feed = None
        if feed is None:
            feed = self._feeds[str(organization_id)] = Feed(
                organization_id, position, self._reader, self._on_leave
            )
            self._work(self._listen(feed))
        if not feed.connections:
            self._linger(feed)
        return feed

    def attach(
        self, connection: Connection, organization_id: Any, position: Position, admitted_at: float
    ) -> Feed:
        """Put a connection on its organisation's feed, which starts at `position` if it is new.

        `admitted_at` is when the checks began, by the loop's clock: what ends access after that is still to be seen.
        """
        feed = self.open_feed(organization_id, position)
        self._cancel_timer(str(organization_id))
        was_idle = not feed.connections  # and has not looked when it was rung for
        feed.add(connection)
        self._guard.add(connection, admitted_at)
        if was_idle or (position.epoch, position.head) != (feed.epoch, feed.tail.head):
            feed.wake()
        return feed

    def hear(self, hint: Hint) -> None:
        """Take a hint from any thread of this process."""
        if self.is_dead:
            bell.remove_listener(self)
        else:
            self._loop.call_soon_threadsafe(self._heard, hint)

    def connections(self) -> list[Connection]:
        """Return the connections that are served now."""
        return [connection for feed in self._feeds.values() for connection in feed.connections]

    async def drain(self) -> None:
        """Let nobody in any more, send all clients elsewhere, and return when their sockets are closed."""
        self.is_draining = True
        await drain(self.connections, get_settings().DRAIN_SECONDS)

    async def close(self) -> None:
        """End all work of this hub; its connections are no longer served."""
        bell.remove_listener(self)
        for timer in self._timers.values():
            timer.cancel()
        for feed in self._feeds.values():
            feed.stop()
        await self.reception.close()
        await self.census.close()
        await background.end(self._works)
        await self._reader.close()
        await self._ear.close()

    # ------------------------------------------------------------------------------------------------- rings

    def _heard(self, hint: Hint) -> None:
        if hint.everybody:
            self._guard.tell_organization(str(hint.organization))
        elif hint.user is not None:
            self._guard.tell(hint.user)
        elif hint.organization in self._feeds:
            self._feeds[hint.organization].wake()

    # ------------------------------------------------------------------------------------------------- feeds

    async def _listen(self, feed: Feed) -> None:
        await self._ear.join(feed.organization_id)
        feed.wake()  # what was committed before the layer knew us
        self._guard.check_organization(str(feed.organization_id))  # and what ended access
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        feed.wake()

    def _on_leave(self, feed: Feed, connection: Connection) -> None:
        self._guard.remove(connection)
        if feed.connections:
            return
        self._linger(feed)

    def _linger(self, feed: Feed) -> None:
        # Kept for a while: those who reconnect find the tail, and nothing is joined and left for every page view.
        key = str(feed.organization_id)
        self._cancel_timer(key)
        if self._feeds.get(key) is feed and not self.is_dead:
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
                self._join_again()
            until_poll = max(LEAST_SECONDS, next_poll - self._loop.time())
            if not await self._sleep(min(get_settings().POLL_SECONDS, until_poll)):
                self._close_silent()

    def _join_again(self) -> None:
        # Beside the polling: a layer that takes long for thousands of groups must not hold that up.
        if self._joining is None or self._joining.done():
            self._joining = self._work(self._ear.join_again())

    async def _poll(self) -> None:
        feeds = [feed for feed in self._feeds.values() if feed.connections]
        heads = (
            await database.LIVE.run(stream.heads, [feed.organization_id for feed in feeds]) if feeds else {}
        )
        for feed in feeds:
            head = heads.get(feed.organization_id)
            if head is None or head.pending or (head.epoch, head.head) != (feed.epoch, feed.tail.head):
                feed.wake()

    async def _check_access_regularly(self) -> None:
        while True:
            await self._sleep(get_settings().ACCESS_CHECK_SECONDS)
            await self._try(self._guard.check_all())

    def _close_silent(self) -> None:
        now = self._loop.time()
        for connection in self.connections():
            connection.close_if_silent(now)

    async def _check_ends(self) -> None:
        # Apart from the healing, which waits for layer and database.
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._guard.tick(time.time())

    async def _sleep(self, seconds: float) -> bool:
        """Sleep about so long; return whether the loop was blocked, so that what clients sent waits to be read."""
        due = self._loop.time() + seconds * random.uniform(0.9, 1.0)  # noqa: S311 - spreads load, no secret
        await asyncio.sleep(due - self._loop.time())
        late = self._loop.time() - due
        if late > STALL_SECONDS:
            logger.warning("the event loop was blocked", extra={"seconds": round(late, 2)})
        return late > STALL_SECONDS

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except AnyDatabaseError as error:
            logger.warning("the database can't be asked, trying again", extra={"error": type(error).__name__})
        except Exception:
            logger.exception("the hub failed, trying again")

    def _work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return background.start(work, self._works)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def get_hub() -> Hub:
    """Return the hub of the running event loop, started if it is the first time."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        for ended in [loop for loop, hub in _hubs.items() if hub.is_dead]:
            del _hubs[ended]
        hub = _hubs[loop] = Hub()
    return hub


def is_draining() -> bool:
    """Tell whether a hub of this process lets nobody in any more; may be called from any thread."""
    return any(hub.is_draining for hub in tuple(_hubs.values()))


async def drain_hub() -> None:
    """Drain the hub of the running event loop."""
    await get_hub().drain()


async def close_hub() -> None:
    """End the hub of the running event loop, if there is one."""
    hub = _hubs.pop(asyncio.get_running_loop(), None)
    if hub is not None:
        await hub.close()
