"""Leaving in order: before a server stops, its clients are told, move on one after the other, and are closed."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from orgrealtime.delivery.connection import Connection
from orgrealtime.errors import SERVICE_RESTART
from orgrealtime.protocol import wire

logger = logging.getLogger("orgrealtime.drain")

MOVES_PER_SECOND = 200
SHORTEST_WINDOW = 0.5
BATCH_SECONDS = 0.1
OVER_SECONDS = 8.0  # for consumers to take their leave
TURN = 200  # connections told before the loop may do something else


def before_termination(work: Callable[[], Awaitable[None]]) -> bool:
    """Do `work` when the process is told to end (SIGTERM), and let the server end after that.

    The second SIGTERM hurries it. Returns False where that can't be: not in the main thread, or SIGTERM isn't handled.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    loop = asyncio.get_running_loop()
    server = signal.getsignal(signal.SIGTERM)
    if loop.remove_signal_handler(signal.SIGTERM):
        # Kept by the loop, as granian does: it can't be called from here, but it is the one for SIGINT too.
        pass_on: Callable[[], Any] = functools.partial(signal.raise_signal, signal.SIGINT)
    elif callable(server):
        pass_on = functools.partial(server, signal.SIGTERM, None)
    else:
        return False
    termination = _Termination(loop, work, pass_on)
    signal.signal(signal.SIGTERM, termination.ordered)
    return True


class _Termination:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[None]], pass_on: Callable[[], Any]
    ) -> None:
        self._loop = loop
        self._work = work
        self._pass_on = pass_on
        self._task: asyncio.Task[None] | None = None

    def ordered(self, *signal_and_frame: object) -> None:
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._end())
        else:
            self._task.cancel()

    async def _end(self) -> None:
        try:
            await self._work()
        except Exception:
            logger.exception("draining failed")
        finally:
            self._pass_on()


async def drain(connections: Callable[[], Collection[Connection]], seconds: float) -> None:
    """Tell all clients to go elsewhere, and close the connections that remain: at most `seconds` until all are closed.

    `connections` gives what is served now. A client that doesn't answer to the close is let go some seconds later.
    """
    window = min(max(len(connections()) / MOVES_PER_SECOND, SHORTEST_WINDOW), seconds / 2)
    logger.info("draining", extra={"connections": len(connections()), "seconds": round(window, 1)})
    await _tell(connections(), window)
    await asyncio.sleep(window)
    rest = list(connections())
    await _close(rest, window)
    await _until_over(rest)
    logger.info("drained", extra={"connections": len(rest)})


async def _tell(connections: Collection[Connection], window: float) -> None:
    frame = wire.going_away(retry_after=0.0, window=window)
    for number, connection in enumerate(tuple(connections), 1):
        connection.reply(frame)
        if number % TURN == 0:
            await asyncio.sleep(0)


async def _close(connections: list[Connection], window: float) -> None:
    random.shuffle(connections)
    size = max(1, math.ceil(len(connections) * BATCH_SECONDS / window))
    for first in range(0, len(connections), size):
        for connection in connections[first : first + size]:
            connection.close(SERVICE_RESTART, "the server is stopping")
        await asyncio.sleep(BATCH_SECONDS)


async def _until_over(connections: list[Connection]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OVER_SECONDS
    while loop.time() < deadline and not all(one.is_over for one in connections):  # noqa: ASYNC110 - of many
        await asyncio.sleep(BATCH_SECONDS / 2)
