"""A WebSocket without a server, for the tests of a host's own consumer. Needs daphne: `channels.testing` imports it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlencode

from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import Client

from orgrealtime.conf import get_settings
from orgrealtime.protocol.wire import SERVER_FRAMES

try:
    from channels.testing import WebsocketCommunicator
except ImportError as error:
    raise ImportError(
        "orgrealtime.testing.communicator needs daphne, which channels.testing imports: "
        "pip install 'channels[daphne]'"
    ) from error

__all__ = ["OrgCommunicator"]

PATIENCE = 10.0
HOST = "testserver"
PATH = "/ws/orgs/{slug}/notifications/"


class OrgCommunicator(WebsocketCommunicator):
    """A socket of a logged-in user: `socket = await OrgCommunicator.connect_as(alice, acme, application=application)`.

    `frames` is all that has been received, decoded; give it to `assert_no_gap`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.frames: list[dict[str, Any]] = []
        self._untaken: deque[dict[str, Any]] = deque()

    @classmethod
    async def connect_as(
        cls, user: Any, organization: Any, *, application: Any, path: str = PATH, **query: Any
    ) -> Self:
        """Log a user in, connect with the headers that a browser sends, and read up to `synced`.

        `path` is the route, with `{slug}` in the place of the organisation's; `query` is what follows the question
        mark, as in `since=cursor`. Raises AssertionError with the code if the connection is refused.
        """
        slug = str(getattr(organization, get_settings().ORGANIZATION_SLUG_FIELD))
        url = path.format(slug=quote(slug, safe="")) + (f"?{urlencode(query)}" if query else "")
        cookie = await sync_to_async(_log_in)(user)
        headers = {"host": HOST, "origin": f"http://{HOST}", "cookie": cookie}
        socket = cls(application, url, [(name.encode(), value.encode()) for name, value in headers.items()])
        is_accepted, code = await socket.connect(timeout=PATIENCE)
        assert is_accepted, f"{user} is refused at {url} with {code}"
        while not any(frame["type"] == "synced" for frame in socket.frames):
            if not await socket._receive(PATIENCE):
                raise AssertionError(f"no 'synced' within {PATIENCE} s; {socket._received()}")
        return socket

    async def assert_event(self, type: str, /, *, within: float = PATIENCE, **members: Any) -> dict[str, Any]:
        """Wait for the next event and return it; raise AssertionError unless it has this type and these members.

        Frames of the protocol are passed over. `within` is in seconds.
        """
        wanted = {"type": type, **members}
        deadline = asyncio.get_running_loop().time() + within
        while not self._untaken:
            left = deadline - asyncio.get_running_loop().time()
            if not await self._receive(left):
                raise AssertionError(f"no event within {within} s, expected {wanted}; {self._received()}")
        event = self._untaken.popleft()
        is_wanted = all(name in event and event[name] == value for name, value in wanted.items())
        assert is_wanted, f"expected {wanted}, this came instead: {event}"
        return event

    async def assert_silent(self, seconds: float = 0.5) -> None:
        """Raise AssertionError if an event has come that wasn't asked for, or comes within this time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._untaken and await self._receive(deadline - asyncio.get_running_loop().time()):
            pass
        assert not self._untaken, f"expected no event, these came: {list(self._untaken)}"

    def events(self) -> list[dict[str, Any]]:
        """Return the events that have come and that weren't asked for yet, batches taken apart; doesn't wait."""
        while not self.output_queue.empty():
            self._take(self.output_queue.get_nowait())
        events = list(self._untaken)
        self._untaken.clear()
        return events

    async def _receive(self, seconds: float) -> bool:
        # Not receive_output, which ends the application if nothing comes in time.
        if self.output_queue.empty():
            getting = asyncio.ensure_future(self.output_queue.get())
            try:
                await asyncio.wait(
                    {getting, self.future}, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED
                )
                if getting.done():
                    self._take(getting.result())
                    return True
            finally:
                getting.cancel()
            if self.future.done():
                self.future.result()
                raise AssertionError(f"the consumer has ended; {self._received()}")
            return False
        self._take(self.output_queue.get_nowait())
        return True

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.close":
            raise AssertionError(f"the connection was closed with {message.get('code')}; {self._received()}")
        frame: dict[str, Any] = json.loads(message["text"])
        self.frames.append(frame)
        self._untaken.extend(_events_of(frame))

    def _received(self) -> str:
        return f"received so far: {self.frames}"


def _events_of(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if frame["type"] == "batch":
        yield from frame["events"]
    elif frame["type"] not in SERVER_FRAMES and "cursor" in frame:
        yield frame


def _log_in(user: Any) -> str:
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
