"""Feed, tail and connections against a model: whatever the writers, rings, sockets and clients do, and whenever, each
client gets what it is entitled to, in order and once, unless a `reset` said otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db import OperationalError
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from orgrealtime import stream
from orgrealtime.access import Access
from orgrealtime.delivery import chunks, connection, feed
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.feed import Feed, FeedReader
from orgrealtime.delivery.registry import Registry
from orgrealtime.delivery.resume import find_start
from orgrealtime.delivery.tail import Tail
from orgrealtime.errors import StreamReset
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.protocol.query_string import Beginning
from orgrealtime.stream import Page
from orgrealtime.stream.database import BACKLOG, HANDSHAKE, LIVE
from orgrealtime.stream.types import StreamEvent
from orgrealtime.testing.continuity import assert_no_gap
from tests.virtual import VirtualLoop

ALL, FEW = "all", "few"  # a reader for whom every event is, and one who gets the events for all only
QUIET = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


class ModelStream:
    """The stream as it should be: what commits gets the next number when somebody reads."""

    is_numbered_by_id = False

    def __init__(self) -> None:
        self.pages = 0
        self.epochs = 0
        self.ids = 0
        self.is_excused = False  # whether anything has happened after which a reset is right
        self.failures = 0
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self.epochs += 1
        self.head = self.floor = 0
        self.pending: list[tuple[int, bool]] = []
        self.kept: list[StreamEvent] = []
        self.ever: list[StreamEvent] = []

    @property
    def position(self) -> Position:
        return Position(f"{self.epochs:08x}", self.head, self.floor)

    def commit(self, id: int, for_all: bool) -> None:
        self.pending.append((id, for_all))

    def advance(self) -> Position:
        for id, for_all in sorted(self.pending):
            self.head = max(self.head, id) if self.is_numbered_by_id else self.head + 1
            seq = id if self.is_numbered_by_id else self.head
            text = json.dumps(
                {"type": "note", "cursor": self.position.cursor_at(seq), "created_at": "", "id": id}
            )
            event = StreamEvent(seq, "note", text, None if for_all else frozenset({ALL}))
            self.kept = sorted([*self.kept, event], key=lambda one: one.seq)
            self.ever.append(event)
        self.pending.clear()
        return self.position

    def read(self, after: Cursor, access: Access | None = None, limit: int = 2) -> Page:
        if self.failures:
            self.failures -= 1
            raise OperationalError("the database is away")
        position = self.advance()
        position.resume(after)
        rows = [one for one in self.kept if one.seq > after.seq and (access is None or access.sees(one))]
        has_more = len(rows) > limit
        rows = rows[:limit]
        return Page(position, rows, rows[-1].seq if has_more else position.head, has_more)

    def read_recent(self, limit: int) -> Page:
        if self.failures:
            self.failures -= 1
            raise OperationalError("the database is away")
        return Page(self.position, self.kept[-limit:], self.head, False)

    def prune(self, floor: int) -> None:
        self.floor = max(self.floor, floor)
        self.kept = [one for one in self.kept if one.seq > self.floor]


class Client:
    """A client that follows the protocol: it goes on at its cursor, and begins anew where a reset says."""

    def __init__(self, user: str) -> None:
        self.access = Access(1, user)
        self.connection: Connection | None = None
        self.base: Cursor | None = None
        self.cursor: Cursor | None = None
        self.got: list[int] = []
        self.frames: list[dict[str, Any]] = []
        self.resets = 0
        self.writable = asyncio.Event()
        self.writable.set()

    async def send(self, message: dict[str, Any]) -> None:
        mine = self.connection
        await self.writable.wait()
        if mine is not None and mine is not self.connection:
            return  # that socket has gone
        frame = json.loads(message["text"])
        self.frames.append(frame)
        if "cursor" not in frame:
            return
        self.cursor = Cursor.parse(frame["cursor"])
        if frame["type"] == "reset" or self.base is None:
            self.resets += frame["type"] == "reset"
            self.base, self.got = self.cursor, []
        self.got += [event["id"] for event in frame.get("events", [frame]) if "id" in event]


class Delivery(RuleBasedStateMachine):
    """The real feed, tail, chunks and connections on a virtual clock, over the model of the stream."""

    stream_class: ClassVar[type[ModelStream]] = ModelStream

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.patch = pytest.MonkeyPatch()
        for module, name, value in [
            *((pool, "run", self.run) for pool in (LIVE, BACKLOG, HANDSHAKE)),
            (stream, "follow", self.follow),
            (stream, "follow_one", self.follow_one),
            (stream, "read", self.read),
            (stream, "read_recent", self.read_recent),
            (feed, "Tail", partial(Tail, max_events=3)),
            (feed, "YIELD_EVERY", 1),
            (connection, "BACKLOG_PAGE", 2),
            (chunks, "MAX_EVENTS", 2),
        ]:
            self.patch.setattr(module, name, value)
        self.stream = self.stream_class()
        self.feed: Feed | None = None
        self.open: list[tuple[int, bool]] = []
        self.rings = self.checks = 0
        self.clients: list[Client] = []

    async def run(self, function: Any, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.01)
        try:
            return function(*args, **options)
        finally:
            await asyncio.sleep(0.01)  # what is read is old when it arrives

    def follow(self, cursors: Mapping[Any, Cursor]) -> dict[Any, Page | StreamReset]:
        if self.stream.pages % 3 == 0:
            self.stream.pages += 1
            return {}  # somebody else numbers at this moment
        return {organization: self.follow_one(organization, after) for organization, after in cursors.items()}

    def follow_one(self, organization: Any, after: Cursor) -> Page | StreamReset:
        self.stream.pages += 1
        try:
            return self.stream.read(after, limit=3)
        except StreamReset as reset:
            return reset

    def read(
        self, organization: Any, after: Cursor, *, access: Access, limit: int = 2, position: Any = None
    ) -> Page:
        return self.stream.read(after, access, limit)

    def read_recent(self, organization: Any, limit: int) -> Page:
        return self.stream.read_recent(min(limit, 3))

    def open_feed(self, organization: Any, position: Position) -> Feed:
        if self.feed is None:
            self.feed = Feed(1, position, FeedReader(lambda: None), Registry())
        return self.feed

    # ------------------------------------------------------------------------------------------------ writers

    @rule(for_all=st.booleans())
    def begin(self, for_all: bool) -> None:
        self.stream.ids += 1
        self.open.append((self.stream.ids, for_all))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.stream.commit(*self.open.pop(data.draw(st.integers(0, len(self.open) - 1))))
        self.rings += 1

    @rule(count=st.integers(1, 8))
    def commit_burst(self, count: int) -> None:
        for _ in range(count):
            self.stream.ids += 1
            self.stream.commit(self.stream.ids, True)
        self.rings += 1

    @precondition(lambda self: self.open)
    @rule()
    def roll_back(self) -> None:
        self.open.pop()

    @rule(behind=st.integers(0, 3))
    def prune(self, behind: int) -> None:
        self.stream.is_excused = True
        self.stream.prune(self.stream.advance().head - behind)

    @rule()
    def restore_another_database(self) -> None:
        self.stream.is_excused = True
        self.stream.begin_epoch()
        self.open.clear()

    @rule()
    def lose_the_database(self) -> None:
        self.stream.failures = 2

    # -------------------------------------------------------------------------------------------------- rings

    @precondition(lambda self: self.rings)
    @rule(fate=st.sampled_from(["heard", "lost", "doubled", "late"]))
    def ring(self, fate: str) -> None:
        self.rings -= fate in {"heard", "lost"}
        if fate != "lost" and self.feed is not None:
            for _ in range(2 if fate == "doubled" else 1):
                self.loop.call(self.feed.wake)

    @rule(seconds=st.sampled_from([0.0, 0.011, 0.02, 0.5, 25.0]))
    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    # ------------------------------------------------------------------------------------------------ clients

    @rule(user=st.sampled_from([ALL, FEW]))
    def come(self, user: str) -> None:
        if len(self.clients) < 4:
            self.clients.append(Client(user))
            self.loop.run_until_complete(self.connect(self.clients[-1]))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.leave(client)
        self.loop.run_until_complete(self.connect(client))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.clients)))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def stall_or_go_on(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        if client.writable.is_set():
            client.writable.clear()
        else:
            client.writable.set()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def hint_that_access_may_have_ended(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.checks += 1
        if client.connection is not None:
            self.loop.call(client.connection.hold, self.checks)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def answer_that_it_has_not(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.checks += 1
        if client.connection is not None:
            self.loop.call(client.connection.admit, client.access, self.checks - data.draw(st.integers(0, 2)))

    def leave(self, client: Client) -> None:
        gone, client.connection = client.connection, None
        if gone is not None:
            self.loop.call(gone.cancel, 1006)

    async def connect(self, client: Client) -> None:
        # What the consumer does after a handshake, and the hub on `attach`.
        position = self.stream.advance()
        self.stream.failures = 0
        hub: Any = self
        start = await find_start(hub, 1, client.access, Beginning(since=client.cursor), position)
        await asyncio.sleep(0.015)
        feed = self.open_feed(1, start.position)

        def hang_up() -> None:
            if client.connection is new:
                client.connection = None

        new = Connection("c", None, client.access, start.cursor, client.send, hang_up)
        client.connection = new
        client.writable.set()
        position, reset = start.position, start.reset
        was_idle = not feed.connections
        feed.add(new)
        if was_idle or (position.epoch, position.head) != (feed.epoch, feed.tail.head):
            feed.wake()
        welcome = wire.encode({"type": "welcome", "cursor": str(reset.after if reset else start.cursor)})
        frames = [welcome] if reset is None else [welcome, wire.reset(position.cursor, reset.reason)]
        new.start(frames, position.head, start.page)

    # -------------------------------------------------------------------------------------------- what must hold

    @rule()
    def come_to_rest(self) -> None:
        self.stream.failures = 0
        for client in self.clients:
            client.writable.set()
        self.rings = 0
        self.checks += 1
        for client in self.clients:
            if client.connection is not None:
                self.loop.call(client.connection.admit, client.access, self.checks)
        if self.feed is not None:
            self.loop.call(self.feed.wake)  # as polling does at last
        self.loop.pass_time(30)
        for client in self.clients:
            self.check(client)
        assert not self.loop.errors

    def check(self, client: Client) -> None:
        assert_no_gap(client.frames, sees_everything=client.access.user_id == ALL)
        assert self.stream.is_excused or not client.resets, "a reset for no reason"
        if client.connection is None or client.base is None:
            return
        position = self.stream.position
        assert client.cursor == Cursor(position.epoch, position.head), "not up to date at rest"
        entitled = [
            json.loads(event.text)["id"]
            for event in sorted(self.stream.ever, key=lambda one: one.seq)
            if event.seq > client.base.seq and client.access.sees(event)
        ]
        assert client.got == entitled

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            for client in self.clients:
                self.leave(client)
            if self.feed is not None:
                self.feed.stop()
            self.loop.end()
            self.patch.undo()


TestDelivery = Delivery.TestCase
TestDelivery.settings = QUIET


# The machine finds what it is for


class ReadById(Delivery):
    """A reader by `id >`: what commits late has a lower id than what has been read."""

    class Stream(ModelStream):
        is_numbered_by_id = True

    stream_class = Stream


class Repeating(Delivery):
    """A feed that gives a reader the last event once more."""

    def __init__(self) -> None:
        super().__init__()
        chunk_after = Feed.chunk_after

        def one_too_early(self: Feed, seq: int) -> Any:
            return chunk_after(self, seq - 1) or chunk_after(self, seq)

        self.patch.setattr(Feed, "chunk_after", one_too_early)


class Careless(Delivery):
    """Connections that take the newest chunk wherever they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.patch.setattr(Connection, "take", lambda self, chunk, after: self._send_chunk(chunk))


@pytest.mark.parametrize("mutant", [ReadById, Repeating, Careless])
def test_model_finds_a_mistake(mutant: type[Delivery]) -> None:
    found = settings(
        QUIET,
        max_examples=2000,
        derandomize=True,
        report_multiple_bugs=False,
        database=None,
        phases=[Phase.generate],
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(mutant, settings=found)
