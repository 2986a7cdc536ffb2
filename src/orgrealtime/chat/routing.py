"""Routes: those of the stream, and the rooms over WebSocket and HTTP, all under one policy."""

from __future__ import annotations

from django.urls import path

from orgrealtime import routing
from orgrealtime.chat import views
from orgrealtime.chat.consumers import ChatConsumer, RoomConsumer
from orgrealtime.consumers import OrgConsumer
from orgrealtime.policy import Policy, as_policy
from orgrealtime.routing import Routes
from orgrealtime.sse import EventSourceView

__all__ = ["Routes", "routes"]

ROOMS = "orgs/<{converter}:org_slug>/rooms/"


def routes(
    consumer: type[OrgConsumer] = ChatConsumer,
    room_consumer: type[OrgConsumer] = RoomConsumer,
    *,
    policy: type[Policy] | Policy | None = None,
    converter: str = "slug",
) -> Routes:
    """Return the routes of `orgrealtime.routing.routes` for a consumer with commands, and those of the rooms.

    `room_consumer` is for one room alone. Raises TypeError as that does, for either consumer.
    """
    routing.refuse_own_rules(room_consumer)
    shared = consumer.policy if policy is None else as_policy(policy)
    socket = room_consumer.under(shared)
    websocket, (http, app_name) = routing.routes(consumer, policy=shared, converter=converter)
    rooms = ROOMS.format(converter=converter)
    room = f"{rooms}<slug:room_slug>/"
    message = f"{room}messages/<int:message_id>/"
    of_rooms = [
        path(rooms, views.RoomsView.as_view(policy=shared), name="rooms"),
        path(room, views.RoomView.as_view(policy=shared), name="room"),
        path(f"{room}join/", views.JoinView.as_view(policy=shared), name="room-join"),
        path(f"{room}leave/", views.LeaveView.as_view(policy=shared), name="room-leave"),
        path(f"{room}members/<str:user_key>/", views.MemberView.as_view(policy=shared), name="room-member"),
        path(f"{room}messages/", views.MessagesView.as_view(policy=shared), name="messages"),
        path(message, views.MessageView.as_view(policy=shared), name="message"),
        path(f"{message}reactions/", views.ReactionsView.as_view(policy=shared), name="reactions"),
        path(f"{room}notifications/", views.RoomCatchUpView.as_view(policy=shared), name="room-catch-up"),
        path(
            f"{room}notifications/stream/",
            EventSourceView.as_view(consumer=socket),
            name="room-stream",
        ),
    ]
    return Routes([*websocket, path(f"ws/{room}", socket.as_asgi())], ([*http, *of_rooms], app_name))
