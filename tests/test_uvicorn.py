"""uvicorn's protocol class with ready frames, without a network: what it keeps of a connection."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from orgrealtime.uvicorn import FrameProtocol
from tests.waiting import eventually

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: testserver\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


async def accept(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    await receive()


async def test_accepted_connection_keeps_no_headers_of_its_handshake() -> None:
    config = Config(accept, ws=FrameProtocol, lifespan="off", log_config=None)
    config.load()
    protocol, wire = FrameProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    protocol.data_received(HANDSHAKE)
    assert {"request", "response"} <= vars(protocol).keys()
    await eventually(lambda: wire.written.endswith(b"\x81\x05hello"))
    assert wire.written.startswith(b"HTTP/1.1 101 ")
    assert not {"request", "response"} & vars(protocol).keys()
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
