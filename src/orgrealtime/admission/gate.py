"""Holding newcomers back for a moment while a crowd is still coming.

A server takes connections in the order in which they came, one by one between all its other work. Letting in the first
of a thousand at once therefore keeps out the last for as long as all of that takes, and with it any page that somebody
opens meanwhile. So a crowd comes in first, which is quick, and is let in then: it would stand in a line anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

CROWD = 64  # that have come and aren't let in yet
WINDOW_SECONDS = 0.02
STRAGGLERS_PER_SECOND = 100
LONGEST_SECONDS = 1.0
REST = 2  # times as long as it was shut it stays open then: a flood must not keep all others out


class Gate:
    """Is open, unless a crowd is coming."""

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
        """Be let in inside the `with`, which begins at once, or when the crowd has come."""
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
