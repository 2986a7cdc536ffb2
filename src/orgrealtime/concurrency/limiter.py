"""How many may be at something at once: the others wait in line."""

from __future__ import annotations

import asyncio
from collections import deque


class Limiter:
    """Lets a number of tasks of one event loop in at a time, the others in the order in which they came."""

    def __init__(self) -> None:
        self._inside = 0
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def inside(self) -> int:
        """How many are in."""
        return self._inside

    async def enter(self, places: int, seconds: float) -> bool:
        """Take one of so many places, waiting at most `seconds`; return False if none came free."""
        if self._inside < places and not self._line:
            self._inside += 1
            return True
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await asyncio.wait([turn], timeout=seconds)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        if turn.done():
            return True
        self._line.remove(turn)
        return False

    def squeeze_in(self) -> None:
        """Be in without a place; `leave` as the others."""
        self._inside += 1

    def leave(self, places: int | None) -> None:
        """Leave, and let in those for whom there are places now."""
        self._inside -= 1
        while self._line and (places is None or self._inside < places):
            self._inside += 1
            self._line.popleft().set_result(None)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # let in and cancelled in the same turn of the loop
            self._inside -= 1
            if self._line:
                self._inside += 1
                self._line.popleft().set_result(None)
        else:
            self._line.remove(turn)
