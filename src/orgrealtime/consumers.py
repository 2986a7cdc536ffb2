"""The WebSocket consumers: host projects subclass them and put them into their routing."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

from channels.consumer import AsyncConsumer
from django.db import models

from orgrealtime.admission.authentication import Identity
from orgrealtime.admission.handshake import Admission, Handshake, client_of, slug_of
from orgrealtime.admission.refusals import refuse_handshake
from orgrealtime.admission.service import AdmissionService
from orgrealtime.commands import CommandQueue, Message, command, commands_of, protocol_command
from orgrealtime.conf import get_settings
from orgrealtime.delivery.connection import MAX_UNACKNOWLEDGED, Connection
from orgrealtime.delivery.hub import get_hub
from orgrealtime.delivery.transport import Transport, frame_writer, transport_of
from orgrealtime.errors import (
    INTERNAL_ERROR,
    UNSUPPORTED_DATA,
    CloseCode,
    CursorError,
    MessageError,
    Refused,
)
from orgrealtime.keys import organization_keys
from orgrealtime.limits import RefusedMessages, SocketRateLimitMixin, UserRateLimitMixin
from orgrealtime.policy import Governed, render_text
from orgrealtime.protocol import wire
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.stream import Access, Cursor

__all__ = ["NotificationsConsumer", "OrgConsumer", "command"]

logger = logging.getLogger("orgrealtime.connection")

CLOSE_SECONDS = 2.0
CLOSE_ANSWER_SECONDS = 5.0  # for a client to answer the close, before it is let go
HOOK_SECONDS = 10.0
# An acknowledgement of so many events isn't counted as a message: what is sent bounds how often it can come.
ACK_EVENTS = 50

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")


class OrgConsumer(Governed, SocketRateLimitMixin, UserRateLimitMixin, AsyncConsumer):
    """A connection of one member to one organisation's stream, refused before it is accepted unless all is well.

    Put it into your routing under a path with `<slug:org_slug>`, by `orgrealtime.routing.routes` with the HTTP views
    beside it. Set `policy`, override `connected` and `disconnected`, and add methods marked with `command`. Unlike
    Channels' consumers it has no channel of its own, and nothing from the channel layer calls its methods. See the
    protocol page for what travels.
    """

    commands: ClassVar[Mapping[str, str]] = {}
    sync_hooks = (*Governed.sync_hooks, "topic")
    # Of the commands, of which longer ones are answered with an error. None: `MAX_MESSAGE_BYTES`, which all other
    # messages have: what is longer closes the connection.
    max_message_bytes: ClassVar[int | None] = None

    scope: dict[str, Any]
    connection: Connection
    identity: Identity
    _organization: models.Model
    _transport: Transport | None = None
    _waits = False
    _ends = False
    _is_disconnected = False
    # Made when they are first needed: for most connections they never are.
    _command_queue: CommandQueue | None = None
    _refused_messages: RefusedMessages | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.commands = commands_of(cls)

    @classmethod
    def as_asgi(cls, *, policy: Any = None, **attributes: Any) -> Any:
        """Return the ASGI application for a route, under a `policy` of its own if one is given."""
        return super().as_asgi(**attributes) if policy is None else cls.under(policy).as_asgi(**attributes)

    # ---------------------------------------------------------------------------- what host projects override

    async def connected(self) -> None:
        """Do what your application needs once the connection stands; `welcome` has been sent.

        What the client sends is read afterwards. If it takes longer than 10 seconds the connection ends.
        """

    async def disconnected(self, code: int) -> None:
        """Clean up, within 10 seconds, after a connection that had been accepted; `code` is the close code."""

    def topic(self, access: Access) -> str | None:
        """Return the one topic that this connection is for; nothing else is sent, nor if the user hasn't got it.

        Runs in a database thread, before the client is let in. Default: it is for all that the user may see.
        """
        return None

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
    def access(self) -> Access:  # type: ignore[override]
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
        self._transport = transport_of(scope, send)
        await receive()  # websocket.connect
        service = get_hub().service(AdmissionService)
        handshake = Handshake(
            scope,
            service,
            self.allow if self.has_rule("allow") else None,
            self.topic if type(self).topic is not OrgConsumer.topic else None,
        )
        try:
            try:
                admission = await handshake.admit()
            except Refused as refused:
                await refuse_handshake(scope, send, refused)
                return
            await send({"type": "websocket.accept", "subprotocol": self._subprotocol()})
            await self._run(admission, handshake, receive, send)
        finally:
            handshake.release()

    async def _run(self, admission: Admission, handshake: Handshake, receive: Receive, send: Send) -> None:
        self.identity, self._organization = admission.identity, admission.organization
        task = asyncio.current_task()
        assert task is not None
        connection = self.connection = Connection(
            secrets.token_hex(8),
            admission.credentials,
            admission.access,
            admission.start.cursor,
            send,
            functools.partial(self._hang_up, task),
            self._render_text if self.has_rule("render") else None,
            frame_writer(self.scope),
        )
        opened = time.monotonic()
        code = 1006
        try:
            get_hub().attach(connection, organization_keys().of(self._organization), admission.start.position)
            self._log_opened()
            start = admission.start
            connection.start(self._first_frames(admission), start.position.head, start.page)
            await self._unless_ended(_in_time(self.connected()))
            code = await self._listen(receive) or code
            if self._ends and not self._is_disconnected:
                await self._close_socket(receive, send)
        except Exception:
            await self._close_socket(receive, send)
            raise
        finally:
            code = connection.close_code or code
            connection.cancel(code)
            connection.end()
            if self._command_queue is not None:
                self._command_queue.close()
            self._log_closed(code, time.monotonic() - opened)
            if self._transport is not None:  # whose place is kept until it is gone
                await self._transport.until_gone(CLOSE_ANSWER_SECONDS)
            handshake.release()
            await _in_time(self.disconnected(code))

    def _hang_up(self, task: asyncio.Task[Any]) -> None:
        self._ends = True
        if self._waits and asyncio.current_task() is not task:
            task.cancel()

    def _first_frames(self, admission: Admission) -> list[str]:
        settings = get_settings()
        reset = admission.start.reset
        # A client that gets no further than `welcome` must not lose what the reset was going to tell it.
        stands_at = self.connection.cursor if reset is None else str(reset.after)
        welcome = wire.encode(
            {
                "type": "welcome",
                "protocol": wire.PROTOCOL,
                "connection_id": self.connection.id,
                "org": {
                    "id": key_as_json(organization_keys().of(self._organization)),
                    "slug": slug_of(self.scope),
                },
                "user": {"id": key_as_json(self.user_id)},
                "cursor": stands_at,
                "heartbeat": settings.HEARTBEAT_SECONDS,
                "limits": {
                    "message_bytes": self.max_message_bytes or settings.MAX_MESSAGE_BYTES,
                    "unacknowledged_events": MAX_UNACKNOWLEDGED,
                },
            }
        )
        return [welcome] if reset is None else [welcome, wire.reset(reset.position.cursor, reset.reason)]

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
                await self._receive_message(text)
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

    async def _close_socket(self, receive: Receive, send: Send) -> None:
        # Not while reading: granian's close waits until no task reads.
        code = INTERNAL_ERROR if self.connection.close_code == 1006 else self.connection.close_code
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await send({"type": "websocket.close", "code": int(code or INTERNAL_ERROR)})
            async with asyncio.timeout(CLOSE_ANSWER_SECONDS):
                while (await receive())["type"] != "websocket.disconnect":
                    pass
        except Exception:
            if self._transport is not None:
                self._transport.abort()

    async def _receive_message(self, text: str) -> None:
        size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        is_long, limit = size > get_settings().MAX_MESSAGE_BYTES, self.max_message_bytes
        if is_long and (limit is None or not self._is_command(text)):
            self.connection.close(CloseCode.PAYLOAD_TOO_LARGE, "message too large")
            return
        try:
            if limit is not None and size > limit:
                raise _too_long(size, limit)
            await self.admit_message(size)
            if self.connection.close_code is None:
                self._carry_out(wire.read_type(text), text)
        except MessageError as error:
            self._refuse_message(error, text)

    def _is_command(self, text: str) -> bool:
        """Tell whether a text is a message of a type that this consumer has made a command."""
        try:
            return wire.read_type(text) in self.commands.keys() - wire.CLIENT_FRAMES
        except MessageError:
            return False

    def _carry_out(self, kind: str, text: str) -> None:
        if kind not in self.commands:
            known = ", ".join(sorted(self.commands))
            raise MessageError(f"there is no message of this type; known are {known}", code="unknown_type")
        method = getattr(self, self.commands[kind])
        if kind in wire.CLIENT_FRAMES:
            method(text)
        else:
            self._enqueue(kind, method, text)

    @protocol_command("ping")
    def _carry_out_ping(self, text: str) -> None:
        self.connection.ping(asyncio.get_running_loop().time())

    @protocol_command("ack")
    def _carry_out_ack(self, text: str) -> None:
        try:
            cursor = Cursor.parse(wire.read_ack(text))
        except CursorError as error:
            raise MessageError(str(error)) from None
        covered = self.connection.acknowledge(cursor)
        if covered is None:
            raise MessageError("this cursor hasn't been sent on this connection")
        if covered >= ACK_EVENTS:
            # Else a client that catches up a long way would be closed for saying how far it has come.
            self.forgive_message()

    def _enqueue(self, kind: str, method: Callable[[Message], Awaitable[None]], text: str) -> None:
        if self._command_queue is None:
            self._command_queue = CommandQueue(self.connection)
        if self._command_queue.is_full and self.exceeds("MAX_QUEUED_COMMANDS"):
            most = get_settings().MAX_QUEUED_COMMANDS
            raise MessageError(
                f"{most} messages are waiting already; wait for their effect", code="rate_limited"
            )
        self._command_queue.put(kind, method, wire.read_message(text))

    def _refuse_message(self, error: MessageError, text: str) -> None:
        self._refused_messages = self._refused_messages or RefusedMessages()
        code = self._refused_messages.count(error)
        if code is None:
            self.connection.reply(wire.error(error.code, str(error), wire.read_ref(text), **error.details))
        else:
            self.connection.close(code, f"too many refused messages ({error.code})")

    # ------------------------------------------------------------------------------------------------- details

    def _render_text(self, text: str) -> str | None:
        return render_text(text, self.render, self.connection.id)

    def _subprotocol(self) -> str | None:
        return wire.SUBPROTOCOL if wire.SUBPROTOCOL in (self.scope.get("subprotocols") or ()) else None

    def _log_opened(self) -> None:
        logger.info(
            "connection opened",
            extra={
                "connection_id": self.connection.id,
                "org_id": str(organization_keys().of(self._organization)),
                "org": slug_of(self.scope),
                "user_id": str(self.access.user_id),
                "client": client_of(self.scope),
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


OrgConsumer.commands = commands_of(OrgConsumer)


class NotificationsConsumer(OrgConsumer):
    """The stream of one organisation, as the protocol has it, and nothing besides."""


def _too_long(size: int, limit: int) -> MessageError:
    return MessageError(
        f"this message has {size} bytes; at most {limit} are allowed",
        code="too_long",
        limit=limit,
        length=size,
        unit="bytes",
    )


async def _in_time(hook: Awaitable[T]) -> T:
    # A hook that never returned would keep the connection's place, and its end from being noticed.
    async with asyncio.timeout(HOOK_SECONDS):
        return await hook
