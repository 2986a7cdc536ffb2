"""Rates and the token bucket that enforces them; the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` per `seconds` in the long run, and `burst` at once (default: `amount`)."""

    amount: float
    seconds: float
    burst: float | None = None

    def __post_init__(self) -> None:
        if self.amount <= 0 or self.seconds <= 0 or (self.burst is not None and self.burst <= 0):
            raise ValueError("a Rate needs a positive amount, seconds and burst")

    @property
    def capacity(self) -> float:
        """How much may come at once."""
        return self.amount if self.burst is None else self.burst


class TokenBucket:
    """A bucket that holds `rate.capacity` tokens and is refilled at the rate; `now` is a steady clock's seconds."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.capacity
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take `amount` tokens and return True, or take none and return False."""
        elapsed = max(0.0, now - self._at)
        self._at = now
        self._tokens = min(
            self._rate.capacity, self._tokens + elapsed * self._rate.amount / self._rate.seconds
        )
        if amount > self._tokens:
            return False
        self._tokens -= amount
        return True

    def give_back(self, amount: float) -> None:
        """Put back what was taken."""
        self._tokens = min(self._rate.capacity, self._tokens + amount)
