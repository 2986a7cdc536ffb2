"""Whether those who are connected to this process still may: asked again when told to, and regularly."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from django.db import Error as AnyDatabaseError

from orgrealtime.admission.verdicts import recheck
from orgrealtime.delivery.connection import Connection
from orgrealtime.errors import INTERNAL_ERROR, CloseCode
from orgrealtime.stream import database
from orgrealtime.stream.access import Access

logger = logging.getLogger("orgrealtime.guard")

SLICE = 500  # connections checked at once, so that the event loop gets its turn in between
SECOND_LOOK_SECONDS = 0.7  # a session ends after its logout signal; a database may be there again
MAX_ROUNDS = 2  # the second for those about whom the host takes long
REMEMBERED_SECONDS = 60.0
MAX_REMEMBERED = 10_000


# "user" or "organization", and its primary key as text
Target = tuple[str, str]


class Rechecks:
    """Knows the connections of each user and organisation, and closes those whose access has ended.

    `start` runs a coroutine in the background.
    """

    def __init__(self, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._start = start
        self._clock = asyncio.get_running_loop().time
        self._connections: dict[Target, set[Connection]] = {}
        self._told = _Told()
        self._due: set[Target] = set()
        self._due_again: set[Target] = set()
        self._failed: set[Target] = set()
        self._is_failing = False
        self._rounds = 0
        self._numbers = itertools.count(1)

    def add(self, connection: Connection, admitted_at: float) -> None:
        """Watch a connection whose access was looked up at `admitted_at` or later (seconds of the loop's clock)."""
        for target in _targets(connection):
            self._connections.setdefault(target, set()).add(connection)
            if self._told.is_later(target, admitted_at):
                connection.hold(next(self._numbers))
                self._check_soon(target)

    def remove(self, connection: Connection) -> None:
        """Watch a connection no longer."""
        for target in _targets(connection):
            connections = self._connections.get(target, set())
            connections.discard(connection)
            if not connections:
                self._connections.pop(target, None)

    def tell(self, user: str) -> None:
        """Take the hint that the access of a user may have ended: they get no event until it has been checked."""
        self._tell(("user", user))

    def tell_organization(self, organization: str) -> None:
        """Take the hint that the access of everybody to an organisation may have ended; as for a user."""
        self._tell(("organization", organization))

    def check_organization(self, organization: str) -> None:
        """Check soon everybody's access to an organisation: hints about it may have been missed until now."""
        target = ("organization", organization)
        self._told.note(target, self._clock())  # for those who were admitted before and aren't added yet
        self._check_soon(target)

    def _tell(self, target: Target) -> None:
        self._told.note(target, self._clock())
        number = next(self._numbers)
        for connection in self._connections.get(target, ()):
            connection.hold(number)
        self._check_soon(target)

    def tick(self, now: float) -> None:
        """Close those whose login has ended by `now` (Unix seconds); check those again whose session may have."""
        due = set()
        for connection in self._all():
            identity = connection.identity
            if identity.has_expired(now):
                connection.close(CloseCode.UNAUTHENTICATED, "login expired")
            elif identity.session_expires_at is not None and identity.session_expires_at <= now:
                due.add(("user", str(connection.access.user_id)))
        for target in due:
            self._tell(target)

    async def check_all(self) -> None:
        """Check all connections again; raise if the database can't be asked."""
        await self.check(self._all())

    async def check(self, connections: Collection[Connection]) -> None:
        """Check these connections again; raise if the database can't be asked."""
        waiting = iter(connections)
        while part := list(itertools.islice(waiting, SLICE)):
            await self._check_part(part)

    async def _check_part(self, connections: list[Connection]) -> None:
        number = next(self._numbers)
        try:
            verdicts = await database.ACCESS.run(recheck, connections)
        except Exception as error:
            if await database.ACCESS.run(database.explains, error):
                raise
            if len(connections) > 1:  # one makes the host's adapter fail: the others must not pay for it
                for connection in connections:
                    await self._check_part([connection])
                return
            logger.exception("access can't be checked", extra={"connection_id": connections[0].id})
            verdicts = {connections[0]: CloseCode.OVERLOADED}
        for connection, verdict in verdicts.items():
            if isinstance(verdict, CloseCode):
                connection.close(verdict, "access ended")
            else:
                self._admit(connection, verdict, number)

    def _admit(self, connection: Connection, access: Access, number: int) -> None:
        try:
            connection.admit(access, number)
        except Exception:
            logger.exception("a connection can't be served", extra={"connection_id": connection.id})
            connection.close(INTERNAL_ERROR, "serving it failed")

    def _all(self) -> list[Connection]:
        return [
            connection
            for (kind, _), connections in self._connections.items()
            if kind == "user"
            for connection in connections
        ]

    def _check_soon(self, target: Target) -> None:
        if target in self._connections:
            self._due.add(target)
            self._start_round()

    def _start_round(self) -> None:
        if self._rounds < MAX_ROUNDS:
            self._rounds += 1
            self._start(self._go_round())

    async def _go_round(self) -> None:
        """Check all that is due, together, until nothing is."""
        try:
            while self._due or self._due_again:
                told, again = self._due, self._due_again
                self._due, self._due_again = set(), set()
                if not await self._try_to_check(told | again):
                    self._retry(told | again)
                elif told:
                    self._start(self._check_again(told))
        finally:
            self._rounds -= 1

    async def _check_again(self, targets: set[Target]) -> None:
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        self._due_again |= targets & self._connections.keys()
        self._start_round()

    def _retry(self, targets: set[Target]) -> None:
        is_waiting = bool(self._failed)
        self._failed |= targets
        if not is_waiting:
            self._start(self._check_failed_again())

    async def _check_failed_again(self) -> None:
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        failed, self._failed = self._failed, set()
        self._due_again |= failed & self._connections.keys()
        self._start_round()

    async def _try_to_check(self, targets: set[Target]) -> bool:
        """Check the connections of these targets; return whether the database could be asked."""
        connections = {each for target in targets for each in self._connections.get(target, ())}
        try:
            await self.check(connections)
        except Exception as error:
            if not self._is_failing:
                logger.warning(
                    "the database can't be asked about access, trying again",
                    exc_info=not isinstance(error, AnyDatabaseError),
                    extra={"error": type(error).__name__},
                )
            self._is_failing = True
            return False
        self._is_failing = False
        return True


class _Told:
    """When it was told about whom, for as long as somebody may be added who was checked before."""

    def __init__(self) -> None:
        self._moments: dict[Target, float] = {}  # the oldest first
        self._about_all = -math.inf

    def note(self, target: Target, now: float) -> None:
        self._moments.pop(target, None)
        self._moments[target] = now
        oldest = next(iter(self._moments))
        if now - self._moments[oldest] > REMEMBERED_SECONDS:
            del self._moments[oldest]  # one for each that comes: it doesn't grow
        elif len(self._moments) > MAX_REMEMBERED:
            self._moments.clear()
            self._about_all = now

    def is_later(self, target: Target, moment: float) -> bool:
        """Tell whether it was told about this one at `moment` or later."""
        return max(self._moments.get(target, -math.inf), self._about_all) >= moment


def _targets(connection: Connection) -> tuple[Target, Target]:
    access = connection.access
    return ("user", str(access.user_id)), ("organization", str(access.organization_id))
