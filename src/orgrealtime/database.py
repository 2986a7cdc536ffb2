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

THREADS = 4
LOOK_AFTER_SECONDS = 1.0
CLOSE_SECONDS = 5.0

_executor: ThreadPoolExecutor | None = None
_thread = threading.local()


def alias() -> str:
    """Return the alias of the primary database of the streams: a replica may lag and would break the order."""
    return router.db_for_write(NotificationEvent)


async def run(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that uses the database in one of the threads, with connections as fresh as in a request."""
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(THREADS, thread_name_prefix="orgrealtime-db")
    call = functools.partial(_with_connections, functools.partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_executor, call)


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
    """End the threads and their connections; the next `run` starts new ones."""
    global _executor
    executor, _executor = _executor, None
    if executor is None:
        return
    # Only a thread itself may close its connections, so each must get one of these jobs: none ends before all run.
    everyone = threading.Barrier(THREADS)
    for _ in range(THREADS):
        executor.submit(_close_mine, everyone)
    executor.shutdown(wait=True)


def _close_mine(everyone: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):
        everyone.wait(CLOSE_SECONDS)
    connections.close_all()


def _forget_threads() -> None:
    global _executor
    _executor = None


os.register_at_fork(after_in_child=_forget_threads)
