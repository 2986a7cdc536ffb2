"""For the tests of a host's rooms: a socket to one room, and messages that are sent and waited for.

    from orgrealtime.testing.chat import assert_message, connect_to_room, send_message

    hers = await connect_to_room(alice, acme, room, application=application)
    his = await connect_to_room(bob, acme, room, application=application)
    await send_message(hers, "Hello")
    await assert_message(his, "Hello")

`send_message` and `assert_message` take any socket of an `OrgCommunicator`: on an organisation's say `room=room`. Needs
daphne, as `orgrealtime.testing.communicator` does.
"""

from __future__ import annotations

import uuid
from typing import Any

from orgrealtime.testing.communicator import Frame, OrgCommunicator

__all__ = ["assert_message", "connect_to_room", "send_message"]

PATH = "/ws/orgs/{{slug}}/rooms/{room}/"


async def connect_to_room(
    user: Any,
    organization: Any,
    room: Any,
    *,
    application: Any,
    path: str = PATH,
    communicator: type[OrgCommunicator] = OrgCommunicator,
    **query: Any,
) -> OrgCommunicator:
    """Connect a socket of a user to one room, an instance or what stands in its URL, and read up to `synced`.

    `path` is the route, with `{{slug}}` in the place of the organisation's slug and `{room}` in that of the room's.
    Raises AssertionError with the code if the connection is refused.
    """
    name = getattr(room, "slug", room) or room.pk
    return await communicator.connect_as(
        user, organization, application=application, path=path.format(room=name), **query
    )


async def send_message(socket: OrgCommunicator, body: str, *, room: Any = None, **members: Any) -> Frame:
    """Send a message and return the answer `chat.accepted`; raise AssertionError if it is refused.

    It has a `client_message_id` of its own unless one is given. What comes before the answer can still be asked for.
    """
    message = {"type": "message", "client_message_id": uuid.uuid4().hex, "body": body, **members}
    if room is not None:
        message["room"] = getattr(room, "pk", room)
    answer = await socket.answer_to(message)
    assert answer["type"] == "chat.accepted", f"the message is refused: {answer}"
    return answer


async def assert_message(
    socket: OrgCommunicator, body: str, *, within: float | None = None, **members: Any
) -> Frame:
    """Wait for the next event and return it; raise AssertionError unless it is a message with this text."""
    return await socket.assert_event("chat.message", within=within, body=body, **members)
