"""A site of two workers with its own PostgreSQL and Redis behind proxies, its clients, and what can happen to them.

async with rig.load("F08") as load:
    async with frozen(rig.redis):
        await asyncio.sleep(30)
    await load.caught_up(within=10)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

from tests import servers
from tests.faults.holdings import Holdings, held
from tests.faults.host import Host
from tests.faults.load import Load, Result, Scenario
from tests.faults.population import SCRIPT
from tests.faults.processes import Processes
from tests.faults.proxy import Proxy
from tests.faults.stores import Cache, Database
from tests.stopwatch import Stopwatch

ROOT = Path(__file__).parent.parent.parent
ORGS = 10


class FaultySite(servers.Site):
    """The example with `tests.faults.asgi` as its application."""

    def _command(self) -> Sequence[str]:
        own = {"config.asgi:application": "tests.faults.asgi:application"}
        # uvicorn replaces workers that don't answer it for 5 seconds: as long as scenarios have them stand still.
        patience = [] if self.server == "granian" else ["--timeout-worker-healthcheck", "120"]
        return [*(own.get(word, word) for word in super()._command()), *patience]


class Rig:
    """Servers for all scenarios of a session: `async with Rig(seed=1, rate=100) as rig:`."""

    def __init__(self, *, seed: int, rate: float) -> None:
        self.seed, self.rate = seed, rate
        self.results: list[Result] = []
        self.log_begin = 0  # where that of the site's present processes begins in the log
        self._quiet: Holdings | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.postgres = await asyncio.to_thread(servers.Postgres().start)
            stack.callback(self.postgres.close)
            self.redis = await asyncio.to_thread(servers.Redis().start)
            stack.callback(self.redis.close)
            chance = random.Random(self.seed)
            self.to_postgres = await stack.enter_async_context(Proxy(self.postgres.port, chance))
            self.to_redis = await stack.enter_async_context(Proxy(self.redis.port, chance))
            self.site = await asyncio.to_thread(self._make_site)
            stack.callback(self.site.close)
            self.to_site = await stack.enter_async_context(Proxy(self.site.port, chance))
            self.host = Host(self.site, self.postgres.folder)
            self.processes = Processes(self.site, self.postgres.folder)
            self.database, self.cache = Database(self.postgres), Cache(self.redis)
            self._members = json.loads(await self.host.script(SCRIPT, ORGS))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def _make_site(self) -> servers.Site:
        environ = {
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{self.to_postgres.port}/postgres",
            "REDIS_URL": f"redis://127.0.0.1:{self.to_redis.port}",
            "DEBUG": "off",
            "SECRET_KEY": "of the fault rig, which lives for some minutes on one computer",
            "EXAMPLE": str(servers.EXAMPLE),
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(servers.EXAMPLE), os.environ.get("PYTHONPATH", "")]
            ),
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "FAULTS_FOLDER": str(self.postgres.folder),
        }
        return FaultySite(workers=2, environ=environ).start()

    @asynccontextmanager
    async def load(
        self,
        fault: str,
        injected: str,
        bound: str,
        *,
        through_proxy: bool = False,
        silent: bool = False,
        **options: Any,
    ) -> AsyncIterator[Load]:
        """100 live clients and a publisher; afterwards all have caught up, the verdict is clean, nothing leaked."""
        result = Result(fault, injected, bound)
        self.results.append(result)
        if self._quiet is None:
            await self._warm_up()
        load = self._load(result, self.to_site.port if through_proxy else self.site.port)
        try:
            with load.watch:
                await load.begin(silent=silent)
                yield load
                await load.goes_on()
                await load.stop_publishing()
                await load.caught_up()
                await load.judge(**options)
        finally:
            await load.close()
        await self.is_quiet()

    async def _warm_up(self) -> None:
        """Pools, threads and caches are as they stay once they have been used: this is what quiet is compared to."""
        load = self._load(Result("warm-up", "", ""), self.site.port)
        try:
            with load.watch:
                await load.begin()
                await asyncio.sleep(3)
        finally:
            await load.close()
        await asyncio.sleep(3)
        self._quiet = await asyncio.to_thread(self.held)

    @asynccontextmanager
    async def site_with(self, server: str = "uvicorn", **environ: str) -> AsyncIterator[None]:
        """Another server, or other settings, for the whole site."""
        before = self.site.server, dict(self.site.environ)
        self.site.server = server
        self.site.environ.update(environ)
        await self._restart_site()
        try:
            yield
        finally:
            self.site.server = before[0]
            self.site.environ.clear()
            self.site.environ.update(before[1])
            await self._restart_site()

    @asynccontextmanager
    async def served_by(self, server: str) -> AsyncIterator[None]:
        """That server, which may be the one that is there."""
        async with contextlib.nullcontext() if server == self.site.server else self.site_with(server):
            yield

    def take_over(self, server: servers.Server) -> None:
        """End a server with the rig that a scenario has started."""
        self._stack.callback(server.close)

    def move_to(self, postgres: servers.Postgres) -> None:
        """New connections to the database lead to that server from now on; `take_over` has had it."""
        self.postgres = postgres
        self.to_postgres.target = postgres.port
        self.database.move_to(postgres)

    async def _restart_site(self) -> None:
        self.log_begin = len(self.log())
        await asyncio.to_thread(self.site.restart)
        self._quiet = None  # what it holds in quiet is to be found out again

    def log_since(self, place: int) -> str:
        """What the site has logged after the first `place` characters."""
        return self.log()[place:]

    def log(self) -> str:
        return (self.site.folder / "log").read_text(errors="replace")

    def _load(self, result: Result, port: int) -> Load:
        scenario = Scenario(
            self.seed, len(self.results), self.rate, self._members, self.database.rooms(), self.database
        )
        return Load(scenario, result, self.host, port)

    def held(self) -> Holdings:
        """What the site holds now."""
        return held(self.processes, self.database, self.cache)

    async def is_quiet(self, seconds: float = 60) -> None:
        """Wait until the site holds no more than before; raise AssertionError if it still does after `seconds`."""
        assert self._quiet
        with Stopwatch() as watch:
            while leaks := (await asyncio.to_thread(self.held)).beyond(self._quiet):
                watch.check(seconds, f"in quiet there is more than before: {leaks}")
                await asyncio.sleep(0.5)
