"""For browsers whose network lets no WebSocket through: the same frames as Server-Sent Events.

The consumer is the one behind the WebSocket, with all that it checks and bounds. It is run on a scope made of the
request; what it sends is written as events (WHATWG HTML, section 9.2; protocol, "Server-Sent Events").
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import classonlymethod, method_decorator
from django.views import View

from orgrealtime.admission.refusals import HttpAnswer, answer, refusal
from orgrealtime.concurrency import background
from orgrealtime.conf import get_settings
from orgrealtime.consumers import NotificationsConsumer, OrgConsumer
from orgrealtime.delivery.chunks import Message
from orgrealtime.delivery.heartbeat import STREAM_PING_SECONDS, STREAM_SILENCE_SECONDS
from orgrealtime.delivery.transport import TRANSPORT, Transport, transport_of
from orgrealtime.errors import OUTCOMES, CloseCode
from orgrealtime.limits import IS_REQUEST, is_enforced, log_exceeded
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import is_cursor

logger = logging.getLogger("orgrealtime.views")

HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "Content-Encoding": "identity",  # which keeps Django's GZipMiddleware from compressing event by event
    "Vary": "Cookie",
    "X-Accel-Buffering": "no",  # nginx would keep events until it has enough of them
}
# What readers of lines, such as `str.splitlines`, take for the end of one. In JSON the last three stand inside texts
# as they are. The others stand there escaped; raw they are only in a row that has been edited by hand.
LINE_BREAKS = dict.fromkeys(map(ord, "\n\r\v\f\x1c\x1d\x1e"), " ") | {
    ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"
}
# Of this process. A server has room for so many requests at once, and these are requests that don't end.
_open: set[asyncio.Task[Any]] = set()
# How long a browser's EventSource waits before it comes back, in milliseconds. Random, because all that lost a server
# would come at once. Longer after a going_away: a proxy that finds no server answers 502, which ends an EventSource.
RETRY_MS = {"welcome": (1_000, 4_000), "going_away": (6_000, 15_000)}
OWN_PAGE = {None, "same-origin", "none"}
GONE = 1001


@method_decorator([transaction.non_atomic_requests, login_not_required], name="dispatch")
class EventSourceView(View):
    """Answers `GET …?since=<cursor>` with a stream that doesn't end: the frames of a WebSocket, one event each.

    `consumer` is the class whose `allow`, `render`, `connected` and `disconnected` count. Needs a server that speaks
    ASGI, and answers 501 on any other. Refuses as the socket does, with `{"error": {"code", "message"}}`.
    """

    http_method_names = ["get", "options"]
    consumer: type[OrgConsumer] = NotificationsConsumer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if rules := {"policy", "allow", "render"} & vars(cls).keys():
            raise TypeError(f"{cls.__qualname__}.{min(rules)} would not be asked: set it on the consumer")

    @classonlymethod
    def as_view(cls, **attributes: Any) -> Any:
        """Return the view for a route."""
        # For an asynchronous view Django would run an event loop, which under gevent seems to run in all greenlets, and
        # their queries would be refused meanwhile.
        return _needs_asgi if background.are_threads_greenlets() else super().as_view(**attributes)

    async def get(self, request: HttpRequest, org_slug: str, **kwargs: Any) -> HttpResponseBase:
        """Answer with the stream, or refuse."""
        if not isinstance(request, ASGIRequest):
            return _needs_asgi(request, org_slug)
        if (most := get_settings().MAX_EVENT_STREAMS) is not None and len(_open) >= most:
            log_exceeded("MAX_EVENT_STREAMS")
            if is_enforced():
                return _response(
                    refusal(CloseCode.OVERLOADED, "too many event streams; try again, or ask for pages")
                )
        transport = transport_of(request.scope)
        stream = _Stream(self.consumer, _scope(request, {"org_slug": org_slug, **kwargs}), transport)
        refused = await stream.begin()
        if refused is not None:
            return _response(refused)
        if transport is not None:
            transport.notice_silence(STREAM_SILENCE_SECONDS)
        return StreamingHttpResponse(stream, content_type="text/event-stream", headers=HEADERS)


@transaction.non_atomic_requests
@login_not_required
def _needs_asgi(request: HttpRequest, org_slug: str, **kwargs: Any) -> HttpResponse:
    error = {"code": "needs_asgi", "message": "this server can't stream events; ask for pages"}
    return _response(answer(HTTPStatus.NOT_IMPLEMENTED, msgspec.json.encode({"error": error})))


def _response(answer: HttpAnswer) -> HttpResponse:
    response = answer.response()
    response.headers["Vary"] = "Cookie"
    return response


class _Stream:
    """A consumer at work, and what it sends as the content of a response."""

    def __init__(
        self, consumer: type[OrgConsumer], scope: dict[str, Any], transport: Transport | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[HttpAnswer | None] = self._loop.create_future()
        self._gone = asyncio.Event()
        # One chunk waits while another is written: the consumer notices if the client doesn't read.
        self._chunks: asyncio.Queue[str] = asyncio.Queue(1)
        self._answer = answer(HTTPStatus.SERVICE_UNAVAILABLE, b"")
        self._is_connecting = True
        self._is_over = False
        self._transport = transport
        scope["extensions"][TRANSPORT] = {"abort": self.abort, "is_gone": self.is_gone}
        self._writer: asyncio.Task[Any] | None = None
        self._task = background.start(self._run(consumer, scope), _open)

    async def begin(self) -> HttpAnswer | None:
        """Wait until the consumer accepts, or return how it refuses."""
        try:
            return await asyncio.shield(self._begun)
        except asyncio.CancelledError:
            self._gone.set()
            raise

    async def __aiter__(self) -> AsyncIterator[str]:
        self._writer = asyncio.current_task()
        try:
            while not (self._is_over and self._chunks.empty()):
                yield await self._chunks.get()
        finally:
            self._gone.set()

    def close(self) -> None:
        """End the consumer; Django calls this from another thread when the response is over."""
        self._loop.call_soon_threadsafe(self._gone.set)

    def abort(self) -> None:
        """Drop the connection of a client that doesn't read, or at least end what is writing to it."""
        if self._writer is None:  # no response: middleware has answered otherwise, by the same connection
            self._gone.set()
        elif self._transport is not None:
            self._transport.abort()
        else:
            self._writer.cancel()

    def is_gone(self) -> bool:
        """Tell whether the response is over, and what it wrote has been sent."""
        return self._gone.is_set() and (self._transport is None or self._transport.is_gone())

    # -------------------------------------------------------------------------- what the consumer takes for a socket

    async def _run(self, consumer: type[OrgConsumer], scope: dict[str, Any]) -> None:
        try:
            await consumer.as_asgi()(scope, self._receive, self._send)
        except Exception:
            logger.exception("an event stream failed")
        finally:
            self._refuse(CloseCode.OVERLOADED)
            self._end()

    async def _receive(self) -> Message:
        if not self._is_connecting:
            return await self._next_message()
        self._is_connecting = False
        return {"type": "websocket.connect"}

    async def _next_message(self) -> Message:
        try:
            async with asyncio.timeout(min(get_settings().HEARTBEAT_SECONDS, STREAM_PING_SECONDS)):
                await self._gone.wait()
        except TimeoutError:
            # The client can't ask whether the connection lives; it is told.
            return {"type": "websocket.receive", "text": '{"type":"ping"}'}
        return {"type": "websocket.disconnect", "code": GONE}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            await self._put(_event(message["text"]))
        elif kind == "websocket.accept":
            self._begun.set_result(None)
        elif kind == "websocket.close":
            self._refuse(message["code"])
            await self._put(
                f"event: close\ndata: {wire.encode({'type': 'close', 'code': message['code']})}\n\n"
            )
            self._end()
        elif kind == "websocket.http.response.start":
            headers = {name.decode().title(): value.decode() for name, value in message["headers"]}
            self._answer = HttpAnswer(message["status"], b"", headers)
        elif kind == "websocket.http.response.body" and not self._begun.done():
            self._begun.set_result(self._answer._replace(body=message["body"]))

    def _refuse(self, code: int) -> None:
        if not self._begun.done():
            known = CloseCode(code) if code in OUTCOMES else CloseCode.OVERLOADED
            self._begun.set_result(refusal(known, known.outcome.meaning))

    async def _put(self, chunk: str) -> None:
        if self._gone.is_set():
            raise ConnectionResetError("the client has gone")
        await self._chunks.put(chunk)

    def _end(self) -> None:
        """Let the response end once it has written what still waits."""
        self._is_over = True
        if self._chunks.empty():
            self._chunks.put_nowait("")  # for the response, which waits there


class _Frame(msgspec.Struct):
    type: str
    cursor: Any = None


_read_frame = msgspec.json.Decoder(_Frame).decode


def _event(text: str) -> str:
    frame = _read_frame(text)
    if text.splitlines() != [text]:  # else a publisher's text could forge lines of an event
        text = text.translate(LINE_BREAKS)
    retry = f"retry: {random.randint(*RETRY_MS[frame.type])}\n" if frame.type in RETRY_MS else ""  # noqa: S311
    # None for a reset: a client that is interrupted before it has fetched its state must come back with the old cursor.
    if frame.type == "reset" or not is_cursor(frame.cursor):
        return f"{retry}data: {text}\n\n"
    return f"{retry}id: {frame.cursor}\ndata: {text}\n\n"


def _scope(request: ASGIRequest, kwargs: dict[str, Any]) -> dict[str, Any]:
    # A session of middleware that has its own name for the cookie, say; ASGI middleware knows better.
    session = {"session": request.session} if hasattr(request, "session") else {}
    return {
        **session,
        **request.scope,
        "type": "websocket",
        "url_route": {"args": (), "kwargs": kwargs},
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}, IS_REQUEST: {}},
        "headers": [*request.scope["headers"], *_origin(request)],
        "query_string": _query(request),
    }


def _origin(request: ASGIRequest) -> list[tuple[bytes, bytes]]:
    """What a browser leaves out when a page asks its own site; a page of another site is none of ours."""
    if "Origin" in request.headers:
        return []
    own = f"{request.scheme}://{request.get_host()}"
    is_own = request.headers.get("Sec-Fetch-Site") in OWN_PAGE
    return [(b"origin", own.encode() if is_own else b"null")]


def _query(request: ASGIRequest) -> bytes:
    """The query, in which the cursor with which a browser comes back by itself counts more than the first one."""
    last = request.headers.get("Last-Event-ID")
    query: bytes = request.scope.get("query_string", b"")
    if last is None:
        return query
    others = [
        (name, value) for name, value in parse_qsl(query.decode("latin-1")) if name not in {"since", "last"}
    ]
    return urlencode([*others, ("since", last)]).encode()
