"""Messages as history and HTTP show them."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

from orgrealtime.chat.models import Message
from orgrealtime.chat.writing import as_keys, pk_of, user_key
from orgrealtime.protocol.keys import key_as_json


def as_json(
    message: Message,
    position: int | None = None,
    *,
    reader: Any = None,
    reactions: Collection[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return a message as its reader is shown it; who has sent it is shown its `client_message_id` as well."""
    author = None if message.author_id is None else key_as_json(message.author_id)
    is_own = reader is not None and message.author_id == user_key(reader)
    return {
        "message_id": message.pk,
        "room": message.room_id,
        "position": position,
        "client_message_id": message.client_message_id if is_own else None,
        "author": author,
        "body": message.body,
        "version": message.version,
        "reply_to": message.reply_to_id,
        "mentions": as_keys(pk_of(each) for each in message.mentions),
        "mentions_all": message.mentions_all,
        "attachments": message.attachments,
        "reactions": list(reactions),
        "created_at": _moment(message.created_at),
        "edited_at": _moment(message.edited_at),
        "deleted": message.is_deleted,
    }


def _moment(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
