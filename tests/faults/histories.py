"""How the site's database goes back under load: another one, that lacks the last second or more, takes its place.

A history is kept at first, as a copy or a standby; what is committed from then on is lost when it is put in place.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import psycopg
from psycopg import sql

from tests import servers
from tests.faults.proxy import Proxy
from tests.faults.rig import Rig
from tests.waiting import eventually

OTHERS = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
COPY, FORMER = "copy", "former"


class History(ABC):
    """Begins to be kept with `async with`; at its end what isn't the site's database ends."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *exc_info: object) -> None: ...

    @abstractmethod
    async def fall_behind(self, seconds: float) -> None:
        """Let some time pass of which it has nothing."""

    @abstractmethod
    async def replace(self, remember: Callable[[str], Any]) -> None:
        """Put it in the database's place; `remember` is told where what was there before can still be read."""


class Promotion(History):
    """An asynchronous standby, behind by what its link to the primary holds back. The primary is killed."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.primary = rig.postgres
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.link = await self._stack.enter_async_context(Proxy(self.primary.port))
        self.standby = await asyncio.to_thread(
            lambda: servers.Standby(self.primary, through=self.link.port).start()
        )
        self.rig.take_over(self.standby)
        await self._replicates()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def _replicates(self) -> None:
        """Wait until the standby has what the primary has had a moment ago."""
        ((end,),) = ask(self.primary.url, "SELECT pg_current_wal_lsn()")
        has_it = f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{end}'"
        await eventually(lambda: ask(self.standby.url, has_it))

    async def fall_behind(self, seconds: float) -> None:
        await self._stack.enter_async_context(self.link.black_hole())
        await asyncio.sleep(seconds)

    async def replace(self, remember: Callable[[str], Any]) -> None:
        self.rig.move_to(self.standby)
        await self.cut_off_the_primary(remember)
        self.link.reset()
        await asyncio.to_thread(self.standby.promote)

    async def cut_off_the_primary(self, remember: Callable[[str], Any]) -> None:
        """Nobody is connected to it any more; then it dies."""
        self.rig.to_postgres.reset()
        await self._is_left_alone(f"SELECT pid {OTHERS}")
        await remember(self.primary.url)
        self.primary.kill()

    async def _is_left_alone(self, question: str) -> None:
        await eventually(lambda: not ask(self.primary.url, question))


class Demotion(Promotion):
    """The primary isn't killed: it takes no writes any more, and answers all who are still connected to it."""

    async def cut_off_the_primary(self, remember: Callable[[str], Any]) -> None:
        for statement in ("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"):
            ask(self.primary.url, statement)
        await asyncio.sleep(1)  # so that all backends know
        ((now,),) = ask(self.primary.url, "SELECT now()")
        await self._is_left_alone(f"SELECT pid {OTHERS} AND xact_start < '{now}'")  # that may still write
        await remember(self.primary.url)

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        self.primary.kill()


class Template(History):
    """A copy by `CREATE DATABASE … TEMPLATE`, which takes the name."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.name = rig.postgres.url.rpartition("/")[2]

    async def __aenter__(self) -> Self:
        self._close_to_all(self.name)
        self._execute("CREATE DATABASE {} TEMPLATE {}", COPY, self.name)
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", FORMER)
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", COPY)

    async def fall_behind(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def replace(self, remember: Callable[[str], Any]) -> None:
        self._close_to_all(self.name)
        self._execute("ALTER DATABASE {} RENAME TO {}", self.name, FORMER)
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", FORMER)
        await remember(self._url(FORMER))
        self._execute("ALTER DATABASE {} RENAME TO {}", COPY, self.name)

    def _close_to_all(self, name: str) -> None:
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
        ask(self._url("template1"), f"SELECT pg_terminate_backend(pid, 10000) {OTHERS}")

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._url("template1"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _url(self, name: str) -> str:
        return self.rig.postgres.url.rpartition("/")[0] + f"/{name}"


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Ask a database past all proxies."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
