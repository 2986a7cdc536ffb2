"""The gate that every handshake passes: it holds a crowd back for a moment, and bounds how many are checked at once.

A server accepts TCP connections in the order in which they came, one by one between all its other work. Checking the
first of a thousand handshakes at once therefore keeps the last waiting for as long as all the checks take, and with it
any page that a user opens meanwhile. So the server takes a whole crowd first, which is quick, and the handshakes are
checked then: they would stand in a line anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from orgrealtime.concurrency.limiter import Limiter
from orgrealtime.conf import get_settings
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.limits import is_enforced, log_exceeded

HANDSHAKE_WAIT_SECONDS = 5.0

CROWD = 64  # handshakes that have come and aren't checked yet
WINDOW_SECONDS = 0.02
STRAGGLERS_PER_SECOND = 100
LONGEST_SECONDS = 1.0
REST = 2  # times as long as the gate was shut it stays open then: a flood must not keep all others out


class Crowd:
    """Handshakes pass at once, unless a crowd of them is coming."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._here = 0
        self._came = 0  # since the window began
        self._window = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._opens: asyncio.Future[None] | None = None  # if it is shut
        self._shut_at = 0.0
        self._rests_until = 0.0

    @contextlib.asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Pass inside the `with`, which begins at once, or when the crowd has come."""
        self._here += 1
        self._came += 1
        if self._watch is None:
            self._watch_on(self._loop.time())
        try:
            if self._opens is not None:
                await asyncio.wait([self._opens])
            yield
        finally:
            self._here -= 1

    def _watch_on(self, now: float) -> None:
        self._window = now
        self._watch = self._loop.call_later(WINDOW_SECONDS, self._look)

    def _look(self) -> None:
        now, came = self._loop.time(), self._came
        are_coming = came >= STRAGGLERS_PER_SECOND * (now - self._window)
        self._came, self._watch = 0, None
        if came:
            self._watch_on(now)
        if self._opens is not None and (not are_coming or now - self._shut_at >= LONGEST_SECONDS):
            self._open(self._opens, now)
        elif self._opens is None and are_coming and self._here >= CROWD and now >= self._rests_until:
            self._opens, self._shut_at = self._loop.create_future(), now

    def _open(self, opens: asyncio.Future[None], now: float) -> None:
        self._opens = None
        self._rests_until = now + REST * (now - self._shut_at)
        opens.set_result(None)


class Gate:
    """Lets handshakes of one event loop pass: not in a crowd, at most `MAX_HANDSHAKES` at once, none while draining."""

    def __init__(self, is_draining: Callable[[], bool]) -> None:
        self._is_draining = is_draining
        self._crowd = Crowd()
        self._limiter = Limiter()

    @contextlib.asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Check a handshake inside the `with`; raise Refused (4503) if it can't be checked now, or came too late."""
        async with self._crowd.passing():
            refuse_if(self._is_draining())
            await self._acquire()
            try:
                refuse_if(self._is_draining())
                yield
            finally:
                self._limiter.release(get_settings().MAX_HANDSHAKES)
            refuse_if(self._is_draining())

    async def _acquire(self) -> None:
        seconds = HANDSHAKE_WAIT_SECONDS if is_enforced() else 0.0
        if await self._limiter.acquire(get_settings().MAX_HANDSHAKES, seconds):
            return
        log_exceeded("MAX_HANDSHAKES")
        if is_enforced():
            raise Refused(CloseCode.OVERLOADED, "MAX_HANDSHAKES", "too many connections are being opened")
        self._limiter.acquire_over_limit()


def refuse_if(is_draining: bool) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise Refused (4503) for a process that is stopping."""
    if is_draining:
        raise Refused(CloseCode.OVERLOADED, "draining", "this server is stopping; try again")
