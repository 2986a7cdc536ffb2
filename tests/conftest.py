from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import hypothesis
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.db.backends.utils import CursorWrapper
from pytest_django.fixtures import Settings

from orgrealtime import limits
from orgrealtime.admission import handshake, quotas
from orgrealtime.concurrency import threads as pools
from orgrealtime.stream import topics
from tests import flush
from tests.host.models import Membership, Organization
from tests.seats import Seats
from tests.servers import Redis
from tests.sockets import Sockets
from tests.waiting import LIMIT_SECONDS

MakeUser = Callable[..., User]
MakeOrg = Callable[[str], Organization]
Configure = Callable[..., None]
Instead = Callable[[pools.Threads, Callable[..., Any], Callable[..., Any]], None]

pytest_plugins = ["tests.running"]

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def shown(value: object) -> str:
    """The name of a parameter in the name of a test: the same in each process that collects it."""
    return re.sub(r" at 0x\w+", "", repr(value))


END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test databases, which cannot be dropped while threads have connections to them."""
    flush.install()
    yield
    pools.close_all()
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(END_OTHERS)  # of threads that asyncio keeps, and that nobody can reach


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture(autouse=True)
def _patience_with_the_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is slow or was stopped doesn't take its cache as gone, unless the test is about that."""
    if "frozen_cache" not in request.fixturenames:
        for module in (quotas, limits):
            monkeypatch.setattr(module, "CACHE_SECONDS", LIMIT_SECONDS)


@pytest.fixture(autouse=True)
def _patience_with_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a handshake refused there because its checks take long."""
    monkeypatch.setattr(handshake, "CHECK_SECONDS", LIMIT_SECONDS)


@pytest.fixture(autouse=True)
def _no_connections(request: pytest.FixtureRequest) -> None:
    """A test that may not use the database finds no threads that have connections to it."""
    if "_django_db_helper" not in request.fixturenames:
        pools.close_all()


@pytest.fixture
def no_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no app has topics, such as rooms."""
    monkeypatch.setattr(topics, "_providers", [])


@pytest.fixture(params=[0, 1], ids=["no topics", "topics"])
def topic_queries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many queries there are more where there are topics."""
    count: int = request.param
    monkeypatch.setattr(topics, "_providers", [Seats()] * count)
    return count


# People and organisations, in the kind of database access that the test asks for by its mark or by
# `transactional_db`.


@pytest.fixture
def make_user(db: None) -> MakeUser:
    """`make_user("erin", acme, globex)`: a user who is a member of these organisations."""

    def make(username: str, *organizations: Organization) -> User:
        user = User.objects.create_user(username, password="demo")
        for organization in organizations:
            Membership.objects.create(organization=organization, user=user)
        return user

    return make


@pytest.fixture
def make_org(db: None) -> MakeOrg:
    """`make_org("initech")`: an organisation without members."""
    return lambda slug: Organization.objects.create(slug=slug, name=slug.title())


@pytest.fixture
def acme(make_org: MakeOrg) -> Organization:
    return make_org("acme")


@pytest.fixture
def globex(make_org: MakeOrg) -> Organization:
    return make_org("globex")


@pytest.fixture
def alice(make_user: MakeUser, acme: Organization) -> User:
    return make_user("alice", acme)


@pytest.fixture
def bob(make_user: MakeUser, acme: Organization) -> User:
    return make_user("bob", acme)


@pytest.fixture
def carol(make_user: MakeUser, globex: Organization) -> User:
    return make_user("carol", globex)


@pytest.fixture
def dave(make_user: MakeUser, acme: Organization, globex: Organization) -> User:
    return make_user("dave", acme, globex)


@pytest.fixture
def configure(settings: Settings) -> Configure:
    """`configure(POLL_SECONDS=1)`: other values in `ORGREALTIME` for this test."""

    def put(**values: Any) -> None:
        settings.ORGREALTIME = {**settings.ORGREALTIME, **values}

    return put


@pytest.fixture
def frozen_cache(settings: Settings) -> Iterator[None]:
    """A cache whose server takes connections and answers nothing."""
    with Redis() as server:
        backend = "django.core.cache.backends.redis.RedisCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": server.url}}
        os.kill(server.pid, signal.SIGSTOP)
        yield
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL statements of all threads, as they come."""
    seen: list[str] = []
    execute = CursorWrapper.execute

    def record(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
        seen.append(str(sql))
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", record)
    return seen


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Instead:
    """`instead(HANDSHAKE, stream.read, slow_read)`: what a pool of threads runs where it is told to run a function."""

    def put(pool: pools.Threads, function: Callable[..., Any], other: Callable[..., Any]) -> None:
        run = pool.run

        async def run_other(asked: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return await run(other if asked is function else asked, *args, **kwargs)

        monkeypatch.setattr(pool, "run", run_other)

    return put


@pytest.fixture
async def sockets(transactional_db: None) -> AsyncIterator[Sockets]:
    """Sockets without a server: `socket = await sockets.open(alice)`."""
    sockets = Sockets()
    yield sockets
    await sockets.close()
