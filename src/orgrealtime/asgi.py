"""The short way to wire WebSockets and HTTP into one ASGI application."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from channels.routing import URLRouter
from django.core.asgi import get_asgi_application
from django.urls import URLPattern, re_path

from orgrealtime.admission.refusals import refuse_handshake, require_upgrade
from orgrealtime.conf import get_settings
from orgrealtime.delivery.drain import before_termination
from orgrealtime.delivery.hub import close_hub, drain_hub
from orgrealtime.delivery.transport import with_transport
from orgrealtime.errors import CloseCode, Refused

logger = logging.getLogger("orgrealtime.server")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApplication = Callable[[dict[str, Any], Receive, Send], Any]

# What is left of a handshake whose `Upgrade` a proxy has dropped, which is for one hop. No page is asked for with them.
HANDSHAKE_HEADERS = {b"sec-websocket-key", b"sec-websocket-version"}


def realtime(urlpatterns: Sequence[URLPattern], *, http: ASGIApplication | None = None) -> ASGIApplication:
    """Return an ASGI application: WebSockets go to the consumers of `urlpatterns`, all else to `http`.

    `http` is by default Django's own application. Origin, session and access are checked by the consumers
    themselves, so nothing needs to be wrapped around them. A path that no pattern matches is refused (4403). A GET that
    was to be a WebSocket, but came without `Upgrade`, is answered with 426, as is any where `http` has nothing (404).
    On SIGTERM connections are drained before the server stops, where it has the ASGI lifespan (uvicorn, granian).
    """
    router = URLRouter([*urlpatterns, re_path("", cast(Any, _refuse_unknown_path))])
    http = http or get_asgi_application()

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await router(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif not _is_for_a_socket(scope, urlpatterns):
            await http(with_transport(scope, send), receive, send)
        elif HANDSHAKE_HEADERS.isdisjoint(name for name, _ in scope["headers"]):
            await http(with_transport(scope, send), receive, _requiring_upgrade(scope, send))
        else:
            await require_upgrade(scope, send)

    return application


def _is_for_a_socket(scope: Mapping[str, Any], routes: Sequence[URLPattern]) -> bool:
    if scope["type"] != "http" or scope.get("method") != "GET":
        return False
    path, root = scope["path"], scope.get("root_path", "")
    return path.startswith(root) and _leads_somewhere(path[len(root) :].lstrip("/"), routes)


def _leads_somewhere(path: str, routes: Sequence[URLPattern]) -> bool:
    """Whether a router of Channels with these routes would find one for the path."""
    for route in routes:
        if (match := route.pattern.match(path)) is not None:
            inner = getattr(route.callback, "routes", None)
            return True if inner is None else _leads_somewhere(match[0], inner)
    return False


def _requiring_upgrade(scope: Mapping[str, Any], send: Send) -> Send:
    """Return a `send` for what the host may have a page for: only what it doesn't find is answered here."""
    is_answered = False

    async def send_or_require(message: Any) -> None:
        nonlocal is_answered
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.NOT_FOUND:
            is_answered = True
            await require_upgrade(scope, send)
        elif not is_answered:
            await send(message)

    return send_or_require


async def _refuse_unknown_path(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await refuse_handshake(
        scope, send, Refused(CloseCode.FORBIDDEN, "no such path", "no WebSocket is served at this path")
    )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await close_hub()
            await send({"type": "lifespan.shutdown.complete"})
            return
        before_termination(drain_hub)
        _compare_with_server()
        await send({"type": "lifespan.startup.complete"})


def _compare_with_server() -> None:
    """Log a warning if what clients may hold of this process leaves its server no room for anybody else."""
    given = get_settings()
    caps = (given.MAX_EVENT_STREAMS, given.MAX_CATCH_UP_PAGES, given.MAX_HANDSHAKES)
    room = _room_of_server(sys.argv, os.environ)
    if room is not None and (None in caps or sum(cap or 0 for cap in caps) >= room):
        logger.warning(
            "the server takes no more at once than clients may hold",
            extra={
                "server": room,
                "event_streams": caps[0],
                "catch_up_pages": caps[1],
                "handshakes": caps[2],
            },
        )


def _room_of_server(argv: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Return how many requests one process of granian or uvicorn takes at once, by its command; None if without end."""
    program = Path(argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.stem

    def option(option: str, default: int) -> int:
        given = [
            following if argument == option else argument.partition("=")[2]
            for argument, following in zip(argv, [*argv[1:], ""], strict=True)
            if argument.partition("=")[0] == option
        ]
        variable = f"{name}{option[1:]}".upper().replace("-", "_")
        value = (given or [environ.get(variable, "")])[-1]
        return int(value) if value.isdecimal() else default

    if name == "uvicorn":
        return option("--limit-concurrency", 0) or None
    if name == "granian":
        return option("--backpressure", 0) or max(128, option("--backlog", 1024)) // option("--workers", 1)
    return None
