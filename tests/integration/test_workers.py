"""Real uvicorn with two workers: what is published anywhere arrives everywhere, once and in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.clients import Browser, Socket, log_in
from tests.servers import Redis, Site

SOCKETS = 12  # spread over two workers by the kernel: all on one has odds of 1 : 2^11


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    with Redis() as redis:
        yield redis


@pytest.fixture(scope="module", params=["pubsub", "no redis"])
def site(request: pytest.FixtureRequest, own_redis: Redis) -> Iterator[Site]:
    url = own_redis.url if request.param == "pubsub" else ""
    with Site(workers=2, environ={"REDIS_URL": url}) as site:
        yield site


async def open_sockets(stack: AsyncExitStack, browser: Browser, count: int = SOCKETS) -> list[Socket]:
    sockets = [await stack.enter_async_context(browser.socket()) for _ in range(count)]
    for socket in sockets:
        await socket.synced()
    return sockets


def is_dense(socket: Socket) -> bool:
    numbers = [int(event["cursor"].split(".")[1]) for event in socket.events]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_events_from_http_a_command_and_threads_arrive_everywhere_once_and_in_order(site: Site) -> None:
    async with log_in(site.url, "alice") as alice, log_in(site.url, "bob") as bob, AsyncExitStack() as stack:
        sockets = await open_sockets(stack, alice)
        page = (await bob.http.get("/orgs/acme/")).text
        task_id = page.split("/tasks/")[1].split("/")[0]
        for status in ("doing", "done", "todo"):
            answer = await bob.post(f"/orgs/acme/tasks/{task_id}/status/", status=status)
            assert answer.status_code in {200, 303}, answer.text

        def publish(number: int) -> None:
            site.manage("orgrealtime_publish", "acme", "note", f'{{"number": {number}}}')

        await asyncio.to_thread(publish, 0)
        threads = [threading.Thread(target=publish, args=[number]) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for socket in sockets:
            await socket.until(lambda one: sum(event["type"] == "note" for event in one.events) == 3)
        for thread in threads:
            thread.join()
        logs = {tuple(event["cursor"] for event in socket.events) for socket in sockets}
        assert len(logs) == 1
        assert is_dense(sockets[0])
        assert {event.get("number") for event in sockets[0].events if event["type"] == "note"} == {0, 1, 2}


async def test_an_event_arrives_within_three_seconds_at_both_workers(site: Site) -> None:
    async with log_in(site.url, "alice") as alice, AsyncExitStack() as stack:
        sockets = await open_sockets(stack, alice)
        await asyncio.to_thread(site.manage, "orgrealtime_publish", "acme", "note", '{"late": true}')
        async with asyncio.timeout(3):
            for socket in sockets:
                await socket.until(lambda one: len(one.events) == 1)


async def test_redis_killed_and_restarted_in_the_middle_loses_nothing(site: Site, own_redis: Redis) -> None:
    if not site.environ["REDIS_URL"]:
        pytest.skip("there is no Redis to kill in this variant")
    async with log_in(site.url, "alice") as alice, AsyncExitStack() as stack:
        sockets = await open_sockets(stack, alice)
        for number in range(30):
            if number == 8:
                own_redis.kill()
            if number == 20:
                await asyncio.to_thread(own_redis.start)
            await asyncio.to_thread(
                site.manage, "orgrealtime_publish", "acme", "count", f'{{"number": {number}}}'
            )
        for socket in sockets:
            await socket.until(lambda one: len(one.events) == 30)
            assert [event["number"] for event in socket.events] == list(range(30))
            assert is_dense(socket)
