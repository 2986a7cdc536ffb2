"""Limits on connections per user, organisation and address, and on handshakes and pages at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.test import Client
from pytest_django.fixtures import Settings

from orgrealtime import stream
from orgrealtime.access import Access
from orgrealtime.admission import quotas
from orgrealtime.admission.quotas import Quotas, quotas_of
from orgrealtime.concurrency import background
from orgrealtime.consumers import OrgConsumer
from orgrealtime.errors import Refused
from tests.conftest import Configure
from tests.host.models import Organization
from tests.sockets import Socket, Sockets, routed
from tests.stopwatch import Stopwatch
from tests.waiting import LIMIT_SECONDS, eventually


async def let_in(sockets: Sockets, user: User, org: str = "acme") -> Socket | None:
    """A socket that was let in, or None if it was refused with 4429."""
    socket = await sockets.knock(user, org)
    is_accepted, code = await socket.connect()
    assert is_accepted or code == 4429
    return socket if is_accepted else None


def warnings(caplog: pytest.LogCaptureFixture, message: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == message]


# ------------------------------------------------------------------------------------------------- on consumers


async def test_a57_user_gets_as_many_connections_as_the_cap_and_leaving_frees_one(
    sockets: Sockets, alice: User, bob: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_USER=2)
    first = await sockets.open(alice)
    await sockets.open(alice)
    assert await sockets.refused(alice) == 4429
    await sockets.open(bob)
    await first.disconnect()
    await sockets.open(alice)
    assert await sockets.refused(alice) == 4429


async def test_burst_of_one_user_gets_exactly_the_cap(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_USER=3)
    opened = await asyncio.gather(*(let_in(sockets, alice) for _ in range(12)))
    assert sum(socket is not None for socket in opened) == 3


async def test_organisation_has_a_cap_of_its_own(
    sockets: Sockets, alice: User, bob: User, dave: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_ORGANIZATION=2)
    await sockets.open(alice)
    await sockets.open(bob)
    assert await sockets.refused(dave) == 4429
    await sockets.open(dave, "globex")


async def test_address_has_a_cap_of_its_own(
    sockets: Sockets, alice: User, bob: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_ADDRESS=1, TRUSTED_PROXIES=["10.0.0.0/8"])
    await sockets.open(alice, scope={"client": ("1.2.3.4", 1)})
    assert await sockets.refused(bob, scope={"client": ("1.2.3.4", 2)}) == 4429
    await sockets.open(bob, scope={"client": ("1.2.3.5", 1)})


async def test_who_is_refused_for_another_reason_takes_no_place(
    sockets: Sockets, alice: User, carol: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_ORGANIZATION=1, CONNECTIONS_PER_USER=1)
    assert await sockets.refused(carol) == 4403
    assert await sockets.refused(alice, query="since=1") == 4400
    await sockets.open(alice)


async def test_dry_run_logs_and_lets_in(
    sockets: Sockets, alice: User, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(CONNECTIONS_PER_USER=1, MAX_HANDSHAKES=1, LIMITS_DRY_RUN=True)
    await sockets.open(alice)
    await sockets.open(alice)
    (record,) = warnings(caplog, "a limit is exceeded")
    assert (record.limit, record.enforced) == ("CONNECTIONS_PER_USER", False)  # type: ignore[attr-defined]


async def test_client_that_vanished_while_it_was_checked_leaves_its_place(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_USER=1)
    is_asked, may_go_on = threading.Event(), threading.Event()

    class Slow(OrgConsumer):
        def allow(self, user: User, access: Access) -> bool:
            is_asked.set()
            return may_go_on.wait(LIMIT_SECONDS)

    socket = await sockets.knock(alice, application=routed(Slow))
    await socket.send_input({"type": "websocket.connect"})
    await asyncio.to_thread(is_asked.wait, LIMIT_SECONDS)
    await socket.send_input({"type": "websocket.disconnect", "code": 1006})
    may_go_on.set()
    await eventually(lambda: not socket.is_running)
    await sockets.open(alice)


async def test_handshakes_beyond_the_limit_wait_and_the_last_is_refused_with_4503(
    sockets: Sockets, alice: User, bob: User, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgrealtime.admission.gate.HANDSHAKE_WAIT_SECONDS", 0.2)
    configure(MAX_HANDSHAKES=1)
    is_asked, may_go_on = threading.Event(), threading.Event()

    class Slow(OrgConsumer):
        def allow(self, user: User, access: Access) -> bool:
            is_asked.set()
            return may_go_on.wait(LIMIT_SECONDS)

    first = asyncio.create_task(sockets.open(alice, application=routed(Slow)))
    await asyncio.to_thread(is_asked.wait, LIMIT_SECONDS)
    assert await sockets.refused(bob) == 4503
    may_go_on.set()
    await first
    await sockets.open(bob)
    await sockets.open(alice)


# ------------------------------------------------------------------------------------------ without the cache


@pytest.mark.usefixtures("frozen_cache")
async def test_process_counts_alone_while_the_cache_hangs_and_says_so_once(
    sockets: Sockets, alice: User, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(CONNECTIONS_PER_USER=2)
    with Stopwatch() as watch:
        await sockets.open(alice)
        await sockets.open(alice)
        assert await sockets.refused(alice) == 4429
        watch.check(5.0, "three handshakes without the cache")
    (record,) = warnings(caplog, "the cache can't count connections, counting alone")
    assert record.error == "TimeoutError"  # type: ignore[attr-defined]


async def test_cache_that_keeps_nothing_is_as_good_as_none(
    sockets: Sockets, alice: User, configure: Configure, settings: Settings
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    configure(CONNECTIONS_PER_USER=1)
    await sockets.open(alice)
    assert await sockets.refused(alice) == 4429


# ------------------------------------------------------------------------------- two as if in two processes


@pytest.fixture
async def two() -> object:
    both = Quotas(), Quotas()
    yield both
    for one in both:
        await one.close()
    quotas.COUNTS.close()


async def is_let_in(one: Quotas, user: object = 7) -> bool:
    try:
        await one.reserve(quotas_of(user, None, None))
    except Refused:
        return False
    return True


async def test_processes_share_the_cap(two: tuple[Quotas, Quotas], configure: Configure) -> None:
    configure(CONNECTIONS_PER_USER=3)
    here, there = two
    first = await here.reserve(quotas_of(7, None, None))
    answers = [await is_let_in(one) for one in (there, here, there, here)]
    assert answers == [True, True, False, False]
    for _ in range(2):  # the second time it is given back already
        here.release(first)
    await eventually(lambda: is_let_in(there), "the place is free")
    assert not await is_let_in(there)


async def test_processes_that_race_never_let_one_too_many_in(
    two: tuple[Quotas, Quotas], configure: Configure
) -> None:
    configure(CONNECTIONS_PER_USER=5)
    for user in range(20):
        answers = await asyncio.gather(*(is_let_in(one, user) for one in two for _ in range(5)))
        assert sum(answers) <= 5


async def test_emptied_cache_is_filled_again_by_the_next_refresh(
    two: tuple[Quotas, Quotas], configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "REFRESH_SECONDS", 0.1)
    configure(CONNECTIONS_PER_USER=1)
    here, there = two
    assert await is_let_in(here)
    assert not await is_let_in(there)
    await asyncio.to_thread(cache.clear)

    def is_back() -> bool:  # with its slot: a refresh that was under way writes the count alone
        slot = here._others._slot
        slot_key, count_key = f"orgrealtime.process.{slot}", f"orgrealtime.connections.{slot}.{here_key()}"
        return cache.get_many([slot_key, count_key]) == {slot_key: here._others._token, count_key: 1}

    await eventually(is_back)
    assert not await is_let_in(there)


def here_key() -> str:
    (place,) = quotas_of(7, None, None)
    return place.key


async def test_counts_of_a_process_that_ended_are_forgotten(
    two: tuple[Quotas, Quotas], configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "KEEP_SECONDS", 5)
    configure(CONNECTIONS_PER_USER=1)
    here, there = two
    assert await is_let_in(here)
    assert not await is_let_in(there)
    await background.end(here._tasks)  # as if it had been killed: nothing is taken out of the cache
    await eventually(lambda: is_let_in(there), "the place is free")


async def test_places_of_a_process_that_stops_in_order_are_free_at_once(
    two: tuple[Quotas, Quotas], configure: Configure
) -> None:
    configure(CONNECTIONS_PER_USER=1)
    here, there = two
    assert await is_let_in(here)
    await here.close()
    assert await is_let_in(there)


class SilentlyBroken(BaseCache):
    """A cache as clients make it that are told to ignore exceptions."""

    asked: ClassVar[list[str]] = []

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(self, key: str, *_: object, **options: object) -> bool:
        self.asked.append(key)
        return False

    def get(self, *_: object, **options: object) -> None:
        return None


async def test_cache_that_fails_without_a_word_is_given_up_at_once(
    two: tuple[Quotas, Quotas], configure: Configure, settings: Settings
) -> None:
    configure(CONNECTIONS_PER_USER=1)
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.SilentlyBroken"}}
    asked = SilentlyBroken.asked
    asked.clear()
    here, _ = two
    assert await is_let_in(here)
    assert not await is_let_in(here)  # it counts alone
    assert len(asked) == 1


@pytest.mark.slow
def test_processes_beyond_many_that_ended_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "KEEP_SECONDS", 3600)  # however slow the machine is
    processes = [quotas._Others() for _ in range(100)]
    for process in processes:
        process.write({"user.x": 1})
    for process in processes[:95]:
        cache.delete(quotas._slot_key(process._slot))
    processes[-1].keep_slot()
    assert processes[-1].exchange({"user.x": 1}) == {"user.x": 4}


@pytest.mark.parametrize("forged", [-5, 10**12, True, "many", None, 1.5, [3]])
def test_what_cant_be_a_count_counts_for_nothing(forged: object) -> None:
    here, there = quotas._Others(), quotas._Others()
    there.write({"user.x": 2})
    cache.set(quotas._key(there._slot, "user.x"), forged)
    assert here.exchange({"user.x": 1}) == {"user.x": 0}


async def test_nobody_is_asked_without_caps(two: tuple[Quotas, Quotas], configure: Configure) -> None:
    configure(CONNECTIONS_PER_USER=None, CONNECTIONS_PER_ORGANIZATION=None)
    await two[0].reserve(quotas_of(7, 1, "1.2.3.4"))
    assert not two[0]._tasks


def test_any_id_makes_a_key_that_memcached_takes(configure: Configure) -> None:
    configure(CONNECTIONS_PER_ADDRESS=1)
    for place in quotas_of("ü " * 200, "\udcff\n", "2001:db8::1%eth 0"):
        assert place.key.isascii()
        assert len(place.key) < 100
        assert " " not in place.key


# -------------------------------------------------------------------------------------------- catch-up pages


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_dry", [False, True])
def test_page_beyond_the_limit_waits_and_gets_503(
    alice: User, acme: Organization, configure: Configure, monkeypatch: pytest.MonkeyPatch, is_dry: bool
) -> None:
    monkeypatch.setattr("orgrealtime.views.PAGE_WAIT_SECONDS", 0.2)
    configure(MAX_CATCH_UP_PAGES=1, LIMITS_DRY_RUN=is_dry)
    client = Client()
    client.force_login(alice)
    url = "/orgs/acme/notifications/"
    inner = []
    read_last = stream.read_last

    def read(*args: object, **kwargs: object) -> object:
        if not inner:  # a second one comes while the first is under way
            inner.append(None)
            inner[0] = client.get(url)
        return read_last(*args, **kwargs)

    monkeypatch.setattr(stream, "read_last", read)
    assert client.get(url).status_code == 200
    assert inner[0].status_code == (200 if is_dry else 503)
    if not is_dry:
        assert inner[0]["Retry-After"] == "2"
        assert inner[0].json()["error"]["code"] == "overloaded"
    assert client.get(url).status_code == 200
