"""The consumers of rooms: an organisation's connection with commands, and one that is for a single room."""

from __future__ import annotations

from orgrealtime.chat.commands import ChatCommands
from orgrealtime.chat.lookup import own_room_named
from orgrealtime.stream.access import Access

__all__ = ["ChatCommands", "ChatConsumer", "RoomConsumer"]


class ChatConsumer(ChatCommands):
    """The stream of one organisation, with all rooms that the user is in, and the commands for them."""


class RoomConsumer(ChatCommands):
    """One room of an organisation; put it under a path with `<slug:org_slug>` and `<slug:room_slug>`.

    A user who isn't in the room is refused as for one that doesn't exist.
    """

    def topic(self, access: Access) -> str | None:
        """Return the topic of the room in the path."""
        room = own_room_named(access, str(self.scope["url_route"]["kwargs"].get("room_slug", "")))
        if room is None:
            return None
        self.room_id = room.pk
        return room.topic
