"""The threads of the realtime side look after their database connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection

from orgrealtime.concurrency import threads as pools
from orgrealtime.concurrency.threads import Threads
from orgrealtime.stream import database
from tests.waiting import limit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def threads() -> Iterator[Threads]:
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
    with pytest.raises(OperationalError):
        await threads.run(backend)
    assert await threads.run(backend) != lost


async def test_stop_iteration_of_the_host_s_code_is_handed_on_as_an_error() -> None:
    """asyncio can't hand on the exception itself, and who waits would wait for ever."""
    async with limit("the error"):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await database.HANDSHAKE.run(lambda: next(iter([])))
