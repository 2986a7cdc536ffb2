"""Turning a WebSocket away before it is accepted (protocol, "Refusal")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orgrealtime.admission.addresses import client_address
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.protocol import wire

logger = logging.getLogger("orgrealtime.connection")


def no_access() -> Refused:
    """Return the one answer to a stranger and to whoever asks for an organisation that doesn't exist."""
    return Refused(CloseCode.FORBIDDEN, "no such organisation, or no access")


async def refuse(
    scope: Mapping[str, Any], send: Callable[[dict[str, Any]], Awaitable[None]], refused: Refused
) -> None:
    """Answer the handshake with the HTTP status and a JSON body, or with the close code where a server can't."""
    code = refused.code
    route = scope.get("url_route") or {}
    logger.info(
        "connection refused",
        extra={
            "code": int(code),
            "reason": refused.reason,
            "org": str(route.get("kwargs", {}).get("org_slug", "")),
            "client": client_address(scope),
        },
    )
    status = code.outcome.http_status
    if status is None or "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": int(code)})
        return
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": wire.refusal(code, refused.message)})
    # uvicorn counts the handshake as unfinished, and logs an error, until its transport has had a turn to close.
    await asyncio.sleep(0)
