"""Stalls: that an event loop stood still, so that what it knows may be old (a stopped process, code that blocks)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger("orgrealtime.hub")

STALL_SECONDS = 1.0
LOOK_SECONDS = 0.25


class Stalls:
    """Notices each stall of more than a second, at the latest when it is asked; `on_stall` is called for each.

    After a stall, what was committed meanwhile may be read before the hints that came meanwhile are heard.
    """

    def __init__(self, on_stall: Callable[[], None]) -> None:
        self._clock = asyncio.get_running_loop().time
        self._on_stall = on_stall
        self._last = self._clock()

    def notice(self) -> None:
        """Notice a stall that has just ended: to be called before events are sent that have been read just now."""
        now = self._clock()
        seconds = now - self._last
        if seconds > STALL_SECONDS:
            self._last = now
            logger.warning("the event loop was blocked", extra={"seconds": round(seconds, 2)})
            self._on_stall()

    async def watch(self) -> None:
        """Notice stalls for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.notice()
            self._last = self._clock()
