"""What is pruned is gone, and who hasn't read it is told so."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator

import pytest
from django.utils import timezone

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient
from orgrealtime.protocol.cursors import Cursor, Position
from tests.host.models import Organization
from tests.stream.contents import beginning, publish_many, seqs
from tests.threads import start

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

with_commits = pytest.mark.django_db(transaction=True)
on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])


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
