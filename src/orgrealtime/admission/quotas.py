"""Quotas: how many connections a user, an organisation and an address may have, over all processes.

Counted in Django's default cache. Each process has a slot there and writes only keys of its own, which expire when it
no longer refreshes them: a killed process is forgotten. A process that wants to let a connection in writes first and
reads the others' counts then, so two processes that race may both refuse but never both let one too many in.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.cache import cache

from orgrealtime.admission.addresses import group_of
from orgrealtime.concurrency import background
from orgrealtime.concurrency.batching import Batcher, Conflator
from orgrealtime.concurrency.threads import Threads
from orgrealtime.conf import get_settings
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.keys import Keys, organization_keys, user_keys
from orgrealtime.limits import is_enforced, key_of, log_exceeded

logger = logging.getLogger("orgrealtime.census")

R = TypeVar("R")

KEEP_SECONDS = 40
REFRESH_SECONDS = 15.0
TRY_AGAIN_SECONDS = 5.0
LEAVE_SECONDS = 0.5
CACHE_SECONDS = 1.0
ATTEMPTS = 5
CHUNK = 500
MAX_CONNECTIONS = 1_000_000  # that one process could have
SLOTS_AT_ONCE = 64
SLOTS_LOOKED_AT = 256  # at least: where many processes end at once, processes with higher slots live on

# Apart: a cache that hangs must not hold up anything else. It may itself be kept in the database.
COUNTS = Threads("census", 1)

VERSION_KEY = "orgrealtime.processes"


class QuotaError(Exception):
    """The cache doesn't keep what is put there."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `cap` connections of a user, an organisation or an address; `limit` is the name of the setting."""

    limit: str
    key: str
    cap: int
    whose: str


def quotas_of(user_id: Any, organization_id: Any, address: str | None) -> tuple[Quota, ...]:
    """Return the quotas in which a connection is counted under the settings in force."""
    given = get_settings()
    found = (
        ("CONNECTIONS_PER_USER", "user", _name(user_keys(), user_id), given.CONNECTIONS_PER_USER, "one user"),
        (
            "CONNECTIONS_PER_ORGANIZATION",
            "org",
            _name(organization_keys(), organization_id),
            given.CONNECTIONS_PER_ORGANIZATION,
            "one organisation",
        ),
        (
            "CONNECTIONS_PER_ADDRESS",
            "address",
            address and group_of(address),
            given.CONNECTIONS_PER_ADDRESS,
            "one address",
        ),
    )
    return tuple(
        Quota(limit, f"{kind}.{key_of(ident)}", cap, whose)
        for limit, kind, ident, cap, whose in found
        if cap is not None and ident is not None
    )


def _name(keys: Keys, key: Any) -> str | None:
    return None if key is None else keys.name(key)


class Reservation:
    """A connection in its quotas, counted from `Quotas.reserve` until `Quotas.release`."""

    __slots__ = ("is_counted", "quotas")

    def __init__(self, quotas: tuple[Quota, ...]) -> None:
        self.quotas = quotas
        self.is_counted = False


class Quotas:
    """Counts the connections of one event loop together with the connections of all other processes."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._others = _Others()
        self._is_alone = False
        self._is_closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reservations = Batcher[Reservation, None](self._count, _concerns_all)
        self._lowered = Conflator[str](self._write_lowered, self._start, gather_seconds=LEAVE_SECONDS)
        self._refreshing: asyncio.Task[None] | None = None

    async def reserve(self, quotas: tuple[Quota, ...]) -> Reservation:
        """Count a connection in these quotas until `release`; raise Refused (4429) if one of them is used up."""
        reservation = Reservation(quotas)
        if not quotas:
            return reservation
        if self._refreshing is None:
            self._refreshing = self._start(self._refresh_regularly())
        try:
            await self._reservations.ask(reservation)
        except BaseException:
            self.release(reservation)
            raise
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Count a connection no longer; a second time does nothing."""
        if not reservation.is_counted:
            return
        reservation.is_counted = False
        for quota in reservation.quotas:
            self._counts[quota.key] -= 1
            if self._counts[quota.key] <= 0:
                del self._counts[quota.key]
        if not self._is_closed:
            self._lowered.add(quota.key for quota in reservation.quotas)

    async def close(self) -> None:
        """End all work, and take what is counted here out of the cache."""
        self._is_closed = True
        keys = {*self._counts, *self._lowered.waiting}
        await self._reservations.close()
        await background.end(self._tasks)
        if not self._is_alone:
            await self._ask(self._others.leave, keys | self._counts.keys())

    # --------------------------------------------------------------------------------------------- counting

    async def _count(self, asked: Sequence[Reservation]) -> list[Refused | None]:
        answers = {id(reservation): self._count_here(reservation) for reservation in asked}
        counted = [reservation for reservation in asked if reservation.is_counted]
        keys = {quota.key for reservation in counted for quota in reservation.quotas}
        others = await self._count_others(keys) if keys else {}
        # The counts include connections that may yet be refused: the newest first.
        for reservation in reversed(counted):
            over = self._over(reservation, others)
            if reservation.is_counted and over is not None:  # and hasn't been released meanwhile
                answers[id(reservation)] = self._refuse(reservation, over)
        return [answers[id(reservation)] for reservation in asked]

    def _count_here(self, reservation: Reservation) -> Refused | None:
        """Count a connection, unless the connections of this process alone are too many already."""
        for quota in reservation.quotas:
            if self._counts[quota.key] >= quota.cap and is_enforced():
                return self._refuse(reservation, quota)
        self._counts.update(quota.key for quota in reservation.quotas)
        reservation.is_counted = True
        return None

    def _over(self, reservation: Reservation, others: Mapping[str, int]) -> Quota | None:
        for quota in reservation.quotas:
            if self._counts[quota.key] + others.get(quota.key, 0) > quota.cap:
                return quota
        return None

    def _refuse(self, reservation: Reservation, quota: Quota) -> Refused | None:
        log_exceeded(quota.limit, key=quota.key)
        if not is_enforced():
            return None
        self.release(reservation)
        message = f"too many connections: at most {quota.cap} of {quota.whose}"
        return Refused(CloseCode.RATE_LIMITED, quota.limit, message)

    # ---------------------------------------------------------------------------------------------- the cache

    async def _count_others(self, keys: Iterable[str]) -> dict[str, int]:
        if self._is_alone:
            return {}
        return await self._ask(self._others.exchange, self._own(keys)) or {}

    async def _write_lowered(self, keys: Sequence[str]) -> None:
        if not self._is_alone:
            await self._ask(self._others.write, self._own(keys))

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(TRY_AGAIN_SECONDS if self._is_alone else REFRESH_SECONDS)
            keys = list(self._counts)
            is_kept = await self._ask(self._others.keep_slot) is not None
            for start in range(0, len(keys), CHUNK):
                if not is_kept:
                    break
                chunk = self._own(keys[start : start + CHUNK])
                is_kept = await self._ask(self._others.write, chunk) is not None
            self._is_alone = not is_kept

    async def _ask(self, work: Callable[..., R], *args: Any) -> R | None:
        try:
            async with asyncio.timeout(CACHE_SECONDS):
                return await COUNTS.run(work, *args)
        except Exception as error:
            if not self._is_alone:
                self._is_alone = True
                logger.warning(
                    "the cache can't count connections, counting alone", extra={"error": type(error).__name__}
                )
            return None

    def _own(self, keys: Iterable[str]) -> dict[str, int]:
        return {key: self._counts.get(key, 0) for key in keys}

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return background.start(work, self._tasks)


async def _concerns_all(error: Exception) -> bool:
    return True  # nothing that is asked for is the host's own code


class _Others:
    """The counts of this process and of the others in the cache; used in the one thread of `COUNTS`."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._slot: int | None = None
        self._others: list[int] = []
        self._version: Any = None

    def exchange(self, own: Mapping[str, int]) -> dict[str, int]:
        """Write own counts, then return the counts of all other processes together."""
        for _ in range(ATTEMPTS):
            slot = self._take_slot()
            cache.set_many({_key(slot, key): count for key, count in own.items()}, KEEP_SECONDS)
            asked = {_key(other, key): key for other in self._others for key in own}
            found = cache.get_many([VERSION_KEY, _slot_key(slot), *asked])
            if found.get(_slot_key(slot)) != self._token:
                self._slot = None
            elif self._version is None or found.get(VERSION_KEY) != self._version:
                self._look_around()
            else:
                totals: Counter[str] = Counter()
                for name, key in asked.items():
                    totals[key] += _plausible(found.get(name, 0))
                return totals
        raise QuotaError("the cache doesn't keep what is put there")

    def write(self, own: Mapping[str, int]) -> bool:
        """Write own counts."""
        slot = self._take_slot()
        cache.set_many({_key(slot, key): count for key, count in own.items()}, KEEP_SECONDS)
        return True

    def leave(self, keys: Iterable[str]) -> bool:
        """Take own counts and the slot out of the cache."""
        slot, self._slot = self._slot, None
        if slot is not None:
            cache.delete_many([_slot_key(slot), *(_key(slot, key) for key in keys)])
        return True

    def keep_slot(self) -> bool:
        """Keep the slot of this process, or take another if it has been lost, and see which others there are."""
        if self._slot is not None:
            if cache.get(_slot_key(self._slot)) == self._token:
                cache.set(_slot_key(self._slot), self._token, KEEP_SECONDS)
            else:
                self._slot = None
        self._take_slot()
        self._look_around()
        return True

    def _take_slot(self) -> int:
        if self._slot is None:
            self._slot = self._find_slot()
            self._bump_version()
            self._look_around()
        return self._slot

    def _find_slot(self) -> int:
        for slot in itertools.count():
            if cache.add(_slot_key(slot), self._token, KEEP_SECONDS):
                return slot
            if cache.get(_slot_key(slot)) is None:
                break  # neither taken nor free: the cache fails, and doesn't say so
        raise QuotaError("the cache doesn't keep what is put there")

    def _bump_version(self) -> None:
        # Not from 1: a cache that has been emptied must not come to a version that a process knows.
        cache.add(VERSION_KEY, time.time_ns() // 1_000_000, None)
        cache.incr(VERSION_KEY)

    def _look_around(self) -> None:
        # The version first: a process that joins between the two is seen, or changes the version once more.
        version = cache.get(VERSION_KEY)
        if version is None:
            self._bump_version()
            version = cache.get(VERSION_KEY)
        others: list[int] = []
        for start in itertools.count(0, SLOTS_AT_ONCE):
            slots = {_slot_key(slot): slot for slot in range(start, start + SLOTS_AT_ONCE)}
            found = cache.get_many(slots)
            others += [slots[key] for key in found if slots[key] != self._slot]
            if not found and start >= SLOTS_LOOKED_AT:
                break
        self._version, self._others = version, others


def _plausible(count: Any) -> int:
    # A program that can write to the cache may have put anything there.
    return count if type(count) is int and 0 <= count <= MAX_CONNECTIONS else 0


def _slot_key(slot: int) -> str:
    return f"orgrealtime.process.{slot}"


def _key(slot: int, key: str) -> str:
    return f"orgrealtime.connections.{slot}.{key}"
