"""Limits on what a client may send: mixins for consumers, used by `OrgConsumer`, and a rate of HTTP requests.

Each refuses a message by raising MessageError with the code `rate_limited`, before the message is read; a request by
raising Refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache

from orgrealtime.concurrency.threads import Threads
from orgrealtime.conf import get_settings
from orgrealtime.errors import CloseCode, MessageError, Refused
from orgrealtime.keys import user_keys
from orgrealtime.rates import Rate, TokenBucket

__all__ = ["MessageGate", "Rate", "SocketRateLimitMixin", "UserRateLimitMixin"]

logger = logging.getLogger("orgrealtime.limits")

LEASES_PER_WINDOW = 10
MAX_ALLOWANCES = 10_000
CACHE_SECONDS = 1.0
# An extension of the scope of what isn't a WebSocket: a request that counts.
IS_REQUEST = "orgrealtime.request"

# Apart: a cache that hangs must not hold up what uses the database. It may itself be kept in the database.
CACHE = Threads("cache", 1)


def key_of(ident: object) -> str:
    """Return any text as a part of a key that every cache takes."""
    return hashlib.blake2s(str(ident).encode(errors="replace"), digest_size=12).hexdigest()


def is_enforced() -> bool:
    """Tell whether what exceeds a limit is refused, and not only logged (`LIMITS_DRY_RUN`)."""
    return not get_settings().LIMITS_DRY_RUN


def log_exceeded(limit: str, **about: Any) -> None:
    """Log that a limit, named as its setting, is exceeded, and whether it is enforced."""
    logger.warning("a limit is exceeded", extra={"limit": limit, "enforced": is_enforced(), **about})


class MessageGate:
    """Lets every message in; the mixins are put before it."""

    _exceeded: frozenset[str] = frozenset()

    async def admit_message(self, size: int) -> None:
        """Raise MessageError if a message of `size` bytes may not come now."""

    def forgive_message(self) -> None:
        """Count the message that was admitted last for none."""

    def exceeds(self, limit: str) -> bool:
        """Tell whether to enforce a limit that is exceeded; logged once for each connection and limit."""
        if limit not in self._exceeded:
            self._exceeded = self._exceeded | {limit}
            connection = getattr(self, "connection", None)
            log_exceeded(limit, connection_id=getattr(connection, "id", None))
        return is_enforced()


class SocketRateLimitMixin(MessageGate):
    """Limits messages and bytes per socket; override the two properties for other rates, None for no limit."""

    _message_bucket: TokenBucket | None = None
    _byte_bucket: TokenBucket | None = None

    @property
    def message_rate(self) -> Rate | None:
        """How many messages one socket may send."""
        return get_settings().SOCKET_RATE

    @property
    def byte_rate(self) -> Rate | None:
        """How many bytes one socket may send."""
        return get_settings().SOCKET_BYTE_RATE

    async def admit_message(self, size: int) -> None:
        """Refuse what exceeds the rates of this socket."""
        now = time.monotonic()
        if (rate := self.message_rate) is not None:
            self._message_bucket = self._message_bucket or TokenBucket(rate, now)
            if not self._message_bucket.take(1, now) and self.exceeds("SOCKET_RATE"):
                raise _limited(f"{rate.amount:g} messages per {rate.seconds:g} s on one connection")
        if (rate := self.byte_rate) is not None:
            self._byte_bucket = self._byte_bucket or TokenBucket(rate, now)
            if not self._byte_bucket.take(size, now) and self.exceeds("SOCKET_BYTE_RATE"):
                raise _limited(f"{rate.amount:g} bytes per {rate.seconds:g} s on one connection")
        await super().admit_message(size)

    def forgive_message(self) -> None:
        """Give this socket its message back; its bytes count."""
        if self._message_bucket is not None:
            self._message_bucket.give_back(1)
        super().forgive_message()


class UserRateLimitMixin(MessageGate):
    """Limits messages per user over all sockets and processes, and bytes over all sockets; needs `self.user_id`.

    Messages are counted in windows of the rate's seconds in Django's default cache, which all processes must share. A
    process takes a tenth of the window's amount at a time, so that it seldom asks; if the cache fails it counts alone.
    Bytes are counted by each process for itself, for they stand for its time.
    """

    user_id: Any

    @property
    def user_rate(self) -> Rate | None:
        """How many messages one user may send."""
        return get_settings().USER_RATE

    @property
    def user_byte_rate(self) -> Rate | None:
        """How many bytes one user may send to one process."""
        return get_settings().USER_BYTE_RATE

    async def admit_message(self, size: int) -> None:
        """Refuse what exceeds the rates of this user."""
        rate = self.user_byte_rate
        if (
            rate is not None
            and not _bytes_of(user_keys().name(self.user_id), rate).take(size, time.monotonic())
            and self.exceeds("USER_BYTE_RATE")
        ):
            raise _limited(f"{rate.amount:g} bytes per {rate.seconds:g} s for one user")
        rate = self.user_rate
        if rate is not None and not await _Share("", self.user_id, rate).take() and self.exceeds("USER_RATE"):
            raise _limited(f"{rate.amount:g} messages per {rate.seconds:g} s for one user")
        await super().admit_message(size)

    def forgive_message(self) -> None:
        """Give this user the message back; its bytes count."""
        if (rate := self.user_rate) is not None:
            _Share("", self.user_id, rate).give_back()
        super().forgive_message()


class RefusedMessages:
    """Counts the messages of one connection that were refused: after too many it is closed."""

    RATES = {CloseCode.BAD_REQUEST: Rate(10, 60), CloseCode.RATE_LIMITED: Rate(60, 60)}

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[CloseCode, TokenBucket] = {}

    def count(self, error: MessageError) -> CloseCode | None:
        """Count a refused message; return the code to close the connection with if that was one too many."""
        code = CloseCode.RATE_LIMITED if error.code == "rate_limited" else CloseCode.BAD_REQUEST
        now = time.monotonic()
        bucket = self._buckets.setdefault(code, TokenBucket(self.RATES[code], now))
        return None if bucket.take(1, now) else code


def _limited(what: str) -> MessageError:
    return MessageError(f"too fast: at most {what}", code="rate_limited")


_bytes_by_user: dict[tuple[str, Rate], TokenBucket] = {}


def _bytes_of(user: str, rate: Rate) -> TokenBucket:
    bucket = _bytes_by_user.get((user, rate))
    if bucket is None:
        if len(_bytes_by_user) >= MAX_ALLOWANCES:
            _bytes_by_user.clear()  # costs at most a burst for each user
        bucket = _bytes_by_user[user, rate] = TokenBucket(rate, time.monotonic())
    return bucket


async def admit_request(user_id: Any) -> None:
    """Count an HTTP request of a user; raise Refused (4429) if it exceeds `REQUEST_RATE`."""
    if (rate := get_settings().REQUEST_RATE) is not None:
        share = _Share("request.", user_id, rate)
        _refuse_unless(await share.take(), share)


def admit_request_here(user_id: Any) -> None:
    """The same, in a thread that may wait."""
    if (rate := get_settings().REQUEST_RATE) is not None:
        share = _Share("request.", user_id, rate)
        _refuse_unless(share.take_here(), share)


def _refuse_unless(is_taken: bool, share: _Share) -> None:  # noqa: FBT001 - reads as a sentence
    if is_taken:
        return
    if share.is_first_refused():
        log_exceeded("REQUEST_RATE", user_id=str(share.user_id))
    if is_enforced():
        rate = share.rate
        raise Refused(
            CloseCode.RATE_LIMITED,
            "REQUEST_RATE",
            f"too fast: at most {rate.amount:g} requests per {rate.seconds:g} s for one user",
            retry_after=math.ceil(rate.seconds - time.time() % rate.seconds),
        )


@dataclass(slots=True)
class _Allowance:
    window: float
    left: int = 0
    is_spent: bool = False
    was_refused: bool = False


_allowances: dict[tuple[str, str, Rate], _Allowance] = {}
_counting = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Share:
    """What one user may have of a rate that all processes count together; `kind` tells apart what is counted."""

    kind: str
    user_id: Any
    rate: Rate

    async def take(self) -> bool:
        """Take one, or return False; the cache is asked in a thread of its own."""
        allowance = self._allowance()
        if self._has_to_ask(allowance):
            try:
                async with asyncio.timeout(CACHE_SECONDS):
                    granted = await CACHE.run(_lease, *self._lease_of(allowance))
            except Exception as error:
                self._count_alone(allowance, error)
            else:
                self._add(allowance, granted)
        return self._take(allowance)

    def take_here(self) -> bool:
        """The same, in a thread that may wait."""
        allowance = self._allowance()
        if self._has_to_ask(allowance):
            asked = CACHE.submit(_lease, *self._lease_of(allowance))
            try:
                granted = asked.result(CACHE_SECONDS)
            except Exception as error:
                asked.cancel()
                self._count_alone(allowance, error)
            else:
                self._add(allowance, granted)
        return self._take(allowance)

    def give_back(self) -> None:
        """Count for none what was taken."""
        allowance = self._allowance()
        with _counting:
            allowance.left += 1

    def is_first_refused(self) -> bool:
        """Tell whether nothing of this user's has been refused before in this process and window."""
        allowance = self._allowance()
        with _counting:
            was_refused, allowance.was_refused = allowance.was_refused, True
        return not was_refused

    @property
    def _block(self) -> int:
        return max(1, int(self.rate.amount) // LEASES_PER_WINDOW)

    def _allowance(self) -> _Allowance:
        key = (self.kind, user_keys().name(self.user_id), self.rate)
        window = time.time() // self.rate.seconds
        with _counting:
            allowance = _allowances.get(key)
            if allowance is None or allowance.window != window:
                if len(_allowances) >= MAX_ALLOWANCES:
                    _allowances.clear()  # costs at most a tenth of a window's amount for each user
                allowance = _allowances[key] = _Allowance(window)
        return allowance

    def _has_to_ask(self, allowance: _Allowance) -> bool:
        return allowance.left == 0 and not allowance.is_spent

    def _lease_of(self, allowance: _Allowance) -> tuple[str, int, Rate]:
        user = key_of(user_keys().name(self.user_id))
        key = f"orgrealtime.rate.{self.kind}{user}.{self.rate.seconds:g}.{allowance.window:.0f}"
        return key, self._block, self.rate

    def _add(self, allowance: _Allowance, granted: int) -> None:
        with _counting:
            allowance.left += granted
            allowance.is_spent = granted < self._block

    def _count_alone(self, allowance: _Allowance, error: Exception) -> None:
        logger.warning("the cache can't count, counting alone", extra={"error": type(error).__name__})
        with _counting:
            if not allowance.is_spent:  # another of the user's may have been first
                allowance.left += int(self.rate.amount)
            allowance.is_spent = True

    def _take(self, allowance: _Allowance) -> bool:
        with _counting:
            if allowance.left == 0:
                return False
            allowance.left -= 1
            return True


def _lease(key: str, block: int, rate: Rate) -> int:
    cache.add(key, 0, timeout=rate.seconds * 2 + 1)  # backends cut it to whole seconds
    taken = cache.incr(key, block)
    return int(max(0, min(block, rate.amount - (taken - block))))
