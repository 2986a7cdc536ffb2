"""Two real workers and a real Redis: limits on connections hold over both, and outlive a killed one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import websockets

from orgrealtime.admission import quotas
from tests.clients import Browser, log_in
from tests.integration.conftest import SERVERS
from tests.integration.lookout import worker_pids
from tests.servers import Redis, Site
from tests.stopwatch import Stopwatch
from tests.waiting import eventually, limit

CAP = 10  # of few_connections.py
FREE_SECONDS = 45  # is promised
KEPT_SECONDS = 8  # of few_connections.py, where it is less than what a process keeps otherwise
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module", params=SERVERS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    environ = {"DJANGO_SETTINGS_MODULE": "few_connections", "PYTHONPATH": str(FOLDER)}
    with (
        Redis() as redis,
        Site(server=request.param, workers=2, environ=environ | {"REDIS_URL": redis.url}) as site,
    ):
        yield site


class Crowd:
    """Many connections of one user."""

    def __init__(self, browser: Browser, stack: AsyncExitStack) -> None:
        self.browser = browser
        self.stack = stack
        self.statuses: Counter[int] = Counter()

    async def connect(self) -> bool:
        try:
            await self.stack.enter_async_context(self.browser.socket())
        except websockets.InvalidStatus as refused:
            self.statuses[refused.response.status_code] += 1
            return False
        return True

    async def rush(self, count: int) -> int:
        """How many of so many that come at once are let in."""
        return sum(await asyncio.gather(*(self.connect() for _ in range(count))))


@asynccontextmanager
async def crowd(site: Site, user: str) -> AsyncIterator[Crowd]:
    async with log_in(site, user) as browser, AsyncExitStack() as stack:
        yield Crowd(browser, stack)


async def is_let_in(crowd: Crowd) -> bool:
    """Whether one more gets in; not before the new worker listens."""
    with contextlib.suppress(OSError, websockets.InvalidHandshake, TimeoutError):
        return await crowd.connect()
    return False


def refusals(site: Site) -> set[int]:
    # granian has no answers to refused handshakes: its own is a bare 403
    return {429} if site.server == "uvicorn" else {429, 403}


@pytest.mark.slow
async def test_a57_user_gets_the_cap_over_both_workers_and_nobody_else_is_touched(site: Site) -> None:
    async with crowd(site, "alice") as alice, crowd(site, "bob") as bob:
        opened = await alice.rush(60)
        assert 0 <= opened <= CAP
        async with limit("all places are taken", seen=alice.statuses):
            while opened < CAP:  # two that race may both be refused
                opened += await alice.connect()
        assert not any([await alice.connect() for _ in range(5)])
        assert set(alice.statuses) <= refusals(site)
        assert await bob.connect()


@pytest.mark.slow
async def test_a57_places_of_killed_workers_come_free(site: Site) -> None:
    async with crowd(site, "alice") as alice:
        async with limit("all places are taken", seen=alice.statuses):
            opened = 0
            while opened < CAP:
                opened += await alice.connect()
        assert not await alice.connect()
        pids = worker_pids(site)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with Stopwatch() as watch:
            if site.server == "granian":  # which ends with its workers
                await asyncio.to_thread(site.restart)
            for _ in range(CAP):
                await eventually(partial(is_let_in, alice), "all places are free", seen=alice.statuses)
            watch.check(FREE_SECONDS - quotas.KEEP_SECONDS + KEPT_SECONDS, "all places are free")
        assert not await alice.connect()
