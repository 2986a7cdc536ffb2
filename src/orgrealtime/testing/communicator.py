"""A WebSocket without a server, for the tests of a host's own consumer. Needs daphne: `channels.testing` imports it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode

from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import Client

from orgrealtime.conf import get_settings
from orgrealtime.protocol.wire import SERVER_FRAMES
from orgrealtime.testing.connections import close_connections

try:
    from channels.testing import WebsocketCommunicator
except ImportError as error:
    raise ImportError(
        "orgrealtime.testing.communicator needs daphne, which channels.testing imports: "
        "pip install 'channels[daphne]'"
    ) from error

__all__ = ["OrgCommunicator", "browser_headers", "log_in"]

HOST = "testserver"
ORIGIN = f"http://{HOST}"
PATH = "/ws/orgs/{slug}/notifications/"

Frame = dict[str, Any]


class OrgCommunicator(WebsocketCommunicator):
    """A socket of a logged-in user: `socket = await OrgCommunicator.connect_as(alice, acme, application=application)`.

    `frames` is all that has been received, decoded; give it to `assert_no_gap`. `patience` is how many seconds a wait
    may take unless it is told otherwise; a subclass for a slow machine has more. Nothing that doesn't come in time ends
    the consumer.
    """

    patience: ClassVar[float] = 10.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.frames: list[Frame] = []
        self._untaken: deque[Frame] = deque()
        self._asked = 0

    @classmethod
    async def logged_in(
        cls, user: Any, organization: Any, *, application: Any, path: str = PATH, **query: Any
    ) -> Self:
        """Return a socket of a user that has not connected yet, with the headers that a browser sends.

        `path` is the route, with `{slug}` in the place of the organisation's; `query` is what follows the question
        mark, as in `since=cursor`.
        """
        slug = str(getattr(organization, get_settings().ORGANIZATION_SLUG_FIELD))
        url = path.format(slug=quote(slug, safe="")) + (f"?{urlencode(query)}" if query else "")
        return cls(application, url, browser_headers(await sync_to_async(_log_in_and_disconnect)(user)))

    @classmethod
    async def connect_as(
        cls, user: Any, organization: Any, *, application: Any, path: str = PATH, **query: Any
    ) -> Self:
        """Connect a socket of `logged_in`, and read up to `synced`.

        Raises AssertionError with the code if the connection is refused.
        """
        socket = await cls.logged_in(user, organization, application=application, path=path, **query)
        is_accepted, code = await socket.connect()
        assert is_accepted, f"{user} is refused at {socket.scope['path']} with {code}"
        return await socket.synced()

    async def connect(self, timeout: float | None = None) -> tuple[bool, Any]:  # noqa: ASYNC109 - Channels' own
        """Ask to be let in; return whether that is so, with the subprotocol or the code of the refusal."""
        answer: tuple[bool, Any] = await super().connect(self._limit(timeout))
        return answer

    async def disconnect(self, code: int = 1000, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Close the socket as a browser does, and wait for the end of the consumer."""
        await super().disconnect(code, self._limit(timeout))

    async def wait(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait for the end of the consumer; raise what it has raised."""
        await super().wait(self._limit(timeout))

    async def receive_output(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Return the next ASGI message; raise TimeoutError if none comes, and leave the consumer as it is."""
        seconds = self._limit(timeout)
        message = await self._next(seconds)
        if message is None:
            raise TimeoutError(f"no message within {seconds} s; {self._received()}")
        if message.get("text") is not None:
            self._frame_of(message)
        return message

    async def assert_event(self, type: str, /, *, within: float | None = None, **members: Any) -> Frame:
        """Wait for the next event and return it; raise AssertionError unless it has this type and these members.

        Frames of the protocol are passed over. `within` is in seconds.
        """
        wanted = {"type": type, **members}
        (event,) = await self._take_events(1, wanted, self._limit(within))
        is_wanted = all(name in event and event[name] == value for name, value in wanted.items())
        assert is_wanted, f"expected {wanted}, this came instead: {event}"
        return event

    async def assert_silent(self, seconds: float = 0.5) -> None:
        """Raise AssertionError if an event has come that wasn't asked for, or comes within this time."""
        deadline = _now() + seconds
        while not self._untaken and (message := await self._next(deadline - _now())) is not None:
            self._take(message)
        assert not self._untaken, f"expected no event, these came: {list(self._untaken)}"

    def events(self) -> list[Frame]:
        """Return the events that have come and that weren't asked for yet, batches taken apart; doesn't wait."""
        while not self.output_queue.empty():
            self._take(self.output_queue.get_nowait())
        events = list(self._untaken)
        self._untaken.clear()
        return events

    async def next_events(self, count: int) -> list[Frame]:
        """Wait for the next events and return them, batches taken apart; raise AssertionError if more have come."""
        events = await self._take_events(count, f"{count} events", self.patience)
        assert not self._untaken, f"expected {count} events, these came as well: {list(self._untaken)}"
        return events

    async def frame(self) -> Frame:
        """Wait for the next frame and return it, also one of the protocol; its events count as asked for."""
        return self._frame_of(await self._message("frame"))

    async def until(self, type: str) -> list[Frame]:
        """Return the frames up to the next one of this type, which is the last of them; events may be in a `batch`."""
        frames = [await self.frame()]
        while frames[-1]["type"] != type:
            frames.append(await self.frame())
        return frames

    async def synced(self) -> Self:
        """Read up to `synced` and return the socket; what has come until then can still be asked for as events."""
        while self._take(await self._message("'synced'"))["type"] != "synced":
            pass
        return self

    async def ask(self, frame: Mapping[str, Any]) -> Frame:
        """Send a frame, as of a command, and return the next one that comes."""
        await self.send_json_to(frame)
        return await self.frame()

    async def answer_to(self, message: Mapping[str, Any]) -> Frame:
        """Send a message with a `ref`, and return the answer that repeats it; what comes before can still be asked for.

        That is how commands are answered which may be overtaken by events.
        """
        self._asked += 1
        ref = message.get("ref", f"ref-{self._asked}")
        await self.send_json_to({**message, "ref": ref})
        while (frame := self._take(await self._message(f"an answer to {ref}"))).get("ref") != ref:
            pass
        return frame

    async def close_code(self) -> int:
        """Wait until the consumer closes the connection, whatever it sends before; return the code."""
        while (message := await self._message("close"))["type"] != "websocket.close":
            self._frame_of(message)
        return int(message.get("code", 1000))

    def _limit(self, seconds: float | None) -> float:
        return self.patience if seconds is None else seconds

    async def _take_events(self, count: int, wanted: object, seconds: float) -> list[Frame]:
        deadline = _now() + seconds
        while len(self._untaken) < count:
            message = await self._next(deadline - _now())
            if message is None:
                raise AssertionError(f"no event within {seconds} s, expected {wanted}; {self._received()}")
            self._take(message)
        return [self._untaken.popleft() for _ in range(count)]

    async def _message(self, wanted: str) -> Any:
        message = await self._next(self.patience)
        if message is None:
            raise AssertionError(f"no {wanted} within {self.patience} s; {self._received()}")
        return message

    async def _next(self, seconds: float) -> Any:
        # Not Channels' receive_output, which ends the application if nothing comes in time.
        if not self.output_queue.empty():
            return self.output_queue.get_nowait()
        getting = asyncio.ensure_future(self.output_queue.get())
        try:
            await asyncio.wait(
                {getting, self.future}, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED
            )
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
        if not self.output_queue.empty():  # sent in the turn of the loop in which the consumer has ended
            return self.output_queue.get_nowait()
        if self.future.done():
            self.future.result()
            raise AssertionError(f"the consumer has ended; {self._received()}")
        return None

    def _take(self, message: Mapping[str, Any]) -> Frame:
        frame = self._frame_of(message)
        self._untaken.extend(_events_of(frame))
        return frame

    def _frame_of(self, message: Mapping[str, Any]) -> Frame:
        if message["type"] == "websocket.close":
            raise AssertionError(f"the connection was closed with {message.get('code')}; {self._received()}")
        frame: Frame = json.loads(message["text"])
        self.frames.append(frame)
        return frame

    def _received(self) -> str:
        return f"received so far: {self.frames}"


def browser_headers(cookie: str = "", origin: str = ORIGIN, host: str = HOST) -> list[tuple[bytes, bytes]]:
    """Return what a browser sends with the handshake; an empty text leaves a header out."""
    headers = {"host": host, "origin": origin, "cookie": cookie}
    return [(name.encode(), value.encode()) for name, value in headers.items() if value]


def log_in(user: Any) -> str:
    """Return the cookie of a new session of this user."""
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def _log_in_and_disconnect(user: Any) -> str:
    try:
        return log_in(user)
    finally:
        close_connections()


def _events_of(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if frame["type"] == "batch":
        yield from frame["events"]
    elif frame["type"] not in SERVER_FRAMES and "cursor" in frame:
        yield frame


def _now() -> float:
    return asyncio.get_running_loop().time()
