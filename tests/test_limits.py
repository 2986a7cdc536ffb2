"""Limits on what clients send: per socket, and per user over sockets and processes."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from orgrealtime import limits, publish
from orgrealtime.errors import MessageError
from orgrealtime.limits import Rate, SocketRateLimitMixin, UserRateLimitMixin
from tests import threads
from tests.conftest import Configure
from tests.host.models import Organization
from tests.servers import redis_url
from tests.sockets import Socket, Sockets
from tests.stopwatch import Stopwatch

LONG = 1_000_000.0  # seconds, so that no window ends during a test


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    """Forget what other tests have taken."""
    limits._bytes_by_user.clear()
    limits._allowances.clear()


class SocketGate(SocketRateLimitMixin):
    """One socket."""


class UserGate(UserRateLimitMixin):
    """One socket of a user."""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id


async def admitted(gate: SocketGate | UserGate, messages: int, size: int = 1) -> int:
    """How many of so many messages are let in."""
    count = 0
    for _ in range(messages):
        try:
            await gate.admit_message(size)
        except MessageError:
            continue
        count += 1
    return count


# -------------------------------------------------------------------------------------------------- per socket


async def test_socket_sends_as_many_messages_as_its_rate_allows(configure: Configure) -> None:
    configure(SOCKET_RATE=Rate(1, LONG, burst=3))
    assert await admitted(SocketGate(), 10) == 3


async def test_socket_sends_as_many_bytes_as_its_rate_allows(configure: Configure) -> None:
    configure(SOCKET_BYTE_RATE=Rate(1, LONG, burst=100))
    assert await admitted(SocketGate(), 10, size=30) == 3


async def test_socket_is_told_its_rate_when_it_is_too_fast(configure: Configure) -> None:
    configure(SOCKET_RATE=Rate(5, LONG, burst=1))
    gate = SocketGate()
    await gate.admit_message(1)
    with pytest.raises(MessageError, match=r"at most 5 messages per 1e\+06 s on one connection") as caught:
        await gate.admit_message(1)
    assert caught.value.code == "rate_limited"


async def test_sockets_do_not_share_their_rates(configure: Configure) -> None:
    configure(SOCKET_RATE=Rate(1, LONG, burst=3))
    assert [await admitted(SocketGate(), 10) for _ in range(2)] == [3, 3]


async def test_none_lifts_the_limits_of_a_socket(configure: Configure) -> None:
    configure(SOCKET_RATE=None, SOCKET_BYTE_RATE=None)
    assert await admitted(SocketGate(), 1000, size=1_000_000) == 1000


async def test_subclass_sets_rates_of_its_own() -> None:
    class Quick(SocketGate):
        message_rate = Rate(1, LONG, burst=2)
        byte_rate = None

    assert await admitted(Quick(), 10, size=1_000_000) == 2


# ---------------------------------------------------------------------------------------------------- per user


@pytest.mark.parametrize("amount", [1, 7, 25, 100])
async def test_user_sends_as_many_messages_as_the_rate_allows_over_two_sockets(
    configure: Configure, amount: int
) -> None:
    configure(USER_RATE=Rate(amount, LONG))
    one, other = UserGate(7), UserGate(7)
    assert await admitted(one, amount // 2) == amount // 2
    assert await admitted(other, 200) == amount - amount // 2
    assert await admitted(one, 10) == 0


async def test_user_sends_as_many_bytes_as_the_rate_allows_over_all_sockets(configure: Configure) -> None:
    configure(USER_BYTE_RATE=Rate(1, LONG, burst=100))
    assert [await admitted(UserGate(7), 2, size=30) for _ in range(3)] == [2, 1, 0]
    assert await admitted(UserGate(8), 10, size=30) == 3


async def test_what_is_refused_for_its_bytes_is_no_message(configure: Configure) -> None:
    configure(USER_RATE=Rate(5, LONG), USER_BYTE_RATE=Rate(1, LONG, burst=100))
    assert await admitted(UserGate(7), 10, size=101) == 0
    assert await admitted(UserGate(7), 10) == 5


async def test_bytes_of_users_are_forgotten_before_there_are_too_many(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_ALLOWANCES", 10)
    for user_id in range(25):
        await UserGate(user_id).admit_message(1)
    assert len(limits._bytes_by_user) == 5


async def test_user_is_told_the_rate_of_bytes(configure: Configure) -> None:
    configure(USER_BYTE_RATE=Rate(5, LONG))
    with pytest.raises(MessageError, match=r"at most 5 bytes per 1e\+06 s for one user") as caught:
        await UserGate(7).admit_message(6)
    assert caught.value.code == "rate_limited"


async def test_users_do_not_share_their_rate(configure: Configure) -> None:
    configure(USER_RATE=Rate(5, LONG))
    assert [await admitted(UserGate(user_id), 10) for user_id in (7, 8)] == [5, 5]


async def test_none_lifts_the_limit_of_a_user(configure: Configure) -> None:
    configure(USER_RATE=None)
    assert await admitted(UserGate(7), 1000) == 1000


async def test_two_rates_of_one_user_do_not_disturb_each_other(configure: Configure) -> None:
    class Chat(UserGate):
        user_rate = Rate(20, LONG / 2)

    configure(USER_RATE=Rate(20, LONG))
    page, chat = UserGate(7), Chat(7)
    counts = [(await admitted(page, 1), await admitted(chat, 1)) for _ in range(20)]
    assert counts == [(1, 1)] * 20


def admitted_elsewhere(messages: int) -> int:
    """How many messages of user 7 another process lets in."""
    program = f"""
import asyncio, django
django.setup()
from django.test import override_settings
from tests.test_limits import LONG, Rate, UserGate, admitted
with override_settings(ORGREALTIME={{"USER_RATE": Rate(50, LONG)}}):
    print(asyncio.run(admitted(UserGate(7), {messages})))
"""
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "REDIS_URL": redis_url()}
    return int(subprocess.check_output([sys.executable, "-c", program], env=environ, text=True))


@pytest.mark.slow
async def test_user_s_limit_holds_over_two_processes(configure: Configure) -> None:
    configure(USER_RATE=Rate(50, LONG))
    gate = UserGate(7)
    assert await admitted(gate, 12) == 12
    elsewhere = await asyncio.to_thread(admitted_elsewhere, 100)
    assert 0 < elsewhere < 50
    assert await admitted(gate, 100) == 50 - 12 - elsewhere


@pytest.fixture
def no_cache(settings: Settings) -> None:
    """A cache whose server is away."""
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}


@pytest.mark.usefixtures("no_cache")
async def test_process_counts_alone_without_its_cache_and_says_so(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(USER_RATE=Rate(5, LONG))
    assert await admitted(UserGate(7), 20) == 5
    record, exceeded = caplog.records
    assert exceeded.limit == "USER_RATE"  # type: ignore[attr-defined]
    assert (record.name, record.levelno) == ("orgrealtime.limits", logging.WARNING)
    assert record.error == "ConnectionError"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_cache")
async def test_sockets_that_lose_the_cache_together_do_not_add_up(configure: Configure) -> None:
    configure(USER_RATE=Rate(5, LONG))
    counts = await asyncio.gather(*(admitted(UserGate(7), 20) for _ in range(4)))
    assert sum(counts) == 5


# ------------------------------------------------------------------------------------------------- on consumers


async def pongs(socket: Socket, pings: int) -> int:
    """How many of so many pings are answered."""
    for _ in range(pings):
        await socket.send_json_to({"type": "ping"})
    return [(await socket.frame())["type"] for _ in range(pings)].count("pong")


async def test_user_s_limit_holds_over_two_sockets(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(USER_RATE=Rate(10, LONG))
    one = await (await sockets.open(alice)).synced()
    other = await (await sockets.open(alice)).synced()
    assert (await pongs(one, 6), await pongs(other, 6)) == (6, 4)


async def test_message_that_the_socket_may_not_send_is_not_counted_for_the_user(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(SOCKET_RATE=Rate(1, LONG, burst=1), USER_RATE=Rate(10, LONG))
    flooding = await (await sockets.open(alice)).synced()
    assert await pongs(flooding, 30) == 1
    assert await pongs(await (await sockets.open(alice)).synced(), 1) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_cache")
async def test_frozen_cache_delays_neither_events_nor_messages(
    sockets: Sockets, alice: User, bob: User, dave: User, acme: Organization
) -> None:
    opened = [await (await sockets.open(user)).synced() for user in (alice, bob, dave) for _ in range(3)]
    for socket in opened:
        await socket.send_json_to({"type": "ping"})
    published = threads.start(publish, acme, "note", {"n": 1})
    with Stopwatch() as watch:
        for socket in opened:
            assert {(await socket.frame())["type"], (await socket.frame())["type"]} == {"note", "pong"}
        watch.check(3.0, "all have the event and an answer")
    assert published.result().pk


# ------------------------------------------------------------------------------------------------------ dry run


@pytest.mark.parametrize("limit", ["SOCKET_RATE", "SOCKET_BYTE_RATE", "USER_RATE", "USER_BYTE_RATE"])
async def test_dry_run_lets_messages_in_and_logs_once_for_a_connection(
    configure: Configure, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    configure(**{limit: Rate(1, LONG, burst=1)}, LIMITS_DRY_RUN=True)
    for gate in [SocketGate(), UserGate(7)]:
        assert await admitted(gate, 10) == 10
    (record,) = caplog.records
    assert record.getMessage() == "a limit is exceeded"
    assert (record.limit, record.enforced) == (limit, False)  # type: ignore[attr-defined]
