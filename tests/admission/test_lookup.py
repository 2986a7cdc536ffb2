"""Handshakes of the same moment are looked up together, and each is told what it would be told alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import DataError
from django.db.models.lookups import Exact, In
from django.test.utils import register_lookup

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.adapters import MembershipAdapter, OrganizationAdapter, finds_together
from orgrealtime.admission import handshake, lookup, sessions
from orgrealtime.admission.lookup import AdmissionRequest, Found, Lookup
from orgrealtime.concurrency import batching
from orgrealtime.concurrency import threads as pools
from orgrealtime.consumers import NotificationsConsumer
from orgrealtime.stream import database
from orgrealtime.stream.database import HANDSHAKE
from tests.conftest import Configure, Instead, MakeUser
from tests.host.models import Organization
from tests.sockets import Socket, Sockets, events_of, log_in, publish_event, routed, settled
from tests.stopwatch import Stopwatch
from tests.threads import lock_table, open_transaction
from tests.waiting import LIMIT_SECONDS, eventually


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many are asked about together, each time; all who come at once are one group here."""
    sizes: list[int] = []
    find_together = lookup._find_together

    def record(requests: Sequence[AdmissionRequest]) -> list[Found | Exception]:
        sizes.append(len(requests))
        return find_together(requests)

    monkeypatch.setattr(lookup, "_find_together", record)
    monkeypatch.setattr(batching, "MAX_BATCHES_AT_ONCE", 1)
    return sizes


async def come_together(sockets: Sequence[Socket]) -> list[Any]:
    """Let all connect at once; `None` for each that is let in, else the code."""
    answers = await asyncio.gather(*(socket.connect() for socket in sockets))
    return [None if is_accepted else code for is_accepted, code in answers]


async def test_crowd_costs_as_many_queries_as_one(
    sockets: Sockets,
    alice: User,
    dave: User,
    globex: Organization,
    statements: list[str],
    groups: list[int],
    topic_queries: int,
) -> None:
    await (await sockets.open(alice)).synced()
    await (await sockets.open(dave, "globex")).synced()
    await settled()
    crowd = [await sockets.knock(user) for user in [alice, dave] * 15]
    crowd += [await sockets.knock(dave, "globex") for _ in range(10)]
    statements.clear()
    groups.clear()
    assert await come_together(crowd) == [None] * 40
    assert sum(groups) == 40
    assert len(groups) <= 2
    # Sessions, users, memberships, and the positions of two organisations.
    assert len(statements) <= (5 + topic_queries) * len(groups), statements


async def test_each_of_a_crowd_gets_its_own_answer(
    sockets: Sockets, alice: User, bob: User, carol: User, dave: User, groups: list[int]
) -> None:
    cookies = {user.username: await database.LIVE.run(log_in, user) for user in (alice, bob, carol, dave)}
    await database.LIVE.run(User.objects.filter(pk=bob.pk).update, is_active=False)
    crowd = {
        "a member": ("acme", cookies["alice"], None),
        "one whose account is closed": ("acme", cookies["bob"], 4401),
        "a stranger": ("acme", cookies["carol"], 4403),
        "a member elsewhere": ("globex", cookies["carol"], None),
        "a member of another": ("globex", cookies["alice"], 4403),
        "an unknown organisation": ("none", cookies["alice"], 4403),
        "a name that is no text": ("a%00", cookies["alice"], 4403),
        "nobody": ("acme", "", 4401),
        "an unknown session": ("acme", "sessionid=" + "x" * 32, 4401),
        "a session that is no text": ("acme", 'sessionid="aaaaaaaaaaaa\\000"', 4401),
        "a member of both": ("acme", cookies["dave"], None),
        "the same elsewhere": ("globex", cookies["dave"], None),
    }
    everyone = [await sockets.knock(org=org, cookie=cookie) for org, cookie, _ in crowd.values()]
    answers = await come_together(everyone)
    assert max(groups) > 5
    assert dict(zip(crowd, answers, strict=True)) == {name: code for name, (_, _, code) in crowd.items()}


async def test_member_is_told_of_its_own_organisation_and_sees_its_own_events(
    sockets: Sockets, acme: Organization, globex: Organization, make_user: MakeUser, groups: list[int]
) -> None:
    def prepare() -> list[User]:
        users = [make_user(f"user{number}", (acme, globex)[number % 2]) for number in range(10)]
        for user, organization in zip(users, [acme, globex] * 5, strict=True):
            publish(organization, "note", {"for": user.username}, to=user)
        return users

    users = await database.LIVE.run(prepare)
    crowd = [
        await sockets.knock(user, ("acme", "globex")[number % 2], "last=10")
        for number, user in enumerate(users)
    ]
    assert await come_together(crowd) == [None] * 10
    assert max(groups) > 5
    for user, socket in zip(users, crowd, strict=True):
        frames = await socket.until("synced")
        assert [event["for"] for event in events_of(frames)] == [user.username]


async def test_crowd_that_comes_back_reads_what_it_missed_once(
    sockets: Sockets, alice: User, bob: User, acme: Organization, statements: list[str]
) -> None:
    cursor = (await database.LIVE.run(stream.position, acme)).cursor
    for number in range(20):
        await publish_event(acme, n=number, to=[alice] if number % 2 else None)
    crowd = [await sockets.knock(user, query=f"since={cursor}") for user in [alice, bob] * 10]
    statements.clear()
    assert await come_together(crowd) == [None] * 20
    for number, socket in enumerate(crowd):
        frames = await socket.until("synced")
        seen = [event["n"] for event in events_of(frames)]
        assert seen == (list(range(0, 20, 2)) if number % 2 else list(range(20)))
    reads = [one for one in statements if "payload" in one and "numbered" not in one]  # that asks for news
    assert len(reads) == 1, reads


async def test_crowd_that_was_away_for_too_long_reads_each_for_itself(
    sockets: Sockets, alice: User, bob: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst() -> None:
        for number in range(300):
            publish(acme, "note", {"n": number})

    cursor = (await database.LIVE.run(stream.position, acme)).cursor
    await database.LIVE.run(burst)
    crowd = [await sockets.knock(user, query=f"since={cursor}") for user in [alice, bob] * 3]
    assert await come_together(crowd) == [None] * 6
    for socket in crowd:
        assert [event["n"] for event in events_of(await socket.until("synced"))] == list(range(300))


async def test_recent_events_that_cant_be_read_keep_nobody_out(
    sockets: Sockets, alice: User, acme: Organization, instead: Instead
) -> None:
    asked: list[Any] = []

    def fail(*of: object) -> None:
        asked.append(of)
        raise RuntimeError("no")

    cursor = (await database.LIVE.run(stream.position, acme)).cursor
    await publish_event(acme, n=1)
    instead(HANDSHAKE, stream.read_recent, fail)
    socket = await sockets.open(alice, query=f"since={cursor}")
    assert asked
    assert [event["n"] for event in events_of(await socket.until("synced"))] == [1]


class FailingAdapter(MembershipAdapter):
    def access(self, membership: Any) -> Access:
        if membership.user.username == "bob":
            raise RuntimeError("bob is too much")
        return super().access(membership)


async def test_member_about_whom_the_host_fails_keeps_nobody_else_out(
    sockets: Sockets, alice: User, bob: User, dave: User, configure: Configure, groups: list[int]
) -> None:
    configure(ADAPTER="tests.admission.test_lookup.FailingAdapter")
    crowd = [await sockets.knock(user) for user in (alice, bob, dave)]
    assert await come_together(crowd) == [None, 4503, None]
    assert max(groups) == 3


async def test_handshakes_that_are_given_up_while_they_are_looked_up_leave_nothing(
    sockets: Sockets, alice: User, groups: list[int]
) -> None:
    crowd = [await sockets.knock(alice) for _ in range(6)]
    for socket in crowd[:3]:
        await socket.send_input({"type": "websocket.connect"})
    await asyncio.sleep(0)
    for socket in crowd[:3]:
        socket.stop()
    assert await come_together(crowd[3:]) == [None] * 3


class OwnFind(MembershipAdapter):
    def find(self, slug: str, user: Any) -> Any:
        return None if user.username == "bob" else super().find(slug, user)


class OwnBoth(OwnFind):
    def find_together(self, pairs: Any) -> Any:
        return {}


class Bare(OrganizationAdapter):
    pass


@pytest.mark.parametrize(
    ("adapter", "together"), [(FailingAdapter, True), (OwnFind, False), (OwnBoth, True), (Bare, False)]
)
def test_adapter_whose_own_find_says_otherwise_is_asked_one_by_one(
    configure: Configure, adapter: type[OrganizationAdapter], together: bool
) -> None:
    assert finds_together()
    configure(ADAPTER=f"tests.admission.test_lookup.{adapter.__name__}")
    assert finds_together() == together


async def test_own_find_decides_in_a_crowd_too(
    sockets: Sockets, alice: User, bob: User, configure: Configure, groups: list[int]
) -> None:
    configure(ADAPTER="tests.admission.test_lookup.OwnFind")
    crowd = [await sockets.knock(user) for user in (alice, bob, alice)]
    assert await come_together(crowd) == [None, 4403, None]
    assert groups == []


class Choosy(NotificationsConsumer):
    def allow(self, user: Any, access: Access) -> bool:
        return bool(user.username == "alice")


async def test_own_allow_is_asked_about_each_of_a_crowd(
    sockets: Sockets, alice: User, bob: User, groups: list[int]
) -> None:
    application = routed(Choosy)
    crowd = [await sockets.knock(user, application=application) for user in (alice, bob, alice)]
    assert await come_together(crowd) == [None, 4403, None]
    assert max(groups) > 1


class Caseless:
    """A lookup for which case doesn't count, as where a column's collation or type says so."""

    def process_lhs(self, *args: Any) -> tuple[str, Any]:
        sql, params = super().process_lhs(*args)  # type: ignore[misc]
        return f"UPPER({sql})", params

    def get_prep_lookup(self) -> Any:
        wanted = super().get_prep_lookup()  # type: ignore[misc]
        return wanted.upper() if isinstance(wanted, str) else [each.upper() for each in wanted]


class CaselessExact(Caseless, Exact):
    pass


class CaselessIn(Caseless, In):
    pass


@pytest.mark.django_db
def test_slugs_that_only_the_database_takes_as_equal_are_found_together_too(
    alice: User, bob: User, acme: Organization
) -> None:
    adapter = MembershipAdapter()
    with register_lookup(Organization._meta.get_field("slug"), CaselessExact, CaselessIn):
        assert adapter.find("ACME", alice) is not None
        found = adapter.find_together({("ACME", alice), ("acme", bob), ("none", alice)})
    assert {pair: organization for pair, (organization, _) in found.items()} == {
        ("ACME", alice.pk): acme,
        ("acme", bob.pk): acme,
    }


async def test_ended_session_is_refused_in_a_crowd(sockets: Sockets, alice: User, groups: list[int]) -> None:
    crowd = [await sockets.knock(alice) for _ in range(3)]
    await database.LIVE.run(Session.objects.filter(pk=crowd[1].scope["headers"][-1][1].decode()[10:]).delete)
    assert await come_together(crowd) == [None, 4401, None]


async def test_statement_that_fails_for_one_is_that_one_s_failure_only(
    sockets: Sockets, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch, groups: list[int]
) -> None:
    read = sessions.read

    def fail(keys: set[str]) -> Any:
        if key in keys:
            raise DataError("this one is too much")
        return read(keys)

    crowd = [await sockets.knock(user) for user in (alice, bob, alice)]
    key = crowd[1].scope["headers"][-1][1].decode().partition("=")[2]
    monkeypatch.setattr(sessions, "read", fail)
    assert await come_together(crowd) == [None, 4503, None]
    assert max(groups) == 3


async def test_organisation_whose_numbering_takes_long_holds_up_nobody_of_another(
    sockets: Sockets,
    alice: User,
    dave: User,
    acme: Organization,
    globex: Organization,
    monkeypatch: pytest.MonkeyPatch,
    groups: list[int],
) -> None:
    goes_on = threading.Event()
    advance = stream.advance_some

    def slow(organization_id: Any, *rest: Any) -> Any:
        if organization_id == acme.pk:
            goes_on.wait(LIMIT_SECONDS)
        return advance(organization_id, *rest)

    hers, his = await sockets.knock(alice), await sockets.knock(dave, "globex")
    monkeypatch.setattr(stream, "advance_some", slow)
    waiting = asyncio.create_task(hers.connect())
    try:
        assert await his.connect() == (True, None)
        assert not waiting.done()
    finally:
        goes_on.set()
    assert await waiting == (True, None)


async def test_position_is_asked_anew_for_who_comes_after_the_question(
    transactional_db: None, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cursor may be of an event that the query doesn't see: the client would be told to reset for nothing."""
    is_asked, goes_on = threading.Event(), threading.Event()
    advance = stream.advance_some

    def slow(organization_id: Any) -> Any:
        position = advance(organization_id)
        is_asked.set()
        goes_on.wait(LIMIT_SECONDS)
        return position

    monkeypatch.setattr(stream, "advance_some", slow)
    here = Lookup()
    try:
        early = asyncio.create_task(here.position(acme.pk))
        await asyncio.to_thread(is_asked.wait, LIMIT_SECONDS)
        await publish_event(acme)
        late = asyncio.create_task(here.position(acme.pk))
        await asyncio.sleep(0)
        goes_on.set()
        assert ((await early).head, (await late).head) == (0, 1)
    finally:
        goes_on.set()
        await here.close()
        pools.close_all()


async def test_two_tabs_that_come_together_have_users_and_organisations_of_their_own(
    sockets: Sockets, alice: User, groups: list[int]
) -> None:
    seen: list[NotificationsConsumer] = []

    class Keeping(NotificationsConsumer):
        async def connected(self) -> None:
            seen.append(self)

    application = routed(Keeping)
    crowd = [await sockets.knock(alice, application=application) for _ in range(3)]
    assert await come_together(crowd) == [None] * 3
    await eventually(lambda: len(seen) == 3)
    assert len({id(one.user) for one in seen}) == len({id(one.organization) for one in seen}) == 3


# While the database is changed


@pytest.mark.parametrize(
    ("table", "answer"),
    [
        ("django_session", (False, 4503)),
        ("auth_user", (False, 4503)),
        ("host_membership", (False, 4503)),
        ("orgrealtime_stream", (False, 4503)),
        ("orgrealtime_notificationevent", (True, None)),  # where the stream stands is known without it
    ],
)
async def test_newcomers_while_a_table_is_locked_are_told_soon_to_come_again(
    sockets: Sockets,
    alice: User,
    acme: Organization,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    no_topics: None,  # where these begin stands in the events
    table: str,
    answer: tuple[bool, int | None],
) -> None:
    """And all of a crowd after one time limit, not each after its own."""
    monkeypatch.setattr(pools, "LOCK_TIMEOUT", "200ms")
    crowd = [await sockets.knock(alice) for _ in range(20)]
    with open_transaction(lambda: lock_table(table)), Stopwatch() as watch:
        answers = await asyncio.gather(*(socket.connect() for socket in crowd))
        watch.check(4, "all answers")
    assert answers == [answer] * 20
    assert not [record for record in caplog.records if record.exc_info]
    assert await (await sockets.knock(alice)).connect() == (True, None)


async def test_newcomer_is_told_to_come_again_while_the_checks_hang(
    sockets: Sockets, alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(handshake, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(stream, "advance_some", lambda organization_id: goes_on.wait(LIMIT_SECONDS))
    try:
        assert await (await sockets.knock(alice)).connect() == (False, 4503)
    finally:
        goes_on.set()
    assert not [record for record in caplog.records if record.exc_info]
