"""The newest events of one organisation, encoded, in a bounded buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from orgrealtime.stream.types import StreamEvent


class Tail:
    """A window over a dense stream: all events with `start < seq <= head`, nothing else.

    Bounded by `max_events` and by `max_chars` of their weight; what is dropped is still in the database.
    """

    def __init__(self, start: int, *, max_events: int = 1000, max_chars: int = 2**20) -> None:
        self.start = start
        self.head = start
        self._events: deque[StreamEvent] = deque()
        self._chars = 0
        self._max_events = max_events
        self._max_chars = max_chars

    def __len__(self) -> int:
        return len(self._events)

    def extend(self, events: list[StreamEvent], head: int) -> None:
        """Append what follows the head, in order, and drop the oldest over the bounds.

        Numbers without an event (`events` lacks them, `head` counts them) are poison rows: nobody gets them.
        Raises ValueError if an event isn't beyond the head, since readers would then miss or repeat something.
        """
        for event in events:
            if event.seq <= self.head:
                raise ValueError(f"event {event.seq} isn't beyond the head {self.head}")
            self._events.append(event)
            self._chars += event.weight
            self.head = event.seq
        self.head = max(self.head, head)
        while len(self._events) > self._max_events or self._chars > self._max_chars:
            dropped = self._events.popleft()
            self._chars -= dropped.weight
            self.start = dropped.seq

    def forget(self, subject: str) -> None:
        """Drop all up to the last event of a subject: what it said has been replaced in the database."""
        last = next((event.seq for event in reversed(self._events) if event.subject == subject), self.start)
        while self.start < last:
            dropped = self._events.popleft()
            self._chars -= dropped.weight
            self.start = dropped.seq

    def prepend(self, events: list[StreamEvent], start: int) -> None:
        """Put all events with `start < seq <= self.start` before the window, the newest first, while there is room.

        Raises ValueError if an event is in the window already.
        """
        if events and events[-1].seq > self.start:
            raise ValueError(f"event {events[-1].seq} isn't before the window, which starts at {self.start}")
        for event in reversed(events):
            if len(self._events) == self._max_events or self._chars + event.weight > self._max_chars:
                self.start = event.seq
                return
            self._events.appendleft(event)
            self._chars += event.weight
        self.start = min(self.start, start)

    def before_last(self, count: int, is_wanted: Callable[[StreamEvent], bool]) -> int | None:
        """Return the number before the last `count` wanted events, or None if there aren't so many in the window."""
        for event in reversed(self._events):
            if is_wanted(event):
                count -= 1
            if count == 0:
                return event.seq - 1
        return None

    def after(self, seq: int) -> list[StreamEvent] | None:
        """Return all events after `seq`, oldest first, or None if the window doesn't reach back that far."""
        if seq < self.start:
            return None
        if seq >= self.head:
            return []
        newest: list[StreamEvent] = []
        for event in reversed(self._events):
            if event.seq <= seq:
                break
            newest.append(event)
        newest.reverse()
        return newest
