"""WebSocket byte by byte: what no library would send."""

from __future__ import annotations

import asyncio
import base64
import struct
from urllib.parse import urlsplit

from tests.waiting import limit

PATH = "/ws/orgs/acme/notifications/"
TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x1, 0x2, 0x0, 0x8, 0x9


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def handshake(url: str, cookie: str, path: str = PATH) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"Origin: {url}",
        f"Cookie: {cookie}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A masked frame; the mask is zero, so that the payload stays readable."""
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", 0x80 | size)
    elif size < 65_536:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    return bytes([(0x80 if final else 0) | opcode]) + length + bytes(4) + payload


async def connect(url: str) -> Connection:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def open_socket(url: str, cookie: str) -> Connection:
    """A connection whose handshake has been answered with 101."""
    reader, writer = await connect(url)
    writer.write(handshake(url, cookie))
    async with limit("an answer to the handshake"):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    return reader, writer
