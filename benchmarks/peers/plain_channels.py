"""Consumers as in Channels' tutorial: one group, no login, nothing stored. Run as a program, it publishes."""

from __future__ import annotations

import itertools
import json
import os
import sys
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings

LAYERS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}
host = {"address": os.environ["REDIS_URL"], "socket_timeout": 15, "max_connections": 20_000}
settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    CHANNEL_LAYERS={"default": {"BACKEND": LAYERS[os.environ["LAYER"]], "CONFIG": {"hosts": [host]}}},
)

import django  # noqa: E402

django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from benchmarks import pace  # noqa: E402


class Plain(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    @property
    def group(self) -> str:
        return f"org-{self.scope['url_route']['kwargs']['slug']}"

    async def connect(self) -> None:
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def notify(self, message: dict[str, Any]) -> None:
        await self.send_json(message["event"])


class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
    """`ChatConsumer` of the tutorial's third part (channels.readthedocs.io/en/stable/tutorial/part_3.html)."""

    async def connect(self) -> None:
        self.room_name = self.scope["url_route"]["kwargs"]["room_name"]
        self.room_group_name = f"chat_{self.room_name}"
        await self.channel_layer.group_add(self.room_group_name, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room_group_name, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        message = json.loads(text_data or "")["message"]
        await self.channel_layer.group_send(
            self.room_group_name, {"type": "chat.message", "message": message}
        )

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"message": event["message"]}))


paths = [path("ws/plain/<slug:slug>/", Plain.as_asgi()), path("ws/chat/<str:room_name>/", Chat.as_asgi())]
application = ProtocolTypeRouter({"websocket": URLRouter(paths)})


groups = itertools.cycle(f"org-{slug}" for slug in sys.argv[1:] or ["acme"])


def publish_all(events: list[dict[str, Any]]) -> None:
    async def send() -> None:
        layer = get_channel_layer()
        for event in events:
            await layer.group_send(next(groups), {"type": "notify", "event": {"type": "note", **event}})

    async_to_sync(send)()


if __name__ == "__main__":
    pace.serve(publish_all)
