"""What a careful team writes on plain Channels: origin, session, membership, the last events."""

from __future__ import annotations

from typing import Any

import django

django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from tracker.models import Organization  # noqa: E402

from orgrealtime.models import NotificationEvent  # noqa: E402

HISTORY = 20


class Plain(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        user = self.scope["user"]
        if not user.is_authenticated:
            await self.close(4401)
            return
        organization = await self.find(user, self.scope["url_route"]["kwargs"]["slug"])
        if organization is None:
            await self.close(4403)
            return
        await self.channel_layer.group_add(f"org-{organization.pk}", self.channel_name)
        await self.accept()
        for event in await self.last_events(organization):
            await self.send_json(event)

    async def notify(self, message: dict[str, Any]) -> None:
        await self.send_json(message["event"])

    @database_sync_to_async
    def find(self, user: Any, slug: str) -> Organization | None:
        return Organization.objects.filter(slug=slug, memberships__user=user).first()

    @database_sync_to_async
    def last_events(self, organization: Organization) -> list[dict[str, Any]]:
        events = NotificationEvent.objects.filter(organization=organization).order_by("-id")
        return list(events.values("id", "type", "payload")[:HISTORY])


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/orgs/<slug>/notifications/", Plain.as_asgi())]))
        ),
    }
)
