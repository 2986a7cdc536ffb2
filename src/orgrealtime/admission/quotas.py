"""How many connections there are per user, organisation and address, over all processes.

Counted in Django's default cache. Each process has a slot there and writes only keys of its own, which expire when it
no longer refreshes them: a killed process is forgotten. Whoever wants in writes first and reads the others' counts
then, so two processes that race may both refuse but never both let one too many in.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.cache import cache

from orgrealtime.admission.addresses import group_of
from orgrealtime.concurrency import background
from orgrealtime.concurrency.threads import Threads
from orgrealtime.conf import get_settings
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.limits import exceeded, key_of

logger = logging.getLogger("orgrealtime.census")

T = TypeVar("T")

KEEP_SECONDS = 40
REFRESH_SECONDS = 15.0
TRY_AGAIN_SECONDS = 5.0
LEAVE_SECONDS = 0.5
CACHE_SECONDS = 1.0
ATTEMPTS = 5
CHUNK = 500
MAX_CONNECTIONS = 1_000_000  # that one process could have
SLOTS_AT_ONCE = 64
SLOTS_LOOKED_AT = 256  # at least: where many processes end at once, those with higher slots live on

VERSION_KEY = "orgrealtime.processes"

# Apart: a cache that hangs must not hold up anything else. It may itself be kept in the database.
_threads = Threads("census", 1)


class QuotaError(Exception):
    """The cache doesn't keep what is put there."""


@dataclass(frozen=True, slots=True)
class Place:
    """One of at most `cap` places of a user, an organisation or an address; `limit` is the name of the setting."""

    limit: str
    key: str
    cap: int
    whose: str


def places_of(user_id: Any, organization_id: Any, address: str | None) -> tuple[Place, ...]:
    """Return the places that a connection takes under the settings in force."""
    given = get_settings()
    found = (
        ("CONNECTIONS_PER_USER", "user", user_id, given.CONNECTIONS_PER_USER, "one user"),
        (
            "CONNECTIONS_PER_ORGANIZATION",
            "org",
            organization_id,
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
        Place(limit, f"{kind}.{key_of(ident)}", cap, whose)
        for limit, kind, ident, cap, whose in found
        if cap is not None and ident is not None
    )


@dataclass(slots=True)
class _Guest:
    places: tuple[Place, ...]
    admitted: asyncio.Future[None]


class Quotas:
    """Counts the connections of one event loop together with those of all other processes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._counts: Counter[str] = Counter()
        self._waiting: list[_Guest] = []
        self._left: set[str] = set()
        self._desk = _Desk()
        self._is_alone = False
        self._is_closed = False
        self._works: set[asyncio.Task[Any]] = set()
        self._serving: asyncio.Task[None] | None = None
        self._lowering: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def enter(self, places: tuple[Place, ...]) -> None:
        """Take these places, to be given back with `leave`; raise Refused if one isn't free."""
        if not places:
            return
        guest = _Guest(places, self._loop.create_future())
        self._waiting.append(guest)
        if self._serving is None or self._serving.done():
            self._serving = self._work(self._serve())
        if self._refreshing is None:
            self._refreshing = self._work(self._refresh_regularly())
        try:
            await guest.admitted
        except asyncio.CancelledError:
            if guest.admitted.done() and not guest.admitted.cancelled() and not guest.admitted.exception():
                self.leave(places)
            raise

    def leave(self, places: Iterable[Place]) -> None:
        """Give places back."""
        for place in places:
            self._lower(place.key)

    async def close(self) -> None:
        """End all work, and take what is counted here out of the cache."""
        self._is_closed = True
        await background.end(self._works)
        if not self._is_alone:
            await self._try(functools.partial(self._desk.leave, list(self._counts) + list(self._left)))

    # --------------------------------------------------------------------------------------------- letting in

    async def _serve(self) -> None:
        while self._waiting:
            guests, self._waiting = self._waiting, []
            guests = [guest for guest in guests if not guest.admitted.done()]
            try:
                await self._admit(guests)
            except Exception:
                logger.exception("connections can't be counted")
                for guest in guests:
                    if not guest.admitted.done():
                        guest.admitted.set_exception(Refused(CloseCode.OVERLOADED, "counting failed"))

    async def _admit(self, guests: list[_Guest]) -> None:
        raised = [guest for guest in guests if self._fits_here(guest)]
        keys = {place.key for guest in raised for place in guest.places}
        others = await self._count_others(keys) if keys else {}
        # Raised counts include those who may yet be refused, the newest first.
        for guest in reversed(raised):
            over = self._over(guest, others)
            if guest.admitted.done():
                self.leave(guest.places)
            elif over is not None and exceeded(over.limit, key=over.key):
                self.leave(guest.places)
                guest.admitted.set_exception(_refusal(over))
            else:
                guest.admitted.set_result(None)

    def _fits_here(self, guest: _Guest) -> bool:
        """Raise the counts for a guest, unless the connections of this process alone are too many already."""
        for place in guest.places:
            if self._counts[place.key] >= place.cap and not get_settings().LIMITS_DRY_RUN:
                exceeded(place.limit, key=place.key)
                guest.admitted.set_exception(_refusal(place))
                return False
        for place in guest.places:
            self._counts[place.key] += 1
        return True

    def _over(self, guest: _Guest, others: Mapping[str, int]) -> Place | None:
        for place in guest.places:
            if self._counts[place.key] + others.get(place.key, 0) > place.cap:
                return place
        return None

    def _lower(self, key: str) -> None:
        self._counts[key] -= 1
        if self._counts[key] <= 0:
            del self._counts[key]
        self._left.add(key)
        if not self._is_closed and (self._lowering is None or self._lowering.done()):
            self._lowering = self._work(self._write_lowered())

    async def _write_lowered(self) -> None:
        while self._left:
            await asyncio.sleep(LEAVE_SECONDS)
            keys, self._left = self._left, set()
            if not self._is_alone:
                await self._try(functools.partial(self._desk.write, self._own(keys)))

    # ---------------------------------------------------------------------------------------------- the cache

    async def _count_others(self, keys: Iterable[str]) -> dict[str, int]:
        if self._is_alone:
            return {}
        return await self._try(functools.partial(self._desk.exchange, self._own(keys))) or {}

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(TRY_AGAIN_SECONDS if self._is_alone else REFRESH_SECONDS)
            keys = list(self._counts)
            is_kept = await self._try(self._desk.keep_slot) is not None
            for start in range(0, len(keys), CHUNK):
                if not is_kept:
                    break
                chunk = self._own(keys[start : start + CHUNK])
                is_kept = await self._try(functools.partial(self._desk.write, chunk)) is not None
            self._is_alone = not is_kept

    async def _try(self, work: Callable[[], T]) -> T | None:
        try:
            async with asyncio.timeout(CACHE_SECONDS):
                return await _threads.run(work)
        except Exception as error:
            if not self._is_alone:
                self._is_alone = True
                logger.warning(
                    "the cache can't count connections, counting alone", extra={"error": type(error).__name__}
                )
            return None

    def _own(self, keys: Iterable[str]) -> dict[str, int]:
        return {key: self._counts.get(key, 0) for key in keys}

    def _work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return background.start(work, self._works)


def _refusal(place: Place) -> Refused:
    message = f"too many connections: at most {place.cap} of {place.whose}"
    return Refused(CloseCode.RATE_LIMITED, place.limit, message)


class _Desk:
    """What one process does in the cache; used in the census' thread alone."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._slot: int | None = None
        self._others: list[int] = []
        self._version: Any = None

    def exchange(self, own: Mapping[str, int]) -> dict[str, int]:
        """Write own counts, then return those of all others together."""
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
        # Not from 1: a cache that has been emptied must not come to a version that somebody knows.
        cache.add(VERSION_KEY, time.time_ns() // 1_000_000, None)
        cache.incr(VERSION_KEY)

    def _look_around(self) -> None:
        # The version first: who joins between the two is seen, or changes the version once more.
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
    # Whoever can write to the cache may have put anything there.
    return count if type(count) is int and 0 <= count <= MAX_CONNECTIONS else 0


def _slot_key(slot: int) -> str:
    return f"orgrealtime.process.{slot}"


def _key(slot: int, key: str) -> str:
    return f"orgrealtime.connections.{slot}.{key}"
