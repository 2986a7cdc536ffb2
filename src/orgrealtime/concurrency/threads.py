"""Threads in which asynchronous code may call what blocks, with database connections as fresh as in a request."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.concurrency import background

logger = logging.getLogger("orgrealtime.database")

P = ParamSpec("P")
R = TypeVar("R")

LOOK_AFTER_SECONDS = 1.0
CLOSE_SECONDS = 5.0
LOCK_TIMEOUT = "500ms"  # of each statement that is run here
IDLE = 0  # the state of a connection without a transaction, as libpq numbers it

_thread = threading.local()
_given_up_at = -math.inf  # connections that were opened before aren't used any more
_looking = threading.Lock()
_pools: list[Threads] = []
_left_to_parent: list[Any] = []


class Threads:
    """A few threads, started when they are first needed, in which a function may use the database.

    Daemons, unlike the threads of an executor: a process that has to end must not wait for a database that hangs.
    """

    def __init__(self, name: str, count: int) -> None:
        _pools.append(self)
        self._name = name
        self._count = count
        self.forget()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in one of the threads, and return what it returns or raise what it raises."""
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a function in one of the threads; return what will have its result."""
        job: Future[R] = Future()
        self._jobs.put((job, functools.partial(function, *args, **kwargs)))
        self._start_thread()
        return job

    def wrap(self, function: Callable[P, R]) -> Callable[P, Awaitable[R]]:
        """Return what runs a function in one of the threads."""
        return functools.partial(self.run, function)

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
    except StopIteration as error:  # which asyncio can't hand on: the task that waits would wait for ever
        job.set_exception(
            RuntimeError(f"{call!r:.80} raised StopIteration").with_traceback(error.__traceback__)
        )
    except BaseException as error:
        job.set_exception(error)
    else:
        job.set_result(result)


@contextlib.contextmanager
def lock_timeouts() -> Iterator[None]:
    """Have no statement of this thread wait for a lock of PostgreSQL's for longer than `LOCK_TIMEOUT`.

    While a table is changed, everybody would wait for it: threads and backends without an end. A transaction that the
    caller has begun is left alone, for what is set in it would last until its end.
    """
    with contextlib.ExitStack() as stack:
        for connection in connections.all():
            has_it = _execute_with_lock_timeout in connection.execute_wrappers
            if connection.vendor == "postgresql" and not (has_it or connection.in_atomic_block):
                stack.enter_context(connection.execute_wrapper(_execute_with_lock_timeout))
        yield


def _execute_with_lock_timeout(
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,  # noqa: FBT001 - as Django calls it
    context: dict[str, Any],
) -> Any:
    # Before the statement, in the same message to the server: no other round trip, and nothing that outlasts the
    # transaction, which a pooler might give to others with its connection. Where a transaction is open its first
    # statement has set it. A driver that binds parameters on the server takes one statement only.
    connection, cursor = context["connection"], context["cursor"].cursor
    # Else a host's own: psycopg composes statements of objects, and has cursors on the server.
    is_plain = isinstance(sql, str) and hasattr(cursor, "mogrify") and not getattr(cursor, "name", None)
    is_ended_by_hand = not (connection.autocommit or connection.in_atomic_block)  # by the caller
    if many or not is_plain or is_ended_by_hand or connection.connection.info.transaction_status != IDLE:
        return execute(sql, params, many, context)
    result = execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {sql}", params, many, context)
    if hasattr(cursor, "pgresult"):  # of psycopg 3, which shows the first result, and 2 the last
        cursor.nextset()
    return result


def _with_connections(call: Callable[[], R]) -> R:
    now = time.monotonic()
    if getattr(_thread, "renewed_at", -math.inf) < _given_up_at:
        _thread.renewed_at = now
        for connection in connections.all(initialized_only=True):
            _disconnect(connection)
    if now - getattr(_thread, "looked_after", 0.0) > LOOK_AFTER_SECONDS:
        _thread.looked_after = now
        close_old_connections()  # with CONN_HEALTH_CHECKS this costs a query, so not for every job
    try:
        with lock_timeouts():
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


def give_up_connections(connection: BaseDatabaseWrapper) -> None:
    """Close a connection of this thread, and have all of these threads, and Django's pool, connect anew.

    In an open transaction it is closed by Django after the end of that, as one that is too old.
    What leads to a server that should no longer be asked still answers, and would be used for ever.
    """
    global _given_up_at
    if connection.in_atomic_block:
        connection.close_at = time.monotonic()
    else:
        _disconnect(connection)
    if time.monotonic() - _given_up_at > LOOK_AFTER_SECONDS:
        _given_up_at = time.monotonic()
        logger.warning(
            "the database takes no writes, its connections are given up", extra={"alias": connection.alias}
        )
        drain = getattr(getattr(connection, "pool", None), "drain", None)
        if drain is not None:
            drain()


def _disconnect(connection: BaseDatabaseWrapper) -> None:
    if connection.connection is not None and getattr(connection, "pool", None) is not None:
        connection.connection.close()  # or the pool would give it out again
    connection.close()


def _has_come_of_age(connection: BaseDatabaseWrapper) -> bool:
    return connection.close_at is not None and time.monotonic() >= connection.close_at


def close_all() -> None:
    """End the threads of all pools and their connections; the next `run` starts new ones."""
    for pool in _pools:
        pool.close()


def has_open_pool(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether Django's pool of connections to this database is open in this process."""
    pool = getattr(connection, "_connection_pools", {}).get(connection.alias)
    return pool is not None and not pool.closed


def _forget_threads() -> None:
    for pool in _pools:
        pool.forget()
    for connection in connections.all(initialized_only=True):
        if has_open_pool(connection):
            _leave_to_parent(connection)


def _leave_to_parent(connection: BaseDatabaseWrapper) -> None:
    # Two processes would talk over each other by the same sockets, and the threads of the pool haven't come along.
    # Nothing is closed, which would close it for the parent as well; Django opens a pool of this process's own.
    pools: dict[str, Any] = getattr(connection, "_connection_pools")  # noqa: B009 - Django's own
    _left_to_parent.append((pools.pop(connection.alias), connection.connection))
    connection.connection = None
    logger.warning(
        "a pool of connections was open before the fork, this process opens its own",
        extra={"alias": connection.alias},
    )


background.after_fork_in_child(_forget_threads)
