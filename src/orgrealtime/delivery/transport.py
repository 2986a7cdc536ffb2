"""What ASGI has no way to say: dropping a connection, and writing the same frame to many."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

# Where `realtime()` leaves the `send` of an HTTP request in its scope: views are given none.
SEND_KEY = "orgrealtime.send"

# The extension of the scope by which a server takes ready frames: `orgrealtime.uvicorn`.
FRAMES = "orgrealtime.frames"
# The extension by which `EventSourceView` drops the connection of the response that it writes.
ABORT = "orgrealtime.abort"
FINAL_TEXT = 0x81

FrameWriter = Callable[[bytes], bool]


def frame_writer(scope: Mapping[str, Any]) -> FrameWriter | None:
    """Return what writes a ready frame at once, or says by False that it can't now; None if there is none."""
    writer: FrameWriter | None = (scope.get("extensions") or {}).get(FRAMES, {}).get("write")
    return writer


def text_frame(text: str) -> bytes:
    """Return a text as the bytes of an unmasked WebSocket frame (RFC 6455, section 5.2)."""
    data = text.encode()
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", FINAL_TEXT, size)
    elif size < 65_536:
        head = struct.pack("!BBH", FINAL_TEXT, 126, size)
    else:
        head = struct.pack("!BBQ", FINAL_TEXT, 127, size)
    return head + data


def abort(send: Any, scope: Mapping[str, Any] | None = None) -> bool:
    """Drop the TCP connection beneath an ASGI `send`, unsent bytes and all; return whether the server lets us.

    uvicorn closes a transport only when its buffer is empty, so never for a client that doesn't read. Its `send` is a
    method of the protocol that has the transport. Other servers drop the connection when the application returns. What
    isn't a server says by the extension `orgrealtime.abort` of the scope how its connection is dropped.
    """
    extensions = (scope or {}).get("extensions") or {}
    drop = extensions.get(ABORT, {}).get("abort") or getattr(_transport_of(send), "abort", None)
    if drop is None:
        return False
    drop()
    return True


def notice_silence(send: Any, seconds: float) -> None:
    """Have TCP give up a connection on which nothing that is sent is acknowledged for so long: HTTP has no pings.

    By the socket option of RFC 5482, which Linux has; elsewhere the operating system's own patience counts.
    """
    get_info = getattr(_transport_of(send), "get_extra_info", None)
    sock = get_info("socket") if get_info is not None else None
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # a Unix socket, to a proxy that notices by itself
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def _transport_of(send: Any) -> Any:
    return getattr(getattr(send, "__self__", None), "transport", None)
