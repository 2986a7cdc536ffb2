"""The events of rooms, as they are registered: their payloads have these members."""

from __future__ import annotations

from typing import Any, TypedDict

from orgrealtime import events

Key = int | str


class MessageEvent(TypedDict):
    """`chat.message`: somebody has said something."""

    room: int
    message_id: int
    client_message_id: str | None
    body: str
    version: int
    reply_to: int | None
    mentions: list[Key]
    mentions_all: bool
    attachments: list[Any]


class EditedEvent(TypedDict):
    """`chat.edited`: a message says something else now."""

    room: int
    message_id: int
    body: str
    version: int
    mentions: list[Key]


class DeletedEvent(TypedDict):
    """`chat.deleted`: a message is gone but for its place."""

    room: int
    message_id: int
    version: int
    deleted_by: Key | None


class ReactionEvent(TypedDict):
    """`chat.reaction`: somebody has put an emoji to a message, or taken it away."""

    room: int
    message_id: int
    user: Key
    emoji: str
    on: bool


class RoomEvent(TypedDict):
    """`chat.room`: a room has changed."""

    room: int
    name: str
    slug: str | None
    kind: str
    archived: bool
    slow_mode_seconds: int
    version: int


class JoinedEvent(TypedDict):
    """`chat.joined`: users are in the room from here on; also when a role has changed."""

    room: int
    users: list[Key]
    role: str


class LeftEvent(TypedDict):
    """`chat.left`: users are in the room no more; those themselves are told so outside of its topic."""

    room: int
    users: list[Key]


class MentionEvent(TypedDict):
    """`chat.mention`: a message names its reader."""

    room: int
    message_id: int
    body: str
    by: Key | None


TYPES: dict[str, type] = {
    "chat.message": MessageEvent,
    "chat.edited": EditedEvent,
    "chat.deleted": DeletedEvent,
    "chat.reaction": ReactionEvent,
    "chat.room": RoomEvent,
    "chat.joined": JoinedEvent,
    "chat.left": LeftEvent,
    "chat.mention": MentionEvent,
}


def register_all() -> None:
    """Register the types, so that rooms work where `ORGREALTIME["STRICT_TYPES"]` is on."""
    for name, schema in TYPES.items():
        events.register(name, schema)
