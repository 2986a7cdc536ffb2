"""The short way to wire WebSockets and HTTP into one ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from channels.routing import URLRouter
from django.core.asgi import get_asgi_application
from django.urls import URLPattern, re_path

from orgrealtime.admission.refusals import refuse_handshake
from orgrealtime.delivery.drain import before_termination
from orgrealtime.delivery.hub import close_hub, drain_hub
from orgrealtime.delivery.transport import with_transport
from orgrealtime.errors import CloseCode, Refused

ASGIApplication = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Any
]


def realtime(urlpatterns: Sequence[URLPattern], *, http: ASGIApplication | None = None) -> ASGIApplication:
    """Return an ASGI application: WebSockets go to the consumers of `urlpatterns`, all else to `http`.

    `http` is by default Django's own application. Origin, session and access are checked by the consumers
    themselves, so nothing needs to be wrapped around them. A path that no pattern matches is refused (4403).
    On SIGTERM connections are drained before the server stops, where it has the ASGI lifespan (uvicorn, granian).
    """
    router = URLRouter([*urlpatterns, re_path("", cast(Any, _refuse_unknown_path))])
    http = http or get_asgi_application()

    async def application(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "websocket":
            await router(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await http(with_transport(scope, send), receive, send)

    return application


async def _refuse_unknown_path(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    await receive()
    await refuse_handshake(
        scope, send, Refused(CloseCode.FORBIDDEN, "no such path", "no WebSocket is served at this path")
    )


async def _lifespan(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await close_hub()
            await send({"type": "lifespan.shutdown.complete"})
            return
        before_termination(drain_hub)
        await send({"type": "lifespan.startup.complete"})
