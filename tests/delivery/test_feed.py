"""Feeds: those that are behind at once are read together, and recent events are put only where they join the tail."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DataError
from django.db.models import F

from orgrealtime import stream
from orgrealtime.concurrency import batching
from orgrealtime.concurrency import threads as pools
from orgrealtime.delivery import bell
from orgrealtime.delivery.feed import READS_ALONE, Feed, FeedReader
from orgrealtime.delivery.registry import Registry
from orgrealtime.delivery.tail import Tail
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Stream
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import Page, database, postgresql
from orgrealtime.stream.database import HANDSHAKE
from orgrealtime.stream.numbering import NUMBERING_BATCH
from orgrealtime.stream.types import StreamEvent
from tests.conftest import Instead, MakeOrg, MakeUser
from tests.host.models import Organization
from tests.sockets import Sockets, events_of, publish_event
from tests.threads import open_transaction
from tests.virtual import virtual_loop, virtually
from tests.waiting import LIMIT_SECONDS, eventually, limit

# Reading together

Cursors = Mapping[Any, Cursor]


class Gate:
    """Stands before `stream.follow`: notes for how many it is called, and is closed until it is opened."""

    def __init__(self, follow: Any) -> None:
        self.groups: list[int] = []
        self.fails_for: Any = None
        self.leaves_out: list[set[Any]] = []  # at each call to come
        self.is_open = threading.Event()
        self._follow = follow

    def __call__(self, cursors: Cursors) -> dict[Any, Page | StreamReset]:
        self.groups.append(len(cursors))
        assert self.is_open.wait(LIMIT_SECONDS)
        if self.fails_for in cursors:
            raise DataError("this one is too much")
        left_out = self.leaves_out.pop(0) if self.leaves_out else set()
        found: dict[Any, Page | StreamReset] = self._follow(cursors)
        return {key: page for key, page in found.items() if key not in left_out}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setattr(
        batching, "HELD_UP_SECONDS", LIMIT_SECONDS
    )  # a closed gate is no batch that is held up
    gate = Gate(stream.follow)
    monkeypatch.setattr(stream, "follow", gate)
    yield gate
    gate.is_open.set()


@pytest.fixture
async def reader(transactional_db: None, gate: Gate) -> AsyncIterator[FeedReader]:
    reader = FeedReader(lambda: None)
    yield reader
    gate.is_open.set()
    await reader.close()
    pools.close_all()


@pytest.fixture
def orgs(transactional_db: None, make_org: MakeOrg) -> list[Organization]:
    return [make_org(f"org-{number}") for number in range(6)]


async def cursor_of(org: Organization) -> Cursor:
    return Cursor((await Stream.objects.aget(pk=org.pk)).epoch, 0)


async def read_all_at_once(
    reader: FeedReader, gate: Gate, orgs: list[Organization]
) -> list[Page | BaseException]:
    """Read for the first, and while that takes, for all others."""
    reading = [asyncio.create_task(reader.read(orgs[0].pk, await cursor_of(orgs[0])))]
    await eventually(lambda: gate.groups)
    reading += [asyncio.create_task(reader.read(org.pk, await cursor_of(org))) for org in orgs[1:]]
    await asyncio.sleep(0)
    gate.is_open.set()
    return await asyncio.gather(*reading, return_exceptions=True)


async def test_feeds_that_are_behind_meanwhile_are_read_together(
    reader: FeedReader, gate: Gate, orgs: list[Organization]
) -> None:
    for org in orgs:
        await publish_event(org)
    found = await read_all_at_once(reader, gate, orgs)
    assert [page.seq for page in found if isinstance(page, Page)] == [1] * 6
    assert gate.groups == [1, 5]


async def test_organisation_that_cant_be_read_is_its_own_failure_only(
    reader: FeedReader, gate: Gate, orgs: list[Organization]
) -> None:
    for org in orgs:
        await publish_event(org)
    gate.fails_for = orgs[3].pk
    found = await read_all_at_once(reader, gate, orgs)
    assert [type(each) for each in found] == [Page, Page, Page, DataError, Page, Page]
    assert gate.groups == [1, 5, 1, 1, 1, 1, 1]


async def test_two_that_follow_the_same_organisation_each_get_what_is_after_their_own_cursor(
    reader: FeedReader, gate: Gate, acme: Organization, globex: Organization
) -> None:
    """As when a feed has been given up for one of another epoch, and still waits."""
    for _ in range(3):
        await publish_event(acme)
    await database.LIVE.run(stream.position, acme)
    start = await cursor_of(acme)
    first = asyncio.create_task(reader.read(globex.pk, await cursor_of(globex)))
    await eventually(lambda: gate.groups)
    both = [asyncio.create_task(reader.read(acme.pk, start._replace(seq=seq))) for seq in (0, 2)]
    await asyncio.sleep(0)
    gate.is_open.set()
    found = await asyncio.gather(*both)
    assert [[event.seq for event in page.events] for page in found] == [[1, 2, 3], [3]]
    await first


async def test_those_that_are_far_behind_read_by_turns_and_leave_room_for_the_others(
    reader: FeedReader,
    gate: Gate,
    orgs: list[Organization],
    acme: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after bursts in several organisations at once: each gets a page, and then it is the next one's turn."""
    order: list[Any] = []
    is_open = threading.Event()
    follow_one = stream.follow_one

    def follow(organization_id: Any, after: Cursor) -> Any:
        order.append(organization_id)
        assert is_open.wait(LIMIT_SECONDS)
        return follow_one(organization_id, after)

    async def pages(org: Organization, after: Cursor) -> None:
        for _ in range(2):
            await reader.read(org.pk, after, is_far_behind=True)

    cursors = [(org, await cursor_of(org)) for org in orgs]
    monkeypatch.setattr(stream, "follow_one", follow)
    gate.is_open.set()
    await publish_event(acme)
    behind = [asyncio.create_task(pages(org, after)) for org, after in cursors]
    try:
        await eventually(lambda: len(order) == READS_ALONE)
        async with limit("another's event, while those that are far behind read"):
            assert (await reader.read(acme.pk, await cursor_of(acme))).seq == 1
        assert len(order) == READS_ALONE
    finally:
        is_open.set()
    await asyncio.gather(*behind)
    keys = {org.pk for org in orgs}
    assert ({*order[:6]}, {*order[6:]}) == (keys, keys), "one had a second page before all had their first"


async def test_feed_goes_on_by_itself_after_a_burst(
    sockets: Sockets, alice: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    read = FeedReader.read

    async def noting(self: FeedReader, *args: Any, is_far_behind: bool = False) -> Page:
        asked.append(is_far_behind)
        return await read(self, *args, is_far_behind=is_far_behind)

    monkeypatch.setattr(FeedReader, "read", noting)
    socket = await (await sockets.open(alice)).synced()
    count = 2 * NUMBERING_BATCH + 10
    await NotificationEvent.objects.abulk_create(
        NotificationEvent(organization=acme, type="note", payload={"n": number}) for number in range(count)
    )
    bell.ring(acme.pk)
    assert [event["n"] for event in await socket.next_events(count)] == list(range(count))
    assert (asked[0], True in asked) == (False, True)


async def test_who_is_told_to_reset_is_so_alone(
    reader: FeedReader, gate: Gate, acme: Organization, globex: Organization, orgs: list[Organization]
) -> None:
    first = asyncio.create_task(reader.read(orgs[0].pk, await cursor_of(orgs[0])))
    await eventually(lambda: gate.groups)
    fine = asyncio.create_task(reader.read(acme.pk, await cursor_of(acme)))
    other = asyncio.create_task(reader.read(globex.pk, Cursor("ffffffff", 0)))
    await asyncio.sleep(0)
    gate.is_open.set()
    assert isinstance(await fine, Page)
    with pytest.raises(StreamReset):
        await other
    assert gate.groups == [1, 2]
    await first


async def test_those_that_somebody_else_numbers_are_read_in_the_next_round(
    reader: FeedReader, gate: Gate, orgs: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together once more: the others have numbered them by then."""
    monkeypatch.setattr(stream, "follow_one", lambda *_: pytest.fail("it was waited for"))
    gate.leaves_out = [set(), {org.pk for org in orgs[1:4]}]
    found = await read_all_at_once(reader, gate, orgs)
    assert [page.seq for page in found if isinstance(page, Page)] == [0] * 6
    assert gate.groups == [1, 5, 3]


async def test_stream_that_stays_locked_is_waited_for_by_its_own_reader(
    reader: FeedReader, gate: Gate, orgs: list[Organization], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Any] = []
    follow_one = stream.follow_one

    def wait(organization_id: Any, after: Cursor) -> Any:
        waits.append(organization_id)
        return follow_one(organization_id, after)

    monkeypatch.setattr(stream, "follow_one", wait)
    gate.leaves_out = [set(), {orgs[2].pk}, {orgs[2].pk}]
    found = await read_all_at_once(reader, gate, orgs)
    assert all(isinstance(page, Page) for page in found)
    assert waits == [orgs[2].pk]


async def test_organisation_whose_stream_is_locked_holds_up_no_other(
    sockets: Sockets,
    make_user: MakeUser,
    acme: Organization,
    globex: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both: User = await database.LIVE.run(make_user, "both", acme, globex)
    hers, his = [await (await sockets.open(both, slug)).synced() for slug in ("acme", "globex")]
    lock = open_transaction(lambda: list(Stream.objects.select_for_update().filter(pk=acme.pk)))
    await asyncio.to_thread(lock.__enter__)
    # Who waits for the lock waits longer than the test.
    monkeypatch.setattr(
        postgresql, "PATIENCE", f"set_config('lock_timeout', '{LIMIT_SECONDS * 2000:.0f}', TRUE)"
    )
    try:
        for number in range(5):
            await asyncio.gather(publish_event(acme, n=number), publish_event(globex, n=number))
            assert [event["n"] for event in await his.next_events(1)] == [number]
        assert await hers.receive_nothing()
    finally:
        await asyncio.to_thread(lock.__exit__, None, None, None)
    assert [event["n"] for event in await hers.next_events(5)] == list(range(5))


# Recent events

EPOCH = "0a1b2c3d"


def event(seq: int) -> StreamEvent:
    return StreamEvent(seq, "note", "{}")


def feed_at(head: int) -> Feed:
    return Feed(1, Position(EPOCH, head, 0), FeedReader(lambda: None), Registry())


def page(first: int, head: int) -> Page:
    return Page(Position(EPOCH, head, 0), [event(seq) for seq in range(first, head + 1)], head, False)


@pytest.mark.parametrize(("start", "reaches"), [(100, 50), (99, 50), (60, 50), (101, 101), (123, 123)])
async def test_recent_events_are_kept_only_if_nothing_is_missing_after_them(
    instead: Instead, start: int, reaches: int
) -> None:
    """The window may have moved on while they were read: what lies between is then in neither."""
    instead(HANDSHAKE, stream.read_recent, lambda *_: page(51, 100))
    feed = feed_at(100)
    feed.tail = Tail(start)
    feed.tail.extend([event(seq) for seq in range(start + 1, 130)], 129)
    await feed.reach_back()
    assert feed.tail.start == reaches
    found = feed.tail.after(feed.tail.start)
    assert found is not None
    assert [each.seq for each in found] == list(range(reaches + 1, 130))
    pools.close_all()


async def test_recent_events_of_another_epoch_are_none_of_this_feed(instead: Instead) -> None:
    other = page(51, 100)._replace(position=Position("ffffffff", 100, 0))
    instead(HANDSHAKE, stream.read_recent, lambda *_: other)
    feed = feed_at(100)
    await feed.reach_back()
    assert not feed.covers(Cursor(EPOCH, 99))
    pools.close_all()


async def test_who_waits_for_recent_events_goes_on_when_the_feed_ends(instead: Instead) -> None:
    is_asked, goes_on = threading.Event(), threading.Event()

    def never_read(*_: object) -> None:
        is_asked.set()
        goes_on.wait(LIMIT_SECONDS * 2)

    instead(HANDSHAKE, stream.read_recent, never_read)
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


# Another history


@pytest.mark.parametrize("changed", [True, False], ids=["another event", "the same event"])
async def test_readers_are_reset_if_there_is_another_event_where_the_feed_stands(
    sockets: Sockets, alice: User, acme: Organization, changed: bool
) -> None:
    """An older database was put in place, as it was after a crash, and somebody has written past the feed."""
    socket = await (await sockets.open(alice)).synced()
    for _ in range(3):
        await publish_event(acme)
    await socket.next_events(3)
    events = NotificationEvent.objects.filter(organization=acme, seq=3)
    await events.aupdate(created_at=F("created_at") + datetime.timedelta(microseconds=changed))
    epoch = (await Stream.objects.aget(pk=acme.pk)).epoch
    await publish_event(acme)
    if changed:
        assert not events_of(await socket.until("reset"))
        await publish_event(acme)
    await socket.assert_event(
        "note"
    )  # the one before it may have come too, if the feed looked before it was there
    assert ((await Stream.objects.aget(pk=acme.pk)).epoch != epoch) == changed


@virtually
async def test_position_past_what_others_get_is_told_no_more_often_than_every_ten_seconds() -> None:
    told: list[float] = []

    class Reader:
        def send_cursor(self) -> None:
            told.append(virtual_loop().time())

    class FeedOfOne(Feed):
        connections: Any = [Reader()]

    feed = FeedOfOne(1, Position("e", 0, 0), FeedReader(lambda: None), Registry())
    for _ in range(350):
        feed.owe_cursors()  # as after each event
        await asyncio.sleep(0.1)
    feed.stop()
    assert len(told) == 3
    assert all(later - earlier > 9.9 for earlier, later in itertools.pairwise(told))
