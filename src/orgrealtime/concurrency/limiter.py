"""Limits on how many tasks or threads may do something at once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Limiter:
    """A semaphore for the tasks of one event loop whose limit may change: they acquire in the order of coming."""

    def __init__(self) -> None:
        self._acquired = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, limit: int | None, seconds: float) -> bool:
        """Acquire if fewer than `limit` have, waiting at most `seconds`; return False if that was in vain."""
        if limit is None or (self._acquired < limit and not self._waiting):
            self._acquired += 1
            return True
        if seconds <= 0:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=seconds)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        if turn.done():
            return True
        self._waiting.remove(turn)
        return False

    def acquire_over_limit(self) -> None:
        """Acquire whatever the limit; `release` as ever."""
        self._acquired += 1

    def release(self, limit: int | None) -> None:
        """Release, and let waiting tasks acquire, as many as there is room for now."""
        self._acquired -= 1
        while self._waiting and (limit is None or self._acquired < limit):
            self._acquired += 1
            self._waiting.popleft().set_result(None)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # acquired and cancelled in the same turn of the loop
            self._acquired -= 1
            if self._waiting:
                self._acquired += 1
                self._waiting.popleft().set_result(None)
        else:
            self._waiting.remove(turn)


class ThreadLimiter:
    """The same for threads, which acquire in any order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._acquired = 0

    def acquire(self, limit: int | None, seconds: float) -> bool:
        """Acquire if fewer than `limit` have, waiting at most `seconds`; return False if that was in vain."""
        with self._changed:
            is_free = self._changed.wait_for(lambda: limit is None or self._acquired < limit, seconds)
            self._acquired += is_free
            return is_free

    def acquire_over_limit(self) -> None:
        """Acquire whatever the limit; `release` as ever."""
        with self._changed:
            self._acquired += 1

    def release(self) -> None:
        """Release."""
        with self._changed:
            self._acquired -= 1
            self._changed.notify()
