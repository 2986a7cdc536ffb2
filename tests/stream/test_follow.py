"""Following several organisations by one statement: each gets what reading it alone gives, and waits for no other."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection

import pytest
from django.db import OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgrealtime import publish, stream
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import Page, numbering, postgresql
from orgrealtime.stream.reading import PAGE_SIZE
from tests.conftest import MakeOrg
from tests.host.models import Organization
from tests.stopwatch import Stopwatch
from tests.stream.contents import publish_many, seqs
from tests.stream.costs import blocks_touched, payloads_looked_up
from tests.threads import is_waiting_for_a_lock, open_transaction, start, start_many
from tests.waiting import until

pytestmark = pytest.mark.django_db

with_commits = pytest.mark.django_db(transaction=True)


def start_of(*organizations: Organization) -> dict[int, Cursor]:
    """The cursors before everything, found without numbering anything."""
    for each in organizations:
        stream.create(each.pk, "default")
    return {each.pk: Cursor(Stream.objects.get(pk=each.pk).epoch, 0) for each in organizations}


def pages(found: dict[int, Page | StreamReset]) -> dict[int, Page]:
    assert not any(isinstance(page, StreamReset) for page in found.values()), found
    return found  # type: ignore[return-value]


def follow_all(cursors: dict[int, Cursor], limit: int = PAGE_SIZE) -> dict[int, Page]:
    """All together, and those that were left out one by one, as the reader does it."""
    found = stream.follow(cursors, limit=limit)
    for key in cursors.keys() - found.keys():
        found[key] = stream.follow_one(key, cursors[key], limit=limit)
    return pages(found)


ADVISORY_LOCK = "pg_advisory_xact_lock(4711)"


def hold_advisory_lock() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT {ADVISORY_LOCK}")


def test_several_organisations_are_numbered_and_read_by_one_statement(make_org: MakeOrg) -> None:
    orgs = [make_org(f"org-{number}") for number in range(20)]
    cursors = start_of(*orgs)
    for number, org in enumerate(orgs):
        publish_many(org, number % 3)
    with CaptureQueriesContext(connections["default"]) as captured:
        found = pages(stream.follow(cursors))
    assert len(captured) == 1
    for number, org in enumerate(orgs):
        page, count = found[org.pk], number % 3
        assert page == stream.read(org.pk, cursors[org.pk])
        assert (seqs(page), page.seq, page.has_more) == (list(range(1, count + 1)), count, False)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(
    streams=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(0, 400), max_size=9)),
        min_size=1,
        max_size=4,
    ),
    batch=st.integers(1, 12),
    limit=st.integers(1, 6),
    room=st.integers(0, 5000),
)
def test_page_by_page_each_gets_all_in_order(
    db: None, streams: list[tuple[int, int, list[int]]], batch: int, limit: int, room: int
) -> None:
    """Whatever was numbered before, and however little is numbered or fits into a page at once."""
    cursors, expected = {}, {}
    for numbered, pending, sizes in streams:
        org = Organization.objects.create(slug=uuid.uuid4().hex, name="Acme")
        cursors.update(start_of(org))
        names = [f"n{number}" for number in range(numbered + pending)]
        for number, name in enumerate(names):
            if number == numbered:
                stream.position(org)
            publish(org, name, {"text": "x" * (sizes[number % len(sizes)] if sizes else 0)})
        expected[org.pk] = list(enumerate(names, 1))
    got: dict[int, list[tuple[int, str]]] = {key: [] for key in cursors}
    behind: Collection[int] = set(cursors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbering, "NUMBERING_BATCH", batch)
        patch.setattr(postgresql, "FOLLOWED_CHARS", room)
        while behind:
            found = follow_all({key: cursors[key] for key in behind}, limit)
            for key, page in found.items():
                assert len(page.events) <= limit
                assert page.seq > cursors[key].seq or not page.has_more, "it would go on for ever"
                got[key] += [(event.seq, event.type) for event in page.events]
                cursors[key] = Cursor.parse(page.cursor)
            behind = {key for key, page in found.items() if page.has_more}
    assert got == expected


def test_addressed_events_get_their_recipients(acme: Organization, alice: object, bob: object) -> None:
    cursors = start_of(acme)
    publish(acme, "note", {}, to=[alice, bob])
    publish(acme, "note", {}, to=[bob])
    (page,) = pages(stream.follow(cursors)).values()
    assert [sorted(event.audience or ()) for event in page.events] == [[alice.pk, bob.pk], [bob.pk]]  # type: ignore[attr-defined]
    assert sorted(Recipient.objects.values_list("user_id", "seq")) == [
        (alice.pk, 1),
        (bob.pk, 1),
        (bob.pk, 2),
    ]  # type: ignore[attr-defined]


def test_each_that_cant_go_on_is_told_to_reset_and_no_other(make_org: MakeOrg) -> None:
    other, ahead, behind, fine = orgs = [make_org(name) for name in ("other", "ahead", "behind", "fine")]
    cursors = start_of(*orgs)
    for org in orgs:
        publish_many(org, 5)
        stream.position(org)
    list(stream.prune(behind.pk, 3))
    publish_many(ahead, 3)  # once they have numbers, the cursor will look as if it were of this stream
    cursors[other.pk] = Cursor("ffffffff", 3)
    cursors[ahead.pk] = Cursor(cursors[ahead.pk].epoch, 7)
    cursors[behind.pk] = Cursor(cursors[behind.pk].epoch, 2)
    found = stream.follow(cursors)
    told = {key: page.reason for key, page in found.items() if isinstance(page, StreamReset)}
    assert told == {other.pk: "epoch", ahead.pk: "ahead", behind.pk: "retention"}
    reset = found[ahead.pk]
    assert isinstance(reset, StreamReset)
    assert reset.position == Position(cursors[ahead.pk].epoch, 5, 0)
    assert stream.renew(ahead.pk, reset.after).epoch != cursors[ahead.pk].epoch
    assert seqs(pages({fine.pk: found[fine.pk]})[fine.pk]) == [1, 2, 3, 4, 5]


@with_commits
def test_stream_that_somebody_has_locked_is_left_out_and_not_waited_for(
    acme: Organization, globex: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors = start_of(acme, globex)
    publish_many(acme, 2)
    publish_many(globex, 1)
    with open_transaction(lambda: list(Stream.objects.select_for_update().filter(pk=acme.pk))):
        with monkeypatch.context() as patch, Stopwatch() as watch:
            patch.setattr(postgresql, "PATIENCE", "set_config('lock_timeout', '60000', TRUE)")
            found = pages(stream.follow(cursors))
            assert stream.follow({acme.pk: cursors[acme.pk]}) == {}
            watch.check(30.0, "both have been read")  # who waits for the lock takes a minute
        assert {key: seqs(page) for key, page in found.items()} == {globex.pk: [1]}
        with pytest.raises(OperationalError):
            stream.follow_one(acme.pk, cursors[acme.pk])
    assert seqs(pages(stream.follow({acme.pk: cursors[acme.pk]}))[acme.pk]) == [1, 2]


@with_commits
def test_stream_that_is_numbered_meanwhile_isnt_taken_as_read(
    acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the snapshot and the lock: what was pending isn't any more, and its number isn't in the snapshot."""
    cursors = start_of(acme)
    publish_many(acme, 1)
    with open_transaction(hold_advisory_lock):
        with monkeypatch.context() as patch:
            patch.setattr(postgresql, "PATIENCE", ADVISORY_LOCK)  # it lies between the two
            following = start(stream.follow, cursors)
            until(is_waiting_for_a_lock)
        assert stream.number(acme.pk).position.head == 1
    assert following.result() == {}
    assert seqs(pages(stream.follow(cursors))[acme.pk]) == [1]


@with_commits
def test_client_that_takes_no_rows_keeps_no_stream_locked(make_org: MakeOrg) -> None:
    """PostgreSQL commits when the client has got the rows: of a process that has been stopped that may be never."""
    orgs = [make_org(f"org-{number}") for number in range(8)]
    cursors = start_of(*orgs)
    with CaptureQueriesContext(connections["default"]) as captured:
        stream.follow(cursors)
    with transaction.atomic():
        for org in orgs:
            for _ in range(5):
                publish(org, "note", {"text": secrets.token_hex(25_000)})
    stopped = connections["default"].copy()
    stopped.ensure_connection()
    try:
        stopped.connection.pgconn.send_query(captured[-1]["sql"].encode())
        until(lambda: not Stream.objects.filter(head=0).exists())
        assert [stream.number(org.pk).position.head for org in orgs] == [5] * 8
    finally:
        stopped.close()


@with_commits
def test_events_that_have_numbers_are_read_though_somebody_has_locked_the_stream(
    acme: Organization, globex: Organization
) -> None:
    cursors = start_of(acme, globex)
    publish_many(acme, 2)
    stream.position(acme)
    with open_transaction(lambda: list(Stream.objects.select_for_update().filter(pk=acme.pk))):
        assert seqs(pages(stream.follow(cursors))[acme.pk]) == [1, 2]


@with_commits
def test_event_that_a_transaction_has_locked_gets_its_number_when_that_has_ended(acme: Organization) -> None:
    cursors = start_of(acme)
    first = publish(acme, "first", {})
    publish(acme, "second", {})
    with open_transaction(lambda: list(NotificationEvent.objects.select_for_update().filter(pk=first.pk))):
        page = pages(stream.follow(cursors))[acme.pk]
        assert ([event.type for event in page.events], page.has_more) == (["second"], False)
    page = pages(stream.follow({acme.pk: Cursor.parse(page.cursor)}))[acme.pk]
    assert [(event.seq, event.type) for event in page.events] == [(2, "first")]


def test_organisation_without_a_stream_gets_one_when_it_is_followed_by_itself(
    acme: Organization, globex: Organization
) -> None:
    cursors = start_of(acme, globex)
    Stream.objects.filter(pk=acme.pk).delete()
    assert stream.follow(cursors).keys() == {globex.pk}
    told = stream.follow_one(acme.pk, cursors[acme.pk])
    assert isinstance(told, StreamReset)
    assert told.reason == "epoch"
    assert Stream.objects.filter(pk=acme.pk, epoch=told.position.epoch).exists()


def test_restored_stream_is_settled_before_it_is_read(acme: Organization, globex: Organization) -> None:
    cursors = start_of(acme, globex)
    Stream.objects.filter(pk=acme.pk).update(table_oid=1)
    assert stream.follow(cursors).keys() == {globex.pk}
    assert isinstance(stream.follow_one(acme.pk, cursors[acme.pk]), StreamReset)


def test_poison_costs_its_event_only(acme: Organization, globex: Organization) -> None:
    cursors = start_of(acme, globex)
    for org in (acme, globex):
        publish_many(org, 3)
    NotificationEvent.objects.filter(organization=acme, payload__number=1).update(audience={"no": "list"})
    found = pages(stream.follow(cursors))
    assert (seqs(found[acme.pk]), found[acme.pk].seq) == ([1, 3], 3)
    assert seqs(found[globex.pk]) == [1, 2, 3]


@with_commits
def test_many_who_follow_the_same_organisations_all_see_the_same(make_org: MakeOrg) -> None:
    orgs = [make_org(f"org-{number}") for number in range(5)]
    cursors = start_of(*orgs)
    writers, rounds = 3, 15

    def write() -> None:
        for number in range(rounds):
            with transaction.atomic():
                for org in orgs if number % 2 else reversed(orgs):
                    publish(org, "note", {})

    def follow(mine: dict[int, Cursor]) -> dict[int, list[int]]:
        got: dict[int, list[int]] = {key: [] for key in mine}
        while any(len(found) < writers * rounds for found in got.values()):
            for key, page in follow_all(mine).items():
                got[key] += seqs(page)
                mine[key] = Cursor.parse(page.cursor)
        return got

    def work(number: int) -> dict[int, list[int]] | None:
        return write() if number < writers else follow(dict(cursors))

    for got in start_many(writers + 4, work)[writers:]:
        assert got == {org.pk: list(range(1, writers * rounds + 1)) for org in orgs}


@pytest.mark.slow
def test_who_is_up_to_date_costs_little_however_long_the_streams_are(make_org: MakeOrg) -> None:
    orgs = [make_org(f"org-{number}") for number in range(8)]
    cursors = {key: start._replace(seq=2000) for key, start in start_of(*orgs).items()}
    for org in orgs:
        events = [NotificationEvent(organization=org, type="note", seq=seq) for seq in range(1, 2001)]
        NotificationEvent.objects.bulk_create(events)
        Stream.objects.filter(pk=org.pk).update(head=2000)
        publish_many(org, 1)
    with connections["default"].cursor() as cursor:
        cursor.execute("ANALYZE orgrealtime_notificationevent")
    assert blocks_touched(lambda: stream.follow(cursors)) < 100 * len(orgs)


def test_payloads_for_which_there_is_no_room_arent_unpacked(acme: Organization, globex: Organization) -> None:
    cursors = start_of(acme, globex)
    publish_many(globex, 1)
    with transaction.atomic():
        for _ in range(25):
            publish(acme, "note", {"text": secrets.token_hex(25_000)})
    with transaction.atomic():
        before = payloads_looked_up()
        assert stream.follow(cursors).keys() == {globex.pk}
        assert payloads_looked_up() == before
    page = stream.follow_one(acme.pk, cursors[acme.pk])
    assert isinstance(page, Page)
    assert page.has_more
    assert seqs(page) == list(range(1, page.seq + 1))


def test_long_audience_counts_as_well(acme: Organization, globex: Organization) -> None:
    cursors = start_of(acme, globex)
    for org, count in ((acme, 10_000), (globex, 10)):
        NotificationEvent.objects.create(organization=org, type="note", audience=list(range(count)))
    assert stream.follow(cursors).keys() == {globex.pk}
