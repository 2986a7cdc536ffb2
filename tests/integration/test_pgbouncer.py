"""The whole site through PgBouncer in transaction mode: its commands, its workers, and no setting left behind."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import psycopg
import pytest

from tests.clients import log_in
from tests.servers import PgBouncer, Site, drop_database, new_database
from tests.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.slow

MAKE_STREAMS = """
from orgrealtime.models import Stream
from tracker.models import Organization
made = Organization.objects.bulk_create(Organization(slug=f"many-{n}", name=f"many {n}") for n in range(50))
Stream.objects.bulk_create(Stream(organization=organization) for organization in made)
"""
HEADS = """
from orgrealtime.models import NotificationEvent, Stream
print(*Stream.objects.filter(organization__slug="acme").values_list("head", "floor")[0])
"""


@pytest.fixture(scope="module")
def bouncer() -> Iterator[PgBouncer]:
    name = f"orgrealtime_bouncer_{os.getpid()}"
    with PgBouncer(new_database(name)) as bouncer:
        yield bouncer
    drop_database(name)


@pytest.fixture(scope="module")
def site(bouncer: PgBouncer) -> Iterator[Site]:
    """Migrated and filled through it, too."""
    with Site(workers=2, environ={"DATABASE_URL": bouncer.url}) as site:
        yield site


@contextmanager
def others(bouncer: PgBouncer) -> Iterator[None]:
    """Other clients take turns on the two connections meanwhile, so that hardly two statements come by the same."""
    is_over = threading.Event()

    def ask() -> None:
        with psycopg.connect(bouncer.url, autocommit=True, prepare_threshold=None) as connection:
            while not is_over.is_set():
                connection.execute("SELECT 1")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(LIMIT_SECONDS)


def heads(site: Site) -> tuple[int, int]:
    head, floor = map(int, site.shell.run(HEADS).split())
    return head, floor


async def test_events_reach_the_sockets_of_both_workers_once_and_in_order(
    site: Site, bouncer: PgBouncer
) -> None:
    numbers = list(range(40))
    async with log_in(site, "alice") as alice, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(alice.socket()) for _ in range(8)]
        for socket in sockets:
            await socket.synced()
        with others(bouncer):
            for number in numbers:
                await asyncio.to_thread(site.shell.publish, {"number": number})
            for socket in sockets:
                await socket.until(lambda one: len(one.events) >= len(numbers))
            page = await alice.http.get("/orgs/acme/notifications/?limit=500")
        found = [event["number"] for event in page.json()["events"] if event["type"] == "note"]
        assert found == numbers
        for socket in sockets:
            assert [event["number"] for event in socket.events if event["type"] == "note"] == numbers


def test_every_command_works(site: Site, bouncer: PgBouncer) -> None:
    with others(bouncer):
        before, _ = heads(site)
        for _ in range(3):
            assert site.shell.call("orgrealtime_publish", "acme", "note", "{}").strip().isdecimal()
        site.shell.call("orgrealtime_prune", "--keep", "1")
        assert heads(site) == (before + 3, before + 2)


def test_prune_goes_through_many_organisations(site: Site, bouncer: PgBouncer) -> None:
    """A cursor on the server would be on one of the two connections, and what it is asked for come by the other."""
    site.shell.run(MAKE_STREAMS)
    with others(bouncer):
        assert site.shell.call("orgrealtime_prune", "--days", "0").endswith("events deleted\n")


async def test_benchmark_command_works(site: Site, bouncer: PgBouncer) -> None:
    with others(bouncer):
        arguments = (site.url, "acme", "--user", "alice", "--connections", "4", "--events", "5")
        said = await asyncio.to_thread(site.manage, "orgrealtime_bench", *arguments)
    assert re.search(r"^lost, doubled, out of order +0, 0, 0$", said, re.MULTILINE), said


async def test_no_time_limit_is_left_on_the_connections_for_others(site: Site, bouncer: PgBouncer) -> None:
    """What the workers' statements set for themselves ends with their transactions."""
    async with log_in(site, "alice") as alice, alice.socket() as socket:
        await socket.synced()
        for number in range(10):
            await asyncio.to_thread(site.shell.publish, {"number": number})
        await socket.until(lambda one: len(one.events) >= 10)
    found = set()
    for _ in range(20):
        with psycopg.connect(bouncer.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')").fetchone()
            found.add(row)
    assert {timeout for _, timeout in found} == {"0"}, found
