"""Pages without gaps, resets where continuity can't be proved; a row that somebody has edited costs itself only."""

from __future__ import annotations

import datetime
import json
import logging
import secrets

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Stream
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream.reading import MERGED_TYPES
from tests.host.models import Organization
from tests.stream.contents import beginning, publish_many, seqs
from tests.stream.costs import blocks_touched, payloads_looked_up

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])


@on_both_databases
def test_reader_gets_all_events_page_by_page(org: Organization, alias: str) -> None:
    publish_many(org, 7)
    cursor, found = beginning(org, alias), []
    for _ in range(3):
        page = stream.read(org.pk, cursor, limit=3, using=alias)
        found.append((seqs(page), page.has_more, page.seq))
        cursor = Cursor.parse(page.cursor)
    assert found == [([1, 2, 3], True, 3), ([4, 5, 6], True, 6), ([7], False, 7)]


@on_both_databases
def test_page_that_is_just_full_says_that_nothing_is_left(org: Organization, alias: str) -> None:
    publish_many(org, 3)
    page = stream.read(org.pk, beginning(org, alias), limit=3, using=alias)
    assert (seqs(page), page.has_more, page.seq) == ([1, 2, 3], False, 3)


@on_both_databases
def test_pages_of_one_history_join(org: Organization, alias: str) -> None:
    for number in range(4):
        publish(org, "note", {"number": number}, using=alias)
    first = stream.read(org.pk, beginning(org, alias), limit=2, using=alias)
    then = stream.read(org.pk, Cursor.parse(first.cursor), using=alias)
    assert first.joint is None
    assert first.end == then.joint is not None
    assert then.end not in (None, then.joint)
    NotificationEvent.objects.using(alias).filter(seq=2)._raw_delete(alias)
    assert stream.read(org.pk, Cursor.parse(first.cursor), using=alias).joint is None


@pytest.mark.parametrize("uses_utc", [True, False])
def test_pages_join_though_a_connection_of_the_pool_has_another_time_zone(
    acme: Organization,
    settings: Settings,
    uses_utc: bool,
) -> None:
    settings.USE_TZ = uses_utc
    publish_many(acme, 2)
    first = stream.read(acme.pk, beginning(acme), limit=1)
    with connections["default"].cursor() as cursor:
        cursor.execute("SET TIME ZONE 'Asia/Kolkata'")
        then = stream.read(acme.pk, Cursor.parse(first.cursor))
        cursor.execute("SET TIME ZONE 'UTC'")
    assert first.end == then.joint is not None


@on_both_databases
def test_reader_at_the_head_gets_an_empty_page(org: Organization, alias: str) -> None:
    publish_many(org, 3)
    page = stream.read(org.pk, Cursor(beginning(org, alias).epoch, 3), using=alias)
    assert (seqs(page), page.has_more, page.seq) == ([], False, 3)


@on_both_databases
def test_reader_who_may_see_nothing_of_it_stands_at_the_head(org: Organization, alias: str) -> None:
    publish(org, "note", {}, to=[1])
    page = stream.read(org.pk, beginning(org, alias), access=Access(org.pk, 2), using=alias)
    assert (seqs(page), page.has_more, page.seq) == ([], False, 1)


@on_both_databases
def test_event_says_what_happened_when_and_by_whom(org: Organization, alias: str) -> None:
    user = User.objects.db_manager(alias).create_user("erin")
    event = publish(org, "task_event", {"task_id": 1}, actor=user)
    start = beginning(org, alias)
    (read,) = stream.read(org.pk, start, using=alias).events
    assert json.loads(read.text) == {
        "type": "task_event",
        "cursor": f"{start.epoch}.1",
        "created_at": event.created_at.isoformat().replace("+00:00", "Z"),
        "actor": user.pk,
        "task_id": 1,
    }


@on_both_databases
def test_time_of_an_event_is_in_utc_for_a_host_with_local_times(
    org: Organization, alias: str, settings: Settings
) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "America/New_York"
    publish(org, "note", {})
    start = beginning(org, alias)
    for access in (None, Access(org.pk, 1)):
        (event,) = stream.read(org.pk, start, access=access, using=alias).events
        created_at = datetime.datetime.fromisoformat(json.loads(event.text)["created_at"])
        age = datetime.datetime.now(datetime.UTC) - created_at
        assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=5)


@on_both_databases
def test_newest_events_come_oldest_first(org: Organization, alias: str) -> None:
    publish_many(org, 5)
    page = stream.read_last(org.pk, limit=3, using=alias)
    assert (seqs(page), page.has_more, page.seq) == ([3, 4, 5], False, 5)


@on_both_databases
def test_newest_events_of_an_empty_stream_are_none(org: Organization, alias: str) -> None:
    page = stream.read_last(org.pk, using=alias)
    assert (seqs(page), page.position.head, page.seq) == ([], 0, 0)


def test_catching_up_costs_two_queries(acme: Organization) -> None:
    start = beginning(acme)
    publish_many(acme, 3)
    with CaptureQueriesContext(connections["default"]) as captured:
        stream.read(acme.pk, start, access=Access(acme.pk, 1))
    assert len(captured) == 2


@pytest.mark.parametrize(("seq", "epoch", "reason"), [(0, "ffffffff", "epoch"), (3, None, "ahead")])
def test_reader_of_another_stream_or_beyond_the_head_is_reset(
    acme: Organization, seq: int, epoch: str | None, reason: str
) -> None:
    publish_many(acme, 2)
    position = stream.position(acme)
    with pytest.raises(StreamReset) as caught:
        stream.read(acme.pk, Cursor(epoch or position.epoch, seq))
    assert (caught.value.reason, caught.value.position) == (reason, position)


@pytest.mark.slow
def test_one_member_among_many_reads_little(acme: Organization) -> None:
    crowd, member, total = 2, 1, 200_000
    epoch = stream.position(acme).epoch
    organization = Stream._meta.pk.get_db_prep_value(acme.pk, connections["default"])
    with connections["default"].cursor() as cursor:
        # Every 20,000th is for the member, every 20,000th for all, the others for somebody else.
        cursor.execute(
            "INSERT INTO orgrealtime_notificationevent (organization_id, seq, type, payload, created_at, audience) "
            "SELECT %s, n, 'note', '{}', now(), CASE n %% 20000 WHEN 1 THEN '[1]'::jsonb WHEN 2 THEN NULL "
            "ELSE '[2]' END FROM generate_series(1, %s) AS n",
            [organization, total],
        )
        cursor.execute(
            "INSERT INTO orgrealtime_recipient (organization_id, user_id, seq) "
            "SELECT organization_id, (audience->>0)::int, seq FROM orgrealtime_notificationevent "
            "WHERE audience IS NOT NULL"
        )
        cursor.execute("UPDATE orgrealtime_stream SET head = %s", [total])
        cursor.execute("ANALYZE")
    publish(acme, "note", {}, to=[member])

    mine, others = Access(acme.pk, member), Access(acme.pk, crowd)
    start = Cursor(epoch, 0)
    assert blocks_touched(lambda: stream.advance(acme.pk)) < 100
    assert len(stream.read(acme.pk, start, access=mine).events) == 21
    assert blocks_touched(lambda: stream.read(acme.pk, start, access=mine)) < 200
    assert blocks_touched(lambda: stream.read_last(acme.pk, access=mine, limit=50)) < 200
    assert blocks_touched(lambda: stream.read(acme.pk, start, access=others, limit=50)) < 400
    assert blocks_touched(lambda: stream.read(acme.pk, Cursor(epoch, total - 50))) < 100
    assert blocks_touched(lambda: stream.heads([acme.pk])) < 20


def fill(organization: Organization, count: int, alias: str) -> Cursor:
    """So many numbered notes for all, and a task in the middle; return the cursor before them."""
    start = beginning(organization, alias)
    events = [
        NotificationEvent(organization=organization, seq=seq, type="task" if seq == count // 2 else "note")
        for seq in range(1, count + 1)
    ]
    NotificationEvent.objects.using(alias).bulk_create(events)
    Stream.objects.using(alias).filter(pk=organization.pk).update(head=count)
    return start


SPARSE = {
    "one type": {"task"},
    "two types": {"task", "other"},
    "a type nobody uses": {"other"},
    "none": set[str](),
}


@pytest.mark.parametrize("types", SPARSE.values(), ids=SPARSE)
def test_reader_who_sees_few_types_reads_little(acme: Organization, types: set[str]) -> None:
    """Whether it may see a single event of thousands, or none: each page would read through all of them."""
    start = fill(acme, 5000, "default")
    access = Access(acme.pk, 1, event_types=frozenset(types))
    expected = [2500] if "task" in types else []
    with connections["default"].cursor() as cursor:
        cursor.execute("ANALYZE orgrealtime_notificationevent")
    for read in (
        lambda: stream.read(acme.pk, start, access=access),
        lambda: stream.read_last(acme.pk, access=access),
    ):
        assert seqs(read()) == expected
        assert blocks_touched(read) < 40


def test_reader_who_sees_many_of_few_types_reads_no_more_than_a_page(acme: Organization) -> None:
    start = fill(acme, 5000, "default")
    access = Access(acme.pk, 1, event_types=frozenset({"note", "task"}))
    assert blocks_touched(lambda: stream.read(acme.pk, start, access=access, limit=20)) < 60


@pytest.mark.parametrize("alias", ["lite"])
def test_reader_who_sees_few_types_reads_an_index_of_sqlite(org: Organization, alias: str) -> None:
    start = fill(org, 100, "lite")
    access = Access(org.pk, 1, event_types=frozenset({"task", "other"}))
    with CaptureQueriesContext(connections["lite"]) as captured:
        stream.read(org.pk, start, access=access, using="lite")
    with connections["lite"].cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {captured[-1]['sql']}")
        plan = [row[3] for row in cursor.fetchall()]
    by_type = "SEARCH event USING INDEX orgrealtime_event_type (organization_id=? AND type=? AND seq>?)"
    assert plan.count(by_type) == 2, plan
    assert not [step for step in plan if step.startswith("SCAN event")]


@on_both_databases
def test_reader_who_sees_very_many_types_gets_all_of_them(org: Organization, alias: str) -> None:
    start = fill(org, 10, alias)
    types = frozenset({"task", *(f"t{number}" for number in range(MERGED_TYPES + 1))})
    page = stream.read(org.pk, start, access=Access(org.pk, 1, event_types=types), using=alias)
    assert seqs(page) == [5]


def test_payloads_for_which_a_page_has_no_room_arent_unpacked(acme: Organization) -> None:
    """Each payload is random, so that PostgreSQL keeps it out of the row, and has to look it up to read it."""
    with transaction.atomic():
        for number in range(100):
            publish(acme, "note", {"number": number, "text": secrets.token_hex(25_000)})
    start = Cursor(stream.position(acme).epoch, 0)
    with transaction.atomic():
        before = payloads_looked_up()
        page = stream.read(acme.pk, start)
        looked_up = payloads_looked_up() - before
    assert page.has_more
    assert 0 < looked_up == len(page.events) < 15


def poison(alias: str, column: str, value: str) -> None:
    """Write into the second event what Django wouldn't."""
    connection = connections[alias]
    cast = "::jsonb" if alias == "default" else ""
    with connection.cursor() as cursor:
        if alias == "lite":
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(
            f"UPDATE orgrealtime_notificationevent SET {column} = %s{cast} WHERE seq = 2",  # noqa: S608
            [value],
        )
        if alias == "lite":
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


POISON = {
    "list": ("default", "payload", "[1, 2]"),
    "text": ("default", "payload", '"text"'),
    "number": ("default", "payload", "1"),
    "null": ("default", "payload", "null"),
    "audience is a text": ("default", "audience", '"12"'),
    "audience is an object": ("default", "audience", '{"1": 2}'),
    "audience is null": ("default", "audience", "null"),
    "audience of others": ("default", "audience", '["nobody"]'),
    "garbage": ("lite", "payload", "{garbage"),
    "empty": ("lite", "payload", ""),
    "NaN": ("lite", "payload", '{"a": NaN}'),
    "garbage audience": ("lite", "audience", "[1"),
    "no date": ("lite", "created_at", "yesterday"),
}


@pytest.mark.parametrize(("alias", "column", "value"), POISON.values(), ids=POISON)
def test_poison_row_is_skipped_with_an_error_and_the_stream_goes_on(
    org: Organization, alias: str, column: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish_many(org, 3)
    start = beginning(org, alias)
    poison(alias, column, value)
    with caplog.at_level(logging.ERROR, "orgrealtime.stream"):
        page = stream.read(org.pk, start, using=alias)
    assert (seqs(page), page.seq) == ([1, 3], 3)
    (record,) = caplog.records
    assert (record.levelname, record.__dict__["seq"]) == ("ERROR", 2)
    assert "garbage" not in caplog.text


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01"])
def test_moment_that_python_doesnt_know_costs_its_event_only(
    acme: Organization, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish_many(acme, 3)
    start = beginning(acme)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "UPDATE orgrealtime_notificationevent SET created_at = %s::timestamptz WHERE seq = 2", [moment]
        )
    assert seqs(stream.read(acme.pk, start)) == [1, 3]
    assert "its row can't be encoded" in caplog.text


def test_page_full_of_poison_still_leads_on(acme: Organization) -> None:
    publish_many(acme, 4)
    start = beginning(acme)
    NotificationEvent.objects.filter(seq__lte=2).update(payload=[1])
    page = stream.read(acme.pk, start, limit=2)
    assert (seqs(page), page.has_more, page.seq) == ([], True, 2)
