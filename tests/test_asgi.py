"""The short way to wire WebSockets and HTTP together."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.urls import path as django_path

from orgrealtime import asgi
from orgrealtime.asgi import realtime
from orgrealtime.delivery.hub import get_hub
from orgrealtime.routing import websocket_urlpatterns
from tests.conftest import Configure
from tests.host.models import Organization
from tests.sockets import APPLICATION, Communicator, Socket, Sockets, serve_nothing
from tests.stopwatch import Stopwatch

UNKNOWN = ["/", "/ws/", "/ws/orgs/acme/", "/ws/orgs/a.b/notifications/", "/x/ws/orgs/acme/notifications/"]


@pytest.mark.parametrize("path", UNKNOWN)
async def test_unknown_path_is_refused_with_4403(path: str) -> None:
    assert await Socket(APPLICATION, path).connect() == (False, 4403)


async def test_unknown_path_gets_status_403_and_a_json_body() -> None:
    socket = Socket(APPLICATION, "/nowhere/")
    socket.scope["extensions"] = {"websocket.http.response": {}}
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output())["status"] == 403
    assert json.loads((await socket.receive_output())["body"])["error"]["code"] == "forbidden"


async def test_path_below_the_root_path_of_the_server_is_found(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    scope = {"root_path": "/site", "path": "/site/ws/orgs/acme/notifications/"}
    assert (await (await sockets.open(alice, scope=scope)).frame())["org"]["slug"] == "acme"


async def test_path_of_a_nested_router_is_found(sockets: Sockets, alice: User, acme: Organization) -> None:
    nested = realtime([django_path("live/", URLRouter(websocket_urlpatterns))], http=serve_nothing)
    found = {"path": "/live/ws/orgs/acme/notifications/"}
    assert (await (await sockets.open(alice, application=nested, scope=found)).frame())["type"] == "welcome"
    assert await sockets.refused(alice, application=nested, scope={"path": "/live/nowhere/"}) == 4403


async def test_http_is_passed_through_as_it_is() -> None:
    seen: list[Any] = []

    async def http(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send(await receive())

    scope = {"type": "http", "path": "/ws/orgs/acme/notifications/"}
    communicator = Communicator(realtime(websocket_urlpatterns, http=http), scope)
    await communicator.send_input({"type": "http.request"})
    assert await communicator.receive_output() == {"type": "http.request"}
    assert seen == [scope]


KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
PATH = "/ws/orgs/acme/notifications/"


async def ask(application: Any, path: str = PATH, **scope: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    headers = [(b"host", b"testserver"), *scope.pop("headers", ())]
    http = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "query_string": b""}
    communicator = Communicator(application, http | {"headers": headers} | scope)
    await communicator.send_input({"type": "http.request"})
    start = await communicator.receive_output()
    body = await communicator.receive_output()
    await communicator.wait()
    return start["status"], dict(start["headers"]), body["body"]


def answering(status: int) -> Any:
    async def http(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"of the host"})

    return http


@pytest.mark.parametrize("status", [200, 302, 404])
async def test_handshake_that_lost_its_upgrade_is_told_so(status: int) -> None:
    """Whatever the host answers there, such as the page of a route that catches all."""
    application = realtime(websocket_urlpatterns, http=answering(status))
    status, headers, body = await ask(application, headers=[KEY])
    assert (status, headers[b"upgrade"], headers[b"connection"]) == (426, b"websocket", b"Upgrade")
    error = json.loads(body)["error"]
    assert error["code"] == "upgrade_required"
    assert "Upgrade: websocket" in error["message"]


@pytest.mark.parametrize(("root", "path"), [("", PATH), ("/site", f"/site{PATH}"), ("", f"/live{PATH}")])
async def test_get_where_the_host_has_no_page_requires_an_upgrade(root: str, path: str) -> None:
    nested = [django_path("live/", URLRouter(websocket_urlpatterns))]
    routes = nested if path.startswith("/live") else websocket_urlpatterns
    application = realtime(routes, http=answering(404))
    status, _, body = await ask(application, path, root_path=root)
    assert (status, json.loads(body)["error"]["code"]) == (426, "upgrade_required")


async def test_page_of_the_host_at_the_path_of_a_socket_wins() -> None:
    assert await ask(realtime(websocket_urlpatterns, http=answering(200))) == (200, {}, b"of the host")


@pytest.mark.parametrize("path", UNKNOWN)
async def test_other_paths_are_the_host_s_own(path: str) -> None:
    application = realtime(websocket_urlpatterns, http=answering(404))
    assert await ask(application, path, headers=[KEY]) == (404, {}, b"of the host")


async def test_required_upgrade_over_http_2_names_no_connection() -> None:
    application = realtime(websocket_urlpatterns, http=answering(404))
    assert b"connection" not in (await ask(application, http_version="2", headers=[KEY]))[1]


async def test_http_goes_to_django_by_default() -> None:
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/orgs/acme/notifications/",
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }
    communicator = Communicator(realtime(websocket_urlpatterns), scope)
    await communicator.send_input({"type": "http.request"})
    assert (await communicator.receive_output())["status"] == 401
    await communicator.receive_output()
    await communicator.wait()


async def test_server_is_told_that_startup_and_shutdown_are_complete() -> None:
    server = Communicator(APPLICATION, {"type": "lifespan"})
    for event in ("startup", "shutdown"):
        await server.send_input({"type": f"lifespan.{event}"})
        assert await server.receive_output() == {"type": f"lifespan.{event}.complete"}
    await server.wait()


async def test_shutdown_ends_the_hub(transactional_db: None) -> None:
    before = asyncio.all_tasks()
    hub = get_hub()
    tasks = asyncio.all_tasks() - before
    assert tasks
    await shut_down()
    assert all(task.done() for task in tasks)
    assert get_hub() is not hub
    await shut_down()


async def test_shutdown_takes_no_time_at_whatever_moment_it_comes(transactional_db: None) -> None:
    for number in range(60):
        get_hub()
        await asyncio.sleep(number * 0.0003)  # while the hub connects to the layer and joins its groups
        with Stopwatch() as watch:
            await shut_down()
            watch.check(2.0, f"shutdown {number}")


async def shut_down() -> None:
    server = Communicator(APPLICATION, {"type": "lifespan"})
    await server.send_input({"type": "lifespan.shutdown"})
    assert await server.receive_output() == {"type": "lifespan.shutdown.complete"}


# ----------------------------------------------------------------------------------- what the server takes at once


@pytest.mark.parametrize(
    ("command", "environ", "room"),
    [
        ("/x/granian/__main__.py --interface asgi app", {}, 1024),
        ("/x/bin/granian --workers 4 app", {}, 256),
        ("granian --workers=16 --backlog 64 app", {}, 8),
        ("granian --workers 4 --backpressure 700 app", {}, 700),
        ("granian app --backpressure=700", {"GRANIAN_BACKPRESSURE": "5"}, 700),
        ("granian app", {"GRANIAN_BACKPRESSURE": "500"}, 500),
        ("granian app", {"GRANIAN_WORKERS": "2"}, 512),
        ("uvicorn app --limit-concurrency 100", {}, 100),
        ("/x/uvicorn/__main__.py app", {"UVICORN_LIMIT_CONCURRENCY": "200"}, 200),
        ("uvicorn app", {}, None),
        ("gunicorn app --backpressure 3", {}, None),
    ],
)
def test_room_of_the_server_is_read_from_its_command(
    command: str, environ: dict[str, str], room: int | None
) -> None:
    assert asgi._room_of_server(command.split(), environ) == room


@pytest.mark.parametrize(
    ("room", "caps", "is_warned_of"),
    [
        ("1024", {}, False),
        ("221", {}, False),
        ("220", {}, True),
        ("1024", {"MAX_EVENT_STREAMS": 954}, True),
        ("1024", {"MAX_EVENT_STREAMS": None}, True),
        ("1024", {"MAX_HANDSHAKES": None}, True),
    ],
)
async def test_caps_that_fill_the_server_are_warned_of_at_its_start(
    room: str,
    caps: dict[str, int | None],
    is_warned_of: bool,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(**caps)
    monkeypatch.setattr("sys.argv", ["granian", "app", "--backpressure", room])
    communicator = Communicator(APPLICATION, {"type": "lifespan", "asgi": {"version": "3.0"}})
    await communicator.send_input({"type": "lifespan.startup"})
    assert await communicator.receive_output() == {"type": "lifespan.startup.complete"}
    await communicator.send_input({"type": "lifespan.shutdown"})
    await communicator.receive_output()
    warned = "the server takes no more at once than clients may hold" in caplog.messages
    assert warned is is_warned_of
