"""The tail is a window over a dense stream, whatever is appended and however little fits."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orgrealtime.delivery.tail import Tail
from orgrealtime.stream.types import StreamEvent


def event(seq: int, size: int = 1) -> StreamEvent:
    return StreamEvent(seq, "note", "x" * size)


class TailAgainstList(RuleBasedStateMachine):
    """Compares a tail with the list of everything that was ever appended."""

    @initialize(start=st.integers(0, 5), max_events=st.integers(1, 6), max_chars=st.integers(1, 30))
    def begin(self, start: int, max_events: int, max_chars: int) -> None:
        self.bounds = max_events, max_chars
        self.first = self.head = start
        self.everything = [event(seq, seq) for seq in range(1, start + 1) if seq != 2]  # number 2 is poison
        self.offered: set[int] = set()
        self.tail = Tail(start, max_events=max_events, max_chars=max_chars)

    @rule(
        gaps=st.lists(st.integers(0, 2), max_size=8), size=st.integers(0, 12), poison_at_end=st.integers(0, 2)
    )
    def extend(self, gaps: list[int], size: int, poison_at_end: int) -> None:
        # Each gap is a number of poison rows, which have numbers but give no event.
        events = []
        for gap in gaps:
            self.head += gap + 1
            events.append(event(self.head, size))
        self.head += poison_at_end
        self.everything += events
        self.offered |= {event.seq for event in events}
        self.tail.extend(events, self.head)

    @rule(count=st.integers(0, 8))
    def prepend(self, count: int) -> None:
        before = [event for event in self.everything if event.seq <= self.tail.start]
        events = before[max(0, len(before) - count) :]
        self.offered |= {event.seq for event in events}
        self.tail.prepend(events, events[0].seq - 1 if events else self.tail.start)

    @rule()
    def prepend_what_is_there(self) -> None:
        if kept := self.tail.after(self.tail.start):
            with pytest.raises(ValueError, match="isn't before the window"):
                self.tail.prepend(kept[:1], kept[0].seq - 1)

    @rule(count=st.integers(1, 8), parity=st.sampled_from([(0,), (1,), (0, 1)]))
    def find_the_last(self, count: int, parity: tuple[int, ...]) -> None:
        wanted = [event.seq for event in self.tail.after(self.tail.start) or [] if event.seq % 2 in parity]
        found = self.tail.before_last(count, lambda event: event.seq % 2 in parity)
        assert found == (wanted[-count] - 1 if len(wanted) >= count else None)

    @rule(back=st.integers(0, 3))
    def extend_with_what_isnt_new(self, back: int) -> None:
        with pytest.raises(ValueError, match="isn't beyond the head"):
            self.tail.extend([event(self.head - back)], self.head)

    @invariant()
    def gives_every_reader_all_that_follows_or_nothing_at_all(self) -> None:
        for seq in range(-1, self.head + 2):
            found = self.tail.after(seq)
            if seq < self.tail.start:
                assert found is None
            else:
                assert found == [event for event in self.everything if event.seq > seq]

    @invariant()
    def stays_within_its_bounds(self) -> None:
        kept = self.tail.after(self.tail.start)
        assert kept is not None
        assert len(self.tail) == len(kept) <= self.bounds[0]
        assert sum(len(event.text) for event in kept) <= self.bounds[1]

    @invariant()
    def drops_nothing_that_fits(self) -> None:
        dropped = [
            event for event in self.everything if event.seq <= self.tail.start and event.seq in self.offered
        ]
        if dropped:
            kept = [dropped[-1], *(self.tail.after(self.tail.start) or [])]
            assert len(kept) > self.bounds[0] or sum(len(event.text) for event in kept) > self.bounds[1]

    @invariant()
    def stands_at_the_head(self) -> None:
        assert self.tail.head == self.head


TestTailAgainstList = TailAgainstList.TestCase


def test_new_tail_has_nothing_for_a_reader_at_its_start() -> None:
    assert Tail(7).after(7) == []


def test_new_tail_doesnt_know_what_came_before() -> None:
    assert Tail(7).after(6) is None


def test_event_larger_than_the_bound_is_left_to_the_database() -> None:
    tail = Tail(0, max_chars=10)
    tail.extend([event(1, 11)], 1)
    assert (len(tail), tail.after(0), tail.after(1)) == (0, None, [])


def test_head_doesnt_go_back() -> None:
    tail = Tail(0)
    tail.extend([event(1), event(2)], 1)
    assert tail.head == 2
