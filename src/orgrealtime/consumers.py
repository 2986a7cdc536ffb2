"""The WebSocket door: consumers that host projects subclass and put into their routing."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import parse_qs

import msgspec
from channels.consumer import AsyncConsumer
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from orgrealtime import stream
from orgrealtime.admission import tickets
from orgrealtime.admission.addresses import client_address
from orgrealtime.admission.authentication import Identity
from orgrealtime.admission.lookup import AdmissionRequest
from orgrealtime.admission.origins import check_origin
from orgrealtime.admission.quotas import Place, Quotas, places_of
from orgrealtime.admission.refusals import no_access, refuse
from orgrealtime.conf import get_settings
from orgrealtime.delivery.chunks import Message
from orgrealtime.delivery.connection import MAX_UNACKNOWLEDGED, Connection
from orgrealtime.delivery.feed import RECENT_EVENTS, Feed
from orgrealtime.delivery.hub import get_hub
from orgrealtime.delivery.transport import abort, frame_writer
from orgrealtime.errors import (
    INTERNAL_ERROR,
    UNSUPPORTED_DATA,
    CloseCode,
    CursorError,
    MessageError,
    Refused,
    StreamReset,
)
from orgrealtime.limits import SocketRateLimitMixin, UserRateLimitMixin, exceeded
from orgrealtime.policy import refuse_coroutines
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.protocol.query_string import parse_count
from orgrealtime.rates import Rate, TokenBucket
from orgrealtime.stream import Page, database
from orgrealtime.stream.access import Access

__all__ = ["NotificationsConsumer", "OrgConsumer", "command"]

logger = logging.getLogger("orgrealtime.connection")

MAX_LAST = 500
CLOSE_SECONDS = 2.0
GOODBYE_SECONDS = 5.0  # for a client to answer the close, before it is let go
HANDSHAKE_WAIT_SECONDS = 5.0
HOOK_SECONDS = 10.0
# Servers differ in what they let through; session cookies and what proxies add stay far below.
MAX_HANDSHAKE_BYTES = 16_384
MAX_HEADERS = 100
# An acknowledgement of so many events isn't counted as a message: what is sent bounds how often it can come.
ACK_EVENTS = 50
# How many refused messages one connection may send before it is closed.
PATIENCE = {CloseCode.BAD_REQUEST: Rate(10, 60), CloseCode.RATE_LIMITED: Rate(60, 60)}

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[..., Awaitable[None]]
H = TypeVar("H", bound=Handler)
T = TypeVar("T")


def command(name: str) -> Callable[[H], H]:
    """Let clients call an async method by messages of type `name`; it gets the message as a dict.

    What isn't marked so can't be called from the wire. Raise MessageError to answer with an `error` frame.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}", str(name), re.ASCII):
        raise TypeError(
            f'use it as @command("name"), with letters, digits and _ . : -; {name!r:.60} is no name'
        )
    if name in wire.RESERVED_TYPES:
        raise ValueError(f"{name!r} is a frame of the protocol; name the command otherwise")

    def mark(method: H) -> H:
        is_async = inspect.iscoroutinefunction(method)
        if not is_async:
            raise TypeError(f"the command {name!r} must be an async method")
        method.command_name = name  # type: ignore[attr-defined]
        return method

    return mark


class _Start(NamedTuple):
    """Where a connection begins: after number `seq`, with what was read for it alone, or with a reset."""

    position: Position
    seq: int
    page: Page | None = None
    reset: StreamReset | None = None


class _Wish(NamedTuple):
    since: Cursor | None = None
    last: int | None = None


class OrgConsumer(SocketRateLimitMixin, UserRateLimitMixin, AsyncConsumer):
    """A connection of one member to one organisation's stream, refused before it is accepted unless all is well.

    Put it into your routing under a path with `<slug:org_slug>`. Override `allow`, `connected`, `disconnected`,
    `render` and add methods marked with `command`. Unlike Channels' consumers it has no channel of its own, and
    nothing from the channel layer calls its methods. See the protocol page for what travels.
    """

    commands: ClassVar[Mapping[str, str]] = {}

    scope: dict[str, Any]
    connection: Connection
    identity: Identity
    _organization: models.Model
    _admitted: Access
    _admitted_at: float
    _census: Quotas
    _places: tuple[Place, ...] = ()
    _waits = False
    _ends = False
    _is_disconnected = False
    # Made when they are first needed: for most connections they never are.
    _commands: deque[tuple[str, Message]] | None = None
    _worker: asyncio.Task[None] | None = None
    _complaints: dict[CloseCode, TokenBucket] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_coroutines(cls, "allow", "render")
        # All bases, and not `cls.commands` alone: a mixin that is no consumer may bring commands too.
        cls.commands = {
            method.command_name: name
            for base in reversed(cls.__mro__)
            for name, method in vars(base).items()
            if hasattr(method, "command_name")
        }

    # ---------------------------------------------------------------------------- what host projects override

    def allow(self, user: Any, access: Access) -> bool:
        """Tell whether this member may connect, and stay; default: every member may.

        Runs in a database thread before the connection is accepted, and again whenever access is checked.
        """
        return True

    async def connected(self) -> None:
        """Do what your application needs once the connection stands; `welcome` has been sent.

        What the client sends is read afterwards. One that takes longer than 10 seconds ends the connection.
        """

    async def disconnected(self, code: int) -> None:
        """Clean up, within 10 seconds, after a connection that had been accepted; `code` is the close code."""

    def render(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Return an event as this connection shall see it, or None to hide it; keep `type` and `cursor`.

        Overriding it costs: events are then encoded for each connection instead of once for all. Do the same in
        `CatchUpView.render`, or clients that catch up will see another event.
        """
        return event

    # -------------------------------------------------------------------------------- what host projects call

    @property
    def user(self) -> Any:
        """The user at the other end."""
        return self.identity.user

    @functools.cached_property
    def organization(self) -> models.Model:
        """The organisation of this connection, as it was when it was let in; an object of its own."""
        return copy.copy(self._organization)

    @property
    def access(self) -> Access:
        """What the user may see, as it was checked last."""
        return self.connection.access

    @property
    def user_id(self) -> Any:
        """The primary key of the user at the other end."""
        return self.access.user_id

    async def send_json(self, frame: dict[str, Any]) -> None:
        """Send a frame to this client; it has a `type`, and is in order with the stream's frames."""
        self.connection.reply(wire.encode(frame))

    async def close(self, code: int = 1000, reason: str = "closed by the application") -> None:
        """Close the connection; nothing more is delivered. `reason` is for the log."""
        self.connection.close(code, reason)

    # ------------------------------------------------------------------------------------------ the connection

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Run one connection (ASGI WebSocket specification)."""
        self.scope = scope
        await receive()  # websocket.connect
        self._admitted_at = asyncio.get_running_loop().time()
        self._census = get_hub().census
        try:
            try:
                start = await self._take_turn()
            except Refused as refused:
                await refuse(scope, send, refused)
                return
            await send({"type": "websocket.accept", "subprotocol": self._subprotocol()})
            await self._run(start, receive, send)
        finally:
            self._leave_places()

    def _leave_places(self) -> None:
        places, self._places = self._places, ()
        self._census.leave(places)

    async def _take_turn(self) -> _Start:
        hub, most = get_hub(), get_settings().MAX_HANDSHAKES
        async with hub.door.passing():
            if most is None or (get_settings().LIMITS_DRY_RUN and hub.turnstile.inside >= most):
                if most is not None:
                    exceeded("MAX_HANDSHAKES")
                hub.turnstile.squeeze_in()
            elif not await hub.turnstile.enter(most, HANDSHAKE_WAIT_SECONDS):
                exceeded("MAX_HANDSHAKES")
                raise Refused(CloseCode.OVERLOADED, "MAX_HANDSHAKES", "too many connections are being opened")
            try:
                return await self._admit()
            finally:
                hub.turnstile.leave(get_settings().MAX_HANDSHAKES)

    async def _admit(self) -> _Start:
        try:
            self._check_size()
            wish = self._read_query()
            ticket = tickets.offered(self.scope)
            if ticket is None:
                check_origin(self.scope)
            _refuse_if_draining()
            start = await self._let_in(wish, ticket)
            places = places_of(self._admitted.user_id, self._organization.pk, self._client())
            _refuse_if_draining()
            await self._census.enter(places)
            self._places = places
            _refuse_if_draining()
            return start
        except CursorError as error:
            raise Refused(CloseCode.BAD_REQUEST, "malformed query", f"since: {error}") from None
        except Refused:
            raise
        except Exception:
            logger.exception("a connection can't be checked")
            raise Refused(CloseCode.OVERLOADED, "the checks failed") from None

    async def _let_in(self, wish: _Wish, ticket: str | None) -> _Start:
        slug = self._slug()
        if not slug:
            raise ImproperlyConfigured("the route of this consumer needs <slug:org_slug> in its path")
        reception = get_hub().reception
        self.identity, self._organization, self._admitted = await reception.admit(
            AdmissionRequest(self.scope, slug, ticket)
        )
        if not await self._is_allowed():
            raise no_access()
        return await self._find_start(wish, await reception.position(self._organization.pk))

    async def _is_allowed(self) -> bool:
        if type(self).allow is OrgConsumer.allow:
            return True
        return await database.HANDSHAKE.run(self.allow, self.identity.user, self._admitted)

    async def _find_start(self, wish: _Wish, position: Position) -> _Start:
        try:
            if wish.last is not None:
                return await self._start_of_last(wish.last, position)
            if wish.since is not None:
                return await self._start_after(wish.since, position)
        except StreamReset as reset:
            return _Start(reset.position, reset.position.head, reset=reset)
        return _Start(position, position.head)

    async def _start_of_last(self, count: int, position: Position) -> _Start:
        feed = await self._recent(position, count)
        if feed.epoch == position.epoch and feed.tail.head >= position.head:
            seq = feed.tail.before_last(count, self._admitted.sees)
            if seq is None and feed.tail.start <= position.floor:
                seq = feed.tail.start
            if seq is not None:
                return _Start(position, seq)
        page = await database.HANDSHAKE.run(
            stream.read_last, self._organization.pk, access=self._admitted, limit=count, position=position
        )
        seq = page.events[0].seq - 1 if page.events else page.position.head
        return _Start(page.position, seq, page)

    async def _start_after(self, since: Cursor, position: Position) -> _Start:
        seq = position.resume(since)
        if seq == position.head or (await self._recent(position, position.head - seq)).covers(since):
            return _Start(position, seq)
        page = await database.HANDSHAKE.run(
            stream.read, self._organization.pk, since, access=self._admitted, position=position
        )
        return _Start(page.position, seq, page)

    async def _recent(self, position: Position, count: int) -> Feed:
        """The feed of the organisation, with the newest events in its tail if that is likely to be enough."""
        feed = get_hub().open_feed(self._organization.pk, position)
        if feed.tail.start > max(0, position.head - count) and count <= RECENT_EVENTS:
            await feed.reach_back()
        return feed

    async def _run(self, start: _Start, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self.connection = Connection(
            secrets.token_hex(8),
            self.identity,
            self._admitted,
            Cursor(start.position.epoch, start.seq),
            send,
            functools.partial(self._hang_up, task),
            self.allow,
            self._renderer(),
            frame_writer(self.scope),
        )
        opened = time.monotonic()
        code = 1006
        try:
            get_hub().attach(connection, self._organization.pk, start.position, self._admitted_at)
            self._log_opened()
            connection.start(self._first_frames(start), start.position.head, start.page)
            await self._unless_ended(_in_time(self.connected()))
            code = await self._listen(receive) or code
            if self._ends and not self._is_disconnected:
                await self._take_leave(receive, send)
        finally:
            code = connection.close_code or code
            connection.cancel(code)
            connection.end()
            if self._worker is not None:
                self._worker.cancel()
            self._log_closed(code, time.monotonic() - opened)
            self._leave_places()
            await _in_time(self.disconnected(code))

    def _hang_up(self, task: asyncio.Task[Any]) -> None:
        self._ends = True
        if self._waits and asyncio.current_task() is not task:
            task.cancel()

    def _first_frames(self, start: _Start) -> list[str]:
        settings = get_settings()
        # A client that gets no further than `welcome` must not lose what the reset was going to tell it.
        stands_at = self.connection.cursor if start.reset is None else str(start.reset.after)
        welcome = wire.encode(
            {
                "type": "welcome",
                "protocol": wire.PROTOCOL,
                "connection_id": self.connection.id,
                "org": {"id": _plain(self._organization.pk), "slug": self._slug()},
                "cursor": stands_at,
                "heartbeat": settings.HEARTBEAT_SECONDS,
                "limits": {
                    "message_bytes": settings.MAX_MESSAGE_BYTES,
                    "unacknowledged_events": MAX_UNACKNOWLEDGED,
                },
            }
        )
        if start.reset is None:
            return [welcome]
        return [welcome, wire.reset(start.position.cursor, start.reset.reason)]

    # ---------------------------------------------------------------------------------------- what clients send

    async def _listen(self, receive: Receive) -> int | None:
        while not self._ends:
            message = await self._unless_ended(receive())
            if message is None:
                break
            if message["type"] == "websocket.disconnect":
                self._is_disconnected = True
                return int(message.get("code") or 1005)
            text = message.get("text")
            if text is None:
                self.connection.close(UNSUPPORTED_DATA, "binary frame")
            else:
                await self._take(text)
        return None

    async def _unless_ended(self, work: Awaitable[T]) -> T | None:
        self._waits = True
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._ends or task is None or task.uncancel() > 0:
                raise
            return None
        finally:
            self._waits = False

    async def _take_leave(self, receive: Receive, send: Send) -> None:
        # Not while reading: granian's close waits until nobody reads.
        code = INTERNAL_ERROR if self.connection.close_code == 1006 else self.connection.close_code
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await send({"type": "websocket.close", "code": int(code or INTERNAL_ERROR)})
            async with asyncio.timeout(GOODBYE_SECONDS):
                while (await receive())["type"] != "websocket.disconnect":
                    pass
        except Exception:
            abort(send)

    async def _take(self, text: str) -> None:
        size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        if size > get_settings().MAX_MESSAGE_BYTES:
            self.connection.close(CloseCode.PAYLOAD_TOO_LARGE, "message too large")
            return
        try:
            await self.admit_message(size)
            kind, message = wire.read_message(text)
            if self.connection.close_code is None:
                self._carry_out(kind, message)
        except MessageError as error:
            self._complain(error)

    def _carry_out(self, kind: str, message: Message) -> None:
        if kind == "ping":
            self.connection.ping(asyncio.get_running_loop().time())
        elif kind == "ack":
            self._acknowledge(message)
        elif kind in self.commands:
            self._queue_command(kind, message)
        else:
            known = ", ".join(sorted({*wire.CLIENT_FRAMES, *self.commands}))
            raise MessageError(f"there is no message of this type; known are {known}", code="unknown_type")

    def _acknowledge(self, message: Message) -> None:
        try:
            cursor = Cursor.parse(message.get("cursor"))
        except CursorError as error:
            raise MessageError(str(error)) from None
        covered = self.connection.acknowledge(cursor)
        if covered is None:
            raise MessageError("this cursor hasn't been sent on this connection")
        if covered >= ACK_EVENTS:
            self.forgive_message()  # else who catches up a long way would be closed for saying how far it has come

    def _queue_command(self, kind: str, message: Message) -> None:
        most = get_settings().MAX_QUEUED_COMMANDS
        if self._commands is None:
            self._commands = deque()
        if len(self._commands) >= most and self.exceeds("MAX_QUEUED_COMMANDS"):
            raise MessageError(
                f"{most} messages are waiting already; wait for their effect",
                code="rate_limited",
            )
        self._commands.append((kind, message))
        if self._worker is None:
            # Apart from receiving: a handler that takes long would keep pongs from being seen.
            self._worker = asyncio.get_running_loop().create_task(self._run_commands())

    async def _run_commands(self) -> None:
        try:
            while self._commands and self.connection.close_code is None:
                kind, message = self._commands.popleft()
                try:
                    await getattr(self, self.commands[kind])(message)
                except MessageError as error:
                    self.connection.reply(wire.error(error.code, str(error)))
                except Exception:
                    logger.exception(
                        "a command failed", extra={"connection_id": self.connection.id, "command": kind}
                    )
                    self.connection.reply(wire.error("internal_error", "the server couldn't carry this out"))
        finally:
            self._worker = None

    def _complain(self, error: MessageError) -> None:
        code = CloseCode.RATE_LIMITED if error.code == "rate_limited" else CloseCode.BAD_REQUEST
        now = time.monotonic()
        if self._complaints is None:
            self._complaints = {}
        bucket = self._complaints.setdefault(code, TokenBucket(PATIENCE[code], now))
        if bucket.take(1, now):
            self.connection.reply(wire.error(error.code, str(error)))
        else:
            self.connection.close(code, f"too many refused messages ({error.code})")

    # ------------------------------------------------------------------------------------------------- details

    def _slug(self) -> str:
        return str(self.scope["url_route"]["kwargs"].get("org_slug", ""))

    def _check_size(self) -> None:
        headers = self.scope.get("headers", ())
        size = len(self.scope.get("query_string", b"")) + sum(
            len(name) + len(value) for name, value in headers
        )
        if len(headers) > MAX_HEADERS or size > MAX_HANDSHAKE_BYTES:
            raise Refused(
                CloseCode.BAD_REQUEST,
                "oversized handshake",
                f"at most {MAX_HEADERS} headers, and {MAX_HANDSHAKE_BYTES} bytes of headers and query",
            )

    def _read_query(self) -> _Wish:
        try:
            query = parse_qs(
                self.scope.get("query_string", b"").decode("latin-1"),
                keep_blank_values=True,
                max_num_fields=20,
            )
        except ValueError:
            raise Refused(CloseCode.BAD_REQUEST, "malformed query", "the query can't be read") from None
        since, last = query.get("since"), query.get("last")
        if since and last:
            raise Refused(CloseCode.BAD_REQUEST, "malformed query", "give 'since' or 'last', not both")
        if last:
            return _Wish(last=parse_count(last[-1], "last", MAX_LAST))
        return _Wish(since=Cursor.parse(since[-1]) if since else None)

    def _renderer(self) -> Callable[[str], str | None] | None:
        if type(self).render is OrgConsumer.render:
            return None

        def render(text: str) -> str | None:
            try:
                rendered = self.render(msgspec.json.decode(text))
                return None if rendered is None else wire.encode(rendered)
            except Exception:
                # Skipped like a row that can't be encoded: raising would end this connection at every attempt.
                logger.exception(
                    "render failed, the event is skipped", extra={"connection_id": self.connection.id}
                )
                return None

        return render

    def _subprotocol(self) -> str | None:
        return wire.SUBPROTOCOL if wire.SUBPROTOCOL in (self.scope.get("subprotocols") or ()) else None

    def _client(self) -> str | None:
        return client_address(self.scope)

    def _log_opened(self) -> None:
        logger.info(
            "connection opened",
            extra={
                "connection_id": self.connection.id,
                "org_id": str(self._organization.pk),
                "org": self._slug(),
                "user_id": str(self.access.user_id),
                "client": self._client(),
            },
        )

    def _log_closed(self, code: int, seconds: float) -> None:
        logger.info(
            "connection closed",
            extra={
                "connection_id": self.connection.id,
                "code": int(code),
                "reason": self.connection.close_reason,
                "seconds": round(seconds, 3),
                "events": self.connection.sent_events,
            },
        )


class NotificationsConsumer(OrgConsumer):
    """The stream of one organisation, as the protocol has it, and nothing besides."""


async def _in_time(hook: Awaitable[T]) -> T:
    # One that never returned would keep the connection's place, and its end from being noticed.
    async with asyncio.timeout(HOOK_SECONDS):
        return await hook


def _refuse_if_draining() -> None:
    if get_hub().is_draining:
        raise Refused(CloseCode.OVERLOADED, "draining", "this server is stopping; try again")


def _plain(key: Any) -> int | str:
    return key if isinstance(key, int) else str(key)
