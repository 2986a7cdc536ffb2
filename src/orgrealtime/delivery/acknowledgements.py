"""Acknowledgements: how far a client says that it has come, and how long it may be waited for (protocol, "ack")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orgrealtime.conf import get_settings

MAX_UNACKNOWLEDGED = 2000


class Acknowledgements:
    """What a client has acknowledged, made at its first acknowledgement: only clients that do it are held to it.

    On some servers it is the only sign of a client that doesn't read. `sent` is how many events it has got so far.
    """

    __slots__ = ("_seq", "_timer", "_unacknowledged")

    def __init__(self, sent: int) -> None:
        self._seq = -1
        self._unacknowledged = sent
        self._timer: asyncio.TimerHandle | None = None

    def add_sent(self, events: int) -> None:
        """Note that so many more events have been sent."""
        self._unacknowledged += events

    def acknowledge(self, seq: int, sent_seq: int) -> int:
        """Note that all events up to number `seq` have been handled; return how many more than before.

        `sent_seq` is the number up to which events have been sent.
        """
        if seq <= self._seq:
            return 0
        before, self._seq = self._unacknowledged, seq
        self._unacknowledged = min(before, sent_seq - seq)
        return before - self._unacknowledged

    def are_missing(self, give_up: Callable[[], None]) -> bool:
        """Tell whether more events are unacknowledged than may be; `give_up` is called if that lasts too long."""
        if self._unacknowledged < MAX_UNACKNOWLEDGED:
            self.stop()
            return False
        if self._timer is None:
            loop, seconds = asyncio.get_running_loop(), get_settings().SEND_TIMEOUT_SECONDS
            self._timer = loop.call_later(seconds, give_up)
        return True

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
