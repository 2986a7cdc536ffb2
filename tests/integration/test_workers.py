"""Real uvicorn with two workers: what is published anywhere arrives everywhere, once and in order."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.clients import Browser, Socket, log_in
from tests.servers import Redis, Site
from tests.shell import Shell
from tests.stopwatch import Stopwatch

SOCKETS = 12  # spread over two workers by the kernel: all on one has odds of 1 : 2^11
FOLDER = Path(__file__).parent

LAYERS = {
    "pubsub": {},
    "core": {"DJANGO_SETTINGS_MODULE": "core_layer", "PYTHONPATH": str(FOLDER)},
    "none": {"REDIS_URL": ""},
}


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    with Redis() as redis:
        yield redis


slow = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=["pubsub", *(pytest.param(other, marks=slow) for other in ("core", "none", "none, on SQLite"))],
)
def site(
    request: pytest.FixtureRequest, own_redis: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    environ = {"REDIS_URL": own_redis.url} | LAYERS.get(request.param, {"REDIS_URL": ""})
    if request.param == "none, on SQLite":
        environ["DATABASE_URL"] = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/db.sqlite3"
    with Site(workers=2, environ=environ) as site:
        yield site


# What happens to Redis concerns sites that have one.
with_redis = pytest.mark.parametrize(
    "site", ["pubsub", pytest.param("core", marks=slow)], indirect=True, scope="module"
)


@pytest.fixture
def publisher(site: Site) -> Shell:
    return site.shell


@asynccontextmanager
async def open_sockets(browser: Browser, count: int = SOCKETS) -> AsyncIterator[list[Socket]]:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(browser.socket()) for _ in range(count)]
        for socket in sockets:
            await socket.synced()
        yield sockets


def sequence(socket: Socket) -> list[int]:
    return [int(event["cursor"].split(".")[1]) for event in socket.events]


def assert_all_got_the_same_without_a_gap(sockets: list[Socket]) -> None:
    first = sequence(sockets[0])
    assert first == list(range(first[0], first[0] + len(first)))
    assert all(socket.events == sockets[0].events for socket in sockets)


async def test_events_from_http_a_command_and_threads_arrive_everywhere_once_and_in_order(site: Site) -> None:
    async with (
        log_in(site, "alice") as alice,
        log_in(site, "bob") as bob,
        open_sockets(alice) as sockets,
    ):
        page = (await bob.http.get("/orgs/acme/")).text
        task_id = page.split("/tasks/")[1].split("/")[0]
        for status in ("doing", "done", "todo"):
            answer = await bob.post(f"/orgs/acme/tasks/{task_id}/status/", status=status)
            assert answer.status_code == 303, answer.text
        commands = [
            threading.Thread(
                target=site.manage, args=["orgrealtime_publish", "acme", "note", f'{{"number": {number}}}']
            )
            for number in range(3)
        ]
        for command in commands:
            command.start()
        for socket in sockets:
            await socket.until(lambda one: sum(event["type"] == "note" for event in one.events) == 3)
        for command in commands:
            await asyncio.to_thread(command.join)
        assert_all_got_the_same_without_a_gap(sockets)
        moved = [event["details"]["to"] for event in sockets[0].events if event["type"] == "task_event"]
        assert moved == ["doing", "done", "todo"]
        assert {event["number"] for event in sockets[0].events if event["type"] == "note"} == {0, 1, 2}


async def test_a_publishing_thread_and_a_process_reach_both_workers_within_three_seconds(
    site: Site, publisher: Shell
) -> None:
    async with log_in(site, "alice") as alice, open_sockets(alice) as sockets:
        with Stopwatch() as watch:
            publisher.publish({"late": True})
            for socket in sockets:
                await socket.until(lambda one: len(one.events) == 1)
            watch.check(3.0, "all have the event")


async def test_nothing_of_acme_reaches_a_member_of_another_organisation(site: Site, publisher: Shell) -> None:
    async with log_in(site, "carol") as carol, carol.socket("globex") as socket:
        await socket.synced()
        publisher.publish({"secret": True}, org="acme")
        publisher.publish({"ours": True}, org="globex")
        await socket.until(lambda one: one.events)
        assert [event.get("ours") for event in socket.events] == [True]


@pytest.mark.slow
@with_redis
async def test_redis_killed_and_restarted_in_the_middle_loses_nothing(
    site: Site, publisher: Shell, own_redis: Redis
) -> None:
    async with log_in(site, "alice") as alice, open_sockets(alice) as sockets:
        await asyncio.to_thread(publisher.publish_each, [{"number": number} for number in range(15)])
        own_redis.kill()
        for number in range(15, 45):
            await asyncio.to_thread(publisher.publish, {"number": number})
            await asyncio.sleep(0.1)  # so that the outage lasts three seconds
        await asyncio.to_thread(own_redis.start)
        await asyncio.to_thread(publisher.publish_each, [{"number": number} for number in range(45, 60)])
        for socket in sockets:
            await socket.until(lambda one: len(one.events) == 60)
            assert [event["number"] for event in socket.events] == list(range(60))
        assert_all_got_the_same_without_a_gap(sockets)


@with_redis
@pytest.mark.slow
async def test_a_frozen_redis_delays_events_by_seconds_and_loses_none(
    site: Site, publisher: Shell, own_redis: Redis
) -> None:
    async with log_in(site, "alice") as alice, open_sockets(alice) as sockets:
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            for number in range(3):
                with Stopwatch() as watch:
                    await asyncio.to_thread(publisher.publish, {"number": number})
                    for socket in sockets:
                        await socket.until(lambda one, count=number + 1: len(one.events) == count)
                    watch.check(5.0, f"all have event {number}")
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        assert_all_got_the_same_without_a_gap(sockets)


@pytest.mark.slow
async def test_a_worker_killed_loses_nothing_for_clients_that_come_back(site: Site, publisher: Shell) -> None:
    async with log_in(site, "alice") as alice:
        async with alice.socket() as socket:
            await socket.synced()
            publisher.publish({"number": 0})
            await socket.until(lambda one: len(one.events) == 1)
            for pid in worker_pids(site):
                os.kill(pid, 9)
            await socket.closed()
        publisher.publish_each([{"number": number} for number in range(1, 251)])
        await asyncio.to_thread(site.restart)
        async with alice.socket(query=f"since={socket.cursor}") as again:
            await again.synced()
            assert [event["number"] for event in again.events] == list(range(1, 251))


def worker_pids(site: Site) -> list[int]:
    children = Path(f"/proc/{site.pid}/task/{site.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
