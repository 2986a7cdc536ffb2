"""SQLite without room or without its lock (F23): the caller is told, nothing is half done, and all goes on later."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction

from orgrealtime import publish, stream
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.cursors import Cursor
from tests.clients import log_in
from tests.host.models import Organization
from tests.servers import Site
from tests.shell import ShellError

LITE = "lite"
on_sqlite = pytest.mark.django_db(transaction=True, databases=["default", LITE])


@pytest.fixture
def acme(transactional_db: None) -> Organization:
    return Organization.objects.using(LITE).create(slug="acme", name="Acme")


def sql(statement: str) -> Any:
    with connections[LITE].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


@contextmanager
def full_disk() -> Iterator[None]:
    """The file may hardly grow: what SQLite meets on a full disk, and with the same error."""
    before = sql("PRAGMA max_page_count")
    sql(f"PRAGMA max_page_count = {sql('PRAGMA page_count') + 16}")
    try:
        yield
    finally:
        sql(f"PRAGMA max_page_count = {before}")


def fits(acme: Organization, number: int) -> bool:
    try:
        publish(acme, "note", {"number": number, "text": "x" * 3000}, using=LITE)
    except OperationalError as error:
        if "full" not in str(error):
            raise
        return False
    return True


def fill(acme: Organization) -> int:
    """Publish until nothing more fits; return how many fitted."""
    number = next(number for number in range(1000) if not fits(acme, number))
    assert number
    return number


def numbers(acme: Organization) -> list[int]:
    after = Cursor(stream.position(acme, LITE).epoch, 0)
    return [event.seq for event in stream.read(acme.pk, after, using=LITE).events]


@transaction.atomic(using=LITE)
def rename(acme: Organization, name: str) -> None:
    Organization.objects.using(LITE).filter(pk=acme.pk).update(name=name)
    publish(acme, "note", {"name": name, "text": "x" * 60_000}, using=LITE)


@on_sqlite
def test_full_disk_rolls_back_the_whole_transaction_with_a_clear_error(acme: Organization) -> None:
    with full_disk():
        kept = fill(acme)
        with pytest.raises(OperationalError, match="full"):
            rename(acme, "Changed")
        acme.refresh_from_db(using=LITE)
        assert acme.name == "Acme"
        assert NotificationEvent.objects.using(LITE).count() == kept
    assert sql("PRAGMA integrity_check") == "ok"


@on_sqlite
def test_events_committed_before_the_disk_was_full_are_numbered_once_there_is_room(
    acme: Organization,
) -> None:
    with full_disk():
        kept = fill(acme)
    assert numbers(acme) == list(range(1, kept + 1))
    publish(acme, "note", {}, using=LITE)
    assert numbers(acme) == list(range(1, kept + 2))
    assert sql("PRAGMA integrity_check") == "ok"


PUBLISH = """
from orgrealtime import publish
from tracker.models import Organization
publish(Organization.objects.get(slug="acme"), "note", {})
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process' transaction, which never seems to end."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@pytest.mark.slow
async def test_locked_database_costs_its_callers_an_error_and_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    environ = {"DATABASE_URL": f"sqlite:///{path}?timeout=1", "REDIS_URL": ""}
    with Site(environ=environ) as site:
        async with log_in(site, "alice") as alice, alice.socket() as socket:
            await socket.synced()
            page = (await alice.http.get("/orgs/acme/")).text
            task = page.split("/tasks/")[1].split("/")[0]
            with locked(path):
                with pytest.raises(ShellError, match="database is locked"):
                    await asyncio.to_thread(site.shell.run, PUBLISH)
                answer = await alice.post(f"/orgs/acme/tasks/{task}/status/", status="done")
                assert answer.status_code >= 500
                async with alice.socket(query="last=5") as another:  # reading needs no lock
                    await another.synced()
                await socket.send({"type": "ping"})
                await socket.until(lambda one: "pong" in one.types())
            assert socket.events == []
            answer = await alice.post(f"/orgs/acme/tasks/{task}/status/", status="done")
            assert answer.status_code == 303, answer.text
            await socket.until(lambda one: one.events)
            assert [event["details"]["to"] for event in socket.events] == ["done"]
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def replace(file: Path, copy: Path) -> None:
    """Put a copy in the place of a database, as is done while nobody is thought to use it."""
    for rest in ("-wal", "-shm"):
        file.with_name(f"{file.name}{rest}").unlink(missing_ok=True)
    copy.replace(file)


GROW = """
from django.db import transaction
from orgrealtime import publish, stream
from tracker.models import Organization
acme = Organization.objects.get(slug="acme")
with transaction.atomic():
    for number in range({count}):
        publish(acme, {kind!r}, {{"number": number}})
stream.position(acme)
"""


@pytest.mark.slow
async def test_file_that_is_replaced_resets_clients_though_others_have_written_past_their_cursors(
    tmp_path: Path,
) -> None:
    path, kept = tmp_path / "db.sqlite3", tmp_path / "kept.sqlite3"
    with Site(environ={"DATABASE_URL": f"sqlite:///{path}", "REDIS_URL": ""}) as site:
        async with log_in(site, "alice") as alice, alice.socket() as socket:
            await socket.synced()

            async def grow(kind: str, count: int) -> None:
                await asyncio.to_thread(site.shell.run, GROW.format(kind=kind, count=count))

            await grow("both", 3)
            with contextlib.closing(sqlite3.connect(path)) as file, sqlite3.connect(kept) as copy:
                file.backup(copy)
            copy.close()
            await grow("lost", 2)
            await socket.until(lambda one: len(one.events) == 5)
            replace(path, kept)
            await grow("new", 6)
            await socket.until(lambda one: "reset" in one.types())
            assert [event["type"] for event in socket.events] == ["both"] * 3 + ["lost"] * 2
            await grow("new", 1)
            await socket.until(lambda one: one.events[5:])
            assert [event["type"] for event in socket.events[5:]] == ["new"]
