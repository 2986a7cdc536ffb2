"""The consumer of Channels' tutorial, and its publisher: `python -m benchmarks.peers.plain_channels` reads numbers."""

from __future__ import annotations

import asyncio
import os
import sys

from django.conf import settings

host = {"address": os.environ["REDIS_URL"], "socket_timeout": 15, "max_connections": 20_000}
settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    CHANNEL_LAYERS={
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [host]}}
    },
)

import django  # noqa: E402

django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

EVENT = {
    "type": "note",
    "cursor": "0a1b2c3d.123456",
    "created_at": "2026-11-23T01:45:00.123456Z",
    "actor": 7,
    "task_id": 123,
    "action": "status_changed",
    "details": {"from": "todo", "to": "done^"},
}


class Plain(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.channel_layer.group_add("org-1", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("org-1", self.channel_name)

    async def notify(self, message: dict) -> None:
        await self.send_json(message["event"])


application = ProtocolTypeRouter({"websocket": URLRouter([path("ws/plain/", Plain.as_asgi())])})


async def publish() -> None:
    layer = get_channel_layer()
    while line := await asyncio.to_thread(sys.stdin.readline):
        for _ in range(int(line)):
            await layer.group_send("org-1", {"type": "notify", "event": EVENT})


if __name__ == "__main__":
    asyncio.run(publish())
