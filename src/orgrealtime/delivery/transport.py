"""What ASGI has no way to say: dropping a connection, whether it is gone, and writing the same frame to many."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

# The extension of the scope by which a server takes ready frames: `orgrealtime.uvicorn`.
FRAMES = "orgrealtime.frames"
# The extension by which the connection beneath is reached. Whatever knows it may put it into a scope: `realtime()` for
# HTTP, `EventSourceView` for the response that it writes, middleware of the host that runs in another task.
TRANSPORT = "orgrealtime.transport"
FINAL_TEXT = 0x81
LOOK_SECONDS = 0.05

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


class Transport:
    """The connection beneath an ASGI application, with what its extension of the scope says about it.

    `abort()` drops the connection, unsent bytes and all. `is_gone()` tells whether nothing of it is left.
    `get_extra_info(name)`, which may be missing, is that of `asyncio.BaseTransport`.
    """

    __slots__ = ("_extension",)

    def __init__(self, extension: Mapping[str, Any]) -> None:
        self._extension = extension

    def abort(self) -> None:
        """Drop the connection at once."""
        self._extension["abort"]()

    def is_gone(self) -> bool:
        """Tell whether the connection has ended."""
        return bool(self._extension["is_gone"]())

    async def until_gone(self, seconds: float) -> None:
        """Wait for the end of a connection that has been closed; drop it after so long.

        A server closes a connection when it has sent what waits for it, so never for a client that doesn't read.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        await asyncio.sleep(0)
        while not self.is_gone():
            if asyncio.get_running_loop().time() >= deadline:
                self.abort()
                return
            await asyncio.sleep(LOOK_SECONDS)

    def notice_silence(self, seconds: float) -> None:
        """Have TCP give up a connection on which nothing that is sent is acknowledged for so long: HTTP has no pings.

        By the socket option of RFC 5482, which Linux has; elsewhere the operating system's own patience counts.
        """
        get_info = self._extension.get("get_extra_info")
        sock = get_info("socket") if get_info is not None else None
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with contextlib.suppress(OSError):  # a Unix socket, to a proxy that notices by itself
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def transport_of(scope: Mapping[str, Any], send: Any = None) -> Transport | None:
    """Return the connection beneath the application that is called with this scope, or None if it isn't reached.

    `send` is what the application was given. Other servers than uvicorn drop the connection when the application
    returns.
    """
    extension = (scope.get("extensions") or {}).get(TRANSPORT) or _extension_of_uvicorn(send)
    return None if extension is None else Transport(extension)


def with_transport(scope: dict[str, Any], send: Any) -> dict[str, Any]:
    """Return a scope by which views, which run in tasks of their own, reach the connection."""
    extensions = scope.get("extensions") or {}
    extension = extensions.get(TRANSPORT) or _extension_of_uvicorn(send)
    return scope if extension is None else {**scope, "extensions": {**extensions, TRANSPORT: extension}}


def _extension_of_uvicorn(send: Any) -> Mapping[str, Any] | None:
    # `send` is a method of what has the transport, unless middleware has wrapped it, as for tracing. But uvicorn also
    # calls the application by such a method, which is then among the callers of this function.
    owner = getattr(send, "__self__", None)
    # Not of this function itself: a frame that names itself would keep all this until the garbage is collected.
    frame: Any = None if _has_transport(owner) else inspect.currentframe()
    while frame is not None and not _has_transport(owner):
        owner = frame.f_locals.get("self") if frame.f_code.co_name == "run_asgi" else None
        frame = frame.f_back
    return _extension(owner) if _has_transport(owner) else None


def _has_transport(owner: Any) -> bool:
    return hasattr(getattr(owner, "transport", None), "abort")


def _extension(owner: Any) -> Mapping[str, Any]:
    # The protocol of a WebSocket, which the server knows until its connection is lost; or the cycle of an HTTP request,
    # whose connection may serve another when all of it has been sent.
    transport, connections = owner.transport, getattr(owner, "connections", None)

    def is_gone() -> bool:
        if connections is not None:
            return owner not in connections
        return bool(owner.disconnected) or transport.get_write_buffer_size() == 0

    return {"abort": transport.abort, "is_gone": is_gone, "get_extra_info": transport.get_extra_info}
