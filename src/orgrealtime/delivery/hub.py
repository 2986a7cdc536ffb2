"""The hub of an event loop: its feeds, what wakes them, and the services that watch its connections."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from django.db import Error as AnyDatabaseError

from orgrealtime import stream
from orgrealtime.concurrency import background
from orgrealtime.conf import get_settings
from orgrealtime.delivery import bell
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.drain import drain
from orgrealtime.delivery.feed import Feed, FeedReader
from orgrealtime.delivery.heartbeat import close_silent_connections
from orgrealtime.delivery.registry import Registry, names_of
from orgrealtime.delivery.stalls import Stalls

logger = logging.getLogger("orgrealtime.hub")

JOIN_AGAIN_SECONDS = 120.0
LINGER_SECONDS = 30.0
SECOND_LOOK_SECONDS = 0.7  # some layers confirm a subscription late
LEAST_SECONDS = 0.2  # between two rounds of healing


class Service(Protocol):
    """What works for the connections of one hub, and is closed with it."""

    async def close(self) -> None:
        """End all work."""


S = TypeVar("S", bound=Service)


class Hub:
    """Holds the feeds of the organisations that have connections here, and looks after what rings can't promise."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self.registry = Registry()
        self.registry.observe(self)
        self._feeds: dict[str, Feed] = {}
        self._stalls = Stalls(self._stalled)
        self._stall_handlers: list[Callable[[], None]] = []
        self._reader = FeedReader(self._stalls.notice, self._check_user_of)
        self._handlers: dict[bell.HintKind | str, list[Callable[[bell.Hint], None]]] = {
            bell.HintKind.EVENTS: [self._wake]
        }
        self._services: dict[Callable[[Hub], Any], Any] = {}
        self._subscription = bell.Subscription(self._dispatch)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._joining: asyncio.Task[None] | None = None
        self.is_draining = False  # no connection is let in any more
        bell.add_listener(self)
        self._start(self._heal())
        self._start(self._stalls.watch())
        self._start(close_silent_connections(self.registry))

    @property
    def is_dead(self) -> bool:
        """Whether the loop of this hub has ended, or its process is another, so that it can serve nobody any more."""
        return self._loop.is_closed() or self._process != os.getpid()

    @property
    def is_rung_for(self) -> bool:
        """Whether rings of all other processes are heard here, as far as has been proved lately."""
        return self._subscription.is_proved or self._subscription.is_alone

    def service(self, make: Callable[[Hub], S]) -> S:
        """Return what `make` made for this hub when it was first asked for; it is closed with the hub."""
        if make not in self._services:
            self._services[make] = make(self)
        made: S = self._services[make]
        return made

    def subscribe(self, kind: bell.HintKind | str, handler: Callable[[bell.Hint], None]) -> None:
        """Call a handler, in the loop of this hub, with each hint of a kind from now on."""
        self._handlers.setdefault(kind, []).append(handler)

    def on_stall(self, handler: Callable[[], None]) -> None:
        """Call a handler after each stall of this hub's loop, before events are sent that were read after it."""
        self._stall_handlers.append(handler)

    def feed(self, organization_id: Any) -> Feed | None:
        """Return the feed of an organisation if it has one."""
        return self._feeds.get(Feed.key_of(organization_id))

    def open_feed(self, organization_id: Any, position: stream.Position) -> Feed:
        """Return the feed of an organisation, which starts at `position` if it is new, for a connection to come."""
        feed = self.feed(organization_id)
        if feed is not None and not feed.connections and _is_left_behind(feed, position):
            feed.stop()
            feed = None
        if feed is None:
            feed = Feed(organization_id, position, self._reader, self.registry)
            self._feeds[feed.key] = feed
            self._start(self._join(feed))
        if not feed.connections:
            self._linger(feed)
        return feed

    def attach(self, connection: Connection, organization_id: Any, position: stream.Position) -> Feed:
        """Put a connection on its organisation's feed, which starts at `position` if it is new."""
        self._stalls.notice()
        feed = self.open_feed(organization_id, position)
        self._cancel_timer(feed)
        was_idle = not feed.connections  # and has not looked when it was rung for
        feed.add(connection)
        if was_idle or (position.epoch, position.head) != (feed.epoch, feed.tail.head):
            feed.wake()
        return feed

    def hear(self, hint: bell.Hint) -> None:
        """Take a hint from any thread of this process."""
        if self.is_dead:
            bell.remove_listener(self)
        else:
            self._loop.call_soon_threadsafe(self._dispatch, hint)

    async def drain(self) -> None:
        """Let no connection in any more, send all clients elsewhere, and return when their sockets are closed."""
        self.is_draining = True
        await drain(lambda: list(self.registry), get_settings().DRAIN_SECONDS)

    async def close(self) -> None:
        """End all work of this hub and its services; its connections are no longer served."""
        bell.remove_listener(self)
        for timer in self._timers.values():
            timer.cancel()
        for feed in self._feeds.values():
            feed.stop()
        await background.end(self._tasks)
        await self._subscription.close()  # so that no hint comes to a service that is closed
        for service in reversed(self._services.values()):
            await service.close()
        await self._reader.close()

    def forget(self) -> None:
        """End all work here of a hub that another process goes on with, from which this one was forked.

        What would be sent over its connections to the layer isn't.
        """
        for timer in self._timers.values():
            timer.cancel()
        for feed in self._feeds.values():
            feed.stop()
        self._feeds.clear()
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------------------------------------------- hints

    def _dispatch(self, hint: bell.Hint, kind: bell.HintKind | None = None) -> None:
        for handler in self._handlers.get(kind or hint.kind, ()):
            handler(hint)

    def _wake(self, hint: bell.Hint) -> None:
        feed = self._feeds.get(hint.organization or "")
        if feed is not None:
            feed.wake()

    def _check_user_of(self, connection: Connection) -> None:
        self._dispatch(bell.Hint(user=names_of(connection)[1]))

    def _stalled(self) -> None:
        for handler in self._stall_handlers:
            handler()

    # ------------------------------------------------------------------------------------------------- feeds

    async def _join(self, feed: Feed) -> None:
        await self._subscription.join(feed.organization_id)
        feed.wake()  # what was committed before the layer knew us
        self._dispatch(bell.Hint(feed.key), bell.HintKind.MISSED)
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        if self._feeds.get(feed.key) is feed:  # else another has taken its place
            feed.wake()

    def on_join(self, connection: Connection) -> None:
        """Nothing: `attach` has seen to the feed."""

    def on_leave(self, connection: Connection) -> None:
        """Forget the feed in a while if that was its last connection."""
        feed = self.feed(connection.access.organization_id)
        if feed is not None and not feed.connections:
            self._linger(feed)

    def _linger(self, feed: Feed) -> None:
        # Kept for a while: clients that reconnect find the tail, and nothing is joined and left for every page view.
        self._cancel_timer(feed)
        if self._feeds.get(feed.key) is feed and not self.is_dead:
            self._timers[feed.key] = self._loop.call_later(LINGER_SECONDS, self._forget, feed)

    def _forget(self, feed: Feed) -> None:
        self._timers.pop(feed.key, None)
        if feed.connections or self._feeds.get(feed.key) is not feed:
            return
        del self._feeds[feed.key]
        feed.stop()
        self._start(self._subscription.leave(feed.organization_id))

    def _cancel_timer(self, feed: Feed) -> None:
        timer = self._timers.pop(feed.key, None)
        if timer is not None:
            timer.cancel()

    # ----------------------------------------------------------------------------------------------- healing

    async def _heal(self) -> None:
        next_poll = self._loop.time()
        next_join = next_poll + JOIN_AGAIN_SECONDS
        while True:
            was_proved = self._subscription.is_proved
            is_proved = await self._subscription.prove()
            now = self._loop.time()
            if now >= next_poll or not is_proved or not was_proved:
                await self._try_to_poll()
                next_poll = now + get_settings().IDLE_POLL_SECONDS
            if now >= next_join or not is_proved:
                next_join = now + JOIN_AGAIN_SECONDS
                self._join_again()
            until_poll = max(LEAST_SECONDS, next_poll - self._loop.time())
            seconds = min(get_settings().POLL_SECONDS, until_poll)
            await asyncio.sleep(seconds * random.uniform(0.9, 1.0))  # noqa: S311 - spreads load, no secret

    def _join_again(self) -> None:
        # Beside the polling: a layer that takes long for thousands of groups must not hold that up.
        if self._joining is None or self._joining.done():
            self._joining = self._start(self._subscription.join_again())

    async def _try_to_poll(self) -> None:
        try:
            await self._poll()
        except AnyDatabaseError as error:
            logger.warning("the database can't be asked, trying again", extra={"error": type(error).__name__})
        except Exception:
            logger.exception("the hub failed, trying again")

    async def _poll(self) -> None:
        feeds = [feed for feed in self._feeds.values() if feed.connections]
        heads = await self._reader.heads([feed.organization_id for feed in feeds]) if feeds else {}
        for feed in feeds:
            head = heads.get(feed.organization_id)
            if head is None or head.pending or (head.epoch, head.head) != (feed.epoch, feed.tail.head):
                feed.wake()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return background.start(work, self._tasks)


def _is_left_behind(feed: Feed, position: stream.Position) -> bool:
    """Tell whether a feed that lingered would reset the connections to come, which have missed nothing.

    Another database was restored meanwhile, or what comes after the feed's place was pruned.
    """
    return feed.epoch != position.epoch or feed.tail.head < position.floor


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def get_hub() -> Hub:
    """Return the hub of the running event loop, started if it is the first time."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None or hub.is_dead:
        if hub is not None:  # of the process that this one was forked from, with its loop
            hub.forget()
            bell.forget_layer()
        for ended in [loop for loop, hub in _hubs.items() if hub.is_dead]:
            del _hubs[ended]
        hub = _hubs[loop] = Hub()
    return hub


def is_draining() -> bool:
    """Tell whether a hub of this process lets no connection in any more; may be called from any thread."""
    return any(hub.is_draining and not hub.is_dead for hub in tuple(_hubs.values()))


async def drain_hub() -> None:
    """Drain the hub of the running event loop."""
    await get_hub().drain()


async def close_hub() -> None:
    """End the hub of the running event loop, if there is one."""
    hub = _hubs.pop(asyncio.get_running_loop(), None)
    if hub is not None and not hub.is_dead:
        await hub.close()
