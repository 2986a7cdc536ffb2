"""The limit of one Python process: each event made into a frame once, and written to every transport (uvloop).

`python -m benchmarks.peers.raw serve PORT`; run with `publish`, it publishes. Both by Redis.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
from typing import Any, cast

import redis
import redis.asyncio
import uvloop

from benchmarks import pace
from orgrealtime.delivery.transport import text_frame

CHANNEL = "orgrealtime-benchmark-raw"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

transports: set[asyncio.Transport] = set()


class Raw(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", data)
        if key is None:
            return
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())  # noqa: S324 - the protocol's
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        transports.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        transports.discard(self.transport)


async def serve(port: int) -> None:
    await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", port, backlog=2048)
    listener = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]).pubsub()
    await listener.subscribe(CHANNEL)
    async for message in listener.listen():
        if message["type"] == "message":
            frame = text_frame(json.dumps(json.loads(message["data"])))
            for transport in transports:
                transport.write(frame)


def publish() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])

    def publish_all(events: list[dict[str, Any]]) -> None:
        for event in events:
            client.publish(CHANNEL, json.dumps(event))

    pace.serve(publish_all)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvloop.run(serve(int(sys.argv[2])))
    else:
        publish()
