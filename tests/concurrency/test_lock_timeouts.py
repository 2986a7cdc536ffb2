"""No statement of the threads waits for a lock without an end, and no other session gets their time limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from psycopg.sql import SQL, Composed, Literal

from orgrealtime import publish, stream
from orgrealtime.concurrency import threads as pools
from orgrealtime.concurrency.threads import Threads, lock_timeouts
from orgrealtime.models import NotificationEvent, Stream
from orgrealtime.stream import database
from tests.host.models import Organization
from tests.stopwatch import Stopwatch
from tests.threads import lock_table, open_transaction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LOCK_TIMEOUT", "50ms")


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads("test", 1)
    yield threads
    pools.close_all()


def lock_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        return str(cursor.fetchone()[0])


async def test_each_statement_has_a_time_limit_for_locks_and_leaves_none_behind(threads: Threads) -> None:
    def twice() -> tuple[str, str]:
        inside = lock_timeout()
        with connections["default"].cursor() as cursor:  # past Django, as another client of the pooler would
            cursor.cursor.execute("SELECT current_setting('lock_timeout')")
            return inside, str(cursor.cursor.fetchone()[0])

    assert await threads.run(twice) == (pools.LOCK_TIMEOUT, "0")


async def test_a_whole_transaction_has_the_time_limit(threads: Threads) -> None:
    def in_a_transaction() -> list[str]:
        with transaction.atomic():
            first = lock_timeout()
            try:
                with transaction.atomic():
                    User.objects.raw("SELECT 1 / 0 AS id")[0]
            except Exception:  # its savepoint can be rolled back
                return [first, lock_timeout()]
        return [first]

    assert await threads.run(in_a_transaction) == [pools.LOCK_TIMEOUT] * 2


async def test_it_costs_no_statement_more(threads: Threads, acme: Organization) -> None:
    def queries() -> list[str]:
        with CaptureQueriesContext(connections["default"]) as captured:
            stream.advance(acme.pk)
            stream.heads([acme.pk])
        return [query["sql"] for query in captured]

    await threads.run(stream.advance, acme.pk)
    assert len(await threads.run(queries)) == 2


async def test_what_is_written_and_read_is_as_ever(threads: Threads, alice: User) -> None:
    def work() -> tuple[int, int, str]:
        changed = User.objects.filter(pk=alice.pk).update(first_name="%s; SELECT 1")
        return changed, User.objects.count(), User.objects.get(pk=alice.pk).first_name

    assert await threads.run(work) == (1, 1, "%s; SELECT 1")


async def test_statement_that_is_composed_of_objects_is_left_alone(threads: Threads) -> None:
    """As a host's adapter may write it with psycopg's own means."""

    def work() -> int:
        with connection.cursor() as cursor:
            cursor.execute(Composed([SQL("SELECT "), Literal(7)]))
            return int(cursor.fetchone()[0])

    assert await threads.run(work) == 7


async def test_cursor_on_the_server_is_left_alone(threads: Threads, alice: User) -> None:
    assert await threads.run(lambda: list(User.objects.iterator())) == [alice]


@pytest.mark.parametrize("model", [Stream, NotificationEvent, User])
def test_table_that_is_locked_is_told_from_a_row(acme: Organization, alice: User, model: type) -> None:
    stream.advance(acme.pk)
    with open_transaction(lambda: lock_table(model._meta.db_table)), Stopwatch() as watch, lock_timeouts():  # type: ignore[attr-defined]
        with pytest.raises(OperationalError) as error:
            model.objects.first()  # type: ignore[attr-defined]
        watch.check(4, "the error")
    assert database.is_table_locked(error.value)
    assert database.is_away(error.value), "all are asked again one by one, each waiting in vain"
    assert database.may_pass(error.value), "sockets would be closed for it"


def test_row_that_is_locked_concerns_nobody_else(alice: User) -> None:
    def lock() -> None:
        User.objects.select_for_update().get(pk=alice.pk)

    with open_transaction(lock), lock_timeouts(), pytest.raises(OperationalError) as error:
        User.objects.filter(pk=alice.pk).update(first_name="Alice")
    assert not database.is_table_locked(error.value)
    assert not database.is_away(error.value)


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_where_the_stream_stands_is_told_while_nothing_can_be_numbered(acme: Organization, mode: str) -> None:
    """As while an index is made: a page that is rendered with it neither waits nor fails."""
    publish(acme, "note", {})
    before = stream.position(acme)
    publish(acme, "note", {})
    with open_transaction(lambda: lock_table(NotificationEvent._meta.db_table, mode)):
        assert stream.position(acme) == before
    assert stream.position(acme).head == before.head + 1


def test_transaction_of_the_caller_has_the_time_limit_that_it_had(acme: Organization) -> None:
    """As of a page under ATOMIC_REQUESTS that asks where the stream stands before anything else."""
    with transaction.atomic():
        stream.position(acme)
        assert lock_timeout() == "0"
    transaction.set_autocommit(False)
    try:
        stream.position(acme)
        assert lock_timeout() == "0"
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def test_within_each_other_they_are_set_once(acme: Organization) -> None:
    wrappers = connection.execute_wrappers
    before = list(wrappers)
    with lock_timeouts(), lock_timeouts():
        assert (len(wrappers), lock_timeout()) == (len(before) + 1, pools.LOCK_TIMEOUT)
    assert wrappers == before
