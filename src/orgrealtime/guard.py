"""Whether those who are connected to this process still may: asked again when told to, and regularly."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from django.db import Error as AnyDatabaseError

from orgrealtime import database
from orgrealtime.connection import Connection
from orgrealtime.errors import CloseCode
from orgrealtime.recheck import recheck

logger = logging.getLogger("orgrealtime.guard")

SLICE = 500  # connections checked at once, so that the event loop gets its turn in between
SECOND_LOOK_SECONDS = 0.7  # a session ends after its logout signal
REMEMBERED_SECONDS = 60.0
MAX_REMEMBERED = 10_000


class Guard:
    """Knows the connections of each user, and closes those whose access has ended.

    `start` runs a coroutine in the background.
    """

    def __init__(self, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._start = start
        self._clock = asyncio.get_running_loop().time
        self._connections: dict[str, set[Connection]] = {}
        self._told: dict[str, float] = {}
        self._checking: set[str] = set()
        self._numbers = itertools.count(1)

    def add(self, connection: Connection, admitted_at: float) -> None:
        """Watch a connection whose access was looked up at `admitted_at` or later (seconds of the loop's clock)."""
        user = str(connection.access.user_id)
        self._connections.setdefault(user, set()).add(connection)
        if self._told.get(user, -1.0) >= admitted_at:
            self._check_soon(user)

    def remove(self, connection: Connection) -> None:
        """Watch a connection no longer."""
        user = str(connection.access.user_id)
        connections = self._connections.get(user, set())
        connections.discard(connection)
        if not connections:
            self._connections.pop(user, None)

    def tell(self, user: str) -> None:
        """Take the hint that the access of a user may have ended."""
        now = self._clock()
        if len(self._told) >= MAX_REMEMBERED:
            self._told = {user: at for user, at in self._told.items() if now - at < REMEMBERED_SECONDS}
        self._told[user] = now
        self._check_soon(user)

    async def check_all(self) -> None:
        """Check all connections again; raise if the database can't be asked."""
        await self.check([connection for each in self._connections.values() for connection in each])

    async def check(self, connections: Collection[Connection]) -> None:
        """Check these connections again; raise if the database can't be asked."""
        number = next(self._numbers)
        waiting = iter(connections)
        while part := list(itertools.islice(waiting, SLICE)):
            await self._check_part(part, number)

    async def _check_part(self, connections: list[Connection], number: int) -> None:
        try:
            verdicts = await database.run(recheck, connections)
        except AnyDatabaseError:
            raise
        except Exception:
            if (
                len(connections) > 1
            ):  # one of them makes the host's adapter fail: the others must not pay for it
                for connection in connections:
                    await self._check_part([connection], number)
                return
            logger.exception("access can't be checked", extra={"connection_id": connections[0].id})
            verdicts = {connections[0]: CloseCode.OVERLOADED}
        for connection, verdict in verdicts.items():
            if isinstance(verdict, CloseCode):
                connection.close(verdict, "access ended")
            elif number > connection.checked:  # a check that began earlier may end later
                connection.checked = number
                connection.access = verdict

    def _check_soon(self, user: str) -> None:
        if user in self._connections and user not in self._checking:
            self._checking.add(user)
            self._start(self._check_user(user))

    async def _check_user(self, user: str) -> None:
        try:
            told = None
            while told != self._told.get(user):  # once for all that is told meanwhile
                told = self._told.get(user)
                await self._try_to_check(user)
                await asyncio.sleep(SECOND_LOOK_SECONDS)
                await self._try_to_check(user)
        finally:
            self._checking.discard(user)

    async def _try_to_check(self, user: str) -> None:
        try:
            await self.check(tuple(self._connections.get(user, ())))
        except AnyDatabaseError as error:
            logger.warning(
                "the database can't be asked about access, trying again",
                extra={"error": type(error).__name__},
            )
