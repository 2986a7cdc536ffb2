"""A chunk gives every reader what its access lets through, and encodes once for those who see the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.access import Access
from orgrealtime.delivery import chunks
from orgrealtime.delivery.chunks import Chunk, Frame, cut
from orgrealtime.protocol import wire
from orgrealtime.stream.types import StreamEvent

USERS = range(1, 5)
TYPES = ("note", "task", "alarm")

audiences = st.none() | st.frozensets(st.sampled_from(USERS), max_size=3)
accesses = st.builds(
    Access,
    organization_id=st.just(1),
    user_id=st.sampled_from([*USERS, 99]),
    event_types=st.none() | st.frozensets(st.sampled_from([*TYPES, "other"]), max_size=3),
)


def cursor_at(seq: int) -> str:
    return f"0a1b2c3d.{seq}"


def event(
    seq: int, type: str = "note", audience: frozenset[int] | None = None, *, size: int = 0
) -> StreamEvent:
    text = wire.encode({"type": type, "cursor": cursor_at(seq), "filling": "x" * size})
    return StreamEvent(seq, type, text, audience)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[StreamEvent], int]:
    """Events in order, poison gaps between and after them, and the number where the run ends."""
    seq, events = 0, []
    for gap in draw(st.lists(st.integers(1, 3), max_size=8)):
        seq += gap
        events.append(event(seq, draw(st.sampled_from(TYPES)), draw(audiences)))
    return events, seq + draw(st.integers(0, 2))


def events_of(frame: Frame | None) -> list[dict[str, Any]]:
    if frame is None:
        return []
    content = json.loads(frame.message["text"])
    return content["events"] if content["type"] == "batch" else [content]


def seqs(frame: Frame | None) -> list[int]:
    return [int(event["cursor"].partition(".")[2]) for event in events_of(frame)]


@given(runs(), st.lists(accesses, max_size=6))
def test_every_reader_gets_what_its_access_sees(
    run: tuple[list[StreamEvent], int], readers: list[Access]
) -> None:
    events, end = run
    shared = Chunk(events, end, cursor_at(end))
    for access in readers:
        assert seqs(shared.frame_for(access)) == [event.seq for event in events if access.sees(event)]


@given(runs(), accesses)
def test_rendering_unchanged_gives_the_shared_message(
    run: tuple[list[StreamEvent], int], access: Access
) -> None:
    events, end = run
    shared = Chunk(events, end, cursor_at(end))
    assert shared.rendered_for(access, lambda text: text) == shared.frame_for(access)


@given(runs(), accesses)
def test_reader_stands_at_the_end_after_the_message(
    run: tuple[list[StreamEvent], int], access: Access
) -> None:
    events, end = run
    frame = Chunk(events, end, cursor_at(end)).frame_for(access)
    assert frame is None or json.loads(frame.message["text"])["cursor"] == cursor_at(end)


@given(runs(), accesses)
def test_cutting_loses_and_repeats_nothing(run: tuple[list[StreamEvent], int], access: Access) -> None:
    events, end = run
    chunks = list(cut(events, end, cursor_at))
    got = [seq for part in chunks for seq in seqs(part.frame_for(access))]
    assert (got, chunks[-1].seq) == ([event.seq for event in events if access.sees(event)], end)


def test_readers_of_the_same_share_one_message() -> None:
    shared = Chunk([event(1), event(2, audience=frozenset({1}))], 2, cursor_at(2))
    assert shared.frame_for(Access(1, 2)) is shared.frame_for(Access(1, 3))


def test_readers_of_different_things_dont_share() -> None:
    shared = Chunk([event(1), event(2, audience=frozenset({1}))], 2, cursor_at(2))
    assert seqs(shared.frame_for(Access(1, 1))) == [1, 2]
    assert seqs(shared.frame_for(Access(1, 2))) == [1]


def test_reader_who_may_see_nothing_gets_no_message() -> None:
    assert Chunk([event(1, audience=frozenset({1}))], 1, cursor_at(1)).frame_for(Access(1, 2)) is None


def test_event_alone_goes_out_as_its_own_frame() -> None:
    frame = Chunk([event(1)], 1, cursor_at(1)).frame_for(Access(1, 2))
    assert frame == Frame({"type": "websocket.send", "text": event(1).text}, 1)


def test_event_before_a_hidden_one_goes_out_with_the_cursor_past_both() -> None:
    frame = Chunk([event(1), event(2, audience=frozenset())], 2, cursor_at(2)).frame_for(Access(1, 2))
    assert frame is not None
    assert json.loads(frame.message["text"]) == {
        "type": "batch",
        "events": [json.loads(event(1).text)],
        "cursor": cursor_at(2),
    }


def test_event_hidden_by_rendering_isnt_sent() -> None:
    shared = Chunk([event(1, "note"), event(2, "task")], 2, cursor_at(2))
    assert seqs(shared.rendered_for(Access(1, 2), lambda text: None if "task" in text else text)) == [1]


def test_chunks_hold_at_most_so_many_events() -> None:
    events = [event(seq) for seq in range(1, 2 * chunks.MAX_EVENTS + 2)]
    sizes = [len(part.events) for part in cut(events, len(events), cursor_at)]
    assert sizes == [chunks.MAX_EVENTS, chunks.MAX_EVENTS, 1]


def test_chunks_hold_at_most_so_much_text() -> None:
    events = [event(seq, size=chunks.MAX_CHARS // 3) for seq in range(1, 6)]
    assert [len(part.events) for part in cut(events, 5, cursor_at)] == [2, 2, 1]


def test_event_larger_than_a_chunk_goes_alone() -> None:
    events = [event(1), event(2, size=2 * chunks.MAX_CHARS), event(3)]
    assert [[each.seq for each in part.events] for part in cut(events, 3, cursor_at)] == [[1], [2], [3]]


def test_run_of_poison_alone_is_one_empty_chunk() -> None:
    (only,) = cut([], 5, cursor_at)
    assert (only.seq, only.cursor, only.frame_for(Access(1, 2))) == (5, cursor_at(5), None)
