"""A WebSocket protocol for uvicorn: `--ws orgrealtime.uvicorn:FrameProtocol --ws-per-message-deflate false`.

What goes to many clients is made into a WebSocket frame once, and the same bytes are written to each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from orgrealtime.delivery.transport import FRAMES

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

__all__ = ["FrameProtocol"]


class FrameProtocol(WebSocketsSansIOProtocol):
    """uvicorn's `websockets-sansio`, with an extension of the scope through which consumers write ready frames."""

    def handle_connect(self, event: Request) -> None:
        """Add the extension `orgrealtime.frames` to the scope that the application is called with."""
        super().handle_connect(event)
        scope = cast(dict[str, Any] | None, getattr(self, "scope", None))
        if scope is not None:
            scope["extensions"][FRAMES] = {"write": self.write_frame}

    async def send(self, message: ASGISendEvent) -> None:
        """Send an event of the application (ASGI WebSocket specification)."""
        await super().send(message)
        if message["type"] == "websocket.accept" and self.handshake_complete:
            for name in ("request", "response"):  # 2 kB that aren't needed any more
                vars(self).pop(name, None)

    def write_frame(self, frame: bytes) -> bool:
        """Write a whole frame (RFC 6455, section 5.2) at once; False if it can't be now: then `send` has to say why.

        It may be uncompressed although compression was agreed on (RFC 7692, section 6).
        """
        if not self.writable.is_set() or self.conn.state is not State.OPEN or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True
