"""The threads of the realtime side look after their database connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
from django.db import InternalError, OperationalError, close_old_connections, connection, transaction

from orgrealtime import publish, stream
from orgrealtime.concurrency import threads as pools
from orgrealtime.concurrency.threads import Threads
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import database
from tests.host.models import Organization
from tests.waiting import limit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    monkeypatch.setattr(pools, "_given_up_at", -math.inf)  # by a test a moment ago
    threads = Threads("test", 1)
    yield threads
    pools.close_all()


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def end(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


@pytest.fixture
def kept_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)


async def test_connection_that_was_lost_is_replaced_after_one_error(
    threads: Threads, kept_connections: None
) -> None:
    lost = await threads.run(backend)
    await database.LIVE.run(end, lost)
    with pytest.raises(OperationalError) as error:
        await threads.run(backend)
    assert await threads.run(backend) != lost
    assert await threads.run(database.is_away, error.value), "it is taken for one of a single query"


def turn_read_only() -> int:
    """As the connection to a primary that has been demoted; return its backend."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    return backend()


ASKING: dict[str, Callable[[Organization], object]] = {
    "number": lambda org: stream.number(org.pk),
    "advance": lambda org: stream.advance(org.pk),
    "follow": lambda org: stream.follow({org.pk: Cursor("", 0)}),
    "publish": lambda org: publish(org, "note", {}),
    "publish with a key": lambda org: publish(org, "note", {}, dedupe_key="first"),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
async def test_connection_to_a_demoted_primary_is_given_up_after_one_error(
    threads: Threads, kept_connections: None, acme: Organization, ask: Callable[[Organization], object]
) -> None:
    demoted = await threads.run(turn_read_only)
    with pytest.raises(InternalError) as error:
        await threads.run(ask, acme)
    assert database.is_away(error.value)
    assert await threads.run(backend) != demoted
    await threads.run(ask, acme)


async def test_whoever_polls_notices_that_a_primary_has_been_demoted(
    threads: Threads, kept_connections: None, acme: Organization
) -> None:
    await threads.run(stream.advance, acme.pk)
    demoted = await threads.run(turn_read_only)
    assert acme.pk in await threads.run(stream.heads, [acme.pk])
    assert await threads.run(backend) != demoted


async def test_all_threads_connect_anew_when_one_has_met_a_demoted_primary(
    threads: Threads, kept_connections: None, acme: Organization
) -> None:
    before = await database.ACCESS.run(backend)
    await threads.run(turn_read_only)
    with pytest.raises(InternalError):
        await threads.run(stream.number, acme.pk)
    assert await database.ACCESS.run(backend) != before


def test_connection_of_a_publisher_in_a_transaction_is_closed_after_it(
    threads: Threads, kept_connections: None, acme: Organization
) -> None:
    demoted = turn_read_only()
    with pytest.raises(InternalError), transaction.atomic():
        publish(acme, "note", {})
    close_old_connections()  # as at the end of each request
    assert backend() != demoted


def test_connection_in_an_open_transaction_is_kept(kept_connections: None, acme: Organization) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        before = backend()
        stream.heads([acme.pk])
        assert backend() == before


async def test_stop_iteration_of_the_host_s_code_is_handed_on_as_an_error() -> None:
    """asyncio can't hand on the exception itself, and who waits would wait for ever."""
    async with limit("the error"):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await database.HANDSHAKE.run(lambda: next(iter([])))
