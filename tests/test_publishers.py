"""Publishing: one INSERT in the caller's transaction, seen if that commits and only then."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import logging
import multiprocessing
import re
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from orgrealtime import apublish, events, publish, stream
from orgrealtime.delivery import bell
from orgrealtime.delivery.bell import Hint, Subscription
from orgrealtime.errors import EventTypeError, PayloadError, PayloadTooLarge
from orgrealtime.models import NotificationEvent, Recipient
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.signals import event_published
from orgrealtime.stream.types import StreamEvent
from tests.conftest import MakeOrg, MakeUser, shown
from tests.host.models import Organization
from tests.threads import is_waiting_for_a_lock, open_transaction, start, start_many
from tests.waiting import LIMIT_SECONDS, limit, until

pytestmark = pytest.mark.django_db(transaction=True)

ALIASES = ["default", "other", "lite"]

on_all_databases = pytest.mark.django_db(transaction=True, databases=ALIASES)
without_commit = pytest.mark.django_db


def make_acme(alias: str) -> Organization:
    return Organization.objects.using(alias).create(slug="acme", name="Acme")


def seen(organization: Organization, using: str = "default") -> list[StreamEvent]:
    """Everything a reader gets who has followed from the beginning."""
    epoch = stream.position(organization, using=using).epoch
    return stream.read(organization.pk, Cursor(epoch, 0), using=using).events


def fields(event: NotificationEvent) -> dict[str, Any]:
    return {field.attname: getattr(event, field.attname) for field in event._meta.concrete_fields}


@contextlib.contextmanager
def rolled_back(using: str = "default") -> Iterator[None]:
    """A transaction, or a savepoint inside one, that is rolled back at its end."""
    with transaction.atomic(using):
        yield
        transaction.set_rollback(True, using)


class Rings:
    """A listener of this process that keeps what it hears."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []

    def hear(self, hint: Hint) -> None:
        self.hints.append(hint)


@pytest.fixture
def rings() -> Iterator[list[Hint]]:
    listener = Rings()
    bell.add_listener(listener)
    yield listener.hints
    bell.remove_listener(listener)


@pytest.fixture
def announced() -> Iterator[list[NotificationEvent]]:
    """The events that `event_published` was sent for."""
    found: list[NotificationEvent] = []

    def receive(sender: Any, event: NotificationEvent, **kwargs: Any) -> None:
        found.append(event)

    event_published.connect(receive)
    yield found
    event_published.disconnect(receive)


# The cost: one INSERT


@contextlib.contextmanager
def nested(alias: str) -> Iterator[None]:
    with transaction.atomic(alias), transaction.atomic(alias):
        yield


BLOCKS: dict[str, Callable[[str], contextlib.AbstractContextManager[Any]]] = {
    "autocommit": contextlib.nullcontext,
    "atomic": transaction.atomic,
    "nested": nested,
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "to all": {},
    "to many": {"to": list(range(1, 101))},
    "new key": {"dedupe_key": "new"},
    "repeated key": {"dedupe_key": "repeated"},
}


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("block", BLOCKS)
def test_publish_is_one_insert_and_nothing_else(alias: str, block: str) -> None:
    acme = make_acme(alias)
    publish(acme, "first", {}, dedupe_key="repeated")
    for arguments in ARGUMENTS.values():
        with BLOCKS[block](alias), CaptureQueriesContext(connections[alias]) as captured:
            publish(acme, "note", {"a": 1}, **arguments)
        (statement,) = captured.captured_queries
        assert re.findall(r'INSERT INTO "?(\w+)', statement["sql"]) == ["orgrealtime_notificationevent"]


@on_all_databases
def test_publish_in_autocommit_costs_other_databases_nothing() -> None:
    acme = make_acme("lite")
    with CaptureQueriesContext(connections["default"]) as captured:
        publish(acme, "note", {})
    assert not captured.captured_queries


# What commits is seen, what is rolled back isn't


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
def test_committed_event_is_seen_with_all_it_was_given(alias: str, make_user: MakeUser) -> None:
    acme, user = make_acme(alias), User.objects.db_manager(alias).create_user("erin")
    with transaction.atomic(alias):
        event = publish(acme, "note", {"a": 1}, actor=user, to=[user], dedupe_key="k")
    stored = NotificationEvent.objects.using(alias).get()
    assert fields(stored) == fields(event)
    assert (stored.type, stored.payload, stored.actor_id, stored.audience, stored.dedupe_key, stored.seq) == (
        "note",
        {"a": 1},
        user.pk,
        [user.pk],
        "k",
        None,
    )


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
def test_rolled_back_event_is_never_seen(
    alias: str, rings: list[Hint], announced: list[NotificationEvent]
) -> None:
    acme = make_acme(alias)
    with rolled_back(alias):
        publish(acme, "ghost", {})
    publish(acme, "note", {})
    assert [event.type for event in seen(acme, alias)] == ["note"]
    assert [event.type for event in announced] == ["note"]
    assert len(rings) == 1


@pytest.mark.parametrize("arguments", ["to all", "new key"])
def test_rolled_back_savepoint_in_a_committed_transaction_is_never_seen(
    acme: Organization, arguments: str, rings: list[Hint], announced: list[NotificationEvent]
) -> None:
    with transaction.atomic():
        publish(acme, "before", {})
        with rolled_back():
            publish(acme, "ghost", {}, **ARGUMENTS[arguments])
        publish(acme, "after", {})
    assert [event.type for event in seen(acme)] == ["before", "after"]
    assert [event.type for event in announced] == ["before", "after"]
    assert len(rings) == 2


def test_key_of_a_rolled_back_event_is_free_again(acme: Organization) -> None:
    with rolled_back():
        publish(acme, "ghost", {}, dedupe_key="k")
    assert publish(acme, "note", {}, dedupe_key="k").type == "note"


def test_event_isnt_announced_before_the_commit(
    acme: Organization, rings: list[Hint], announced: list[NotificationEvent]
) -> None:
    with transaction.atomic():
        with transaction.atomic():
            publish(acme, "note", {})
        assert (rings, announced) == ([], [])
    assert rings == [Hint(organization=str(acme.pk))]


@on_all_databases
@pytest.mark.parametrize("alias", ["other", "lite"])
def test_event_goes_to_the_database_of_its_organisation(alias: str) -> None:
    publish(make_acme(alias), "note", {})
    counts = {name: NotificationEvent.objects.using(name).count() for name in ALIASES}
    assert counts == {name: int(name == alias) for name in ALIASES}


@on_all_databases
def test_using_names_another_database(acme: Organization) -> None:
    Organization.objects.using("other").create(pk=acme.pk, slug="acme", name="Acme")
    publish(acme, "note", {}, using="other")
    assert (len(seen(acme)), len(seen(acme, "other"))) == (0, 1)


@on_all_databases
def test_publishing_waits_for_the_commit_of_its_own_database_only() -> None:
    acme, lite_acme = make_acme("default"), make_acme("lite")
    with rolled_back():
        publish(acme, "ghost", {})
        publish(lite_acme, "note", {})
    assert (len(seen(acme)), len(seen(lite_acme, "lite"))) == (0, 1)


# Threads, async code, forked processes


def test_threads_publish_at_once(acme: Organization) -> None:
    start_many(
        8, lambda number: [publish(acme, "note", {"number": number, "turn": turn}) for turn in range(5)]
    )
    assert [event.seq for event in seen(acme)] == list(range(1, 41))


async def test_async_code_publishes(acme: Organization) -> None:
    event = await apublish(acme, "note", {"a": 1}, to=[1], dedupe_key="k")
    again = await apublish(acme, "other", {}, dedupe_key="k")
    await sync_to_async(connections.close_all)()
    assert (again.pk, again.type, again.audience) == (event.pk, "note", [1])


async def test_async_code_publishes_while_it_reads_from_the_database(acme: Organization) -> None:
    await User.objects.abulk_create([User(username=f"user-{number}") for number in range(20)])
    async for user in User.objects.order_by("pk").aiterator(chunk_size=5):
        await apublish(acme, "note", {"user": user.username})
    await sync_to_async(connections.close_all)()
    assert await start_in_thread(NotificationEvent.objects.count) == 20


async def test_async_code_publishes_again_after_a_lost_connection(acme: Organization) -> None:
    pid = await sync_to_async(backend_pid)()  # of the thread in which async code uses the database
    await start_in_thread(end_backend, pid)
    with pytest.raises(OperationalError):
        await apublish(acme, "note", {})
    assert (await apublish(acme, "note", {})).pk
    await sync_to_async(connections.close_all)()


def backend_pid() -> int:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def end_backend(pid: int) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


async def test_async_code_gets_the_same_errors(acme: Organization) -> None:
    with pytest.raises(PayloadError):
        await apublish(acme, "note", {"a": {1}})


def publish_and_ring(organization: Organization) -> None:
    try:
        publish(organization, "note", {})
        assert bell.flush(LIMIT_SECONDS)
    finally:
        connections.close_all()


def in_forked_worker(organization: Organization) -> int | None:
    worker = multiprocessing.get_context("fork").Process(target=publish_and_ring, args=[organization])
    worker.start()
    worker.join(LIMIT_SECONDS)
    return worker.exitcode


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_forked_worker_publishes_and_is_heard_through_redis(acme: Organization) -> None:
    hints: asyncio.Queue[Hint] = asyncio.Queue()
    ear = Subscription(hints.put_nowait)
    await ear.join(acme.pk)
    async with limit("a ring comes back through the layer"):
        while not await ear.prove():
            pass
    await start_in_thread(publish_and_ring, acme)  # this process has rung, and has a thread that rings
    assert await start_in_thread(in_forked_worker, acme) == 0
    async with limit("the worker's ring is heard"):
        assert await hints.get() == Hint(organization=str(acme.pk))
    await ear.close()
    assert len(await start_in_thread(seen, acme)) == 2


async def start_in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.wrap_future(start(function, *args))


# The same event twice


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("block", BLOCKS)
def test_second_publish_with_a_key_returns_the_first_event(alias: str, block: str) -> None:
    acme = make_acme(alias)
    first = publish(acme, "first", {"a": [1, None]}, to=[1, 2], dedupe_key="k")
    with BLOCKS[block](alias):
        second = publish(acme, "second", {"b": 2}, dedupe_key="k")
    assert fields(second) == fields(first)
    assert NotificationEvent.objects.using(alias).count() == 1


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
def test_second_publish_in_the_same_transaction_returns_the_first_event(alias: str) -> None:
    acme = make_acme(alias)
    with transaction.atomic(alias):
        first = publish(acme, "first", {}, dedupe_key="k")
        second = publish(acme, "second", {}, dedupe_key="k")
        publish(acme, "third", {})
    assert fields(second) == fields(first)
    assert [event.type for event in seen(acme, alias)] == ["first", "third"]


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
def test_second_publish_with_a_key_returns_the_number_too(alias: str) -> None:
    acme = make_acme(alias)
    publish(acme, "first", {}, dedupe_key="k")
    seen(acme, alias)
    assert publish(acme, "second", {}, dedupe_key="k").seq == 1


@without_commit
def test_returned_event_can_be_saved_and_refreshed(acme: Organization) -> None:
    publish(acme, "first", {}, dedupe_key="k")
    event = publish(acme, "second", {}, dedupe_key="k")
    event.refresh_from_db()
    assert (event.type, event._state.db, event._state.adding) == ("first", "default", False)


@without_commit
def test_key_is_the_organisations_own(acme: Organization, globex: Organization) -> None:
    assert publish(acme, "note", {}, dedupe_key="k").pk != publish(globex, "note", {}, dedupe_key="k").pk


def test_eight_threads_publish_one_event_with_one_key(
    acme: Organization, announced: list[NotificationEvent]
) -> None:
    events = start_many(8, lambda number: publish(acme, "note", {"number": number}, dedupe_key="k"))
    assert len({event.pk for event in events}) == 1
    assert len({event.payload["number"] for event in events}) == 1
    assert len(announced) == NotificationEvent.objects.count() == 1


def test_second_publisher_waits_whether_the_first_commits(acme: Organization) -> None:
    with open_transaction(lambda: publish(acme, "first", {}, dedupe_key="k")) as first:
        second = start(publish_with_key, acme)
        until(is_waiting_for_a_lock)
    assert fields(second.result()) == fields(first)


def test_second_publisher_is_first_if_the_first_rolls_back(acme: Organization) -> None:
    with open_transaction(lambda: publish(acme, "first", {}, dedupe_key="k"), commits=False):
        second = start(publish_with_key, acme)
        until(is_waiting_for_a_lock)
    assert second.result().type == "second"
    assert [event.type for event in seen(acme)] == ["second"]


def publish_with_key(organization: Organization) -> NotificationEvent:
    return publish(organization, "second", {}, dedupe_key="k")


def test_repeated_key_in_an_open_transaction_doesnt_hold_up_the_stream(acme: Organization) -> None:
    publish(acme, "first", {}, dedupe_key="k")
    with open_transaction(lambda: publish_with_key(acme)):
        assert [event.type for event in start(seen, acme).result()] == ["first"]


def test_repeated_key_is_announced_once(acme: Organization, announced: list[NotificationEvent]) -> None:
    for _ in range(3):
        publish(acme, "note", {}, dedupe_key="k")
    assert len(announced) == 1


@without_commit
@pytest.mark.parametrize("key", ["", "x" * 201, "a\x00", "\ud800", 1, b"k", True])
def test_key_that_isnt_a_short_text_is_refused(acme: Organization, key: Any) -> None:
    with pytest.raises(ValueError, match="dedupe_key= is a text of 1 to 200 characters"):
        publish(acme, "note", {}, dedupe_key=key)


@without_commit
def test_longest_key_is_kept(acme: Organization) -> None:
    assert publish(acme, "note", {}, dedupe_key="é" * 200).dedupe_key == "é" * 200


# Errors come before any SQL


@without_commit
@pytest.mark.parametrize(
    ("type", "payload", "error"),
    [
        ("note", {"n": float("nan")}, PayloadError),
        ("note", {"n": 2**70}, PayloadError),
        ("note", {"s": "\x00"}, PayloadError),
        ("note", {"s": "\ud800"}, PayloadError),
        ("note", {"cursor": 1}, PayloadError),
        ("note", {"download_url": "javascript:alert(1)"}, PayloadError),
        ("note", {"s": "x" * 100_000}, PayloadTooLarge),
        ("note", [], PayloadError),
        ("reset", {}, EventTypeError),
        ("_x", {}, EventTypeError),
    ],
)
def test_error_comes_before_any_sql_and_the_transaction_goes_on(
    acme: Organization, type: str, payload: Any, error: type[Exception]
) -> None:
    with transaction.atomic(), CaptureQueriesContext(connections["default"]) as captured:
        with pytest.raises(error):
            publish(acme, type, payload)
        assert not captured.captured_queries
        publish(acme, "note", {})
    assert len(seen(acme)) == 1


@without_commit
def test_payload_limit_is_a_setting_in_bytes(acme: Organization, settings: Settings) -> None:
    settings.ORGREALTIME = {**settings.ORGREALTIME, "MAX_PAYLOAD_BYTES": len('{"a":"éé"}'.encode())}
    publish(acme, "note", {"a": "éé"})
    with pytest.raises(PayloadTooLarge):
        publish(acme, "note", {"a": "ééx"})


@without_commit
def test_url_hosts_are_a_setting(acme: Organization, settings: Settings) -> None:
    settings.ORGREALTIME = {**settings.ORGREALTIME, "URL_HOSTS": ["files.example.com"]}
    publish(acme, "note", {"download_url": "https://files.example.com/1.csv"})


@without_commit
@pytest.mark.parametrize("organization", [None, 1, "acme", User(pk=1)])
def test_what_isnt_an_organisation_is_refused(organization: Any) -> None:
    with pytest.raises(TypeError, match=r"host\.Organization"):
        publish(organization, "note", {})


@without_commit
def test_unsaved_organisation_is_refused() -> None:
    with pytest.raises(ValueError, match="saved"):
        publish(Organization(slug="acme"), "note", {})


# To whom


def audience(organization: Organization, to: Any) -> list[Any] | None:
    stored: list[Any] | None = publish(organization, "note", {}, to=to).audience
    return stored


@without_commit
def test_recipients_may_be_given_in_many_ways(acme: Organization, alice: User, bob: User) -> None:
    both = [alice.pk, bob.pk]
    assert audience(acme, alice) == [alice.pk]
    assert audience(acme, alice.pk) == [alice.pk]
    assert audience(acme, str(alice.pk)) == [alice.pk]
    assert audience(acme, [alice, bob]) == both
    assert audience(acme, (alice.pk, bob)) == both
    assert audience(acme, User.objects.order_by("pk")) == both
    assert audience(acme, User.objects.order_by("pk").values_list("pk", flat=True)) == both
    assert audience(acme, iter([alice, bob])) == both
    assert sorted(audience(acme, {alice, bob}) or []) == both


@without_commit
def test_recipient_named_twice_is_one(acme: Organization, alice: User) -> None:
    assert audience(acme, [alice, alice.pk, str(alice.pk), alice]) == [alice.pk]
    seen(acme)
    assert Recipient.objects.count() == 1


@without_commit
def test_event_to_nobody_is_for_nobody(acme: Organization) -> None:
    assert audience(acme, []) == []
    assert [event.audience for event in seen(acme)] == [frozenset()]


@on_all_databases
@pytest.mark.parametrize("alias", ALIASES)
def test_event_to_a_deleted_user_doesnt_stop_the_stream(alias: str) -> None:
    acme, user = make_acme(alias), User.objects.db_manager(alias).create_user("erin")
    publish(acme, "note", {}, to=[user])
    publish(acme, "note", {}, actor=user)
    user.delete()
    publish(acme, "note", {})
    assert [event.seq for event in seen(acme, alias)] == [1, 2, 3]


@without_commit
def test_deleting_a_user_deletes_what_only_they_could_find(acme: Organization, alice: User) -> None:
    publish(acme, "note", {}, to=[alice])
    seen(acme)
    alice.delete()
    assert not Recipient.objects.exists()


@on_all_databases
@pytest.mark.parametrize("alias", ["default", "lite"])
def test_deleting_an_organisation_deletes_its_stream(alias: str) -> None:
    acme = make_acme(alias)
    publish(acme, "note", {}, to=[1])
    seen(acme, alias)
    publish(acme, "note", {})
    acme.delete()
    assert not NotificationEvent.objects.using(alias).exists()
    assert not Recipient.objects.using(alias).exists()


BAD_USERS = [
    True,
    1.5,
    "bob",
    "",
    b"1",
    decimal.Decimal("1.5"),
    object(),
    AnonymousUser(),
    Organization(pk=1),
    2**31,
    2**63,
    -(2**70),
]


@without_commit
@pytest.mark.parametrize("user", BAD_USERS, ids=shown)
def test_recipient_that_isnt_a_user_or_a_primary_key_is_refused(acme: Organization, user: Any) -> None:
    for to in (user, [user]):
        with CaptureQueriesContext(connections["default"]) as captured, pytest.raises(TypeError, match="to="):
            publish(acme, "note", {}, to=to)
        assert not captured.captured_queries


@without_commit
@pytest.mark.parametrize("user", BAD_USERS, ids=shown)
def test_actor_that_isnt_a_user_or_a_primary_key_is_refused(acme: Organization, user: Any) -> None:
    with CaptureQueriesContext(connections["default"]) as captured, pytest.raises(TypeError, match="actor="):
        publish(acme, "note", {}, actor=user)
    assert not captured.captured_queries


@without_commit
@pytest.mark.parametrize("to", [[None], User(), [User()]], ids=shown)
def test_recipient_without_a_primary_key_is_refused(acme: Organization, to: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="to="):
        publish(acme, "note", {}, to=to)


# After the commit


def test_failing_receiver_doesnt_break_the_publisher(
    acme: Organization, rings: list[Hint], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**kwargs: Any) -> None:
        raise LookupError

    event_published.connect(fail)
    try:
        with caplog.at_level(logging.ERROR), transaction.atomic():
            publish(acme, "note", {})
    finally:
        event_published.disconnect(fail)
    assert len(rings) == 1
    assert [record.name for record in caplog.records] == ["django.dispatch"]


def test_receiver_gets_event_and_database(acme: Organization) -> None:
    got: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        got.append(kwargs)

    event_published.connect(receive)
    try:
        event = publish(acme, "note", {})
    finally:
        event_published.disconnect(receive)
    assert [(each["event"], each["using"]) for each in got] == [(event, "default")]


def test_receiver_may_publish(acme: Organization) -> None:
    def answer(event: NotificationEvent, **kwargs: Any) -> None:
        if event.type == "question":
            publish(acme, "answer", {})

    event_published.connect(answer)
    try:
        with transaction.atomic():
            publish(acme, "question", {})
    finally:
        event_published.disconnect(answer)
    assert [event.type for event in seen(acme)] == ["question", "answer"]


# Typed events


class Task(TypedDict):
    task_id: int


@pytest.fixture
def _task_type() -> Iterator[None]:
    events.register("task", Task)
    yield
    events.unregister("task")


@without_commit
@pytest.mark.usefixtures("_task_type")
def test_payload_that_doesnt_fit_its_type_is_refused_with_the_field_named(acme: Organization) -> None:
    with pytest.raises(PayloadError, match="task_id"):
        publish(acme, "task", {"task_id": "one"})


@without_commit
@pytest.mark.usefixtures("_task_type")
def test_strict_types_refuse_what_isnt_registered(acme: Organization, settings: Settings) -> None:
    settings.ORGREALTIME = {**settings.ORGREALTIME, "STRICT_TYPES": True}
    publish(acme, "task", {"task_id": 1})
    with pytest.raises(EventTypeError, match="STRICT_TYPES"):
        publish(acme, "other", {})


@without_commit
def test_many_organisations_have_streams_of_their_own(make_org: MakeOrg) -> None:
    organizations = [make_org(f"org-{number}") for number in range(5)]
    for turn in range(3):
        for organization in organizations:
            publish(organization, "note", {"turn": turn})
    assert [[event.seq for event in seen(organization)] for organization in organizations] == [[1, 2, 3]] * 5
