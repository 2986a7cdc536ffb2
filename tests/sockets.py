"""Sockets without a server: the communicator that the library ships, and what the suite opens and ends them with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.db import connections
from django.urls import path

from orgrealtime import publish
from orgrealtime.admission.service import AdmissionService
from orgrealtime.asgi import realtime
from orgrealtime.concurrency import threads as pools
from orgrealtime.consumers import OrgConsumer
from orgrealtime.delivery.hub import close_hub, get_hub
from orgrealtime.models import NotificationEvent
from orgrealtime.routing import websocket_urlpatterns
from orgrealtime.stream import database
from orgrealtime.testing.communicator import ORIGIN, OrgCommunicator, browser_headers, log_in
from tests.host.models import Organization
from tests.waiting import LIMIT_SECONDS, NotInTimeError, eventually, limit

__all__ = ["ORIGIN", "browser_headers", "log_in"]

Frame = dict[str, Any]
Headers = list[tuple[bytes, bytes]]


async def serve_nothing(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application for HTTP that nobody asks anything."""


APPLICATION: Any = realtime(websocket_urlpatterns, http=serve_nothing)


def routed(consumer: type[OrgConsumer]) -> Any:
    """An application in which this consumer has the place of the library's own."""
    return URLRouter([path("ws/orgs/<slug:org_slug>/notifications/", consumer.as_asgi())])


async def publish_event(
    organization: Organization, type: str = "note", /, to: Iterable[User] | None = None, **payload: Any
) -> NotificationEvent:
    """Publish in a thread and commit, as a request does."""
    return await database.LIVE.run(publish, organization, type, payload, to=to)


class Communicator(ApplicationCommunicator):  # type: ignore[misc]
    """HTTP and lifespan without a server, for as long as a slow machine needs; `messages` are those that have come."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.messages: list[Any] = []

    async def receive_output(self, timeout: float = LIMIT_SECONDS) -> Any:  # noqa: ASYNC109 - asgiref's own
        message = asyncio.ensure_future(self.output_queue.get())
        await asyncio.wait({message, self.future}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not message.done():
            message.cancel()
            if self.future.done():
                self.future.result()
            what = "a message before the application ends" if self.future.done() else "a message"
            raise NotInTimeError(what, timeout, f"{self.messages[-5:]}")
        self.messages.append(message.result())
        return message.result()

    async def wait(self, timeout: float = LIMIT_SECONDS) -> None:  # noqa: ASYNC109
        async with limit("the end of the application", seconds=timeout, seen=lambda: self.messages[-5:]):
            await super().wait(timeout * 2)


class Socket(OrgCommunicator):
    """What host projects test their consumers with, waited for as long as a slow machine needs."""

    patience = LIMIT_SECONDS

    @property
    def is_running(self) -> bool:
        """Whether the consumer still serves this socket."""
        return self._future is not None and not self._future.done()

    async def wait(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asgiref's own
        seconds = timeout or self.patience
        async with limit("the end of the consumer", seconds=seconds, seen=lambda: self.frames[-5:]):
            await super().wait(seconds * 2)

    async def send_text(self, text: str) -> None:
        """Send a text frame, be it empty."""
        await self.send_input({"type": "websocket.receive", "text": text})

    async def is_alive(self) -> bool:
        """Whether the next frame answers a ping."""
        return bool((await self.ask({"type": "ping"}))["type"] == "pong")


def events_of(frames: Iterable[Frame]) -> list[Frame]:
    """The stream's events among frames, batches taken apart."""
    events: list[Frame] = []
    for frame in frames:
        if frame["type"] == "batch":
            events += frame["events"]
        elif "created_at" in frame:
            events.append(frame)
    return events


class Sockets:
    """Opens sockets, and ends them after the test: `socket = await sockets.open(alice)`."""

    def __init__(self) -> None:
        self._sockets: list[Socket] = []

    async def knock(
        self,
        user: User | None = None,
        org: str = "acme",
        query: str = "",
        *,
        cookie: str = "",
        application: Any = APPLICATION,
        scope: Mapping[str, Any] = MappingProxyType({}),
    ) -> Socket:
        """A socket that has not asked to be let in yet; `scope` goes over the handshake's."""
        if user is not None:
            cookie = await database.LIVE.run(log_in, user)
        url = f"/ws/orgs/{org}/notifications/{query and '?'}{query}"
        socket = Socket(application, url, browser_headers(cookie))
        socket.scope.update(scope)
        self._sockets.append(socket)
        return socket

    async def open(
        self, user: User | None = None, org: str = "acme", query: str = "", **handshake: Any
    ) -> Socket:
        """A socket that has been let in; nothing of what it was sent has been read."""
        socket = await self.knock(user, org, query, **handshake)
        is_accepted, code = await socket.connect()
        assert is_accepted, f"refused with {code}"
        return socket

    async def refused(
        self, user: User | None = None, org: str = "acme", query: str = "", **handshake: Any
    ) -> int:
        """The code with which a socket is refused."""
        socket = await self.knock(user, org, query, **handshake)
        is_accepted, code = await socket.connect()
        assert not is_accepted
        return int(code)

    async def close(self) -> None:
        for socket in self._sockets:
            if socket.is_running:
                await socket.disconnect()
        await close_hub()
        # The communicator keeps Channels' own middleware from closing what it opens.
        await sync_to_async(connections.close_all)()
        await threads_are_idle()  # nothing may be under way when the database is emptied


REGULAR = ("_heal", "Stalls.watch", "close_silent_connections", "_regularly")


async def threads_are_idle() -> None:
    """Wait until no database thread of the library has anything to do, by meeting all of them."""
    for pool in pools._pools:
        everybody = threading.Barrier(len(pool._threads) or 1)
        async with limit("the database threads are idle", seen=pool._name):
            await asyncio.gather(*(pool.run(everybody.wait) for _ in pool._threads))


def passing_tasks() -> list[str]:
    """The tasks of the hub and its admission that will end by themselves."""
    hub = get_hub()
    tasks = hub._tasks | hub.service(AdmissionService).rechecks._tasks
    names = [str(task.get_coro().__qualname__) for task in tasks]
    return [name for name in names if not name.endswith(REGULAR)]


async def settled() -> None:
    """Wait until the hub has nothing to do but its regular work: feeds are joined, and hints have been looked into."""
    hub = get_hub()
    await eventually(lambda: hub._subscription.is_proved and not passing_tasks())
    await eventually(lambda: all(feed._task is None for feed in hub._feeds.values()))
