"""Numbers in the order of commits, dense; another epoch where the numbers mean something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, ProgrammingError, connections, transaction
from django.test.utils import CaptureQueriesContext

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import dialect, postgresql
from orgrealtime.stream.numbering import NUMBERING_BATCH
from tests.conftest import MakeOrg
from tests.host.models import Organization
from tests.stopwatch import Stopwatch
from tests.stream.contents import beginning, numbers, publish_many, seqs
from tests.threads import is_waiting_for_a_lock, open_transaction, start, start_many
from tests.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

with_commits = pytest.mark.django_db(transaction=True)
on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])


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
@pytest.mark.parametrize("count", [NUMBERING_BATCH - 1, NUMBERING_BATCH, 2500])
def test_any_backlog_is_numbered_in_the_order_of_ids(org: Organization, alias: str, count: int) -> None:
    pending = [NotificationEvent(organization=org, type="note", audience=[1]) for _ in range(count)]
    NotificationEvent.objects.using(alias).bulk_create(pending)
    assert stream.advance(org.pk, alias).head == count
    stored = NotificationEvent.objects.using(alias).order_by("pk").values_list("seq", flat=True)
    assert list(stored) == list(range(1, count + 1))
    assert Recipient.objects.using(alias).count() == count


def burst(organization: Organization, count: int, alias: str = "default") -> None:
    """So many events by one statement, as of a job that commits them together."""
    events = [
        NotificationEvent(organization=organization, type=f"n{number}") for number in range(1, count + 1)
    ]
    NotificationEvent.objects.using(alias).bulk_create(events)


@on_both_databases
def test_of_a_burst_a_reader_has_a_page_numbered_and_not_all(org: Organization, alias: str) -> None:
    """Else the first of 60,000 events would wait for the last, and with it all who are read for by the same threads."""
    start = beginning(org, alias)
    burst(org, 3 * NUMBERING_BATCH + 1, alias)
    page = stream.read(org.pk, start, limit=10, using=alias)
    assert ([event.seq for event in page.events], page.has_more) == (list(range(1, 11)), True)
    assert stream.heads([org.pk], alias)[org.pk][1:] == (NUMBERING_BATCH, True)


@on_both_databases
def test_reader_of_a_burst_gets_all_of_it_by_pages(org: Organization, alias: str) -> None:
    cursor, types, has_more = beginning(org, alias), [], True
    burst(org, 2 * NUMBERING_BATCH, alias)
    while has_more:
        page = stream.read(org.pk, cursor, limit=NUMBERING_BATCH, using=alias)
        types += [event.type for event in page.events]
        cursor, has_more = Cursor.parse(page.cursor), page.has_more
    assert types == [f"n{number}" for number in range(1, 2 * NUMBERING_BATCH + 1)]


@on_both_databases
def test_reader_of_the_newest_is_told_that_more_of_a_burst_comes(org: Organization, alias: str) -> None:
    burst(org, NUMBERING_BATCH + 1, alias)
    page = stream.read_last(org.pk, limit=1, using=alias)
    assert ([event.seq for event in page.events], page.has_more) == ([NUMBERING_BATCH], True)
    page = stream.read(org.pk, Cursor.parse(page.cursor), using=alias)
    assert ([event.seq for event in page.events], page.has_more) == ([NUMBERING_BATCH + 1], False)


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


@pytest.mark.parametrize("ahead", [3, -1], ids=["it ends before it", "it has grown past it"])
@on_both_databases
def test_stream_that_has_gone_back_behind_a_known_cursor_gets_another_epoch_once(
    org: Organization, alias: str, ahead: int
) -> None:
    publish(org, "note", {}, using=alias)
    before = stream.position(org, alias)
    known = Cursor(before.epoch, before.head + ahead)
    renewed = stream.renew(org.pk, known, alias)
    assert (renewed.epoch != before.epoch, renewed.head) == (True, before.head)
    assert stream.renew(org.pk, known, alias) == renewed


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


@pytest.fixture
def role_that_may_not_ask(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The session is that of a role which may use the tables, on a service that doesn't tell the timeline."""
    monkeypatch.setattr(postgresql, "_without_timeline", set())
    with connections["default"].cursor() as cursor:
        cursor.execute(
            """REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC;
            CREATE ROLE plain; GRANT USAGE ON SCHEMA public TO plain;
            GRANT ALL ON ALL TABLES IN SCHEMA public TO plain;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain; SET ROLE plain"""
        )
        yield
        cursor.execute(
            """RESET ROLE; GRANT EXECUTE ON FUNCTION pg_current_wal_lsn() TO PUBLIC;
            DROP OWNED BY plain; DROP ROLE plain"""
        )


@with_commits
def test_service_that_doesnt_tell_the_timeline_is_done_without(
    acme: Organization, role_that_may_not_ask: None, caplog: pytest.LogCaptureFixture
) -> None:
    cursors = {acme.pk: Cursor(Stream.objects.get(pk=acme.pk).epoch, 0)}
    Stream.objects.update(home=None)
    publish_many(acme, 1)
    assert stream.follow(cursors) == {}
    assert isinstance(stream.follow_one(acme.pk, cursors[acme.pk]), stream.Page)
    assert stream.follow(cursors).keys() == {acme.pk}
    Stream.objects.all().delete()
    assert stream.position(acme).head == 1
    told = [record for record in caplog.records if record.name == "orgrealtime.database"]
    assert [record.getMessage() for record in told] == [
        "the timeline can't be asked, a promoted standby isn't noticed"
    ]


@with_commits
def test_timeline_is_asked_on_after_an_error_of_another_statement(
    acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_without_timeline", set())
    connection = connections["default"]
    with transaction.atomic(), connection.cursor() as cursor:
        with pytest.raises(ProgrammingError) as error:
            cursor.execute("SELECT no_such_function()")
        assert not dialect.of(connection).forgoes_timeline(error.value), "nothing can be asked here any more"
        transaction.set_rollback(True)
    assert not dialect.of(connection).forgoes_timeline(error.value)
    assert not postgresql._without_timeline


@with_commits
def test_role_without_privileges_may_ask_where_a_stream_is_at_home(
    acme: Organization, role_that_may_not_ask: None, caplog: pytest.LogCaptureFixture
) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("RESET ROLE; GRANT EXECUTE ON FUNCTION pg_current_wal_lsn() TO PUBLIC; SET ROLE plain")
    before = Stream.objects.get(pk=acme.pk)
    publish_many(acme, 1)
    assert stream.position(acme) == (before.epoch, 1, 0)
    assert not caplog.records


@with_commits
def test_stream_of_another_home_begins_a_new_epoch_once_and_one_without_takes_it(acme: Organization) -> None:
    before = stream.position(acme)
    Stream.objects.update(home=None)
    assert stream.position(acme) == before
    Stream.objects.update(home="1.00000001")
    moved = start_many(6, lambda _: stream.position(acme))
    assert len(set(moved)) == 1
    assert moved[0].epoch != before.epoch
    Stream.objects.update(table_oid=1, home=None)
    assert stream.position(acme).epoch not in {before.epoch, moved[0].epoch}


@with_commits
def test_stream_is_begun_where_the_timeline_isnt_told(
    acme: Organization, role_that_may_not_ask: None
) -> None:
    Stream.objects.all().delete()
    stream.create(acme.pk, "default")
    assert stream.position(acme).head == 0
