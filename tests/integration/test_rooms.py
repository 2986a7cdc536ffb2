"""The rooms of the example under uvicorn with two workers: the same for all, once and in order, and for nobody else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.clients import Browser, Socket, log_in
from tests.servers import EXAMPLE, Site
from tests.shell import Shell

pytestmark = pytest.mark.slow

ROOMS = "/orgs/acme/rooms/"
GENERAL = f"{ROOMS}general/messages/"
SOCKETS = 12  # spread over two workers by the kernel: all on one has odds of 1 : 2^11


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(workers=2) as site:
        yield site


async def rooms_of(browser: Browser) -> dict[str | None, dict[str, Any]]:
    return {room["slug"]: room for room in (await browser.http.get(ROOMS)).json()["rooms"]}


async def ask(socket: Socket, ref: str, **frame: Any) -> dict[str, Any]:
    """Send a command and return its answer."""
    await socket.send({**frame, "ref": ref})
    await socket.until(lambda one: any(each.get("ref") == ref for each in one.frames), f"an answer to {ref}")
    return next(each for each in socket.frames if each.get("ref") == ref)


def bodies(socket: Socket, mark: str) -> list[str]:
    said = [event["body"] for event in socket.events if event["type"] == "chat.message"]
    return [body for body in said if body.startswith(mark)]


async def test_example_has_the_rooms_of_its_contract(site: Site) -> None:
    async with log_in(site, "alice") as alice, log_in(site, "dave") as dave, log_in(site, "carol") as carol:
        hers, daves = await rooms_of(alice), await rooms_of(dave)
        assert {slug: room["kind"] for slug, room in hers.items()} == {
            "general": "public", "random": "public", "leads": "private", None: "direct",
        }  # fmt: skip
        assert set(daves) == {"general", "random", None}
        assert hers[None]["id"] == daves[None]["id"]
        assert (await carol.http.get(ROOMS)).status_code == 403
        theirs = (await carol.http.get("/orgs/globex/rooms/")).json()["rooms"]
        assert [room["slug"] for room in theirs] == ["general"]


PAST = """
from orgrealtime.chat import history, services
from orgrealtime.models import NotificationEvent
from django.contrib.auth.models import User
from tracker.models import Organization
acme, alice = Organization.objects.get(slug="acme"), User.objects.get(username="alice")
for room in services.rooms_of(acme, alice):
    said = history.read(acme, alice, room_id=room.room.pk, limit=100).messages
    times = [each["created_at"] for each in said]
    assert len(said) >= 3 and times == sorted(times) and times[0] < times[-1], (room, times)
    events = NotificationEvent.objects.filter(topic=room.room.topic, type="chat.message").order_by("pk")
    assert [each.created_at for each in events] == sorted(each.created_at for each in events)
    print(room.room.slug, len(said))
"""


def test_past_of_the_example_is_said_once_and_in_the_order_of_its_times(tmp_path: Path) -> None:
    environ = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "REDIS_URL": ""}
    shell = Shell(cwd=EXAMPLE, env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environ})
    shell.call("migrate")
    said = []
    for _ in range(2):
        shell.call("seed_demo")
        said.append(shell.run(PAST))
    shell.close()
    assert said[0] == said[1]
    assert [line.split()[0] for line in said[0].splitlines()] == ["general", "random", "leads", "None"]


async def test_messages_of_sockets_and_of_http_arrive_everywhere_once_in_the_order_of_the_history(
    site: Site,
) -> None:
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob, AsyncExitStack() as stack:
        sockets = [
            await (await stack.enter_async_context(each.socket(room="general"))).synced()
            for each in (alice, bob)
            for _ in range(SOCKETS // 2)
        ]

        async def by_socket() -> None:
            for number in range(10):
                sent = await ask(sockets[0], f"s{number}", type="message", body=f"order s{number}")
                assert sent["type"] == "chat.accepted"

        async def by_http() -> None:
            for number in range(10):
                body = {"body": f"order h{number}", "client_message_id": f"h{number}"}
                answers = [await bob.post_json(GENERAL, body) for _ in range(2)]
                assert [answer.status_code for answer in answers] == [201, 200]

        await asyncio.gather(by_socket(), by_http())
        for socket in sockets:
            await socket.until(lambda one: len(bodies(one, "order")) == 20, "all messages")
        history = (await alice.http.get(GENERAL, params={"limit": 100})).json()["messages"]
        expected = [each["body"] for each in history if each["body"].startswith("order")]
        assert len(expected) == len(set(expected)) == 20
        assert all(bodies(socket, "order") == expected for socket in sockets)


async def test_who_isnt_in_a_room_gets_nothing_of_it(site: Site) -> None:
    async with log_in(site, "alice") as alice, log_in(site, "dave") as dave, dave.socket() as daves:
        await daves.synced()
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with dave.socket(room="leads"):
                pass
        assert refused.value.response.status_code == 403
        for path in ("messages/", "notifications/", "notifications/stream/"):
            private = await dave.http.get(f"{ROOMS}leads/{path}")
            unknown = await dave.http.get(f"{ROOMS}no-such-room/{path}")
            assert (private.status_code, private.content) == (403, unknown.content)
        assert (await alice.post_json(f"{ROOMS}leads/messages/", {"body": "sentinel"})).status_code == 201
        assert (await alice.post_json(GENERAL, {"body": "for all"})).status_code == 201
        await daves.until(lambda one: bodies(one, "for all"))
        assert "sentinel" not in str(daves.frames)


async def test_who_types_is_told_in_the_other_process(site: Site) -> None:
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob, AsyncExitStack() as stack:
        watchers = [
            await (await stack.enter_async_context(bob.socket(room="general"))).synced()
            for _ in range(SOCKETS)
        ]
        for number, watcher in enumerate(watchers):
            assert (await ask(watcher, f"w{number}", type="watch"))["type"] == "done"
        hers = await (await stack.enter_async_context(alice.socket(room="general"))).synced()

        async def type_on() -> None:
            while True:  # nothing is told until each process has proved its layer
                await hers.send({"type": "chat.typing"})
                await asyncio.sleep(1)

        typing = asyncio.create_task(type_on())
        try:
            for watcher in watchers:
                await watcher.until(
                    lambda one: any(each["type"] == "chat.typing" and each["count"] for each in one.frames),
                    "that alice types",
                )
        finally:
            typing.cancel()
        for watcher in watchers:
            await watcher.until(lambda one: one.frames[-1].get("count") == 0, "that alice types no more")
