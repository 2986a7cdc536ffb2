"""The threads in which the realtime side talks to the database, apart from those of the host's requests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.models import NotificationEvent

P = ParamSpec("P")
R = TypeVar("R")

LOOK_AFTER_SECONDS = 1.0
CLOSE_SECONDS = 5.0

_thread = threading.local()
_pools: list[Threads] = []


def alias() -> str:
    """Return the alias of the primary database of the streams: a replica may lag and would break the order."""
    return router.db_for_write(NotificationEvent)


class Threads:
    """A few threads, started when they are first needed, in which a function may use the database."""

    def __init__(self, name: str, count: int) -> None:
        _pools.append(self)
        self._name = name
        self._count = count
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], R]) -> R:
        """Run a function in one of the threads, with connections as fresh as in a request."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._count, thread_name_prefix=f"orgrealtime-{self._name}")
        work = functools.partial(_with_connections, call)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """End the threads and their connections; the next `run` starts new ones."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        # Only a thread itself may close its connections, so each must get one of these jobs: none ends before all run.
        everyone = threading.Barrier(self._count)
        for _ in range(self._count):
            executor.submit(_close_mine, everyone)
        executor.shutdown(wait=True)

    def forget(self) -> None:
        """Take the threads as gone, as they are in a forked child."""
        self._executor = None


# Apart, so that a crowd that wants in, or a host's slow code, never holds up those who are in.
_live = Threads("live", 3)
_visitors = Threads("visitors", 4)


async def run(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what serves all connections in a database thread, with connections as fresh as in a request."""
    return await _live.run(functools.partial(function, *args, **kwargs))


async def visit(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what serves a single connection in another database thread."""
    return await _visitors.run(functools.partial(function, *args, **kwargs))


def _with_connections(call: Callable[[], R]) -> R:
    now = time.monotonic()
    if now - getattr(_thread, "looked_after", 0.0) > LOOK_AFTER_SECONDS:
        _thread.looked_after = now
        close_old_connections()  # with CONN_HEALTH_CHECKS this costs a query, so not for every job
    try:
        return call()
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.errors_occurred or _has_come_of_age(connection):
                connection.close_if_unusable_or_obsolete()


def _has_come_of_age(connection: BaseDatabaseWrapper) -> bool:
    return connection.close_at is not None and time.monotonic() >= connection.close_at


def close() -> None:
    """End all threads and their connections; the next `run` starts new ones."""
    for pool in _pools:
        pool.close()


def _close_mine(everyone: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):
        everyone.wait(CLOSE_SECONDS)
    connections.close_all()


def _forget_threads() -> None:
    for pool in _pools:
        pool.forget()


os.register_at_fork(after_in_child=_forget_threads)
