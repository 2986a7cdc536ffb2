"""The database goes back while workers run on: a copy of it is put in place, or a standby that was behind is promoted.

Three events are in both histories; two more, which all clients have got, only in the lost one. Then the other history
grows past them, and somebody looks first. Workers are stood for by the hub of this process, whose threads are held up
meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from psycopg import sql

from orgrealtime import publish, stream
from orgrealtime.concurrency import threads as pools
from orgrealtime.errors import StreamReset
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import database
from tests import servers
from tests.conftest import Configure
from tests.host.models import Organization
from tests.servers import Postgres, Standby
from tests.sockets import Frame, Socket, Sockets, events_of
from tests.stopwatch import Stopwatch
from tests.threads import start
from tests.waiting import eventually, limit

SETTINGS = connections["default"].settings_dict


class Template:
    """A copy by `CREATE DATABASE … TEMPLATE`, on the same server."""

    def __init__(self) -> None:
        self.name, self.copy = SETTINGS["NAME"], f"{SETTINGS['NAME']}_copy"

    def keep(self) -> None:
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name)
        self._end_connections()
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.copy)
        self._execute("CREATE DATABASE {} TEMPLATE {}", self.copy, self.name)
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)

    def put_in_place(self) -> None:
        SETTINGS["NAME"] = self.copy
        self._end_connections()

    def close(self) -> None:
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.copy)

    def _end_connections(self) -> None:
        with psycopg.connect(servers.database_url(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                [self.name],
            )

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(servers.database_url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


class Migrated(Postgres):
    """Begins with the data of another that has been stopped, in which all tables have been made."""

    def __init__(self, origin: Postgres) -> None:
        super().__init__()
        self._origin = origin

    def _initdb(self) -> None:
        self.binaries = self._origin.binaries
        subprocess.run(["cp", "-a", self._origin.folder / "data", self._data], check=True)


@functools.cache
def origin() -> Postgres:
    """What each primary begins with, made once."""
    server = Postgres().start()
    move_to(server)
    call_command("migrate", verbosity=0)
    connections["default"].close()
    server.stop()
    return server


def move_to(server: Postgres) -> None:
    SETTINGS.update(servers.django_database(server.url))
    connections["default"].close()


class Promotion:
    """An asynchronous standby that was behind is promoted, when the primary has died."""

    def __init__(self) -> None:
        self.primary = Migrated(origin()).start()
        self.servers: list[Postgres] = [self.primary]
        move_to(self.primary)

    def keep(self) -> None:
        self.copy = Standby(self.primary)
        self.servers.append(self.copy)

    def put_in_place(self) -> None:
        self.primary.kill()
        self.copy.start()
        self.copy.promote()
        move_to(self.copy)

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture(
    params=[Template, pytest.param(Promotion, marks=pytest.mark.slow)], ids=lambda kind: kind.__name__
)
def history(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Any]:
    pools.close_all()
    before = dict(SETTINGS)
    history = request.param()
    connections["default"].close()
    yield history
    pools.close_all()
    SETTINGS.update(before)
    connections["default"].close()
    history.close()


# Who looks first


async def a_page(org: Organization, cursor: Cursor, sockets: Sockets, bob: User) -> None:
    with pytest.raises(StreamReset):
        await elsewhere(stream.read, org.pk, cursor)


async def a_job(org: Organization, cursor: Cursor, sockets: Sockets, bob: User) -> None:
    await elsewhere(stream.position, org)


async def another_worker(org: Organization, cursor: Cursor, sockets: Sockets, bob: User) -> None:
    """Whose feed stands at the end of what both histories have."""

    def follow() -> None:
        after = {org.pk: cursor._replace(seq=3)}
        if not stream.follow(after):
            stream.follow_one(org.pk, after[org.pk])

    await elsewhere(follow)


async def a_client_that_returns(org: Organization, cursor: Cursor, sockets: Sockets, bob: User) -> None:
    async with limit("the client is let in"):
        while True:  # until no thread has a connection any more that has been ended
            returned = await sockets.knock(cookie=COOKIES[bob.pk], query=f"since={cursor}")
            is_let_in, _ = await returned.connect()
            if is_let_in:
                break
    assert [frame["type"] for frame in await returned.until("reset")] == ["welcome", "reset"]


async def nobody(org: Organization, cursor: Cursor, sockets: Sockets, bob: User) -> None:
    """The feed itself is the first."""


COOKIES: dict[Any, str] = {}

Look = Callable[[Organization, Cursor, Sockets, User], Any]


async def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Do something in a thread with connections of its own, as another process would."""
    return await asyncio.to_thread(lambda: start(function, *arguments).result())


@asynccontextmanager
async def workers_held_up() -> AsyncIterator[None]:
    """Nothing is read for the hub of this process meanwhile."""
    are_free = threading.Event()
    held = [asyncio.ensure_future(database.LIVE.run(are_free.wait)) for _ in range(database.LIVE._count)]
    await eventually(lambda: len(database.LIVE._threads) == len(held))
    try:
        yield
    finally:
        are_free.set()
        await asyncio.gather(*held)


async def grown_up_to(sockets: list[Socket], org: Organization, numbers: range) -> list[Frame]:
    for number in numbers:
        await elsewhere(publish, org, "note", {"number": number})
    return [(await socket.next_events(len(numbers)))[-1] for socket in sockets]


def publish_more(org: Organization, count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            publish(org, "new", {"number": number})


async def go_back(history: Any, sockets: list[Socket], org: Organization) -> Cursor:
    """Lose two events that all have got; return the cursor they have."""
    await grown_up_to(sockets, org, range(1, 4))
    await elsewhere(history.keep)
    await eventually(lambda: not any(feed._task for feed in hub_feeds()))
    return Cursor.parse((await grown_up_to_after_errors(sockets, org, range(4, 6)))[0]["cursor"])


def hub_feeds() -> list[Any]:
    from orgrealtime.delivery.hub import get_hub

    return list(get_hub()._feeds.values())


async def grown_up_to_after_errors(sockets: list[Socket], org: Organization, numbers: range) -> list[Frame]:
    """The connections of all threads have been ended; the first use of each finds that out."""
    for number in numbers:
        await elsewhere(publish, org, "note", {"number": number})
    return [(await socket.next_events(len(numbers)))[-1] for socket in sockets]


@pytest.mark.slow
@pytest.mark.parametrize(
    "look", [a_page, a_job, another_worker, a_client_that_returns, nobody], ids=lambda look: look.__name__
)
async def test_whoever_looks_first_after_the_database_went_back_has_all_clients_reset(
    history: Any,
    sockets: Sockets,
    alice: User,
    bob: User,
    acme: Organization,
    configure: Configure,
    look: Look,
) -> None:
    configure(POLL_SECONDS=0.2, IDLE_POLL_SECONDS=0.5)
    there = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    COOKIES[bob.pk] = dict(there[1].scope["headers"])[b"cookie"].decode()
    cursor = await go_back(history, there, acme)
    async with workers_held_up():
        await elsewhere(history.put_in_place)
        await elsewhere(publish_more, acme, 6)
        await look(acme, cursor, sockets, bob)
    for socket in there:
        frames = await socket.until("reset")
        assert not events_of(frames), "an event of the other history came before the reset"
    with pytest.raises(StreamReset):
        await elsewhere(stream.read, acme.pk, cursor)
    await elsewhere(publish_more, acme, 1)
    for socket in there:
        assert [event["type"] for event in events_of([await socket.frame()])] == ["new"]


class Copy(Promotion):
    """A physical copy is put in place as if its server had crashed: nothing in it says that it is a copy."""

    def put_in_place(self) -> None:
        self.primary.kill()
        self.copy.be_a_copy()
        self.copy.start()
        move_to(self.copy)


@pytest.mark.slow
@pytest.mark.parametrize("history", [Copy], indirect=True, ids=["Copy"])
@pytest.mark.parametrize("look", [a_job, another_worker, nobody], ids=lambda look: look.__name__)
async def test_a_copy_that_cant_be_told_from_a_crash_is_noticed_by_who_has_read_what_it_lacks(
    history: Any,
    sockets: Sockets,
    alice: User,
    bob: User,
    acme: Organization,
    configure: Configure,
    look: Look,
) -> None:
    configure(POLL_SECONDS=0.2, IDLE_POLL_SECONDS=0.5)
    there = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    cursor = await go_back(history, there, acme)
    async with workers_held_up():
        await elsewhere(history.put_in_place)
        await elsewhere(publish_more, acme, 6)
        await look(acme, cursor, sockets, bob)
    for socket in there:
        assert not events_of(await socket.until("reset")), (
            "an event of the other history came before the reset"
        )
    with pytest.raises(StreamReset):
        await elsewhere(stream.read, acme.pk, cursor)
    await elsewhere(publish_more, acme, 1)
    for socket in there:
        assert [event["type"] for event in events_of([await socket.frame()])] == ["new"]


class Demotion(Promotion):
    """A standby is promoted while the primary still answers, and takes no writes any more."""

    def put_in_place(self) -> None:
        with psycopg.connect(self.primary.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
        self.copy.leave_its_primary()
        self.copy.start()
        self.copy.promote()
        SETTINGS.update(servers.django_database(self.copy.url))


@pytest.mark.slow
@pytest.mark.parametrize("history", [Demotion], indirect=True, ids=["Demotion"])
async def test_events_flow_soon_after_a_promotion_though_the_old_primary_still_answers(
    history: Any, sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    there = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await go_back(history, there, acme)
    await elsewhere(history.put_in_place)
    with Stopwatch() as watch:
        await elsewhere(publish_more, acme, 6)
        for socket in there:
            assert not events_of(await socket.until("reset"))
        await elsewhere(publish_more, acme, 1)
        for socket in there:
            assert [event["type"] for event in await socket.next_events(1)] == ["new"]
        watch.check(10, "events flow")


@pytest.mark.slow
@pytest.mark.parametrize("history", [Promotion], indirect=True, ids=["Promotion"])
async def test_plain_restart_and_crash_recovery_reset_nobody(
    history: Any, sockets: Sockets, alice: User, acme: Organization
) -> None:
    socket = await (await sockets.open(alice)).synced()
    for again in (history.primary.restart, lambda: (history.primary.kill(), history.primary.start())):
        await elsewhere(publish_more, acme, 1)
        await socket.next_events(1)
        await elsewhere(again)
        await elsewhere(publish_more, acme, 1)
        assert [event["type"] for event in events_of([await socket.frame()])] == ["new"]
