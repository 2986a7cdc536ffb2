"""A site of two workers with its own PostgreSQL and Redis behind proxies, its clients, and what can happen to them.

async with rig.load("F08") as load:
    async with rig.frozen(rig.redis):
        await asyncio.sleep(30)
    await load.caught_up(within=10)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import psycopg
import redis

from tests import servers
from tests.faults import trouble
from tests.faults.checker import Address, Committed, check
from tests.faults.client import Client
from tests.faults.ledger import Acknowledged, Ledger
from tests.faults.population import SCRIPT
from tests.faults.proxy import Proxy
from tests.stopwatch import Stopwatch
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parent.parent.parent
ORGS = 10
ESTABLISHED = "01"

REMOVE = """
import sys, time
import django
django.setup()
from tracker.models import Membership
Membership.objects.get(user__username=sys.argv[1], organization__slug=sys.argv[2]).delete()
print(time.monotonic())
"""
GIVE_BACK = """
import sys
import django
django.setup()
from django.contrib.auth.models import User
from tracker.models import Membership, Organization
user, org = User.objects.get(username=sys.argv[1]), Organization.objects.get(slug=sys.argv[2])
Membership.objects.get_or_create(user=user, organization=org, defaults={"role": sys.argv[3]})
"""
HOLD = """
import sys
import django
django.setup()
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization
with transaction.atomic():
    publish(Organization.objects.get(slug=sys.argv[1]), "note", {"mark": sys.argv[2]})
    print("held", flush=True)
    sys.stdin.readline()
"""
STREAM = """
import select, sys, time
import django
django.setup()
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization
organization, rate, kind = Organization.objects.get(slug=sys.argv[2]), float(sys.argv[3]), sys.argv[4]
together = 20
number, begin = 0, time.monotonic()
while not select.select([sys.stdin], [], [], max(0, begin + number / rate - time.monotonic()))[0]:
    with transaction.atomic():
        for _ in range(together):
            number += 1
            publish(organization, kind, {"mark": f"{sys.argv[1]}-stream{number}"})
print(number / (time.monotonic() - begin))
"""
STREAM_ENDS = """
    SELECT o.slug, s.head + (
        SELECT count(*) FROM orgrealtime_notificationevent e WHERE e.organization_id = o.id AND e.seq IS NULL
    ) FROM orgrealtime_stream s JOIN tracker_organization o ON o.id = s.organization_id
"""
# A dump and its restoration without the programs for it: other tables get the older rows and take the names.
KEPT_TABLES = {
    "stream": "organization_id, epoch, head, floor, table_oid",
    "notificationevent": "id, organization_id, seq, type, payload, created_at, actor_id, audience, dedupe_key",
    "recipient": "organization_id, user_id, seq",
}
KEEP = "; ".join(f"CREATE TABLE kept_{name} AS TABLE orgrealtime_{name}" for name in KEPT_TABLES)
PUT_BACK = "; ".join(
    f"CREATE TABLE restored_{name} (LIKE orgrealtime_{name} INCLUDING ALL);"  # noqa: S608
    f"INSERT INTO restored_{name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM kept_{name};"
    f"DROP TABLE kept_{name};"
    f"DROP TABLE orgrealtime_{name}; ALTER TABLE restored_{name} RENAME TO orgrealtime_{name}"
    for name, columns in KEPT_TABLES.items()
)
PUT_BACK += """;
    SELECT setval(pg_get_serial_sequence('orgrealtime_notificationevent', 'id'), max(id))
    FROM orgrealtime_notificationevent
"""

LOCK = """
    SELECT 1 FROM orgrealtime_stream WHERE organization_id IN (
        SELECT id FROM tracker_organization WHERE slug = ANY(%s)
    ) FOR UPDATE
"""
TOUCH = """
import sys
import django
django.setup()
from tracker.models import Membership
membership = Membership.objects.get(user__username=sys.argv[1], organization__slug=sys.argv[2])
membership.save()
membership.organization.save()
"""


class FaultySite(servers.Site):
    """The example with `tests.faults.asgi` as its application."""

    def _command(self) -> Sequence[str]:
        own = {"config.asgi:application": "tests.faults.asgi:application"}
        return [own.get(word, word) for word in super()._command()]


@dataclass
class Result:
    """One row of the table that a session ends with."""

    fault: str
    injected: str
    bound: str
    measured: list[str] = field(default_factory=list)
    verdict: dict[str, int] = field(default_factory=dict)


class Rig:
    """Servers for all scenarios of a session: `async with Rig(seed=1, rate=100) as rig:`."""

    def __init__(self, *, seed: int, rate: float) -> None:
        self.seed, self.rate = seed, rate
        self.results: list[Result] = []
        self._quiet: Quotas | None = None

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
            self.members = json.loads(await self.script(SCRIPT, ORGS))
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

    async def script(self, text: str, *arguments: object, **environ: str) -> str:
        """Run Python in the site's environment; return what it prints."""
        process = await self._python("-c", text, *arguments, environ=environ)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def _python(
        self,
        *arguments: object,
        stderr: int | None = asyncio.subprocess.PIPE,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=1 << 20,
            cwd=servers.EXAMPLE,
            env={**self.site.environ, **environ},
        )

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
        load = Load(self, result, self.to_site.port if through_proxy else self.site.port)
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
        load = Load(self, Result("warm-up", "", ""), self.site.port)
        try:
            with load.watch:
                await load.begin()
                await asyncio.sleep(3)
        finally:
            await load.close()
        await asyncio.sleep(3)
        self._quiet = await asyncio.to_thread(self.census)

    # What can happen

    def workers(self) -> list[int]:
        """Process ids of the site's workers."""
        commands = {pid: _read(f"/proc/{pid}/cmdline") for pid in _children(self.site.pid)}
        return [pid for pid, command in commands.items() if command and b"resource_tracker" not in command]

    @asynccontextmanager
    async def frozen(self, *servers_or_pids: servers.Server | int) -> AsyncIterator[None]:
        """The processes, of a server all that it has, stop where they are; their connections stay."""
        pids = []
        for each in servers_or_pids:
            pids += [each] if isinstance(each, int) else [each.pid, *_children(each.pid)]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

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

    async def _restart_site(self) -> None:
        await asyncio.to_thread(self.site.restart)
        self._quiet = None  # what it holds in quiet is to be found out again

    async def replace(self, worker: int) -> float:
        """Tell one worker to end, and wait until it has and another is there; return the seconds it took to end."""
        begin = time.monotonic()
        os.kill(worker, signal.SIGTERM)
        while _read(f"/proc/{worker}/cmdline"):  # empty for one that has ended
            assert time.monotonic() - begin < LIMIT_SECONDS, "a worker doesn't end"
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - begin
        while len(self.workers()) < self.site.workers:
            assert time.monotonic() - begin < LIMIT_SECONDS, "no worker takes its place"
            await asyncio.sleep(0.05)
        return seconds

    async def end_site(self) -> float:
        """Tell the whole site to end, and wait until it has; return the seconds it took."""
        begin, process = time.monotonic(), self.site.process
        assert process
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, LIMIT_SECONDS)
        finally:
            self.site.kill()
        return time.monotonic() - begin

    def log_since(self, place: int) -> str:
        """What the site has logged after the first `place` characters."""
        return self.log()[place:]

    def log(self) -> str:
        return (self.site.folder / "log").read_text(errors="replace")

    @asynccontextmanager
    async def dead(self, server: servers.Server, how: signal.Signals = signal.SIGKILL) -> AsyncIterator[None]:
        """The server is killed, and started again afterwards."""
        if how is signal.SIGKILL:
            server.kill()  # with all its processes
        else:
            os.kill(server.pid, how)
            await asyncio.to_thread(_wait_for_end, server)
        try:
            yield
        finally:
            await asyncio.to_thread(server.start)

    @asynccontextmanager
    async def locked_streams(self, *orgs: str) -> AsyncIterator[None]:
        """A transaction holds the streams' rows of these organisations."""
        async with await psycopg.AsyncConnection.connect(self.postgres.url) as connection:
            await connection.execute(LOCK, [list(orgs)])
            yield

    @asynccontextmanager
    async def trouble(self, where: str, how: str, client: Client) -> AsyncIterator[None]:
        """Code of the host hangs or fails for one user (`tests.faults.trouble`)."""
        file = self.postgres.folder / trouble.FILE
        file.write_text(f"{where} {how} {client.user_id}")
        try:
            yield
        finally:
            file.unlink()

    async def touch(self, client: Client) -> None:
        """Save a membership and its organisation as they are, so that access is checked."""
        await self.script(TOUCH, client.user, client.org)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def redis_command(self, *words: Any) -> Any:
        with contextlib.closing(redis.Redis.from_url(self.redis.url)) as client:
            return client.execute_command(*words)

    def organization_id(self, slug: str) -> int:
        return int(self.sql("SELECT id FROM tracker_organization WHERE slug = %s", slug)[0][0])

    def stream_ends(self) -> dict[str, int]:
        """How many events the stream of each organisation has had, those without a number included."""
        return dict(self.sql(STREAM_ENDS))

    async def dump(self) -> Callable[[], Awaitable[None]]:
        """Keep the database as it is; what is returned restores it, into tables of its own, when nobody uses them."""
        if not (self.postgres.binaries / "pg_restore").exists():
            self.sql(KEEP)
            return functools.partial(asyncio.to_thread, self.sql, PUT_BACK)
        file = self.postgres.folder / "dump"
        await self._postgres_program("pg_dump", "--format=custom", f"--file={file}")
        return functools.partial(
            self._postgres_program, "pg_restore", "--clean", "--single-transaction", "--dbname=postgres", file
        )

    async def _postgres_program(self, name: str, *arguments: object) -> None:
        place = "--host=127.0.0.1", f"--port={self.postgres.port}", "--username=postgres"
        process = await asyncio.create_subprocess_exec(
            str(self.postgres.binaries / name), *place, *map(str, arguments), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()

    async def manage(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.site.manage, *arguments)

    async def remove_membership(self, client: Client) -> float:
        """Delete a membership as a view would; return when that was, by the rig's clock."""
        return float(await self.script(REMOVE, client.user, client.org))

    @asynccontextmanager
    async def stream_of_events(
        self, run: str, org: str, *, per_second: float, kind: str = "note"
    ) -> AsyncIterator[list[float]]:
        """A process publishes to one organisation meanwhile, 20 events to a transaction; afterwards gives the rate."""
        process = await self._python("-c", STREAM, run, org, per_second, kind)
        rates: list[float] = []
        try:
            yield rates
        finally:
            out, err = await process.communicate(b"\n")
            assert process.returncode == 0, err.decode()
            rates.append(float(out))

    @asynccontextmanager
    async def membership_given_back(self, client: Client) -> AsyncIterator[None]:
        """What was removed meanwhile is there again for the next scenario."""
        try:
            yield
        finally:
            await self.script(GIVE_BACK, client.user, client.org, client.role)

    def peers_of_site(self) -> set[int]:
        """The ports at the other end of the TCP connections that the site's workers consider open."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        mine = f":{self.site.port:04X}"
        open_ones = [line for line in lines if line[1].endswith(mine) and line[3] == ESTABLISHED]
        return {int(line[2].rpartition(":")[2], 16) for line in open_ones}

    @asynccontextmanager
    async def deaf_socket(self, client: Client, *, bytes_per_second: int = 0) -> AsyncIterator[int]:
        """Another WebSocket of a client's user, that reads nothing, or next to nothing; gives its port."""
        host = f"127.0.0.1:{self.site.port}"
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", self.site.port))
            sock.sendall(
                f"GET /ws/orgs/{client.org}/notifications/ HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
                f"Cookie: sessionid={client.session}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            sock.setblocking(False)
            reading = asyncio.create_task(_read_slowly(sock, bytes_per_second))
            try:
                yield sock.getsockname()[1]
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def resident(self) -> int:
        """Bytes of memory that the workers hold."""
        pages = sum(int(_read(f"/proc/{pid}/statm").split()[1]) for pid in self.workers())
        return pages * os.sysconf("SC_PAGE_SIZE")

    @asynccontextmanager
    async def most_memory(self) -> AsyncIterator[list[int]]:
        """Gives, at the end, the bytes that the workers held at most."""
        sizes: list[int] = []

        async def look() -> None:
            while True:
                sizes[:] = [max([*sizes, self.resident()])]
                await asyncio.sleep(0.1)

        looking = asyncio.create_task(look())
        try:
            yield sizes
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    # What is left

    def census(self) -> Quotas:
        """What the site holds now."""
        workers = self.workers()
        states = [
            row[0]
            for row in self.sql("SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend'")
        ]
        return Quotas(
            tasks=max((self._tasks(pid) for pid in workers), default=0),
            tickets=self.sql("SELECT count(*) FROM orgrealtime_ticket")[0][0],
            descriptors=max((len(os.listdir(f"/proc/{pid}/fd")) for pid in workers), default=0),  # noqa: PTH208
            threads=max((len(os.listdir(f"/proc/{pid}/task")) for pid in workers), default=0),  # noqa: PTH208
            redis_keys=self._redis_keys(),
            counted=self.counted_connections(),
            redis_channels=len(self.redis_command("PUBSUB", "CHANNELS")),
            backends=len(states),
            transactions=sum(state not in {"idle", "active"} for state in states),
            pending=self.sql("SELECT count(*) FROM orgrealtime_notificationevent WHERE seq IS NULL")[0][0],
        )

    def _redis_keys(self) -> int:
        """How many keys there are, without the cache's that expire."""
        keys = self.redis_command("KEYS", "*")
        return sum(self.redis_command("TTL", key) < 0 or b"orgrealtime." not in key for key in keys)

    def counted_connections(self) -> int:
        """How many connections the cache counts, over all processes."""
        keys = self.redis_command("KEYS", "*orgrealtime.connections.*.user.*")
        return sum(int(count or 0) for count in self.redis_command("MGET", *keys)) if keys else 0

    def _tasks(self, pid: int) -> int:
        report = self.postgres.folder / f"tasks-{pid}"
        report.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        return int(
            until(lambda: report.exists() and report.read_text(), "a worker says how many tasks it has")
        )

    async def is_quiet(self, seconds: float = 60) -> None:
        """Wait until the site holds no more than before; raise AssertionError if it still does after `seconds`."""
        assert self._quiet
        with Stopwatch() as watch:
            while leaks := (await asyncio.to_thread(self.census)).beyond(self._quiet):
                watch.check(seconds, f"in quiet there is more than before: {leaks}")
                await asyncio.sleep(0.5)


@dataclass(frozen=True)
class Quotas:
    """Resources held; tasks, descriptors and threads are those of the worker that has most."""

    tasks: int
    tickets: int
    descriptors: int
    threads: int
    redis_keys: int
    counted: int
    redis_channels: int
    backends: int
    transactions: int
    pending: int

    def beyond(self, quiet: Quotas) -> list[str]:
        """What is held beyond what was held in quiet.

        Pools may have grown: 20 database connections for each of two workers by configuration, each a descriptor, and
        asyncio's pool of at most 6 threads on 2 processors beside the library's own. A leak of one thing per client or
        event would be 50 or thousands.
        """
        allowed = {
            "tasks": 10,
            "descriptors": 30,
            "threads": 8,
            "redis_keys": 4,
            "backends": 40,
            "redis_channels": 2,
        }
        return [
            f"{name}: {count}, was {getattr(quiet, name)}"
            for name, count in vars(self).items()
            if count > getattr(quiet, name) + allowed.get(name, 0)
        ]


class Load:
    """The clients and the publisher of one scenario."""

    def __init__(self, rig: Rig, result: Result, port: int) -> None:
        self.rig, self.result = rig, result
        self.watch = Stopwatch()
        run = f"{rig.seed}-{len(rig.results)}-{result.fault}"
        chance = random.Random(run)
        self.ledger = Ledger(run)
        self._publisher_seed = chance.randrange(1 << 30)
        self._port = port
        self.clients: list[Client] = []
        for member in rig.members:
            self.add_client(*member)
        self._remembered: list[Committed] = []
        self._publishers = 0
        self._publisher: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    def add_client(self, org: str, user_id: int, name: str, session: str, role: str = "member") -> Client:
        """One more member who connects."""
        self.ledger.users[user_id] = name
        chance = random.Random(f"{self.ledger.run}-{org}-{name}")
        client = Client(self._port, org, user_id, name, session, chance, role)
        self.clients.append(client)
        return client

    async def begin(self, *, silent: bool = False) -> None:
        await self.until(lambda: all(client.is_live for client in self.clients), 60, "clients are live")
        if not silent:
            await self.publish(150)

    async def publish(self, some: int = 1) -> None:
        """Begin to publish, again after `stop_publishing`; return when so many events are committed."""
        self._publishers += 1
        run = f"{self.ledger.run}-{self._publishers}"
        self._publisher = await self.rig._python(
            "-m", "tests.faults.publisher", run, self._publisher_seed, self.rig.rate, stderr=None
        )
        self._reader = asyncio.create_task(self._read())
        due = len(self.ledger.acknowledged) + some
        await self.until(lambda: len(self.ledger.acknowledged) >= due, 30, "publishing has begun")

    async def _read(self) -> None:
        assert self._publisher
        assert self._publisher.stdout
        async for line in self._publisher.stdout:
            report = json.loads(line)
            self.ledger.milliseconds.append((time.monotonic(), report["ms"]))
            if "error" in report:
                self.ledger.failed.append(report["error"])
            else:
                audience = None if report["to"] is None else frozenset(report["to"])
                address = Address(report["org"], audience, report["type"])
                self.ledger.acknowledged[report["mark"]] = Acknowledged(address, report["begun"])

    async def until(self, condition: Callable[[], Any], seconds: float, what: str) -> float:
        """Wait until the condition holds, which is promised within so many seconds; return those it took."""
        begin = time.monotonic()
        while not condition():
            self.watch.check(seconds, f"not yet: {what}; {self.describe()}", took=time.monotonic() - begin)
            await asyncio.sleep(0.05)
        return time.monotonic() - begin

    def describe(self) -> str:
        live = sum(client.is_live for client in self.clients)
        resets = Counter(" ".join(client.resets) for client in self.clients if client.resets)
        return (
            f"{live} of {len(self.clients)} clients live, connections ended with {dict(self.codes())}, "
            f"resets {dict(resets)}"
        )

    def codes(self) -> Counter[int | str]:
        return Counter(code for client in self.clients for code in client.codes)

    async def caught_up(self, within: float = 60, *, of: list[Client] | None = None) -> float:
        """Wait until every client is live and has all that is committed now; return the seconds it took."""
        clients = [each for each in of or self.clients if not each.is_stopped]
        due = {client: self.ledger.due(client.log, since=client.reset_at) for client in clients}
        reset_at = {client: client.reset_at for client in clients}

        def has_all(client: Client) -> bool:
            if reset_at[client] != client.reset_at:  # what came before the reset is not due any more
                reset_at[client] = client.reset_at
                due[client] &= self.ledger.due(client.log, since=client.reset_at)
            due[client] -= client.marks
            return not due[client]

        def is_caught_up() -> bool:
            return all(client.is_stopped or (has_all(client) and client.is_live) for client in clients)

        seconds = await self.until(is_caught_up, within, "all have caught up")
        self.measured(f"caught up {seconds:.1f} s")
        return seconds

    def measured(self, *texts: str) -> None:
        self.result.measured += texts

    async def goes_on(self) -> None:
        """Publish some seconds more: what comes after a fault is to arrive as well."""
        if self._publisher is not None:
            due = len(self.ledger.acknowledged) + 2 * self.rig.rate
            await self.until(lambda: len(self.ledger.acknowledged) >= due, 30, "publishing goes on")

    async def stop_publishing(self) -> None:
        if self._publisher is None or self._reader is None:
            return
        assert self._publisher.stdin
        self._publisher.stdin.close()
        await self._reader
        assert await self._publisher.wait() == 0
        self._publisher = None

    @asynccontextmanager
    async def open_transaction(self, org: str) -> AsyncIterator[None]:
        """A process has published to this organisation and doesn't commit until the end."""
        process = await self.rig._python("-c", HOLD, org, f"{self.ledger.run}-held")
        assert process.stdout
        assert await process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            await process.communicate(b"\n")

    def slowest(self, clients: list[Client], since: float) -> float:
        """Seconds from the call of `publish` to one of these clients, of what was published after `since`."""
        return max(
            receipt.at - receipt.sent
            for client in clients
            for receipt in client.log.receipts
            if receipt.sent is not None and receipt.sent >= since
        )

    def latency(self, begin: float, end: float, *, without: str = "") -> float:
        """Milliseconds from the call of `publish` to the client, 99th percentile, of what came within these seconds."""
        took = sorted(
            receipt.at - receipt.sent
            for client in self.clients
            if client.org != without
            for receipt in client.log.receipts
            if receipt.sent is not None and begin <= receipt.at <= end
        )
        return took[int(len(took) * 0.99)] * 1000 if took else 0.0

    async def remember(self, *, of: list[Client] | None = None) -> None:
        """Stop publishing, and remember what is committed now, because it is about to be deleted."""
        await self.stop_publishing()
        await self.caught_up(of=of)
        self._remembered = await self.ledger.committed(self.rig.postgres.url)

    async def crash(self, where: int, org: str, times: int) -> None:
        """Processes publish one event each to this organisation, and die at a point of `tests.faults.crash`."""
        process = await self.rig._python("-m", "tests.faults.crash", where, org, self.ledger.run, times)
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()

    def revoke(self, client: Client, at: float) -> None:
        client.log.revoked_at = at

    async def judge(self, *, revocation_bound: float = 2.0, **options: Any) -> None:
        left = await self.ledger.committed(self.rig.postgres.url)
        committed = list({*self._remembered, *left})
        logs = [client.log for client in self.clients]
        marks = self.ledger.acknowledged

        # What a publisher was told has failed may be committed all the same, and is due like all else.
        async def verdict() -> dict[str, int]:
            bound = self.watch.allowed(revocation_bound)
            return await asyncio.to_thread(
                check, committed, logs, acknowledged=marks, revocation_bound=bound, **options
            )

        self.result.verdict = await verdict()
        begin = time.monotonic()
        while self.result.verdict["LOST"] and time.monotonic() - begin < self.watch.allowed(12):
            await asyncio.sleep(1)
            self.result.verdict = await verdict()
        self.measured(f"{len(committed)} events, {sum(len(log.receipts) for log in logs)} receipts")
        wrong = {name: count for name, count in self.result.verdict.items() if count}
        assert not wrong, f"{wrong} with seed {self.rig.seed}; {self.describe()}"

    async def close(self) -> None:
        if self._publisher is not None:
            with contextlib.suppress(ProcessLookupError):
                self._publisher.kill()
            await self._publisher.wait()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self.clients))


async def _read_slowly(sock: socket.socket, bytes_per_second: int) -> None:
    while bytes_per_second:
        await asyncio.get_running_loop().sock_recv(sock, bytes_per_second)
        await asyncio.sleep(1)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""


def _signal(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)


def _wait_for_end(server: servers.Server) -> None:
    assert server.process
    server.process.wait(LIMIT_SECONDS)
