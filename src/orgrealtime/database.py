"""The threads in which the realtime side talks to the database, apart from those of the host's requests."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from django.db import Error, close_old_connections, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.models import NotificationEvent

logger = logging.getLogger("orgrealtime.database")

P = ParamSpec("P")
R = TypeVar("R")

LOOK_AFTER_SECONDS = 1.0
CLOSE_SECONDS = 5.0

_thread = threading.local()
_looking = threading.Lock()
_pools: list[Threads] = []


def alias() -> str:
    """Return the alias of the primary database of the streams: a replica may lag and would break the order."""
    return router.db_for_write(NotificationEvent)


def explains(error: Exception) -> bool:
    """Tell whether an error came because the database can't be asked now; needs a thread that may use it."""
    if not isinstance(error, Error):
        return False
    connection = connections[alias()]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return True
    return False


class Threads:
    """A few threads, started when they are first needed, in which a function may use the database.

    Daemons, unlike those of an executor: a process that has to end must not wait for a database that hangs.
    """

    def __init__(self, name: str, count: int) -> None:
        _pools.append(self)
        self._name = name
        self._count = count
        self.forget()

    async def run(self, call: Callable[[], R]) -> R:
        """Run a function in one of the threads, with connections as fresh as in a request."""
        job: Future[R] = Future()
        self._jobs.put((job, call))
        self._start_thread()
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """End the threads and their connections; the next `run` starts new ones."""
        threads, jobs = self._threads, self._jobs
        self.forget()
        for _ in threads:
            jobs.put(None)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def forget(self) -> None:
        """Take the threads as gone, as they are in a forked child."""
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []

    def _start_thread(self) -> None:
        with self._starting:
            if len(self._threads) == self._count or self._idle.acquire(blocking=False):
                return
            name = f"orgrealtime-{self._name}_{len(self._threads)}"
            thread = threading.Thread(target=_work, args=(self._jobs, self._idle), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()


def _work(jobs: queue.SimpleQueue[Any], idle: threading.Semaphore) -> None:
    while (item := jobs.get()) is not None:
        job, call = item
        _do(job, call)
        del item, job, call  # so that nothing of it lives while this thread waits
        idle.release()
    connections.close_all()  # which only the thread itself may do


def _do(job: Future[Any], call: Callable[[], Any]) -> None:
    if not job.set_running_or_notify_cancel():
        return
    try:
        result = _with_connections(call)
    except StopIteration as error:  # which asyncio can't hand on: who waits would wait for ever
        job.set_exception(
            RuntimeError(f"{call!r:.80} raised StopIteration").with_traceback(error.__traceback__)
        )
    except BaseException as error:
        job.set_exception(error)
    else:
        job.set_result(result)


# Apart, so that a crowd that wants in, or a host's slow code, never holds up those who are in.
_live = Threads("live", 3)
_checks = Threads("checks", 2)
_backlogs = Threads("backlog", 2)
_visitors = Threads("visitors", 4)


async def run(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what serves all connections, and is no code of the host's, in a database thread."""
    return await _live.run(functools.partial(function, *args, **kwargs))


async def check(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what asks the host who may stay in another database thread."""
    return await _checks.run(functools.partial(function, *args, **kwargs))


async def page(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what reads old events for a single connection in another database thread."""
    return await _backlogs.run(functools.partial(function, *args, **kwargs))


async def visit(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what lets a single connection in in another database thread."""
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
            if connection.errors_occurred:
                connection.close_if_unusable_or_obsolete()
                _look_over_pool(connection)
            elif _has_come_of_age(connection):
                connection.close_if_unusable_or_obsolete()


def _look_over_pool(connection: BaseDatabaseWrapper) -> None:
    # Where one connection was dead the others of the pool are as a rule, and it would give them out one by one.
    pool = getattr(connection, "pool", None)
    if connection.connection is None and pool is not None and _looking.acquire(blocking=False):
        try:
            pool.check()
        except Exception as error:
            logger.warning("the pool can't be looked over", extra={"error": type(error).__name__})
        finally:
            _looking.release()


def _has_come_of_age(connection: BaseDatabaseWrapper) -> bool:
    return connection.close_at is not None and time.monotonic() >= connection.close_at


def close() -> None:
    """End all threads and their connections; the next `run` starts new ones."""
    for pool in _pools:
        pool.close()


def _forget_threads() -> None:
    for pool in _pools:
        pool.forget()


os.register_at_fork(after_in_child=_forget_threads)
