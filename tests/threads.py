"""Work beside the test, in threads with database connections of their own, and waiting for what it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, connections, transaction

T = TypeVar("T")

PATIENCE = 20.0


def until(condition: Callable[[], T]) -> T:
    """Wait until the condition holds, and return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "this didn't happen in time"
        time.sleep(0.01)
    return found


def start(function: Callable[..., T], *args: Any) -> Future[T]:
    """Run a function in a thread of its own, whose connections are closed at its end."""
    future: Future[T] = Future()
    # No executor: it would want to join this thread in a process that was forked from it.
    threading.Thread(target=_run, args=(future, function, args), daemon=True).start()
    return future


def start_many(count: int, function: Callable[[int], T]) -> list[T]:
    """Run a function in many threads that begin together, and return what they gave."""
    barrier = threading.Barrier(count)

    def together(number: int) -> T:
        barrier.wait(PATIENCE)
        return function(number)

    futures = [start(together, number) for number in range(count)]
    return [future.result(PATIENCE * 2) for future in futures]


def is_waiting_for_a_lock() -> bool:
    """Whether a PostgreSQL backend of this database waits for another one's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


@contextmanager
def open_transaction(work: Callable[[], Any], *, commits: bool = True) -> Iterator[Any]:
    """Do work in a thread's transaction that stays open inside the `with`; give what the work returned."""
    done: Future[Any] = Future()
    end = threading.Event()

    def hold() -> None:
        with transaction.atomic():
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)
                raise
            end.wait(PATIENCE * 2)
            transaction.set_rollback(not commits)

    holder = start(hold)
    try:
        yield done.result(PATIENCE)
    finally:
        end.set()
        holder.result(PATIENCE)


def _run(future: Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
    except BaseException as error:
        connections.close_all()
        future.set_exception(error)
    else:
        connections.close_all()
        future.set_result(result)
