"""Leaving in order: before a server stops, its clients are told, move on one after the other, and are closed."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
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
    """Do `work` when the process is told to end, and let the server end after that.

    It is told by SIGTERM; without a terminal, at which somebody would want it gone at once, by SIGINT too, and on
    Windows by SIGBREAK. A second signal hurries it. Returns False where that can't be: not in the main thread, or the
    server doesn't handle SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    loop = asyncio.get_running_loop()
    server = signal.getsignal(signal.SIGTERM)
    numbers: list[int] = [signal.SIGTERM]
    if _take_from_loop(loop, signal.SIGTERM):
        # Kept by the loop, as granian does: it can't be called from here, but it is the one for SIGINT too.
        pass_on: Callable[[int], Any] = lambda number: signal.raise_signal(signal.SIGINT)  # noqa: E731
    elif callable(server):
        pass_on = functools.partial(_call, server)
        numbers += [each for each in _like_sigterm() if signal.getsignal(each) == server]
    else:
        return False
    termination = _Termination(loop, work, pass_on)
    for number in numbers:
        signal.signal(number, termination.ordered)
    return True


def _take_from_loop(loop: asyncio.AbstractEventLoop, number: int) -> bool:
    try:
        return loop.remove_signal_handler(number)
    except NotImplementedError:  # on Windows loops have no handlers
        return False


def _like_sigterm() -> Iterator[int]:
    if not any(os.isatty(descriptor) for descriptor in (0, 1, 2)):
        yield signal.SIGINT
    if (number := getattr(signal, "SIGBREAK", None)) is not None:
        yield number


def _call(handler: Callable[[int, None], object], number: int) -> None:
    handler(number, None)


class _Termination:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[], Awaitable[None]],
        pass_on: Callable[[int], Any],
    ) -> None:
        self._loop = loop
        self._work = work
        self._pass_on = pass_on
        self._task: asyncio.Task[None] | None = None

    def ordered(self, number: int, frame: object) -> None:
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._end(number))
        else:
            self._task.cancel()

    async def _end(self, number: int) -> None:
        try:
            await self._work()
        except Exception:
            logger.exception("draining failed")
        finally:
            self._pass_on(number)


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
