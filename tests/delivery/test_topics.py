"""Topics live: who has one gets its events from its grant up to its withdrawal, and others pay nothing for them."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import path

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.admission.lookup import Lookup
from orgrealtime.admission.rechecks import Rechecks
from orgrealtime.asgi import realtime
from orgrealtime.consumers import OrgConsumer
from orgrealtime.delivery import connection as connections
from orgrealtime.delivery.chunks import Chunk
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.feed import Feed, FeedReader
from orgrealtime.delivery.hub import get_hub
from orgrealtime.delivery.registry import Registry
from orgrealtime.delivery.tail import Tail
from orgrealtime.models import Stream
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import Page, StreamEvent, database, topics
from orgrealtime.stream.database import BACKLOG, HANDSHAKE
from tests.conftest import Configure, Instead, MakeUser
from tests.host.models import Organization, Seat
from tests.seats import Seats, rise, sit
from tests.sockets import Socket, Sockets, events_of, publish_event
from tests.waiting import LIMIT_SECONDS, eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def seats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_providers", [Seats()])


async def in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    return await database.LIVE.run(function, *args, **kwargs)


async def say(organization: Organization, text: str, topic: str | None = "room", **options: Any) -> Any:
    return await in_thread(publish, organization, "note", {"text": text}, topic=topic, **options)


async def texts(socket: Socket, last: str) -> list[str]:
    """What a socket gets up to the event with this text; events without a text by their types."""
    found: list[str] = []
    while last not in found:
        found += [event.get("text", event["type"]) for event in events_of([await socket.frame()])]
    return found


async def test_events_of_a_topic_come_from_its_grant_up_to_its_withdrawal(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    await in_thread(sit, acme, alice)
    first, second = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await say(acme, "before")
    await in_thread(sit, acme, bob)
    await say(acme, "together")
    await in_thread(rise, acme, bob)
    await say(acme, "after")
    await say(acme, "for all", topic=None)
    assert await texts(first, "for all") == ["before", "joined", "together", "left", "after", "for all"]
    assert await texts(second, "for all") == ["joined", "together", "for all"]


async def test_who_comes_back_gets_what_was_said_since_the_grant(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    start = (await in_thread(stream.position, acme)).cursor
    await say(acme, "before")
    await in_thread(sit, acme, alice)
    await say(acme, "said")
    await in_thread(sit, acme, bob)
    await in_thread(rise, acme, bob)
    await say(acme, "for all", topic=None)
    first = await sockets.open(alice, query=f"since={start}")
    assert await texts(first, "for all") == ["joined", "said", "joined", "left", "for all"]
    # Who has left gets nothing of what was said while they were there, either.
    other = await sockets.open(bob, query=f"since={start}")
    assert await texts(other, "for all") == ["for all"]


async def test_busy_topic_pushes_nothing_out_of_what_others_come_back_to(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    """Far more was said elsewhere than a page or the recent events of the feed hold."""
    start = (await in_thread(stream.position, acme)).cursor

    def say_much() -> None:
        with transaction.atomic():
            for number in range(1200):
                topic = "room" if number % 300 == 299 else "busy"
                publish(acme, "note", {"text": f"{topic} {number}"}, topic=topic)

    await in_thread(sit, acme, alice)
    await in_thread(say_much)
    expected = ["joined", "room 299", "room 599", "room 899", "room 1199"]
    socket = await sockets.open(alice, query=f"since={start}")
    assert await texts(socket, expected[-1]) == expected
    await say(acme, "live")
    assert await texts(socket, "live") == ["live"]
    (access,) = await in_thread(topics.with_topics, [Access(acme.pk, alice.pk)])
    beginning = Cursor(start.partition(".")[0], 0)
    page = await in_thread(stream.read, acme.pk, beginning, access=access)
    assert len(page.events) == len(expected) + 1
    assert not page.has_more


async def test_audience_and_topic_both_have_to_fit(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    start = (await in_thread(stream.position, acme)).cursor
    await in_thread(sit, acme, alice)
    first, second = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await say(acme, "both", to=[alice, bob])
    await say(acme, "bob's", to=[bob])
    await say(acme, "for all", topic=None)
    assert await texts(first, "for all") == ["both", "for all"]
    assert await texts(second, "for all") == ["for all"]
    again = await sockets.open(bob, query=f"since={start}")
    assert await texts(again, "for all") == ["for all"]


async def test_access_that_was_looked_up_before_a_grant_does_not_take_it_away(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    socket = await (await sockets.open(alice)).synced()
    (connection,) = get_hub().registry
    before = connection.access
    await in_thread(sit, acme, alice)
    await say(acme, "said")
    assert await texts(socket, "said") == ["joined", "said"]
    connection.admit(before, connection.checked + 1)  # the answer to a question that was asked before
    await say(acme, "still")
    assert await texts(socket, "still") == ["still"]
    await in_thread(rise, acme, alice)
    await say(acme, "for all", topic=None)
    assert await texts(socket, "for all") == ["for all"]
    sat = before.with_topics({"room": 1}, 1)
    connection.admit(sat, connection.checked + 1)
    await say(acme, "no more")
    await say(acme, "end", topic=None)
    assert await texts(socket, "end") == ["end"]


async def test_topic_that_ends_without_an_event_ends_with_the_next_check(
    sockets: Sockets, alice: User, acme: Organization, configure: Any
) -> None:
    configure(ACCESS_CHECK_SECONDS=0.2)
    await in_thread(sit, acme, alice)
    socket = await (await sockets.open(alice)).synced()
    (connection,) = get_hub().registry
    await Seat.objects.all().adelete()
    await eventually(lambda: not connection.access.topics)
    await say(acme, "no more")
    await say(acme, "end", topic=None)
    assert await texts(socket, "end") == ["end"]


async def test_what_a_reset_jumps_over_counts_all_the_same(
    sockets: Sockets, alice: User, bob: User, acme: Organization, configure: Configure
) -> None:
    """The stream has another epoch, and what granted and withdrew topics before it isn't passed any more."""
    configure(ACCESS_CHECK_SECONDS=3600)
    await in_thread(sit, acme, alice)
    hers, his = [await (await sockets.open(user)).synced() for user in (alice, bob)]

    def change() -> None:
        with transaction.atomic():  # so that no process looks in between
            rise(acme, alice)
            sit(acme, bob)
            Stream.objects.filter(pk=acme.pk).update(epoch="0abcdef0")

    await in_thread(change)
    await hers.until("reset")
    await his.until("reset")
    await say(acme, "said")
    await say(acme, "for all", topic=None)
    assert "said" not in await texts(hers, "for all")
    assert "said" in await texts(his, "for all")


class Room(OrgConsumer):
    def topic(self, access: Access) -> str | None:
        return str(self.scope["url_route"]["kwargs"]["room"])


ROOMS = realtime([path("ws/orgs/<slug:org_slug>/rooms/<str:room>/", Room.as_asgi())])


async def enter(user: User, room: str = "room", **query: Any) -> Socket:
    return await Socket.logged_in(
        user,
        await Organization.objects.aget(),
        application=ROOMS,
        path=f"/ws/orgs/{{slug}}/rooms/{room}/",
        **query,
    )


async def test_connection_to_one_topic_gets_nothing_else_and_ends_with_it(
    alice: User, bob: User, acme: Organization
) -> None:
    start = (await in_thread(stream.position, acme)).cursor
    await in_thread(sit, acme, alice)  # which has no number yet
    await in_thread(sit, acme, alice, "other")
    socket = await enter(alice, since=start)
    assert (await socket.connect())[0]
    for user, room in ((bob, "room"), (alice, "nowhere")):
        stranger = await enter(user, room)
        assert await stranger.connect() == (False, 4403)
    await say(acme, "other", topic="other")
    await say(acme, "mine", topic=None, to=[alice])
    await say(acme, "said")
    assert await texts(socket, "said") == ["joined", "said"]
    await in_thread(rise, acme, alice)
    await say(acme, "no more")
    assert (await socket.receive_output())["code"] == 4403


async def test_connection_to_one_topic_ends_though_a_page_has_told_that_it_is_withdrawn(feed: Feed) -> None:
    codes: list[int | None] = []
    access = Access(1, 1).with_topics({"room": 1}, 1).narrowed("room")
    reader = Counted("1", None, access, Cursor("e", 0), sent_nowhere, lambda: codes.append(reader.close_code))
    feed.add(reader)
    reader.start([], 3, Page(Position("e", 3, 0), [], 3, has_more=False, topics={}))
    assert codes == [4403]
    assert reader not in feed._topics.of(["room"])


# Grants in order, whatever the moment


async def test_what_changes_while_a_client_is_let_in_counts_from_its_first_event_on(
    sockets: Sockets, alice: User, bob: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_thread(sit, acme, alice)
    ask, changes = Lookup.position, [(sit, bob), (rise, alice)]

    async def position(self: Lookup, organization_id: Any) -> Position:
        await in_thread(changes[0][0], acme, changes.pop(0)[1])
        return await ask(self, organization_id)

    monkeypatch.setattr(Lookup, "position", position)
    # As where the process follows the organisation already, and nothing has it look at everybody's access anew.
    monkeypatch.setattr(Rechecks, "check_organization", lambda self, organization: None)
    second, first = [await (await sockets.open(user)).synced() for user in (bob, alice)]
    await say(acme, "in the room")
    await say(acme, "for all", topic=None)
    assert await texts(second, "for all") == ["left", "in the room", "for all"]
    assert await texts(first, "for all") == ["for all"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_falls_between_joining_and_being_let_in(
    make_user: MakeUser, acme: Organization, sockets: Sockets, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody speaks all the time; users join and leave while they are live, catch up, or come back."""
    chance = random.Random(seed)
    monkeypatch.setattr(connections, "BACKLOG_PAGE", 7)
    users = await in_thread(lambda: [make_user(f"u{number}", acme) for number in range(6)])
    start = (await in_thread(stream.position, acme)).cursor
    is_over = threading.Event()

    def speak() -> None:
        for number in itertools.count():
            if is_over.wait(0.005):
                return
            publish(acme, "note", {"text": str(number)}, topic="room")

    async def live_through(user: User) -> list[int]:
        """The numbers of what a user got, over several connections from cursor to cursor, who joins during one."""
        cursor, got, joins_in = start, [], chance.randrange(3)
        for number in range(4):
            socket = await sockets.open(user, query=f"since={cursor}")
            await asyncio.sleep(chance.uniform(0, 0.3))
            if number == joins_in:
                await in_thread(sit, acme, user)
            await asyncio.sleep(chance.uniform(0, 0.4))
            socket.events()
            cursor = [frame["cursor"] for frame in socket.frames if "cursor" in frame][-1]
            got += seqs_of(socket)
            await socket.disconnect()
        socket = await sockets.open(user, query=f"since={cursor}")
        await asyncio.sleep(chance.uniform(0, 0.3))
        await in_thread(rise, acme, user)
        await say(acme, "end", topic=None, to=[user])
        while "end" not in str(await socket.frame()):
            pass
        return got + seqs_of(socket)

    def seqs_of(socket: Socket) -> list[int]:
        return [Cursor.parse(each["cursor"]).seq for each in events_of(socket.frames)]

    speaking = asyncio.create_task(database.ACCESS.run(speak))
    try:
        received = await asyncio.gather(*map(live_through, users))
    finally:
        is_over.set()
        await speaking
    page = await in_thread(_all_events, acme)
    for user, got in zip(users, received, strict=True):
        joined = next(event.seq for event in page if user.pk in event.grants)
        left = next(event.seq for event in page if user.pk in event.withdraws)
        assert got == sorted(set(got))
        of_room = {event.seq for event in page if event.topic == "room"}
        received_of_room = of_room.intersection(got)
        inside = {seq for seq in of_room if joined <= seq < left}
        assert len(inside) > 20
        assert received_of_room == inside  # no gap, nothing before and nothing after


def _all_events(organization: Organization) -> list[StreamEvent]:
    epoch = Stream.objects.get(pk=organization.pk).epoch
    found: list[StreamEvent] = []
    while True:
        page = stream.read(organization.pk, Cursor(epoch, found[-1].seq if found else 0))
        found += page.events
        if not page.has_more:
            return found


# What has been replaced


async def test_what_has_been_replaced_is_sent_to_nobody_any_more(
    sockets: Sockets, alice: User, acme: Organization, instead: Instead
) -> None:
    start = (await in_thread(stream.position, acme)).cursor
    await (await sockets.open(alice)).synced()
    await say(acme, "secret", topic=None, subject="message:1")
    await publish_event(acme)
    hub = get_hub()
    feed = hub.feed(acme.pk)
    assert feed is not None
    await eventually(lambda: feed.tail.head == 2)
    await in_thread(_replace, acme)
    # At once, though the feed may not have read yet what has replaced it.
    again = await sockets.open(alice, query=f"since={start}")
    frames = await again.until("synced")
    assert "secret" not in str(frames)
    assert [each["type"] for each in events_of(frames)] == ["note", "note", "edited"]
    late = await sockets.open(alice, query="last=10")
    assert "secret" not in str(await late.until("synced"))


def _replace(organization: Organization, text: str = "") -> None:
    with transaction.atomic():
        stream.scrub(organization.pk, "message:1", {"text": text}, "default")
        publish(organization, "edited", {"text": text}, subject="message:1", replaces=True)


# What it costs others


class Counted(Connection):
    """A connection that counts how often it is served."""

    served = 0

    def take(self, chunk: Chunk, after: Cursor) -> None:
        type(self).served += 1
        super().take(chunk, after)


async def sent_nowhere(message: dict[str, Any]) -> None:
    sent_nowhere.frames.append(message)  # type: ignore[attr-defined]


def connect(feed: Feed, user: int, *names: str, at: int = 0) -> Counted:
    access = Access(1, user).with_topics(dict.fromkeys(names, 0), 0)
    connection = Counted(str(user), None, access, Cursor("e", at), sent_nowhere, lambda: None)
    feed.add(connection)
    connection.start([], at, None)
    return connection


def event(seq: int, topic: str | None = None, **options: Any) -> StreamEvent:
    return StreamEvent(seq, "note", f'{{"seq":{seq}}}', None, topic, **options)


async def offer(feed: Feed, *events: StreamEvent) -> None:
    await feed.offer(Chunk(list(events), events[-1].seq, feed.cursor_at(events[-1].seq)))


@pytest.fixture
async def feed() -> Any:
    sent_nowhere.frames = []  # type: ignore[attr-defined]
    Counted.served = 0
    feed = Feed(1, Position("e", 0, 0), FeedReader(lambda: None), Registry())
    yield feed
    feed.stop()


async def test_event_of_a_topic_is_offered_to_those_who_have_it_alone(feed: Feed) -> None:
    others = [connect(feed, user) for user in range(500)]
    readers = [connect(feed, user, "room") for user in range(1000, 1010)]
    for seq in range(1, 11):
        await offer(feed, event(seq, "room"))
    assert Counted.served == 100
    assert {each.seq for each in readers} == {10}
    assert {each.sent_events for each in readers} == {10}
    # What is for all comes to all, who are brought past the others without a read.
    await offer(feed, event(11))
    assert {each.seq for each in (*others, *readers)} == {11}
    assert {each.sent_events for each in others} == {1}
    assert {each._reader for each in others} == {None}


async def test_others_are_told_their_position_with_the_next_cursors(feed: Feed) -> None:
    other = connect(feed, 1)
    connect(feed, 2, "room")
    for seq in (1, 2):
        await offer(feed, event(seq, "room"))
    sent_nowhere.frames.clear()  # type: ignore[attr-defined]
    feed._send_cursors()
    assert other.seq == 2
    assert [frame["text"] for frame in sent_nowhere.frames] == ['{"type":"cursor","cursor":"e.2"}']  # type: ignore[attr-defined]


async def test_newcomer_who_is_ahead_of_the_feed_is_not_taken_back(feed: Feed) -> None:
    connect(feed, 1)
    await offer(feed, event(1, "room"))
    newcomer = connect(feed, 2, at=3)  # let in at the stream's end, which the feed hasn't read yet
    feed._send_cursors()
    assert newcomer.seq == 3
    await offer(feed, event(2), event(3))
    assert newcomer.sent_events == 0
    await offer(feed, event(4))
    assert newcomer.sent_events == 1


async def test_who_is_granted_a_topic_is_served_though_not_in_the_index(feed: Feed) -> None:
    newcomer = connect(feed, 1)
    await offer(feed, event(1, "room"))
    await offer(feed, event(2, "room", grants=frozenset({1})))
    await offer(feed, event(3, "room"))
    assert newcomer.sent_events == 2
    await offer(feed, event(4, "room", withdraws=frozenset({1})))
    await offer(feed, event(5, "room"))
    assert newcomer.sent_events == 2
    await offer(feed, event(6))
    assert (newcomer.seq, newcomer.sent_events) == (6, 3)


async def test_busy_reader_that_was_granted_a_topic_meanwhile_is_not_taken_past_it(feed: Feed) -> None:
    newcomer = connect(feed, 1)
    task = newcomer._task = asyncio.create_task(asyncio.sleep(3600))  # a frame that isn't taken yet
    await offer(feed, event(1, "room", grants=frozenset({1})))
    await offer(feed, event(2, "room"))
    await offer(feed, event(3))
    newcomer._task = None
    task.cancel()
    newcomer.pump()
    assert (newcomer.seq, newcomer.sent_events) == (3, 3)


async def test_reader_who_is_held_back_is_not_taken_past_what_it_may_turn_out_to_have(feed: Feed) -> None:
    held = connect(feed, 1)
    held.hold(1)
    await offer(feed, event(1, "room"))
    await offer(feed, event(2))
    assert held.seq == 0
    held.admit(held.access.with_topics({"room": 1}, 1), 2)
    assert (held.seq, held.sent_events) == (2, 2)


async def test_reader_who_waits_for_the_feed_is_served_by_what_is_not_for_it(feed: Feed) -> None:
    waiting = Counted("1", None, Access(1, 1), Cursor("e", 0), sent_nowhere, lambda: None)
    feed.add(waiting)
    waiting.start([], 1, None)  # its handshake found the stream at 1, which the feed hasn't read yet
    await offer(feed, event(1, "room"))
    assert [frame["text"] for frame in sent_nowhere.frames] == ['{"type":"synced","cursor":"e.1"}']  # type: ignore[attr-defined]


async def test_what_was_read_for_a_slow_reader_is_read_anew_when_it_has_been_replaced(
    feed: Feed, instead: Instead
) -> None:
    read_anew = threading.Event()
    instead(BACKLOG, stream.read, lambda *_, **__: read_anew.set())
    reader = Counted("1", None, Access(1, 1), Cursor("e", 0), sent_nowhere, lambda: None)
    feed.add(reader)
    task = reader._task = asyncio.create_task(asyncio.sleep(3600))  # a frame that isn't taken yet
    secret = event(1, subject="message:1")
    reader.start([], 1, Page(Position("e", 1, 0), [secret], 1, has_more=False))
    await offer(feed, secret)
    await offer(feed, event(2, subject="message:1", replaces=True))
    reader._task = None
    task.cancel()
    reader.pump()
    await eventually(read_anew.is_set)
    assert reader.seq == 0
    reader.cancel(1000)


async def test_recent_events_that_were_read_before_they_were_replaced_are_none(
    feed: Feed, instead: Instead
) -> None:
    secret = event(1, subject="message:1")
    goes_on = threading.Event()

    def read_slowly(*_: object) -> Page:
        assert goes_on.wait(LIMIT_SECONDS)
        return Page(Position("e", 1, 0), [secret], 1, has_more=False)

    instead(HANDSHAKE, stream.read_recent, read_slowly)
    feed.tail = Tail(1)
    reaching = asyncio.create_task(feed.reach_back())
    await asyncio.sleep(0)
    await offer(feed, event(2, subject="message:1", replaces=True))
    goes_on.set()
    await reaching
    assert feed.tail.after(0) is None
