"""Work beside the test, in threads with database connections of their own, and waiting for what it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, connections, transaction

from tests.waiting import LIMIT_SECONDS, NotInTimeError, text_of

T = TypeVar("T")


class Work(Future[T]):
    """What a thread does; `result()` waits for it."""

    def __init__(self, function: Callable[..., T]) -> None:
        super().__init__()
        self._what = f"the end of {text_of(function)}"

    def result(self, timeout: float | None = LIMIT_SECONDS) -> T:
        try:
            return super().result(timeout)
        except TimeoutError:
            if self.done():  # it is the function's own
                raise
            raise NotInTimeError(self._what, timeout or 0, "a thread that goes on") from None


def start(function: Callable[..., T], *args: Any) -> Work[T]:
    """Run a function in a thread of its own, whose connections are closed at its end."""
    future = Work(function)
    # No executor: it would want to join this thread in a process that was forked from it.
    threading.Thread(target=_run, args=(future, function, args), daemon=True).start()
    return future


def start_many(count: int, function: Callable[[int], T]) -> list[T]:
    """Run a function in many threads that begin together, and return what they gave."""
    barrier = threading.Barrier(count)

    def together(number: int) -> T:
        barrier.wait(LIMIT_SECONDS)
        return function(number)

    futures = [start(together, number) for number in range(count)]
    return [future.result() for future in futures]


def is_waiting_for_a_lock() -> bool:
    """Whether a PostgreSQL backend of this database waits for another one's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def lock_table(table: str, mode: str = "ACCESS EXCLUSIVE") -> None:
    """Lock a whole table of PostgreSQL's until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN {mode} MODE")


@contextmanager
def open_transaction(work: Callable[[], Any], *, commits: bool = True) -> Iterator[Any]:
    """Do work in a thread's transaction that stays open inside the `with`; give what the work returned."""
    done: Future[Any] = Work(work)
    end = threading.Event()

    def hold() -> None:
        with transaction.atomic():
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)
                raise
            end.wait(LIMIT_SECONDS)
            transaction.set_rollback(not commits)

    holder = start(hold)
    try:
        yield done.result()
    finally:
        end.set()
        holder.result()


def _run(future: Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
    except BaseException as error:
        connections.close_all()
        future.set_exception(error)
    else:
        connections.close_all()
        future.set_result(result)
