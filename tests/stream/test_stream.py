"""The stream: numbers in the order of commits, pages without gaps, resets where continuity can't be proved."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.protocol.cursors import Cursor, Position
from tests import servers
from tests.conftest import MakeOrg
from tests.host.models import Organization
from tests.stopwatch import Stopwatch
from tests.threads import is_waiting_for_a_lock, open_transaction, start, start_many
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

with_commits = pytest.mark.django_db(transaction=True)
on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])


@pytest.fixture
def org(alias: str) -> Organization:
    return Organization.objects.using(alias).create(slug="acme", name="Acme")


def beginning(organization: Organization, using: str | None = None) -> Cursor:
    return Cursor(stream.position(organization, using).epoch, 0)


def numbers(organization: Organization, using: str | None = None) -> dict[str, int]:
    """The number of each event, by its type."""
    page = stream.read(organization.pk, beginning(organization, using), using=using)
    return {event.type: event.seq for event in page.events}


def publish_many(organization: Organization, count: int) -> None:
    for number in range(count):
        publish(organization, "note", {"number": number})


def seqs(page: stream.Page) -> list[int]:
    return [event.seq for event in page.events]


# Numbering


@with_commits
def test_organisation_has_its_stream_once_it_is_committed(make_org: MakeOrg) -> None:
    with transaction.atomic():
        organization = make_org("fresh")
        assert not Stream.objects.filter(pk=organization.pk).exists()
    assert Stream.objects.filter(pk=organization.pk).exists()


@with_commits
@pytest.mark.parametrize("in_block", [False, True])
def test_organisation_whose_stream_cant_be_made_is_saved_all_the_same(
    make_org: MakeOrg, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_block: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Stream.objects, "using", lambda alias: 1 / 0)
        with transaction.atomic() if in_block else contextlib.nullcontext():
            organization = make_org("fresh")
    assert "division by zero" in caplog.text
    publish_many(organization, 1)
    assert stream.position(organization).head == 1


@with_commits
def test_reader_of_a_stream_that_somebody_has_locked_gets_what_is_numbered(acme: Organization) -> None:
    publish_many(acme, 1)
    before = stream.position(acme)
    with open_transaction(lambda: list(Stream.objects.select_for_update())):
        publish_many(acme, 1)
        with Stopwatch() as watch:
            assert stream.position(acme) == before
            with pytest.raises(OperationalError):
                stream.number(acme.pk)
            watch.check(5.0, "the stream's lock is given up")
    assert stream.position(acme).head == 2


@with_commits
def test_events_are_numbered_in_the_order_of_commits(acme: Organization) -> None:
    with open_transaction(lambda: publish(acme, "slow", {})) as slow:
        fast = publish(acme, "fast", {})
        assert slow.pk < fast.pk
        assert numbers(acme) == {"fast": 1}
    assert numbers(acme) == {"fast": 1, "slow": 2}


@with_commits
def test_open_transaction_with_an_event_doesnt_delay_others(acme: Organization) -> None:
    publish(acme, "before", {})
    with open_transaction(lambda: publish(acme, "slow", {})):
        publish(acme, "fast", {})
        assert start(numbers, acme).result() == {"before": 1, "fast": 2}


@with_commits
def test_numbers_are_dense_whoever_numbers(acme: Organization) -> None:
    def publish_and_number(number: int) -> None:
        for _ in range(10):
            publish(acme, "note", {})
            stream.advance(acme.pk)

    start_many(6, publish_and_number)
    stored = NotificationEvent.objects.order_by("seq").values_list("seq", flat=True)
    assert list(stored) == list(range(1, 61))


@with_commits
def test_rolled_back_events_leave_no_gap(acme: Organization) -> None:
    publish(acme, "first", {})
    with open_transaction(lambda: publish(acme, "ghost", {}), commits=False):
        publish(acme, "second", {})
    publish(acme, "third", {})
    assert numbers(acme) == {"first": 1, "second": 2, "third": 3}


@on_both_databases
@pytest.mark.parametrize("count", [stream.NUMBERING_BATCH - 1, stream.NUMBERING_BATCH, 2500])
def test_any_backlog_is_numbered_in_the_order_of_ids(org: Organization, alias: str, count: int) -> None:
    pending = [NotificationEvent(organization=org, type="note", audience=[1]) for _ in range(count)]
    NotificationEvent.objects.using(alias).bulk_create(pending)
    assert stream.advance(org.pk, alias).head == count
    stored = NotificationEvent.objects.using(alias).order_by("pk").values_list("seq", flat=True)
    assert list(stored) == list(range(1, count + 1))
    assert Recipient.objects.using(alias).count() == count


@with_commits
def test_numbering_costs_one_statement(acme: Organization) -> None:
    stream.advance(acme.pk)
    publish_many(acme, 3)
    with CaptureQueriesContext(connections["default"]) as captured:
        assert stream.advance(acme.pk).head == 3
    assert len(captured) == 1


@with_commits
def test_nothing_is_numbered_inside_an_open_transaction(acme: Organization) -> None:
    publish(acme, "committed", {})
    stream.position(acme)
    publish(acme, "waiting", {})
    with transaction.atomic():
        publish(acme, "mine", {})
        assert stream.position(acme).head == 1
    assert stream.position(acme).head == 3


@with_commits
def test_open_transaction_that_asks_for_the_position_doesnt_hold_up_the_stream(acme: Organization) -> None:
    stream.position(acme)
    publish(acme, "note", {})
    with open_transaction(lambda: stream.position(acme)):
        assert start(numbers, acme).result() == {"note": 1}


@with_commits
def test_numbering_without_autocommit_doesnt_hold_up_the_stream(acme: Organization) -> None:
    stream.position(acme)
    publish(acme, "note", {})
    asked, end = threading.Event(), threading.Event()

    def ask_without_autocommit() -> None:
        transaction.set_autocommit(False)
        stream.position(acme)
        asked.set()
        end.wait(LIMIT_SECONDS)
        transaction.rollback()

    asking = start(ask_without_autocommit)
    asked.wait(LIMIT_SECONDS)
    try:
        assert start(numbers, acme).result() == {"note": 1}
    finally:
        end.set()
        asking.result()


@with_commits
def test_event_deleted_before_it_was_numbered_doesnt_stop_the_stream(acme: Organization) -> None:
    publish(acme, "first", {})
    unwanted = publish(acme, "unwanted", {})
    publish(acme, "last", {})
    with open_transaction(lambda: NotificationEvent.objects.filter(pk=unwanted.pk).delete()):
        assert numbers(acme) == {"first": 1, "last": 2}
    publish(acme, "next", {})
    assert list(numbers(acme)) == ["first", "last", "next"]


@with_commits
def test_event_locked_by_a_transaction_of_the_host_holds_up_no_other(acme: Organization, alice: User) -> None:
    publish(acme, "by_alice", {}, actor=alice)
    with open_transaction(alice.delete):
        publish(acme, "other", {})
        assert numbers(acme) == {"other": 1}
    assert numbers(acme) == {"other": 1, "by_alice": 2}


@with_commits
def test_numbering_that_is_cut_off_leaves_no_hole(acme: Organization) -> None:
    for _ in range(3):
        publish(acme, "note", {}, to=[1])
    # The second number's recipient is there already, uncommitted: numbering waits after it has given the numbers.
    in_the_way = Recipient(organization=acme, user_id=1, seq=2)
    with open_transaction(lambda: in_the_way.save(force_insert=True), commits=False):
        numbering = start(stream.advance, acme.pk)
        until(is_waiting_for_a_lock)
        end_who_waits()
    with pytest.raises(OperationalError):
        numbering.result()
    assert seqs(stream.read(acme.pk, beginning(acme))) == [1, 2, 3]


def end_who_waits() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )


@with_commits
def test_two_organisations_in_opposite_order_never_deadlock(acme: Organization, globex: Organization) -> None:
    def publish_to_both(number: int) -> None:
        order = (acme, globex) if number % 2 else (globex, acme)
        for _ in range(10):
            with transaction.atomic():
                for organization in order:
                    publish(organization, "note", {}, to=[1])
            for organization in reversed(order):
                stream.advance(organization.pk)

    start_many(12, publish_to_both)
    assert (stream.position(acme).head, stream.position(globex).head) == (120, 120)


@with_commits
def test_many_who_come_first_to_an_organisation_find_one_stream(acme: Organization) -> None:
    positions = start_many(8, lambda number: stream.position(acme))
    assert len(set(positions)) == 1


@on_both_databases
def test_every_stream_has_an_epoch_of_its_own(org: Organization, alias: str) -> None:
    other = Organization.objects.using(alias).create(slug="globex", name="Globex")
    assert stream.position(org, alias).epoch == stream.position(org, alias).epoch
    assert stream.position(org, alias).epoch != stream.position(other, alias).epoch


@on_both_databases
def test_position_counts_committed_events_that_have_no_number_yet(org: Organization, alias: str) -> None:
    publish_many(org, 3)
    assert stream.position(org, alias)[1:] == (3, 0)


# Heads


def test_heads_of_many_organisations_cost_one_query(make_org: MakeOrg) -> None:
    organizations = [make_org(f"org-{number}") for number in range(20)]
    for organization in organizations:
        publish(organization, "note", {})
        stream.advance(organization.pk)
    publish(organizations[0], "note", {})
    with CaptureQueriesContext(connections["default"]) as captured:
        heads = stream.heads([organization.pk for organization in organizations])
    assert len(captured) == 1
    assert [head.head for head in heads.values()] == [1] * 20
    assert [pk for pk, head in heads.items() if head.pending] == [organizations[0].pk]


def test_heads_leave_out_what_has_no_stream(acme: Organization, globex: Organization) -> None:
    epoch = stream.position(acme).epoch
    assert stream.heads([acme.pk, globex.pk]) == {acme.pk: (epoch, 0, False)}


# Reading


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


@pytest.fixture
def restore(transactional_db: None) -> Iterator[Callable[[], None]]:
    """Keeps the streams as they are when called first; puts them back, as from a dump, when called again."""
    calls = iter(
        [
            "CREATE TABLE kept AS SELECT * FROM orgrealtime_stream",
            """ALTER TABLE orgrealtime_stream RENAME TO ours;
            CREATE TABLE orgrealtime_stream (LIKE ours INCLUDING ALL);
            INSERT INTO orgrealtime_stream SELECT * FROM kept""",
        ]
    )

    def call(statement: str | None = None) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement or next(calls))

    yield call
    call("DROP TABLE kept, orgrealtime_stream; ALTER TABLE ours RENAME TO orgrealtime_stream")


@with_commits
def test_reader_from_before_a_restored_dump_is_reset_though_the_stream_has_grown_past_it(
    acme: Organization, restore: Callable[[], None]
) -> None:
    publish_many(acme, 2)
    stream.advance(acme.pk)
    restore()
    publish_many(acme, 2)
    reader = Cursor.parse(stream.position(acme).cursor)
    NotificationEvent.objects.filter(seq__gt=2).delete()
    restore()
    publish_many(acme, 5)
    with pytest.raises(StreamReset) as reset:
        stream.read(acme.pk, reader)
    assert reset.value.position.head == 7
    newcomer = Cursor.parse(reset.value.position.cursor)
    publish_many(acme, 1)
    assert seqs(stream.read(acme.pk, newcomer)) == [8]


@on_both_databases
def test_stream_that_ends_before_a_known_cursor_gets_another_epoch_once(
    org: Organization, alias: str
) -> None:
    publish(org, "note", {}, using=alias)
    before = stream.position(org, alias)
    known = Cursor(before.epoch, before.head + 3)
    renewed = stream.renew(org.pk, known, alias)
    assert (renewed.epoch != before.epoch, renewed.head) == (True, before.head)
    assert stream.renew(org.pk, known, alias) == renewed
    assert stream.renew(org.pk, Cursor(renewed.epoch, renewed.head), alias) == renewed


@with_commits
def test_stream_of_before_the_table_was_remembered_keeps_its_epoch(acme: Organization) -> None:
    before = stream.position(acme)
    Stream.objects.update(table_oid=None)
    assert stream.position(acme) == before
    assert not Stream.objects.filter(table_oid=None).exists()


def test_stream_that_was_made_again_resets_its_readers(acme: Organization) -> None:
    cursor = Cursor.parse(stream.position(acme).cursor)
    Stream.objects.all().delete()
    with pytest.raises(StreamReset, match="epoch"):
        stream.read(acme.pk, cursor)


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


def payloads_looked_up() -> int:
    """How many values kept out of their rows this transaction has looked up for events."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_numscans(indexrelid) FROM pg_index JOIN pg_class ON reltoastrelid = indrelid "
            "WHERE pg_class.oid = 'orgrealtime_notificationevent'::regclass"
        )
        (scans,) = cursor.fetchone()
    return int(scans)


def blocks_touched(work: Callable[[], Any]) -> int:
    """How many blocks of 8 KB PostgreSQL touches for the last statement of some work; the table has thousands."""
    with CaptureQueriesContext(connections["default"]) as captured:
        work()
    with connections["default"].cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {captured[-1]['sql']}")
        (plan,) = cursor.fetchone()[0]
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


# Poison rows


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


@on_both_databases
@pytest.mark.parametrize(
    "audience", ['["x"]', "[null]", "[1.5]", "[99999999999999999999]", "[[1]]", '{"1": 2}', "12", "[true]"]
)
def test_poisoned_audience_does_not_stop_the_numbering(org: Organization, alias: str, audience: str) -> None:
    publish(org, "before", {}, using=alias)
    poisoned = publish(org, "poisoned", {}, to=[1], using=alias)
    publish(org, "after", {}, to=[1], using=alias)
    cast = "::jsonb" if alias == "default" else ""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"UPDATE orgrealtime_notificationevent SET audience = %s{cast} WHERE id = %s",  # noqa: S608
            [audience, poisoned.pk],
        )
    assert stream.position(org, alias).head == 3
    start = beginning(org, alias)
    page = stream.read(org.pk, start, access=Access(org.pk, 1), using=alias)
    assert [event.type for event in page.events if event.type != "poisoned"] == ["before", "after"]


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


# Pruning


def test_events_up_to_the_floor_are_deleted_with_their_recipients(acme: Organization) -> None:
    for _ in range(5):
        publish(acme, "note", {}, to=[1, 2])
    start = beginning(acme)
    assert list(stream.prune(acme.pk, 3)) == [3]
    assert seqs(stream.read(acme.pk, Cursor(start.epoch, 3), access=Access(acme.pk, 1))) == [4, 5]
    assert (NotificationEvent.objects.count(), Recipient.objects.count()) == (2, 4)


@on_both_databases
def test_pruning_deletes_batch_by_batch(org: Organization, alias: str) -> None:
    publish_many(org, 5)
    stream.advance(org.pk, alias)
    assert list(stream.prune(org.pk, 5, batch=2, using=alias)) == [2, 2, 1]


def test_pruning_leaves_other_organisations_alone(acme: Organization, globex: Organization) -> None:
    for organization in (acme, globex):
        publish(organization, "note", {}, to=[1])
        stream.advance(organization.pk)
    list(stream.prune(acme.pk, 1))
    assert seqs(stream.read(globex.pk, beginning(globex), access=Access(globex.pk, 1))) == [1]


def test_reader_behind_the_floor_is_reset_and_one_at_the_floor_isnt(acme: Organization) -> None:
    publish_many(acme, 5)
    epoch = stream.position(acme).epoch
    list(stream.prune(acme.pk, 3))
    assert seqs(stream.read(acme.pk, Cursor(epoch, 3))) == [4, 5]
    with pytest.raises(StreamReset) as caught:
        stream.read(acme.pk, Cursor(epoch, 2))
    assert (caught.value.reason, caught.value.position) == ("retention", Position(epoch, 5, 3))


def test_reader_who_is_overtaken_by_pruning_between_pages_is_reset(acme: Organization) -> None:
    publish_many(acme, 6)
    page = stream.read(acme.pk, beginning(acme), limit=2)
    list(stream.prune(acme.pk, 4))
    with pytest.raises(StreamReset, match="retention"):
        stream.read(acme.pk, Cursor.parse(page.cursor), limit=2)


def test_reader_who_is_overtaken_between_position_and_page_is_reset(acme: Organization) -> None:
    publish_many(acme, 6)
    start, position = beginning(acme), stream.position(acme)
    list(stream.prune(acme.pk, 4))
    with pytest.raises(StreamReset, match="retention"):
        stream.read(acme.pk, start, position=position)


def test_numbers_go_on_after_everything_was_pruned(acme: Organization) -> None:
    publish_many(acme, 3)
    list(stream.prune(acme.pk, stream.position(acme).head))
    publish(acme, "next", {})
    assert stream.position(acme)[1:] == (4, 3)


def test_key_of_a_pruned_event_is_free_again(acme: Organization) -> None:
    publish(acme, "first", {}, dedupe_key="k")
    list(stream.prune(acme.pk, stream.position(acme).head))
    assert publish(acme, "second", {}, dedupe_key="k").type == "second"


@with_commits
def test_reader_beside_pruning_gets_all_or_is_reset(acme: Organization) -> None:
    publish_many(acme, 300)
    start_at = beginning(acme)
    pruned = threading.Event()

    def prune_slowly() -> None:
        for floor in range(10, 301, 10):
            list(stream.prune(acme.pk, floor, batch=3))
        pruned.set()

    def follow() -> Iterator[bool]:
        while not pruned.is_set():
            cursor = start_at
            try:
                while cursor.seq < 300:
                    page = stream.read(acme.pk, cursor, limit=7)
                    yield seqs(page) == list(range(cursor.seq + 1, page.seq + 1))
                    cursor = Cursor.parse(page.cursor)
            except StreamReset as reset:
                start_again = reset.position.floor
                yield reset.reason == "retention" and start_again > cursor.seq

    pruning = start(prune_slowly)
    assert all(follow())
    pruning.result()


# What may go


def age(organization: Organization, days: dict[int, int]) -> datetime.datetime:
    """Make events, by number, so many days old; return the moment ten days ago."""
    stream.advance(organization.pk)
    now = timezone.now()
    for seq, count in days.items():
        NotificationEvent.objects.filter(seq=seq).update(created_at=now - datetime.timedelta(days=count))
    return now - datetime.timedelta(days=10)


def test_all_older_events_may_go(acme: Organization) -> None:
    publish_many(acme, 5)
    before = age(acme, {1: 30, 2: 20})
    assert stream.retention_floor(acme.pk, before=before, keep=None) == 2


def test_older_event_after_a_younger_one_stays(acme: Organization) -> None:
    publish_many(acme, 5)
    before = age(acme, {1: 30, 3: 30})
    assert stream.retention_floor(acme.pk, before=before, keep=None) == 1


def test_everything_may_go_when_all_is_older(acme: Organization) -> None:
    publish_many(acme, 3)
    before = age(acme, dict.fromkeys([1, 2, 3], 30))
    assert stream.retention_floor(acme.pk, before=before, keep=None) == 3


@pytest.mark.parametrize(("keep", "floor"), [(0, 5), (2, 3), (5, 0), (9, 0)])
def test_all_but_the_newest_may_go(acme: Organization, keep: int, floor: int) -> None:
    publish_many(acme, 5)
    assert stream.retention_floor(acme.pk, before=None, keep=keep) == floor


@pytest.mark.parametrize(("keep", "floor"), [(4, 2), (1, 4)])
def test_what_is_old_or_too_many_may_go(acme: Organization, keep: int, floor: int) -> None:
    publish_many(acme, 5)
    before = age(acme, {1: 30, 2: 20})
    assert stream.retention_floor(acme.pk, before=before, keep=keep) == floor


def test_floor_never_falls(acme: Organization) -> None:
    publish_many(acme, 5)
    stream.advance(acme.pk)
    list(stream.prune(acme.pk, 3))
    assert stream.retention_floor(acme.pk, before=None, keep=100) == 3
    list(stream.prune(acme.pk, 1))
    assert stream.position(acme).floor == 3


@on_both_databases
def test_count_tells_what_would_go(org: Organization, alias: str) -> None:
    publish_many(org, 5)
    stream.advance(org.pk, alias)
    assert stream.count_up_to(org.pk, 3, using=alias) == 3


# The host's models


def test_migration_comes_after_the_one_that_makes_the_organisation() -> None:
    node = MigrationLoader(connections["default"]).graph.node_map["orgrealtime", "0001_initial"]
    assert ("host", "0002_organization") in {parent.key for parent in node.parents}


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "orgrealtime", check=True, dry_run=True, verbosity=0)


@pytest.mark.slow
@pytest.mark.skipif("HOST_ORG_PK" in os.environ, reason="this is that run")
def test_organisations_may_have_uuids() -> None:
    tests = ["tests/stream/test_access.py", "tests/test_commands.py", "tests/stream/test_stream.py", "-k"]
    tests.append("access or commands or dense or backlog or heads or recipients")
    environ = {**os.environ, "HOST_ORG_PK": "uuid", "DATABASE_URL": servers.new_database("orgrealtime_uuid")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
