"""A connection whose socket is slow or broken, seen from the server's side of ASGI."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from orgrealtime import consumers, publish, stream
from orgrealtime.delivery import acknowledgements
from orgrealtime.delivery.hub import get_hub
from orgrealtime.stream import database
from orgrealtime.stream.database import BACKLOG
from orgrealtime.stream.reading import PAGE_SIZE
from tests.conftest import Configure, Instead
from tests.host.models import Organization
from tests.sockets import APPLICATION, Frame, Sockets, publish_event
from tests.waiting import LIMIT_SECONDS, eventually, limit

pytestmark = pytest.mark.django_db(transaction=True)

MANY = PAGE_SIZE + 50


class Wire:
    """A server's two ends of one socket: `block()` makes `send` wait, as when the client doesn't read."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.writable = asyncio.Event()
        self.writable.set()
        self.error: Exception | None = None

    async def send(self, message: dict[str, Any]) -> None:
        await self.writable.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def frames(self) -> list[Frame]:
        return [json.loads(message["text"]) for message in self.sent if message["type"] == "websocket.send"]

    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames()]

    def say(self, frame: Frame) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def close_codes(self) -> list[int]:
        return [message["code"] for message in self.sent if message["type"] == "websocket.close"]


@asynccontextmanager
async def wired(
    sockets: Sockets, user: User, query: str = ""
) -> AsyncIterator[tuple[Wire, asyncio.Task[None]]]:
    """A logged-in user's socket, served until the test ends or the application returns."""
    scope = (await sockets.knock(user, query=query)).scope
    wire = Wire()
    wire.incoming.put_nowait({"type": "websocket.connect"})
    served = asyncio.create_task(APPLICATION(scope, wire.incoming.get, wire.send))
    try:
        yield wire, served
    finally:
        wire.error = None
        wire.writable.set()
        wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        async with limit("the application ends", seen=wire.types):
            await asyncio.gather(served, return_exceptions=True)


async def test_slow_reader_does_not_delay_others_and_is_closed_4408(
    sockets: Sockets,
    alice: User,
    bob: User,
    acme: Organization,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(SEND_TIMEOUT_SECONDS=0.5)
    monkeypatch.setattr(consumers, "CLOSE_SECONDS", LIMIT_SECONDS)
    other = await (await sockets.open(bob)).synced()
    async with wired(sockets, alice) as (wire, _):
        await eventually(lambda: "synced" in wire.types())
        wire.writable.clear()
        for number in range(20):
            await publish_event(acme, number=number)
        assert [event["number"] for event in await other.next_events(20)] == list(range(20))
        feed = get_hub().feed(acme.pk)
        assert feed is not None
        await eventually(lambda: len(feed.connections) == 1)
        wire.writable.set()
        await eventually(wire.close_codes)
        assert wire.close_codes() == [4408]


async def test_client_that_can_be_written_to_again_gets_everything_in_order(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    async with wired(sockets, alice) as (wire, _):
        await eventually(lambda: "synced" in wire.types())
        wire.writable.clear()
        for number in range(20):
            await publish_event(acme, number=number)
        wire.writable.set()
        await eventually(lambda: wire.frames()[-1].get("cursor", "").endswith(".20"))
        events = [
            event for frame in wire.frames() for event in frame.get("events", [frame]) if "number" in event
        ]
        assert [event["number"] for event in events] == list(range(20))


async def test_socket_that_never_takes_the_close_is_abandoned(
    sockets: Sockets, alice: User, acme: Organization, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SEND_TIMEOUT_SECONDS=0.2)
    monkeypatch.setattr(consumers, "CLOSE_SECONDS", 0.2)
    async with wired(sockets, alice) as (wire, served):
        await eventually(lambda: "synced" in wire.types())
        wire.writable.clear()
        await publish_event(acme)
        await eventually(served.done)
        assert served.exception() is None


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("closed twice")])
async def test_failing_send_ends_that_socket_only(
    sockets: Sockets, alice: User, bob: User, acme: Organization, error: Exception
) -> None:
    other = await (await sockets.open(bob)).synced()
    async with wired(sockets, alice) as (wire, served):
        await eventually(lambda: "synced" in wire.types())
        wire.error = error
        await publish_event(acme, number=1)
        assert [event["number"] for event in await other.next_events(1)] == [1]
        if isinstance(error, OSError):  # the server's disconnect message is on its way
            wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await eventually(served.done)


async def test_ping_is_answered_while_the_backlog_is_being_read(
    sockets: Sockets, alice: User, acme: Organization, instead: Instead
) -> None:
    """A page holds fewer events than there are, so that more are read after letting in."""
    reading, go_on = threading.Event(), threading.Event()

    def publish_many() -> None:
        with transaction.atomic():
            for number in range(MANY):
                publish(acme, "note", {"number": number})

    def slow_page(*arguments: Any, **options: Any) -> Any:
        reading.set()
        assert go_on.wait(LIMIT_SECONDS)
        return stream.read(*arguments, **options)

    position = await database.HANDSHAKE.run(stream.position, acme)
    await database.LIVE.run(publish_many)
    await database.HANDSHAKE.run(stream.position, acme)
    instead(BACKLOG, stream.read, slow_page)
    async with wired(sockets, alice, f"since={position.cursor}") as (wire, _):
        await eventually(reading.is_set)
        wire.say({"type": "ping"})
        await eventually(lambda: "pong" in wire.types())
        assert "synced" not in wire.types()
        go_on.set()
        await eventually(lambda: "synced" in wire.types())
        events = [
            event for frame in wire.frames() for event in frame.get("events", [frame]) if "number" in event
        ]
        assert [event["number"] for event in events] == list(range(MANY))


async def test_client_that_stops_acknowledging_is_held_and_then_closed_4408(
    sockets: Sockets, alice: User, acme: Organization, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SEND_TIMEOUT_SECONDS=0.5)
    monkeypatch.setattr(acknowledgements, "MAX_UNACKNOWLEDGED", 5)
    async with wired(sockets, alice) as (wire, _):

        def sent() -> list[Any]:
            frames = wire.frames()
            return [each for frame in frames for each in frame.get("events", [frame]) if "number" in each]

        await eventually(lambda: "synced" in wire.types())
        wire.say({"type": "ack", "cursor": wire.frames()[-1]["cursor"]})
        for number in range(5):
            await publish_event(acme, number=number)
        await eventually(lambda: len(sent()) == 5)
        await publish_event(acme, number=5)
        await eventually(wire.close_codes)
        assert wire.close_codes() == [4408]
        assert len(sent()) == 5
