"""The threads in which the realtime side talks to the database, apart from those of the host's requests."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections, connections, router

from orgrealtime.models import NotificationEvent

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 4

_executor: ThreadPoolExecutor | None = None


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
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()


def close() -> None:
    """End the threads and their connections; the next `run` starts new ones."""
    global _executor
    executor, _executor = _executor, None
    if executor is None:
        return
    # Each thread has connections of its own that only it may close; the barrier of sleepers isn't needed
    # because a job per thread that finds nothing to close does no harm.
    for _ in range(THREADS * 4):
        executor.submit(connections.close_all)
    executor.shutdown(wait=True)


def _forget_threads() -> None:
    global _executor
    _executor = None


os.register_at_fork(after_in_child=_forget_threads)
