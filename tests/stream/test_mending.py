"""A stream that was restored in parts begins anew beyond all numbers, instead of standing still for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connections, transaction

from orgrealtime import publish, stream
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import Page, mending
from tests.host.models import Organization
from tests.stream.contents import publish_many, seqs
from tests.threads import start_many

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

with_commits = pytest.mark.django_db(transaction=True)
on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])

Damage = Callable[[int, str], None]
MENDED = "the stream ended before its events; it begins anew beyond them and clients are told to reset"


def lose_row(pk: int, alias: str) -> None:
    Stream.objects.using(alias).filter(pk=pk).delete()


def set_head_back(pk: int, alias: str) -> None:
    Stream.objects.using(alias).filter(pk=pk).update(head=2)


def find_event_ahead(pk: int, alias: str) -> None:
    NotificationEvent.objects.using(alias).filter(organization_id=pk, seq=5).update(seq=8)


def lose_all_but_recipients(pk: int, alias: str) -> None:
    """As raw SQL does that deletes an organisation, which is then made again under the same key."""
    for model in (NotificationEvent, Stream):
        model.objects.using(alias).filter(organization_id=pk)._raw_delete(alias)


DAMAGES = {
    lose_row: (5, 0),
    set_head_back: (5, 0),
    find_event_ahead: (8, 7),
    lose_all_but_recipients: (5, 5),
}
damaged = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


@pytest.fixture
def damaged_stream(org: Organization, alias: str, damage: Damage) -> Cursor:
    """Where a reader stood before some of the stream was lost."""
    for number in range(5):
        publish(org, "old", {"number": number}, to=[1], using=alias)
    cursor = Cursor.parse(stream.position(org, alias).cursor)
    damage(org.pk, alias)
    return cursor


def mendings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == MENDED]


@damaged
@on_both_databases
def test_damaged_stream_begins_anew_beyond_all_numbers_and_says_so_once(
    org: Organization, alias: str, damage: Damage, damaged_stream: Cursor, caplog: pytest.LogCaptureFixture
) -> None:
    last, floor = DAMAGES[damage]
    publish(org, "new", {}, to=[1], using=alias)
    position = stream.position(org, alias)
    assert (position.epoch != damaged_stream.epoch, position.head, position.floor) == (True, last + 1, floor)
    with pytest.raises(StreamReset, match="epoch"):
        stream.read(org.pk, damaged_stream, using=alias)
    page = stream.read(org.pk, Cursor(position.epoch, last), using=alias)
    assert [(event.seq, event.type) for event in page.events] == [(last + 1, "new")]
    assert stream.position(org, alias) == position
    (record,) = mendings(caplog)
    assert (record.levelname, record.organization_id, record.last) == ("ERROR", str(org.pk), last)  # type: ignore[attr-defined]


@damaged
@on_both_databases
def test_damaged_stream_is_mended_by_who_looks_though_nothing_waits(
    org: Organization, alias: str, damage: Damage, damaged_stream: Cursor
) -> None:
    last, floor = DAMAGES[damage]
    position = stream.position(org, alias)
    assert (position.head, position.floor) == (last, floor)
    page = stream.read(org.pk, Cursor(position.epoch, floor), using=alias)
    assert seqs(page) == list(range(floor + 1, last + 1))


@with_commits
def test_addressees_of_events_that_are_gone_stop_no_stream_that_exists(
    acme: Organization, globex: Organization
) -> None:
    """The head is set back, and the events ahead of it are gone, but not who they were for."""
    cursors = {org.pk: Cursor.parse(stream.position(org).cursor) for org in (acme, globex)}
    Recipient.objects.create(organization=acme, user_id=1, seq=2)
    for org in (acme, globex):
        for _ in range(3):
            publish(org, "note", {}, to=[1])
    assert stream.follow(cursors) == {}
    told = stream.follow_one(acme.pk, cursors[acme.pk])
    assert isinstance(told, StreamReset)
    assert (told.reason, told.position.head, told.position.floor) == ("epoch", 5, 2)
    page = stream.follow_one(globex.pk, cursors[globex.pk])
    assert isinstance(page, Page)
    assert seqs(page) == [1, 2, 3]


def test_feeds_get_a_damaged_stream_mended_and_others_arent_held_up(
    acme: Organization, globex: Organization
) -> None:
    for org in (acme, globex):
        publish_many(org, 3)
    cursors = {org.pk: Cursor.parse(stream.position(org).cursor) for org in (acme, globex)}
    Stream.objects.filter(pk=acme.pk).update(head=1)
    for org in (acme, globex):
        publish_many(org, 1)
    assert stream.follow(cursors).keys() == {globex.pk}
    told = stream.follow_one(acme.pk, cursors[acme.pk])
    assert isinstance(told, StreamReset)
    assert (told.reason, told.position.head) == ("epoch", 4)


@damaged
@with_commits
def test_many_who_look_at_a_damaged_stream_at_once_find_one_new_epoch(
    acme: Organization, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        publish(acme, "old", {}, to=[1])
    before = stream.position(acme)
    damage(acme.pk, "default")
    publish_many(acme, 3)
    found = start_many(6, lambda _: stream.position(acme))
    last, floor = DAMAGES[damage]
    assert {(position.head, position.floor) for position in found} == {(last + 3, floor)}
    (epoch,) = {position.epoch for position in found}
    assert epoch != before.epoch
    assert len(mendings(caplog)) == 1


def test_pruned_events_that_are_still_there_stay_below_the_floor(acme: Organization) -> None:
    publish_many(acme, 6)
    stream.position(acme)
    Stream.objects.filter(pk=acme.pk).update(head=4, floor=2)
    assert (stream.position(acme).head, stream.position(acme).floor) == (6, 2)


def test_stream_that_somebody_has_gone_on_with_meanwhile_stays(acme: Organization) -> None:
    publish_many(acme, 3)
    epoch = stream.position(acme).epoch
    begin_anew = partial(mending._begin_anew, acme.pk, epoch, connection=connections["default"])
    assert not begin_anew(head=2, last=9, floor=9)
    assert stream.position(acme).epoch == epoch


@on_both_databases
def test_stream_made_again_whose_events_go_before_anybody_looks_begins_at_the_beginning(
    org: Organization, alias: str
) -> None:
    for _ in range(3):
        publish(org, "old", {}, using=alias)
    stream.position(org, alias)
    lose_row(org.pk, alias)
    stream.create(org.pk, alias)
    NotificationEvent.objects.using(alias).filter(organization=org).delete()
    assert (stream.position(org, alias).head, stream.position(org, alias).floor) == (0, 0)


@with_commits
def test_damaged_stream_is_mended_in_an_open_transaction_too(acme: Organization) -> None:
    publish_many(acme, 3)
    stream.position(acme)
    lose_row(acme.pk, "default")
    with transaction.atomic():
        assert stream.position(acme).head == 3
