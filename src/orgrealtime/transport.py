"""Letting go of a client that doesn't answer: ASGI has no way to drop a connection."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

SILENCE_MILLISECONDS = 45_000

# Where `realtime()` leaves the `send` of an HTTP request in its scope: views are given none.
SEND_KEY = "orgrealtime.send"


def abort(send: Any) -> bool:
    """Drop the TCP connection beneath an ASGI `send`, unsent bytes and all; return whether the server lets us.

    uvicorn closes a transport only when its buffer is empty, so never for a client that doesn't read. Its `send` is a
    method of the protocol that has the transport. Other servers drop the connection when the application returns.
    """
    drop = getattr(_transport_of(send), "abort", None)
    if drop is None:
        return False
    drop()
    return True


def notice_silence(send: Any) -> None:
    """Have TCP give up a connection on which nothing that is sent is acknowledged: HTTP has no pings.

    By the socket option of RFC 5482, which Linux has; elsewhere the operating system's own patience counts.
    """
    get_info = getattr(_transport_of(send), "get_extra_info", None)
    sock = get_info("socket") if get_info is not None else None
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # a Unix socket, to a proxy that notices by itself
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MILLISECONDS)


def _transport_of(send: Any) -> Any:
    return getattr(getattr(send, "__self__", None), "transport", None)
