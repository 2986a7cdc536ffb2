"""A feed's recent events: put before its tail only where they join it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orgrealtime import stream
from orgrealtime.concurrency import threads as pools
from orgrealtime.delivery.feed import Feed, FeedReader
from orgrealtime.delivery.registry import Registry
from orgrealtime.delivery.tail import Tail
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import Page
from orgrealtime.stream.types import StreamEvent
from tests.waiting import LIMIT_SECONDS, limit

EPOCH = "0a1b2c3d"


def event(seq: int) -> StreamEvent:
    return StreamEvent(seq, "note", "{}")


def feed_at(head: int) -> Feed:
    return Feed(1, Position(EPOCH, head, 0), FeedReader(lambda: None), Registry())


def page(first: int, head: int) -> Page:
    return Page(Position(EPOCH, head, 0), [event(seq) for seq in range(first, head + 1)], head, False)


@pytest.mark.parametrize(("start", "reaches"), [(100, 50), (99, 50), (60, 50), (101, 101), (123, 123)])
async def test_recent_events_are_kept_only_if_nothing_is_missing_after_them(
    monkeypatch: pytest.MonkeyPatch, start: int, reaches: int
) -> None:
    """The window may have moved on while they were read: what lies between is then in neither."""
    monkeypatch.setattr(stream, "read_recent", lambda *_: page(51, 100))
    feed = feed_at(100)
    feed.tail = Tail(start)
    feed.tail.extend([event(seq) for seq in range(start + 1, 130)], 129)
    await feed.reach_back()
    assert feed.tail.start == reaches
    found = feed.tail.after(feed.tail.start)
    assert found is not None
    assert [each.seq for each in found] == list(range(reaches + 1, 130))
    pools.close_all()


async def test_recent_events_of_another_epoch_are_none_of_this_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = page(51, 100)._replace(position=Position("ffffffff", 100, 0))
    monkeypatch.setattr(stream, "read_recent", lambda *_: other)
    feed = feed_at(100)
    await feed.reach_back()
    assert not feed.covers(Cursor(EPOCH, 99))
    pools.close_all()


async def test_who_waits_for_recent_events_goes_on_when_the_feed_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_asked, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(stream, "read_recent", lambda *_: (is_asked.set(), goes_on.wait(LIMIT_SECONDS * 2)))
    feed = feed_at(100)
    waiting = asyncio.create_task(feed.reach_back())
    await asyncio.to_thread(is_asked.wait, LIMIT_SECONDS)
    feed.stop()
    try:
        async with limit("what waits for the feed goes on"):
            await waiting
    finally:
        goes_on.set()
        pools.close_all()
