"""The commands of rooms: what clients ask for over the WebSocket, done by the services that HTTP uses, too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.db import Error

from orgrealtime.chat import services
from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.lookup import can_be_asked_later, unavailable
from orgrealtime.chat.typing import TypingService
from orgrealtime.commands import Message, command
from orgrealtime.consumers import OrgConsumer
from orgrealtime.delivery.hub import get_hub
from orgrealtime.protocol import wire
from orgrealtime.stream.database import COMMANDS

T = TypeVar("T")

MAX_MESSAGE_BYTES = 65_536  # the longest text that is allowed, with each of its characters escaped
ANSWER_SECONDS = 10.0
HELD_SECONDS = 0.02
OF_SENDING = ("body", "client_message_id", "reply_to", "mentions", "mentions_all", "attachments")
OF_EDITING = ("message_id", "body", "version", "mentions")
OF_DELETING = ("message_id", "version")
OF_REACTING = ("message_id", "emoji", "on")


class ChatCommands(OrgConsumer):
    """The commands of rooms; put it before your own consumer's other bases.

    A connection that is for one room alone has its primary key as `room_id`.
    """

    max_message_bytes: ClassVar[int | None] = MAX_MESSAGE_BYTES
    room_id: int | None = None

    @command("message")
    async def send_message(self, message: Message) -> None:
        """Say something in a room; answered with `chat.accepted`."""
        room_id = self._room_of(message)
        sent = await self._do(services.send, room_id=room_id, **given(message, OF_SENDING, "body"))
        await self._answer(
            "chat.accepted",
            message,
            client_message_id=sent.message.client_message_id,
            message_id=sent.message.pk,
            duplicate=sent.duplicate,
        )
        with contextlib.suppress(ChatError, Error):  # it has been accepted, and who types ends by itself
            await self._in_time(self._typing.stop(self.connection, room_id))

    @command("chat.edit")
    async def edit_message(self, message: Message) -> None:
        """Have a message say something else."""
        await self._do(services.edit, **given(message, OF_EDITING, "message_id", "body"))
        await self._answer("done", message)

    @command("chat.delete")
    async def delete_message(self, message: Message) -> None:
        """Leave nothing of a message but its place."""
        await self._do(services.delete, **given(message, OF_DELETING, "message_id"))
        await self._answer("done", message)

    @command("chat.react")
    async def react(self, message: Message) -> None:
        """Put an emoji to a message, or take it away."""
        await self._do(services.react, **given(message, OF_REACTING, "message_id", "emoji"))
        await self._answer("done", message)

    @command("chat.typing")
    async def type_in_room(self, message: Message) -> None:
        """Say that the user types in a room, or with `on` false that no more; answered if it has a `ref`."""
        room_id = self._room_of(message)
        if message.get("on", True) is False:
            await self._in_time(self._typing.stop(self.connection, room_id))
        else:
            await self._in_time(self._typing.start(self.connection, room_id))
        await self._answer_if_asked(message)

    @command("watch")
    async def watch_room(self, message: Message) -> None:
        """Get frames about who types in a room; answered if it has a `ref`."""
        self._typing.watch(self.connection, self._room_of(message))
        await self._answer_if_asked(message)

    @command("unwatch")
    async def unwatch_room(self, message: Message) -> None:
        """Get no such frames any more; answered if it has a `ref`."""
        self._typing.unwatch(self.connection, self._room_of(message))
        await self._answer_if_asked(message)

    @property
    def _typing(self) -> TypingService:
        return get_hub().service(TypingService)

    def _room_of(self, message: Message) -> int:
        """Return which room a message is about: the one of this connection, or the one that it names."""
        room_id = self.room_id if message.get("room") is None else message["room"]
        if type(room_id) is not int or not 0 < room_id < 2**63:
            raise ChatError("bad_request", f"room is the id of a room, a whole number, not {room_id!r:.60}")
        if self.room_id not in {None, room_id}:
            raise ChatError("bad_request", f"this connection is for room {self.room_id} alone")
        return room_id

    async def _do(self, service: Callable[..., T], **arguments: Any) -> T:
        """Run a service in a database thread, in the user's name; raise MessageError if it refuses or can't be run."""
        done: T = await self._in_time(self._when_admitted(COMMANDS.wrap(service), **arguments))
        return done

    async def _when_admitted(self, work: Callable[..., Any], **arguments: Any) -> Any:
        while self.connection.held is not None:  # noqa: ASYNC110 - the access may have ended, and is being asked about
            await asyncio.sleep(HELD_SECONDS)
        return await work(self.access.organization_id, self.user, **arguments)

    async def _in_time(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await work
        except TimeoutError:
            raise unavailable() from None
        except Error as error:
            if not can_be_asked_later(error):
                raise
            raise unavailable() from None

    async def _answer(self, type: str, message: Message, **members: Any) -> None:
        ref = wire.ref_of(message.get("ref"))
        about = {} if ref is None else {"ref": ref}
        await self.send_json({"type": type, **about, **members})

    async def _answer_if_asked(self, message: Message) -> None:
        if "ref" in message:
            await self._answer("done", message)


def given(message: Message, names: tuple[str, ...], *needed: str) -> dict[str, Any]:
    """Return the members of these names, those that are null left out; raise ChatError if one is needed and missing."""
    found = {name: message[name] for name in names if message.get(name) is not None}
    if missing := [name for name in needed if name not in found]:
        raise ChatError("bad_request", f"{missing[0]} is missing")
    return found
