"""What ends a connection from outside: membership, session, user, organisation."""

from __future__ import annotations

import asyncio
import datetime
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import DataError, InterfaceError, OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from orgrealtime import publish, receivers, stream
from orgrealtime.access import Access, revoke
from orgrealtime.adapters import MembershipAdapter
from orgrealtime.admission import rechecks
from orgrealtime.admission.rechecks import Target
from orgrealtime.admission.service import AdmissionService
from orgrealtime.admission.verdicts import Verdict, recheck
from orgrealtime.consumers import OrgConsumer
from orgrealtime.delivery import acknowledgements, bell
from orgrealtime.delivery import connection as connection_module
from orgrealtime.delivery.hub import get_hub
from orgrealtime.delivery.stalls import STALL_SECONDS
from orgrealtime.stream import database, reading
from tests.conftest import Configure, Instead
from tests.host.models import Membership, Organization
from tests.sockets import Socket, Sockets, log_in, publish_event, routed, settled
from tests.stopwatch import Stopwatch
from tests.threads import start
from tests.waiting import LIMIT_SECONDS, eventually

PROMISED = 2.0  # seconds until a connection whose access has ended is closed


class Beside:
    """Does something in a thread of its own while the block runs, and waits for its end."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work

    def __enter__(self) -> None:
        self._done = start(self._work)

    def __exit__(self, *exc_info: object) -> None:
        self._done.result()


SOON = 0.2


async def closed(socket: Socket) -> int:
    """The code with which the server closes the socket, within what is promised."""
    with Stopwatch() as watch:
        code = await socket.close_code()
        watch.check(PROMISED, "the socket is closed")
    return code


@pytest.fixture
async def hers(sockets: Sockets, alice: User) -> Socket:
    """Alice's socket at acme."""
    return await (await sockets.open(alice)).synced()


@pytest.fixture
async def his(sockets: Sockets, bob: User) -> Socket:
    """Bob's socket at acme."""
    return await (await sockets.open(bob)).synced()


def save_with(instance: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    instance.save()


# ------------------------------------------------------------------------------------------------- memberships


@pytest.mark.parametrize(
    "remove",
    [
        lambda alice: Membership.objects.get(user=alice).delete(),
        lambda alice: Membership.objects.filter(user=alice).delete(),
        lambda alice: alice.memberships.all().delete(),
    ],
    ids=["the instance", "a queryset", "a related queryset"],
)
async def test_removed_member_is_closed_with_4403_and_others_stay(
    hers: Socket, his: Socket, alice: User, remove: Callable[[User], Any]
) -> None:
    await database.LIVE.run(remove, alice)
    assert await closed(hers) == 4403
    assert await his.is_alive()


async def test_member_removed_from_one_organisation_stays_at_the_other(
    sockets: Sockets, dave: User, acme: Organization
) -> None:
    at_acme = await (await sockets.open(dave)).synced()
    at_globex = await (await sockets.open(dave, "globex")).synced()
    await database.LIVE.run(Membership.objects.filter(user=dave, organization=acme).delete)
    assert await closed(at_acme) == 4403
    assert await at_globex.is_alive()


async def test_removed_member_gets_nothing_that_is_published_afterwards(
    hers: Socket, his: Socket, alice: User, acme: Organization
) -> None:
    await database.LIVE.run(Membership.objects.filter(user=alice).delete)
    await closed(hers)
    await publish_event(acme)
    await his.next_events(1)
    assert await hers.receive_nothing()


async def test_removal_that_is_rolled_back_closes_nothing(hers: Socket, alice: User, bob: User) -> None:
    def remove_and_roll_back() -> None:
        with transaction.atomic():
            Membership.objects.filter(user=alice).delete()
            transaction.set_rollback(True)

    await database.LIVE.run(remove_and_roll_back)
    assert await hers.is_alive()


async def test_membership_that_was_changed_without_a_signal_is_checked_on_revoke(
    hers: Socket, his: Socket, alice: User, acme: Organization
) -> None:
    def remove() -> None:
        with transaction.atomic():
            revoke(alice, acme)
            Membership.objects.filter(user=alice)._raw_delete("default")

    await database.LIVE.run(remove)
    assert await closed(hers) == 4403
    assert await his.is_alive()


async def test_membership_that_was_removed_without_a_signal_is_found_by_the_regular_check(
    configure: Configure, sockets: Sockets, alice: User, bob: User
) -> None:
    configure(ACCESS_CHECK_SECONDS=SOON)
    hers = await (await sockets.open(alice)).synced()
    his = await (await sockets.open(bob)).synced()
    await database.LIVE.run(Membership.objects.filter(user=alice)._raw_delete, "default")
    assert await closed(hers) == 4403
    assert await his.is_alive()


async def test_deleted_organisation_closes_its_members_with_4403(
    sockets: Sockets, dave: User, acme: Organization
) -> None:
    at_acme = await (await sockets.open(dave)).synced()
    at_globex = await (await sockets.open(dave, "globex")).synced()
    await publish_event(acme)
    await at_acme.next_events(1)
    await database.LIVE.run(acme.delete)
    assert await closed(at_acme) == 4403
    assert await at_globex.is_alive()


class Guests(MembershipAdapter):
    """Guests see public events only."""

    def access(self, membership: Any) -> Access:
        types = frozenset({"public"}) if membership.role == "guest" else None
        return Access(membership.organization_id, membership.user_id, membership.role, types)


async def becomes(alice: User, role: str, acme: Organization) -> None:
    """Give alice another role and wait until her connection knows."""
    await database.LIVE.run(lambda: save_with(Membership.objects.get(user=alice), role=role))
    feed = get_hub().feed(acme.pk)
    assert feed is not None
    (connection,) = feed.connections
    await eventually(lambda: connection.access.role == role)


async def test_member_whose_role_changes_sees_what_the_new_one_may_see(
    configure: Configure, sockets: Sockets, alice: User, acme: Organization
) -> None:
    configure(ADAPTER=f"{__name__}.Guests")
    socket = await (await sockets.open(alice)).synced()
    await becomes(alice, "guest", acme)
    await publish_event(acme, "internal", n=1)
    await publish_event(acme, "public", n=2)
    assert [event["n"] for event in await socket.next_events(1)] == [2]
    await becomes(alice, "member", acme)
    await publish_event(acme, "internal", n=3)
    assert [event["n"] for event in await socket.next_events(1)] == [3]


# ------------------------------------------------------------------------------------------ sessions and users


async def test_logout_closes_that_session_s_socket_with_4401_and_the_user_s_others_stay(
    sockets: Sockets, alice: User
) -> None:
    client = Client()
    await database.LIVE.run(client.force_login, alice)
    leaving = await (await sockets.open(cookie=f"sessionid={client.cookies['sessionid'].value}")).synced()
    staying = await (await sockets.open(alice)).synced()
    await database.LIVE.run(client.logout)
    assert await closed(leaving) == 4401
    assert await staying.is_alive()


async def test_changed_password_closes_the_user_s_sessions_with_4401(
    hers: Socket, his: Socket, alice: User
) -> None:
    def change() -> None:
        alice.set_password("another")
        alice.save()

    await database.LIVE.run(change)
    assert await closed(hers) == 4401
    assert await his.is_alive()


async def test_disabled_user_is_closed_with_4401(hers: Socket, his: Socket, alice: User) -> None:
    await database.LIVE.run(lambda: save_with(alice, is_active=False))
    assert await closed(hers) == 4401
    assert await his.is_alive()


async def test_user_who_was_disabled_without_a_signal_is_found_by_the_regular_check(
    configure: Configure, sockets: Sockets, alice: User
) -> None:
    configure(ACCESS_CHECK_SECONDS=SOON)
    socket = await (await sockets.open(alice)).synced()
    await database.LIVE.run(lambda: User.objects.update(is_active=False))
    assert await closed(socket) == 4401


async def test_deleted_user_is_closed(hers: Socket, his: Socket, alice: User) -> None:
    await database.LIVE.run(alice.delete)
    assert await closed(hers) == 4403
    assert await his.is_alive()


async def test_deleted_user_who_came_by_the_host_s_middleware_is_closed(
    sockets: Sockets, alice: User
) -> None:
    socket = await (await sockets.open(scope={"user": await database.LIVE.run(User.objects.get)})).synced()
    await database.LIVE.run(alice.delete)
    assert await closed(socket) == 4403


@pytest.mark.parametrize("end", ["expired", "deleted"])
async def test_session_that_ends_without_a_signal_is_found_by_the_regular_check(
    configure: Configure, sockets: Sockets, alice: User, end: str
) -> None:
    configure(ACCESS_CHECK_SECONDS=SOON)
    cookie = await database.LIVE.run(log_in, alice)
    ending = await (await sockets.open(cookie=cookie)).synced()
    staying = await (await sockets.open(alice)).synced()
    session = Session.objects.filter(pk=cookie.partition("=")[2])
    if end == "expired":
        await database.LIVE.run(
            lambda: session.update(expire_date=timezone.now() - datetime.timedelta(seconds=1))
        )
    else:
        await database.LIVE.run(session.delete)
    assert await closed(ending) == 4401
    assert await staying.is_alive()


# ------------------------------------------------------------------------------------------------ what may fail


class Forgetful(OrgConsumer):
    """Ends the membership of whom it lets in, between the check and the connection."""

    def allow(self, user: Any, access: Access) -> bool:
        Membership.objects.filter(user=user).delete()
        return True


async def test_member_removed_while_connecting_is_closed(sockets: Sockets, alice: User) -> None:
    socket = await sockets.open(alice, application=routed(Forgetful))
    assert await closed(socket) == 4403


class Buggy(OrgConsumer):
    """Can't tell about alice any more once she has connected."""

    asked: set[str] = set()
    error: type[Exception] = LookupError

    def allow(self, user: Any, access: Access) -> bool:
        if user.username == "alice" and "alice" in self.asked:
            raise self.error("a bug of the host")
        self.asked.add(user.username)
        return True


@pytest.mark.parametrize("error", [LookupError, OperationalError, DataError])
async def test_host_s_bug_about_one_member_does_not_keep_another_connected(
    configure: Configure,
    sockets: Sockets,
    alice: User,
    bob: User,
    error: type[Exception],
) -> None:
    class Failing(Buggy):
        pass

    Failing.error = error
    Buggy.asked.clear()
    configure(ACCESS_CHECK_SECONDS=SOON)
    await (await sockets.open(alice, application=routed(Failing))).synced()
    his = await (await sockets.open(bob, application=routed(Failing))).synced()
    await database.LIVE.run(Membership.objects.filter(user=bob)._raw_delete, "default")
    assert await closed(his) == 4403


class Faulty(MembershipAdapter):
    """Its query fails as long as alice is asked about."""

    def accesses(self, pairs: Any) -> Any:
        if len(pairs) > 1 or User.objects.get(username="alice").pk in {pair[1] for pair in pairs}:
            raise DataError("a row that can't be read")
        return super().accesses(pairs)


async def test_host_s_query_that_fails_for_one_member_does_not_keep_another_connected(
    configure: Configure, sockets: Sockets, alice: User, bob: User
) -> None:
    configure(ACCESS_CHECK_SECONDS=SOON, ADAPTER="tests.admission.test_rechecks.Faulty")
    hers, his = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await database.LIVE.run(Membership.objects.filter(user=bob)._raw_delete, "default")
    assert await closed(his) == 4403
    assert await closed(hers) == 4503


class Slow(OrgConsumer):
    """Takes its time about all but alice, once it is told to."""

    takes_long = threading.Event()
    is_over = threading.Event()
    is_asked = False

    def allow(self, user: Any, access: Access) -> bool:
        if self.takes_long.is_set() and user.username != "alice":
            type(self).is_asked = True
            self.is_over.wait(LIMIT_SECONDS * 2)
        return True


@pytest.fixture
def slowly() -> Iterator[None]:
    yield
    Slow.is_over.set()


async def test_host_s_slow_check_of_some_delays_neither_events_nor_newcomers(
    sockets: Sockets, slowly: None, acme: Organization, alice: User, make_user: Any
) -> None:
    Slow.takes_long.clear()
    Slow.is_over.clear()
    Slow.is_asked = False
    hers = await (await sockets.open(alice, application=routed(Slow))).synced()
    others = await database.LIVE.run(lambda: [make_user(f"slow-{number}", acme) for number in range(8)])
    for user in others:
        await (await sockets.open(user, application=routed(Slow))).synced()
    await settled()
    Slow.takes_long.set()
    for user in others:
        bell.check_user(user.pk)
    await eventually(lambda: Slow.is_asked)
    await publish_event(acme, "note")
    await hers.next_events(1)
    await (await sockets.open(alice, application=routed(Slow))).synced()
    assert not Slow.is_over.is_set()  # all the time


async def test_member_gets_nothing_from_the_hint_until_the_answer(
    sockets: Sockets, slowly: None, acme: Organization, alice: User, bob: User
) -> None:
    Slow.takes_long.clear()
    Slow.is_over.clear()
    Slow.is_asked = False
    hers, his = [await (await sockets.open(user, application=routed(Slow))).synced() for user in (alice, bob)]
    await settled()
    Slow.takes_long.set()
    bell.check_user(bob.pk)
    await eventually(lambda: Slow.is_asked)
    for number in range(3):
        await publish_event(acme, number=number)
        await hers.next_events(1)
    assert await his.receive_nothing()
    Slow.is_over.set()
    assert [event["number"] for event in await his.next_events(3)] == [0, 1, 2]


async def test_hints_that_come_faster_than_they_can_be_asked_about_silence_nobody(
    sockets: Sockets, acme: Organization, alice: User
) -> None:
    hers = await (await sockets.open(alice)).synced()
    await settled()
    rechecks_of_hub, is_over = get_hub().service(AdmissionService).rechecks, asyncio.Event()

    async def flood() -> None:
        while not is_over.is_set():
            rechecks_of_hub.hint_user(str(alice.pk))
            await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    try:
        for number in range(3):
            await publish_event(acme, number=number)
            assert (await hers.next_events(1))[0]["number"] == number
    finally:
        is_over.set()
        await flooding


@pytest.fixture
def unheard(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked regularly, and hints about access are never heard."""
    configure(ACCESS_CHECK_SECONDS=3600.0)
    monkeypatch.setattr(bell, "check_user", lambda *_: None)


def block_the_loop() -> None:
    time.sleep(STALL_SECONDS + 0.1)


@pytest.mark.usefixtures("unheard")
async def test_after_a_stall_nothing_is_delivered_to_members_who_were_removed_meanwhile(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    hers, his = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await settled()
    with Beside(lambda: (Membership.objects.filter(user=alice).delete(), publish(acme, "note", {"n": 1}))):
        block_the_loop()
    assert (await his.next_events(1))[0]["n"] == 1
    assert await closed(hers) == 4403  # and has got no event: `closed` says so


@pytest.mark.usefixtures("unheard")
async def test_after_a_stall_no_backlog_is_read_for_members_who_were_removed_meanwhile(
    sockets: Sockets, alice: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = (await database.LIVE.run(stream.position, acme)).cursor
    for number in range(4):
        await publish_event(acme, n=number)
    monkeypatch.setattr(connection_module, "BACKLOG_PAGE", 1)
    monkeypatch.setattr(reading, "PAGE_CHARS", 1)
    goes_on, read = asyncio.Event(), database.BACKLOG.run

    async def read_and_stall(*arguments: Any, **options: Any) -> Any:
        await goes_on.wait()
        page = await read(*arguments, **options)
        block_the_loop()
        return page

    monkeypatch.setattr(database.BACKLOG, "run", read_and_stall)
    hers = await sockets.open(alice, query=f"since={begin}")
    await hers.next_events(1)  # a page that was read before she was let in; the next is of the backlog
    await settled()
    await database.LIVE.run(Membership.objects.filter(user=alice)._raw_delete, "default")
    goes_on.set()
    assert await closed(hers) == 4403


@pytest.mark.usefixtures("unheard")
async def test_member_who_is_removed_while_the_loop_stalls_in_the_handshake_gets_nothing(
    sockets: Sockets, alice: User, bob: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await sockets.open(bob)).synced()
    await settled()  # the check that follows joining is over
    quotas = get_hub().service(AdmissionService).quotas
    reserve = quotas.reserve

    async def reserve_and_stall(asked: Any) -> Any:
        reservation = await reserve(asked)
        with Beside(lambda: Membership.objects.filter(user=alice).delete()):
            block_the_loop()
        return reservation

    monkeypatch.setattr(quotas, "reserve", reserve_and_stall)
    socket = await sockets.open(alice)
    await publish_event(acme)
    assert await closed(socket) == 4403


async def test_answer_that_a_hint_has_overtaken_counts_from_the_third_on(
    hers: Socket, acme: Organization
) -> None:
    await settled()
    (connection,) = list(get_hub().registry)
    first = next(get_hub().service(AdmissionService).rechecks._numbers)
    for number in (first, first + 10):
        connection.hold(number)
    await publish_event(acme, number=1)
    await eventually(lambda: connection.feed.tail.head == 1)
    connection.admit(connection.access, first - 1)
    connection.admit(connection.access, first + 1)
    connection.admit(connection.access, first + 2)
    assert await hers.receive_nothing()
    connection.admit(connection.access, first + 3)
    assert (await hers.next_events(1))[0]["number"] == 1
    await publish_event(acme, number=2)
    assert await hers.receive_nothing()
    connection.admit(connection.access, first + 11)
    assert (await hers.next_events(1))[0]["number"] == 2


async def test_newcomer_who_was_admitted_before_hints_could_be_heard_is_held_and_checked(
    hers: Socket, acme: Organization
) -> None:
    await settled()
    hub = get_hub()
    (connection,) = list(hub.registry)
    connection.credentials.admitted_at = asyncio.get_running_loop().time()
    hub.registry.remove(connection)
    hub.service(AdmissionService).rechecks.check_organization(str(acme.pk))
    hub.registry.add(connection)
    assert connection.held is not None
    await eventually(lambda: connection.held is None)


async def test_hint_about_those_who_are_to_be_checked_anyway_holds_them(
    hers: Socket, acme: Organization
) -> None:
    await settled()
    hub = get_hub()
    (connection,) = list(hub.registry)
    hub.service(AdmissionService).rechecks.check_organization(str(acme.pk))
    assert connection.held is None
    hub.service(AdmissionService).rechecks.hint_organization(str(acme.pk))
    assert connection.held is not None
    await eventually(lambda: connection.held is None)


async def test_client_that_acknowledges_while_it_is_held_is_not_closed_for_it(
    hers: Socket, acme: Organization, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SEND_TIMEOUT_SECONDS=0.5)
    monkeypatch.setattr(acknowledgements, "MAX_UNACKNOWLEDGED", 1)
    await settled()
    (connection,) = list(get_hub().registry)
    await hers.send_json_to({"type": "ack", "cursor": connection.cursor})
    await eventually(lambda: connection._acknowledgements is not None)
    await publish_event(acme, number=1)
    (event,) = await hers.next_events(1)
    await publish_event(acme, number=2)
    await eventually(lambda: connection._acknowledgements._timer is not None)
    number = next(get_hub().service(AdmissionService).rechecks._numbers)
    connection.hold(number)
    await hers.send_json_to({"type": "ack", "cursor": event["cursor"]})
    await eventually(lambda: connection._acknowledgements._timer is None)
    assert connection.close_code is None
    connection.admit(connection.access, number + 1)
    assert (await hers.next_events(1))[0]["number"] == 2


async def test_member_who_can_t_be_asked_about_gets_what_was_published_once_the_database_answers(
    configure: Configure,
    sockets: Sockets,
    acme: Organization,
    alice: User,
    caplog: pytest.LogCaptureFixture,
    instead: Instead,
) -> None:
    configure(ACCESS_CHECK_SECONDS=3600.0)
    hers = await (await sockets.open(alice)).synced()
    await settled()
    failures = [OperationalError("away"), OperationalError("away")]

    def recheck_when_it_is_back(subjects: Any) -> Any:
        if failures:
            raise failures.pop()
        return recheck(subjects)

    instead(database.ACCESS, recheck, recheck_when_it_is_back)
    instead(database.ACCESS, database.is_away, lambda error: True)
    for _ in range(10):
        get_hub().service(AdmissionService).rechecks.hint_user(str(alice.pk))
    await eventually(lambda: len(failures) < 2)
    for _ in range(10):
        get_hub().service(AdmissionService).rechecks.hint_user(str(alice.pk))
    await publish_event(acme, number=1)
    assert (await hers.next_events(1))[0]["number"] == 1
    assert not failures
    assert caplog.messages.count("the database can't be asked about access, trying again") == 1


def caused(error: Exception, **code: Any) -> Exception:
    """An error as Django makes it of one of the database's driver."""
    error.__cause__ = type("DriverError", (Exception,), code)()
    return error


class Flapping(MembershipAdapter):
    """An adapter whose connection to the database is ended while it asks, some times."""

    left = 0

    def accesses(self, pairs: Any) -> Any:
        if Flapping.left:
            Flapping.left -= 1
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return super().accesses(pairs)


async def test_healthy_connections_outlive_a_database_that_drops_its_own(
    configure: Configure, sockets: Sockets, acme: Organization, alice: User, bob: User
) -> None:
    configure(ADAPTER="tests.admission.test_rechecks.Flapping", ACCESS_CHECK_SECONDS=SOON)
    hers, his = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    for _ in range(3):
        Flapping.left = 1
        await eventually(lambda: not Flapping.left)
    await publish_event(acme, number=1)
    for socket in (hers, his):
        assert (await socket.next_events(1))[0]["number"] == 1


class Elsewhere(OrgConsumer):
    """Asks a database of the host's own about alice, which is away once she has connected."""

    asked = 0

    def allow(self, user: Any, access: Access) -> bool:
        type(self).asked += user.username == "alice"
        if self.asked > 1 and user.username == "alice":
            raise OperationalError("the other database is away")
        return True


async def test_connection_that_can_not_be_checked_for_long_is_closed_and_others_are_none_the_worse(
    configure: Configure,
    sockets: Sockets,
    alice: User,
    bob: User,
    acme: Organization,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(ACCESS_CHECK_SECONDS=3600.0)
    monkeypatch.setattr(Elsewhere, "asked", 0)
    monkeypatch.setattr(rechecks, "GIVE_UP_SECONDS", 2.0)
    hers = await (await sockets.open(alice, application=routed(Elsewhere))).synced()
    his = await (await sockets.open(bob, application=routed(Elsewhere))).synced()
    bell.check_organization(acme.pk)
    await publish_event(acme, number=1)
    assert (await his.next_events(1))[0]["number"] == 1
    assert await hers.close_code() == 4503
    assert caplog.messages.count("the database can't be asked about access, trying again") == 1


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (OperationalError("the connection is lost"), True),
        (InterfaceError("the connection is closed"), True),
        (caused(OperationalError("shutdown"), sqlstate="57P01"), True),
        (caused(OperationalError("statement timeout"), sqlstate="57014"), False),
        (caused(OperationalError("lock timeout"), sqlstate="55P03"), False),
        (caused(OperationalError("locked"), sqlite_errorcode=sqlite3.SQLITE_BUSY), True),
        (caused(OperationalError("no such table"), sqlite_errorcode=sqlite3.SQLITE_ERROR), False),
        (DataError("too much"), False),
        (ValueError("a mistake of the host's"), False),
    ],
)
def test_error_says_whether_it_may_pass(error: Exception, may_pass: bool) -> None:
    assert database.may_pass(error) == may_pass


async def test_member_about_whom_the_host_s_check_fails_is_closed_to_come_again(
    configure: Configure, sockets: Sockets, alice: User
) -> None:
    Buggy.asked.clear()
    configure(ACCESS_CHECK_SECONDS=SOON)
    socket = await (await sockets.open(alice, application=routed(Buggy))).synced()
    assert await closed(socket) == 4503


async def test_member_whom_the_host_no_longer_allows_is_closed(
    configure: Configure, sockets: Sockets, alice: User
) -> None:
    class Moody(OrgConsumer):
        mood = True

        def allow(self, user: Any, access: Access) -> bool:
            return self.mood

    configure(ACCESS_CHECK_SECONDS=SOON)
    socket = await (await sockets.open(alice, application=routed(Moody))).synced()
    Moody.mood = False
    assert await closed(socket) == 4403


async def test_removed_member_is_closed_though_nobody_can_say_which_sessions_live(
    configure: Configure, sockets: Sockets, alice: User, settings: Settings
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    configure(ACCESS_CHECK_SECONDS=SOON)
    socket = await (await sockets.open(alice)).synced()
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}
    await database.LIVE.run(Membership.objects.filter(user=alice)._raw_delete, "default")
    assert await closed(socket) == 4403


async def test_answer_to_the_later_question_counts(
    hers: Socket, alice: User, acme: Organization, instead: Instead
) -> None:
    """Of two checks, one that began first may ask last, if it has many to ask about before."""
    await settled()
    hub = get_hub()
    (connection,) = list(hub.registry)
    answers = iter([Access(acme.pk, alice.pk, "admin"), Access(acme.pk, alice.pk, "guest")])
    identity = connection.credentials.identity
    instead(database.ACCESS, recheck, lambda asked: [Verdict(next(answers), identity) for _ in asked])
    first_slice, second = (
        hub.service(AdmissionService).rechecks.check([connection]),
        hub.service(AdmissionService).rechecks.check([connection]),
    )
    await second
    await first_slice
    assert connection.access.role == "guest"


def test_hints_about_more_than_are_remembered_count_for_everybody() -> None:
    told = rechecks._RecentHints()
    for number in range(rechecks.MAX_REMEMBERED + 2):
        told.note(Target("user", str(number)), 100.0 + number / 1000)
    assert told.is_later(Target("user", "never mentioned"), 100.0)
    assert not told.is_later(Target("user", "never mentioned"), 200.0)
    assert len(told._moments) <= rechecks.MAX_REMEMBERED


def test_hints_are_forgotten_after_a_while() -> None:
    told = rechecks._RecentHints()
    told.note(Target("user", "1"), 100.0)
    for number in range(5):
        told.note(Target("user", "2"), 101.0 + rechecks.REMEMBERED_SECONDS + number)
    assert not told.is_later(Target("user", "1"), 0.0)
    assert told.is_later(Target("user", "2"), 101.0)


@pytest.fixture
def person_model() -> Iterator[type[User]]:
    """A proxy of the user model, as hosts have them for their admin."""

    class Person(User):
        class Meta:
            proxy = True
            app_label = "host"

    receivers.connect_receivers()
    yield Person
    del apps.all_models["host"]["person"]
    apps.clear_cache()


async def test_user_who_is_disabled_through_a_proxy_model_is_closed(
    person_model: type[User], hers: Socket, alice: User
) -> None:
    person = await database.LIVE.run(person_model.objects.get, pk=alice.pk)
    await database.LIVE.run(lambda: save_with(person, is_active=False))
    assert await closed(hers) == 4401


# ------------------------------------------------------------------------------------------------------- the cost


async def test_hints_about_many_are_checked_together(
    sockets: Sockets, acme: Organization, make_user: Any, statements: list[str]
) -> None:
    users = await database.LIVE.run(lambda: [make_user(f"user-{number}", acme) for number in range(30)])
    for user in users:
        await (await sockets.open(user)).synced()
    await settled()
    statements.clear()
    for user in users:
        bell.check_user(user.pk)
    await eventually(lambda: any("host_membership" in sql for sql in statements))
    await settled()  # and looked a second time
    assert len([sql for sql in statements if "host_membership" in sql]) < 15


async def test_check_of_many_connections_costs_two_queries(
    sockets: Sockets, alice: User, bob: User, dave: User, statements: list[str]
) -> None:
    for user in (alice, bob, dave, dave):
        await (await sockets.open(user)).synced()
    await (await sockets.open(dave, "globex")).synced()
    await settled()
    statements.clear()
    await get_hub().service(AdmissionService).rechecks.check(list(get_hub().registry))
    assert len([sql for sql in statements if "session" in sql or "membership" in sql]) == 2


class Listener:
    """As much of a hub as hears of users who are to be checked again."""

    def __init__(self) -> None:
        self.users: list[str | None] = []

    def hear(self, hint: bell.Hint) -> None:
        assert hint.kind is bell.HintKind.ACCESS_OF_USER
        self.users.append(hint.user)


@pytest.fixture
def rung(django_capture_on_commit_callbacks: Any) -> Iterator[Callable[[Any], list[Any]]]:
    """`rung(change)`: the users whom a change has the hubs check again."""
    listener = Listener()

    def run(change: Callable[[], Any]) -> list[Any]:
        with django_capture_on_commit_callbacks(execute=True):
            change()
        return listener.users

    bell.add_listener(listener)
    yield run
    bell.remove_listener(listener)


Rung = Callable[[Callable[[], Any]], list[Any]]


def test_new_member_has_nobody_checked(rung: Rung, carol: User, acme: Organization) -> None:
    assert rung(lambda: Membership.objects.create(organization=acme, user=carol)) == []


def test_new_user_has_nobody_checked(rung: Rung, db: None) -> None:
    assert rung(lambda: User.objects.create_user("erin")) == []


def test_login_has_nobody_checked(rung: Rung, alice: User) -> None:
    assert rung(lambda: Client().force_login(alice)) == []


def test_saved_user_is_checked(rung: Rung, alice: User) -> None:
    assert rung(alice.save) == [str(alice.pk)]


def test_saved_membership_has_its_user_checked(rung: Rung, alice: User) -> None:
    assert rung(Membership.objects.get().save) == [str(alice.pk)]


# ----------------------------------------------------------------------------------------------- organisations


async def test_deleted_organisation_closes_all_its_connections(
    hers: Socket, his: Socket, acme: Organization
) -> None:
    await database.LIVE.run(acme.delete)
    assert (await closed(hers), await closed(his)) == (4403, 4403)


class _NamedAdapter(MembershipAdapter):
    """Organisations whose name is empty count for nobody, and watchers see notes alone."""

    def queryset(self) -> Any:
        return super().queryset().exclude(organization__name="")

    def access(self, membership: Any) -> Access:
        types = frozenset({"note"}) if membership.role == "watcher" else None
        return Access(membership.organization_id, membership.user_id, membership.role, types)


async def test_organisation_that_is_switched_off_closes_its_connections_and_no_others(
    sockets: Sockets, alice: User, dave: User, acme: Organization, configure: Configure
) -> None:
    configure(ADAPTER="tests.admission.test_rechecks._NamedAdapter")
    at_acme = [await (await sockets.open(user)).synced() for user in (alice, dave)]
    at_globex = await (await sockets.open(dave, "globex")).synced()
    await database.LIVE.run(save_with, acme, name="")
    assert [await closed(socket) for socket in at_acme] == [4403, 4403]
    assert await at_globex.is_alive()


async def test_changed_role_limits_what_is_sent_from_then_on(
    hers: Socket, alice: User, acme: Organization, configure: Configure
) -> None:
    configure(ADAPTER="tests.admission.test_rechecks._NamedAdapter")
    await database.LIVE.run(save_with, await Membership.objects.aget(user=alice), role="watcher")
    await eventually(lambda: {one.access.role for one in get_hub().registry} == {"watcher"})
    await publish_event(acme, "secret")
    await publish_event(acme, "note")
    [event] = await hers.next_events(1)
    assert event["type"] == "note"


@pytest.mark.parametrize(
    "message",
    [
        {"organization": "1", "everybody": 1},
        {"organization": "1", "everybody": None},
        {"everybody": True},
        {"organization": "1", "user": "1", "everybody": True},
    ],
)
def test_hint_about_everybody_must_be_whole(message: dict[str, Any]) -> None:
    assert bell.read_message({"type": bell.MESSAGE_TYPE, **message}) is None


@pytest.mark.parametrize(
    "message",
    [
        {"organization": "1", "about": 1},
        {"about": "typing"},
        {"organization": "1", "user": "1", "about": "typing"},
        {"organization": "1", "everybody": True, "about": "typing"},
    ],
)
def test_hint_of_an_app_must_be_whole(message: dict[str, Any]) -> None:
    assert bell.read_message({"type": bell.MESSAGE_TYPE, **message}) is None


def test_hint_of_an_app_is_read() -> None:
    message = {
        "type": bell.MESSAGE_TYPE,
        "organization": "1",
        "user": None,
        "everybody": False,
        "about": "typing",
    }
    assert (hint := bell.read_message(message)) == bell.Hint("1", about="typing")
    assert hint.kind == "typing"


def test_hint_about_everybody_is_read() -> None:
    message = {"type": bell.MESSAGE_TYPE, "organization": "1", "user": None, "everybody": True}
    assert bell.read_message(message) == bell.Hint("1", everybody=True)
