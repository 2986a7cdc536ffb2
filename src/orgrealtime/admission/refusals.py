"""Refusing a request, before a WebSocket is accepted or over HTTP: one answer for each code (protocol, "Refusal")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from django.http import HttpResponse

from orgrealtime.admission.addresses import client_address
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.protocol import wire

logger = logging.getLogger("orgrealtime.connection")

RETRY_AFTER_SECONDS = 2


class HttpAnswer(NamedTuple):
    """A JSON answer, as both a view and an ASGI server's extension can send it."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def response(self) -> HttpResponse:
        """Return it as what a view returns."""
        return HttpResponse(self.body, status=self.status, headers=dict(self.headers))


def answer(status: int, body: bytes) -> HttpAnswer:
    """Return an answer that no cache keeps."""
    return HttpAnswer(status, body, {"Content-Type": "application/json", "Cache-Control": "no-store"})


def refusal(code: CloseCode, message: str, retry_after: int | None = None) -> HttpAnswer:
    """Return the answer to a request that is refused with this code; a code without HTTP status is answered as 503.

    It may be tried again after `retry_after` seconds.
    """
    status = code.outcome.http_status or HTTPStatus.SERVICE_UNAVAILABLE
    refused = answer(status, wire.refusal(code, message))
    if retry_after is None and code is CloseCode.OVERLOADED:
        retry_after = RETRY_AFTER_SECONDS
    if retry_after is None:
        return refused
    return refused._replace(headers={**refused.headers, "Retry-After": str(retry_after)})


def no_access() -> Refused:
    """Return the one refusal of a user without access, and of any request for an organisation that doesn't exist."""
    return Refused(CloseCode.FORBIDDEN, "no such organisation, or no access")


async def refuse_handshake(
    scope: Mapping[str, Any], send: Callable[[dict[str, Any]], Awaitable[None]], refused: Refused
) -> None:
    """Answer a handshake with the HTTP status and a JSON body, or with the close code where a server can't."""
    code = refused.code
    _log(scope, refused)
    if code.outcome.http_status is None or "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": int(code)})
        return
    status, body, headers = refusal(code, refused.message, refused.retry_after)
    await send({"type": "websocket.http.response.start", "status": status, "headers": _pairs(headers)})
    await send({"type": "websocket.http.response.body", "body": body})
    # uvicorn counts the handshake as unfinished, and logs an error, until its transport has had a turn to close.
    await asyncio.sleep(0)


async def require_upgrade(
    scope: Mapping[str, Any], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Answer an HTTP request where a WebSocket is served with 426, and say what it lacks."""
    logger.info(
        "connection refused", extra={"code": 426, "reason": "no Upgrade", "client": client_address(scope)}
    )
    error = {
        "code": "upgrade_required",
        "message": "a WebSocket is served here, and this request came without the headers Upgrade: websocket and "
        "Connection: Upgrade: a proxy in front has to pass them on",
    }
    status, body, headers = answer(HTTPStatus.UPGRADE_REQUIRED, msgspec.json.encode({"error": error}))
    headers = {**headers, "Upgrade": "websocket", "Content-Length": str(len(body))}
    if scope.get("http_version", "1.1") < "2":  # which forbids it
        headers["Connection"] = "Upgrade"
    await send({"type": "http.response.start", "status": status, "headers": _pairs(headers)})
    await send({"type": "http.response.body", "body": body})


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _log(scope: Mapping[str, Any], refused: Refused) -> None:
    route = scope.get("url_route") or {}
    logger.info(
        "connection refused",
        extra={
            "code": int(refused.code),
            "reason": refused.reason,
            "org": str(route.get("kwargs", {}).get("org_slug", "")),
            "client": client_address(scope),
        },
    )
