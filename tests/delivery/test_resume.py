"""Where a connection begins without the database being asked: what can't be told from the tail would fail here."""

from __future__ import annotations

from typing import Any

import pytest

from orgrealtime.access import Access
from orgrealtime.delivery.feed import Feed, FeedReader
from orgrealtime.delivery.registry import Registry
from orgrealtime.delivery.resume import Start, find_start
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.protocol.query_string import Beginning
from orgrealtime.stream.types import StreamEvent
from tests.virtual import virtually

EPOCH = "0a1b2c3d"
STANDS = Position(EPOCH, 10, 0)
MEMBER = Access(1, 7)


class RecentFeed(Feed):
    """A feed that knows the events up to its head; those for others are the even ones."""

    def __init__(self, known: int, head: int) -> None:
        super().__init__(1, Position(EPOCH, head - known, 0), FeedReader(lambda: None), Registry())
        audiences = [frozenset({8}), None]
        numbers = range(head - known + 1, head + 1)
        self.tail.extend([StreamEvent(seq, "note", "{}", audiences[seq % 2]) for seq in numbers], head)
        self.reached_back = 0

    async def reach_back(self) -> None:
        self.reached_back += 1


class Opened:
    """As much of a hub as a connection needs to begin."""

    def __init__(self, known: int, head: int = 10) -> None:
        self.feed = RecentFeed(known, head)

    def open_feed(self, organization_id: Any, position: Position) -> Feed:
        return self.feed


async def start_of(beginning: Beginning, *, known: int, head: int = 10, position: Position = STANDS) -> Start:
    hub: Any = Opened(known, head)
    return await find_start(hub, 1, MEMBER, beginning, position)


@virtually
async def test_who_says_nothing_begins_at_the_head() -> None:
    assert await start_of(Beginning(), known=0) == Start(STANDS, 10)


@virtually
async def test_who_is_at_the_head_goes_on_there_though_the_tail_knows_nothing() -> None:
    assert await start_of(Beginning(since=Cursor(EPOCH, 10)), known=0) == Start(STANDS, 10)


@virtually
async def test_who_was_away_goes_on_at_its_cursor_if_the_tail_reaches_back() -> None:
    start = await start_of(Beginning(since=Cursor(EPOCH, 6)), known=4)
    assert (start, start.cursor) == (Start(STANDS, 6), Cursor(EPOCH, 6))


@pytest.mark.parametrize(
    ("cursor", "position", "reason"),
    [
        (Cursor("ffffffff", 3), STANDS, "epoch"),
        (Cursor(EPOCH, 11), STANDS, "ahead"),
        (Cursor(EPOCH, 3), Position(EPOCH, 10, 4), "retention"),
    ],
)
@virtually
async def test_who_may_have_missed_something_is_reset_to_the_head(
    cursor: Cursor, position: Position, reason: str
) -> None:
    start = await start_of(Beginning(since=cursor), known=10, position=position)
    assert start.reset is not None
    assert (start.reset.reason, start.seq, start.page) == (reason, 10, None)


@pytest.mark.parametrize(("last", "seq"), [(1, 8), (2, 6), (5, 0)])
@virtually
async def test_last_events_are_those_that_this_member_may_see(last: int, seq: int) -> None:
    assert await start_of(Beginning(last=last), known=10) == Start(STANDS, seq)


@virtually
async def test_who_asks_for_more_than_there_are_gets_all_that_is_left() -> None:
    pruned = Position(EPOCH, 10, 4)
    assert await start_of(Beginning(last=100), known=6, position=pruned) == Start(pruned, 4)


@pytest.mark.parametrize("beginning", [Beginning(since=Cursor(EPOCH, 3)), Beginning(last=5)])
async def test_tail_is_made_longer_once_where_it_is_too_short_and_then_the_database_is_asked(
    beginning: Beginning,
) -> None:
    hub: Any = Opened(known=2)
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        await find_start(hub, 1, MEMBER, beginning, STANDS)
    assert hub.feed.reached_back == 1
