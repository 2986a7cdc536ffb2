"""Rooms of an organisation for tests, and sockets to them."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.contrib.auth.models import User

from orgrealtime.asgi import realtime
from orgrealtime.chat import services
from orgrealtime.chat.models import Room
from orgrealtime.stream import database
from orgrealtime.testing.chat import connect_to_room
from tests.chat.urls import websocket
from tests.host.models import Organization
from tests.sockets import Socket, Sockets, serve_nothing

APPLICATION: Any = realtime(websocket, http=serve_nothing)
BARE: Any = URLRouter(websocket)


def make_room(organization: Organization, slug: str, *members: User, kind: str = "public") -> Room:
    """A room, made by the host, in which these users are."""
    return services.create_room(organization, None, kind=kind, name=slug.title(), slug=slug, members=members)


async def in_thread(service: Any, *arguments: Any, **options: Any) -> Any:
    """What a service returns, run and committed as in a request of its own."""
    return await database.HANDSHAKE.run(service, *arguments, **options)


async def enter(sockets: Sockets, user: User, room: Room, **query: Any) -> Socket:
    """A socket of a user to a room, from which nothing has been asked for yet but `synced`."""
    organization = await Organization.objects.aget(pk=room.organization_id)
    socket = await connect_to_room(
        user, organization, room, application=APPLICATION, communicator=Socket, **query
    )
    sockets._sockets.append(socket)  # type: ignore[arg-type]
    return socket  # type: ignore[return-value]


async def attend(sockets: Sockets, user: User, org: str = "acme", query: str = "") -> Socket:
    """A socket of a user to an organisation, with all rooms that the user is in."""
    return await (await sockets.open(user, org, query, application=APPLICATION)).synced()
