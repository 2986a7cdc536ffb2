"""What is in the site's PostgreSQL and Redis, and what can happen to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import redis

from tests import servers

STREAM_ENDS = """
    SELECT o.slug, s.head + (
        SELECT count(*) FROM orgrealtime_notificationevent e WHERE e.organization_id = o.id AND e.seq IS NULL
    ) FROM orgrealtime_stream s JOIN tracker_organization o ON o.id = s.organization_id
"""
# A dump and its restoration without the programs for it: other tables get the older rows and take the names.
KEPT_TABLES = {
    "stream": "organization_id, epoch, head, floor, table_oid",
    "notificationevent": (
        "id, organization_id, seq, type, payload, created_at, actor_id, audience, dedupe_key, topic, access_change, "
        "category, subject, replaces, entry"
    ),
    "recipient": "organization_id, user_id, seq, category",
    "entry": "organization_id, collection, seq, event_id, actor_id",
}
KEEP = "; ".join(f"CREATE TABLE kept_{name} AS TABLE orgrealtime_{name}" for name in KEPT_TABLES)
KEEP += "; CREATE TABLE kept_message AS SELECT max(id) AS id FROM orgrealtime_chat_message"
PUT_BACK = "; ".join(
    f"CREATE TABLE restored_{name} (LIKE orgrealtime_{name} INCLUDING ALL);"  # noqa: S608
    f"INSERT INTO restored_{name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM kept_{name};"
    f"DROP TABLE kept_{name};"
    f"DROP TABLE orgrealtime_{name}; ALTER TABLE restored_{name} RENAME TO orgrealtime_{name}"
    for name, columns in KEPT_TABLES.items()
)
PUT_BACK += """;
    DELETE FROM orgrealtime_chat_message WHERE id > (SELECT id FROM kept_message); DROP TABLE kept_message;
    SELECT setval(pg_get_serial_sequence('orgrealtime_notificationevent', 'id'), max(id))
    FROM orgrealtime_notificationevent
"""
END_CONNECTIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
LOCK = """
    SELECT 1 FROM orgrealtime_stream WHERE organization_id IN (
        SELECT id FROM tracker_organization WHERE slug = ANY(%s)
    ) FOR UPDATE
"""

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query NOT LIKE 'INSERT INTO "orgrealtime_notificationevent"%%'
"""

IN_ROOMS = """
    SELECT 'room-' || m.room_id, array_agg(u.username)
    FROM orgrealtime_chat_member m JOIN auth_user u ON u.id = m.user_id GROUP BY m.room_id
"""

WITHOUT_A_NUMBER = """
    SELECT count(*) FROM orgrealtime_notificationevent e JOIN tracker_organization o ON o.id = e.organization_id
    WHERE o.slug = %s AND e.seq IS NULL
"""


class Database:
    """PostgreSQL, asked past the proxy."""

    def __init__(self, server: servers.Postgres) -> None:
        self._server = server

    @property
    def url(self) -> str:
        return self._server.url

    def move_to(self, server: servers.Postgres) -> None:
        """The site's database is on that server from now on."""
        self._server = server

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def transaction(self, *statements: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Execute statements in one transaction; return what the last one returns."""
        with psycopg.connect(self._server.url) as connection:
            for statement in statements:
                cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def organization_id(self, slug: str) -> int:
        return int(self.sql("SELECT id FROM tracker_organization WHERE slug = %s", slug)[0][0])

    def rooms(self) -> dict[str, frozenset[str]]:
        """The names of those who are in a room, by its topic."""
        return {topic: frozenset(names) for topic, names in self.sql(IN_ROOMS)}

    def stream_ends(self) -> dict[str, int]:
        """How many events the stream of each organisation has had, those without a number included."""
        return dict(self.sql(STREAM_ENDS))

    @asynccontextmanager
    async def locked_streams(self, *orgs: str) -> AsyncIterator[None]:
        """A transaction holds the streams' rows of these organisations."""
        async with await psycopg.AsyncConnection.connect(self._server.url) as connection:
            await connection.execute(LOCK, [list(orgs)])
            yield

    def without_a_number(self, slug: str) -> int:
        """How many events of an organisation are committed and have no number yet."""
        return int(self.sql(WITHOUT_A_NUMBER, slug)[0][0])

    @asynccontextmanager
    async def locked_table(self, table: str, mode: str) -> AsyncIterator[None]:
        """A transaction holds a table in this mode, as ALTER TABLE or CREATE INDEX does while it works."""
        async with await psycopg.AsyncConnection.connect(self._server.url) as connection:
            await connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
            yield

    def waiting_backends(self) -> int:
        """How many backends wait for a lock, without those that publish, which have to."""
        return int(self.sql(WAITING)[0][0])

    async def dump(self) -> Callable[[], Awaitable[None]]:
        """Keep the database as it is; what is returned restores it, into tables of its own, when nobody uses them."""
        if not (self._server.binaries / "pg_restore").exists():
            self.sql(KEEP)
            return functools.partial(asyncio.to_thread, self.sql, PUT_BACK)
        file = self._server.folder / "dump"
        await self._postgres_program("pg_dump", "--format=custom", f"--file={file}")
        return functools.partial(
            self._postgres_program, "pg_restore", "--clean", "--single-transaction", "--dbname=postgres", file
        )

    async def _postgres_program(self, name: str, *arguments: object) -> None:
        place = "--host=127.0.0.1", f"--port={self._server.port}", "--username=postgres"
        process = await asyncio.create_subprocess_exec(
            str(self._server.binaries / name), *place, *map(str, arguments), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()


class Cache:
    """Redis, asked past the proxy."""

    def __init__(self, server: servers.Redis) -> None:
        self._server = server

    def command(self, *words: Any) -> Any:
        with contextlib.closing(redis.Redis.from_url(self._server.url)) as client:
            return client.execute_command(*words)

    def lasting_keys(self) -> int:
        """How many keys there are, without the cache's that expire."""
        keys = self.command("KEYS", "*")
        return sum(self.command("TTL", key) < 0 or b"orgrealtime." not in key for key in keys)

    def counted_connections(self) -> int:
        """How many connections the cache counts, over all processes."""
        keys = self.command("KEYS", "*orgrealtime.connections.*.user.*")
        return sum(int(count or 0) for count in self.command("MGET", *keys)) if keys else 0
