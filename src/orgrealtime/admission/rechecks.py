"""Rechecks: whether clients that are connected still may be, asked again when a hint says so, and regularly."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple

from django.db import Error as AnyDatabaseError

from orgrealtime.admission.verdicts import Checked, Verdict, recheck
from orgrealtime.concurrency import background
from orgrealtime.concurrency.batching import Conflator, answer_each
from orgrealtime.conf import get_settings
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.registry import Registry, names_of
from orgrealtime.errors import INTERNAL_ERROR, CloseCode
from orgrealtime.stream.access import Access
from orgrealtime.stream.database import ACCESS, is_away, may_pass

logger = logging.getLogger("orgrealtime.guard")

BATCH = 500  # connections checked at once, so that the event loop gets its turn in between
SECOND_LOOK_SECONDS = 0.7  # a session ends after its logout signal
GIVE_UP_SECONDS = 60.0  # after which a connection that can't be checked is closed
RETRY_SECONDS = 0.7  # after which a database that couldn't be asked may be there again
MAX_ROUNDS = 2  # the second for connections about which the host takes long
EXPIRY_SECONDS = 1.0  # between two looks at the ends of logins
REMEMBERED_SECONDS = 60.0
MAX_REMEMBERED = 10_000


class Target(NamedTuple):
    """Whose connections are to be checked: a `user`'s, an `organization`'s or `everybody`'s; `name` is of the key."""

    kind: str
    name: str = ""


EVERYBODY = Target("everybody")


class _Due(NamedTuple):
    target: Target
    is_second_look: bool


class Rechecks:
    """Closes the connections of a registry whose access has ended, and holds back events until it has been asked."""

    def __init__(self, registry: Registry) -> None:
        self._clock = asyncio.get_running_loop().time
        self._registry = registry
        self._registry.observe(self)
        self._hints = _RecentHints()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._due = Conflator[_Due](self._check_due, self._start, MAX_ROUNDS)
        self._failed = Conflator[Target](self._check_failed_again, self._start, gather_seconds=RETRY_SECONDS)
        self._is_failing = False
        self._failures = 0
        self._numbers = itertools.count(1)
        self._start(self._check_all_regularly())
        self._start(self._check_expiry_regularly())

    async def close(self) -> None:
        """End all work."""
        await background.end(self._tasks)

    # ------------------------------------------------------------------------------------------- connections

    def on_join(self, connection: Connection) -> None:
        """Check a connection that was looked up before the last hint about it."""
        user, *others = _targets(connection)
        if any(self._hints.is_later(each, connection.credentials.admitted_at) for each in (user, *others)):
            connection.hold(next(self._numbers))
            self._check_soon(user)

    def on_leave(self, connection: Connection) -> None:
        """Nothing: what is due is looked up in the registry."""

    # ------------------------------------------------------------------------------------------------- hints

    def hint_user(self, user: str) -> None:
        """Take the hint that a user's access may have ended: no event is sent to them until it has been checked."""
        self._hint(Target("user", user))

    def hint_organization(self, organization: str) -> None:
        """Take the hint that everybody's access to an organisation may have ended; as for a user."""
        self._hint(Target("organization", organization))

    def hint_everybody(self) -> None:
        """Take the hint that hints about anybody may have come that haven't been heard yet; as for a user."""
        self._hint(EVERYBODY)

    def check_organization(self, organization: str) -> None:
        """Check soon everybody's access to an organisation: hints about it may have been missed until now."""
        target = Target("organization", organization)
        self._hints.note(target, self._clock())  # for connections admitted before, that haven't joined yet
        self._check_soon(target)

    def _hint(self, target: Target) -> None:
        self._hints.note(target, self._clock())
        number = next(self._numbers)
        for connection in self._connections(target):
            connection.hold(number)
        self._check_soon(target)

    def _check_soon(self, target: Target) -> None:
        if self._connections(target):
            self._due.add([_Due(target, is_second_look=False)])

    def _connections(self, target: Target) -> Collection[Connection]:
        if target == EVERYBODY:
            return list(self._registry)
        of = self._registry.of_user if target.kind == "user" else self._registry.of_organization
        return of(target.name)

    # ----------------------------------------------------------------------------------------------- regular

    async def _check_all_regularly(self) -> None:
        while True:
            seconds = get_settings().ACCESS_CHECK_SECONDS
            await asyncio.sleep(seconds * random.uniform(0.9, 1.0))  # noqa: S311 - spreads load, no secret
            await self._try_to_check(list(self._registry))

    async def _check_expiry_regularly(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            self.check_expiry(time.time())

    def check_expiry(self, now: float) -> None:
        """Close connections whose login has ended by `now` (Unix seconds); check connections whose session may have."""
        due = set()
        for connection in list(self._registry):
            identity = connection.credentials.identity
            if identity.has_expired(now):
                connection.close(CloseCode.UNAUTHENTICATED, "login expired")
            elif identity.session_expires_at is not None and identity.session_expires_at <= now:
                due.add(names_of(connection)[1])
        for user in due:
            self.hint_user(user)

    # ---------------------------------------------------------------------------------------------- checking

    async def _check_due(self, due: Sequence[_Due]) -> None:
        targets = {each.target for each in due}
        first_looks = [each.target for each in due if not each.is_second_look]
        if not await self._try_to_check({each for target in targets for each in self._connections(target)}):
            self._failed.add(targets)
        elif first_looks:
            self._start(self._look_again(first_looks))

    async def _look_again(self, targets: Iterable[Target]) -> None:
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        self._due.add(_Due(target, is_second_look=True) for target in targets if self._connections(target))

    async def _check_failed_again(self, targets: Sequence[Target]) -> None:
        self._due.add(_Due(target, is_second_look=True) for target in targets if self._connections(target))

    async def _try_to_check(self, connections: Collection[Connection]) -> bool:
        """Check connections; return whether the database could be asked."""
        failures = self._failures
        try:
            await self.check(connections)
        except Exception as error:
            self._log_failure(error)
            return False
        self._is_failing = self._failures > failures
        return True

    async def check(self, connections: Collection[Connection]) -> None:
        """Check these connections again; raise if the database can't be asked."""
        waiting = iter(connections)
        while batch := list(itertools.islice(waiting, BATCH)):
            if served := [connection for connection in batch if connection.close_code is None]:
                await self._check_batch(served)

    async def _check_batch(self, connections: Sequence[Connection]) -> None:
        subjects = [Checked(each.id, each.access, each.credentials) for each in connections]
        numbers: list[int] = []

        async def ask(subjects: Sequence[Checked]) -> list[Verdict | Exception]:
            numbers.extend([next(self._numbers)] * len(subjects))
            return list(await ACCESS.run(recheck, subjects))

        verdicts = await answer_each(ask, subjects, ACCESS.wrap(is_away))
        for connection, verdict, number in zip(connections, verdicts, numbers[-len(verdicts) :], strict=True):
            self._apply(connection, verdict, number)

    def _apply(self, connection: Connection, verdict: Verdict | Exception, number: int) -> None:
        if connection.close_code is not None:
            return  # it was closed while it was checked
        if isinstance(verdict, Exception):
            self._apply_failure(connection, verdict)
        elif isinstance(verdict.answer, CloseCode):
            connection.close(verdict.answer, "access ended")
        else:
            connection.credentials.identity = verdict.identity
            connection.credentials.failing_since = None
            self._admit(connection, verdict.answer, number)

    def _apply_failure(self, connection: Connection, error: Exception) -> None:
        """Check a connection again soon if the error may pass, and hasn't come for too long; else close it."""
        credentials, now = connection.credentials, self._clock()
        if credentials.failing_since is None:
            credentials.failing_since = now
        if may_pass(error) and now - credentials.failing_since <= GIVE_UP_SECONDS:
            self._log_failure(error)
            self._failed.add([_targets(connection)[0]])
        else:
            logger.error("access can't be checked", exc_info=error, extra={"connection_id": connection.id})
            connection.close(CloseCode.OVERLOADED, "access can't be checked")

    def _log_failure(self, error: Exception) -> None:
        """Log that access can't be checked, the first of several failures on end."""
        if not self._is_failing:
            logger.warning(
                "the database can't be asked about access, trying again",
                exc_info=not isinstance(error, AnyDatabaseError),
                extra={"error": type(error).__name__},
            )
        self._is_failing = True
        self._failures += 1

    def _admit(self, connection: Connection, access: Access, number: int) -> None:
        try:
            connection.admit(access, number)
        except Exception:
            logger.exception("a connection can't be served", extra={"connection_id": connection.id})
            connection.close(INTERNAL_ERROR, "serving it failed")

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return background.start(work, self._tasks)


class _RecentHints:
    """When the last hint about each target came, for as long as a connection may join that was looked up before."""

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
        """Tell whether there was a hint about this target at `moment` or later."""
        return max(self._moments.get(target, -math.inf), self._about_all) >= moment


def _targets(connection: Connection) -> tuple[Target, ...]:
    organization, user = names_of(connection)
    return Target("user", user), Target("organization", organization), EVERYBODY
