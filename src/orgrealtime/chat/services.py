"""What can be done in rooms, the same for sockets, HTTP and the host's own code.

All of it is sync and needs a thread that may use the database. `organization` is an instance or a primary key, `actor`
a user who is a member of it, which the caller has checked; None is the host itself, who may do everything that isn't
said in somebody's name. Raises ChatError, and nothing has been done then.
"""

from __future__ import annotations

from orgrealtime.chat.erasure import erase
from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.messages import delete, edit, react
from orgrealtime.chat.rooms import (
    RoomSummary,
    add_member,
    create_room,
    find_room,
    join,
    leave,
    leave_all,
    open_direct,
    remove_member,
    rooms_of,
    set_role,
    update_room,
)
from orgrealtime.chat.sending import Sent, post, send
from orgrealtime.chat.shapes import as_json

__all__ = [
    "ChatError",
    "RoomSummary",
    "Sent",
    "add_member",
    "as_json",
    "create_room",
    "delete",
    "edit",
    "erase",
    "find_room",
    "join",
    "leave",
    "leave_all",
    "open_direct",
    "post",
    "react",
    "remove_member",
    "rooms_of",
    "send",
    "set_role",
    "update_room",
]
