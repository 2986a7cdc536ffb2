"""Topics: what their readers see live, in order with what grants and withdraws them, is what catching up finds."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.models import Entry, NotificationEvent, Recipient
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import StreamEvent, topics
from tests.host.models import Organization, Seat
from tests.seats import Seats, rise, sit

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

USERS = [1, 2, 3]
ROOMS = ["hall", "attic"]
on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])


class Step(NamedTuple):
    """Something is published, or somebody sits down in a room, or rises there."""

    what: str
    user: int
    room: str | None
    to: list[int] | None


steps = st.builds(
    Step,
    st.sampled_from(["publish", "publish", "sit", "rise"]),
    st.sampled_from(USERS),
    st.none() | st.sampled_from(ROOMS),
    st.none() | st.lists(st.sampled_from(USERS), max_size=2),
)


@pytest.fixture(autouse=True)
def seats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_providers", [Seats()])
    for alias in ("default", "lite"):
        for pk in USERS:
            User.objects.using(alias).get_or_create(pk=pk, username=f"user {pk}")


def new_organization(alias: str) -> Organization:
    slug = uuid.uuid4().hex
    return Organization.objects.using(alias).create(name=slug, slug=slug)


def take(step: Step, organization: Organization, alias: str) -> None:
    room = step.room or ROOMS[0]
    has = Seat.objects.using(alias).filter(organization=organization, user_id=step.user, topic=room).exists()
    if step.what == "publish":
        publish(organization, "note", {}, to=step.to, topic=step.room, using=alias)
    elif step.what == "sit" and not has:
        sit(organization, step.user, room, alias)
    elif step.what == "rise" and has:
        rise(organization, step.user, room, alias)


def follow(access: Access, events: list[StreamEvent]) -> tuple[list[StreamEvent], Access]:
    """What a connection with this access gets of these events, and the access that it has after them."""
    seen = []
    for event in events:
        if access.sees(event):
            seen.append(event)
        access = access.after(event)
    return seen, access


@on_both_databases
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(steps, max_size=8),
    after=st.lists(steps, max_size=10),
    user=st.sampled_from(USERS),
    types=st.none() | st.frozensets(st.sampled_from(["note", "joined", "left"])),
    only=st.none() | st.sampled_from(ROOMS),
    limit=st.integers(1, 4),
)
def test_what_is_seen_live_and_what_catching_up_finds_agree(
    alias: str,
    before: list[Step],
    after: list[Step],
    user: int,
    types: frozenset[str] | None,
    only: str | None,
    limit: int,
) -> None:
    organization = new_organization(alias)
    begins = Cursor.parse(stream.position(organization, using=alias).cursor)
    for step in before:
        take(step, organization, alias)
    start = stream.position(organization, using=alias)
    first = access_of(organization, user, types, alias, only)
    for step in after:
        take(step, organization, alias)
    events = stream.read(organization.pk, begins, using=alias).events
    live, last = follow(first, [event for event in events if event.seq > start.head])

    today = access_of(organization, user, types, alias, only)
    assert last.topics == today.topics
    found: list[StreamEvent] = []
    cursor, more = begins, True
    while more:
        page = stream.read(organization.pk, cursor, access=first, limit=limit, using=alias)
        assert page.topics in (None, today.topics)  # None: nothing was read
        found += page.events
        cursor, more = Cursor.parse(page.cursor), page.has_more
    assert found == [event for event in events if today.sees(event)]
    newest = stream.read_last(organization.pk, access=first, limit=limit, using=alias)
    assert newest.events == found[-limit:]
    # Nothing that catching up finds has been missing live.
    assert {event.seq for event in found if event.seq > start.head} <= {event.seq for event in live}


def access_of(
    organization: Organization, user: int, types: frozenset[str] | None, alias: str, only: str | None = None
) -> Access:
    """The access as it is looked up now."""
    (given,) = topics.with_topics([Access(organization.pk, user, event_types=types)], alias)
    return given if only is None else given.narrowed(only)


@on_both_databases
def test_what_is_granted_before_it_has_a_number_begins_with_it(alias: str) -> None:
    organization = new_organization(alias)
    stream.position(organization, using=alias)
    sit(organization, 1, "hall", alias)
    first = access_of(organization, 1, None, alias)
    assert first.topics == {"hall": topics.UNNUMBERED}
    publish(organization, "note", {}, topic="hall", using=alias)
    events = stream.read(organization.pk, Cursor.parse(f"{epoch(organization, alias)}.0"), using=alias).events
    seen, last = follow(first, events)
    assert seen == events
    assert last.topics == {"hall": 1}


@on_both_databases
def test_who_has_a_topic_by_several_rows_gets_its_events_once_from_the_first_on(alias: str) -> None:
    organization = new_organization(alias)
    start = Cursor.parse(stream.position(organization, using=alias).cursor)
    first = sit(organization, 1, "hall", alias)
    publish(organization, "note", {}, topic="hall", using=alias)
    sit(organization, 1, "hall", alias)
    publish(organization, "note", {}, topic="hall", using=alias)
    stream.position(organization, using=alias)
    Seat.objects.using(alias).create(organization=organization, user_id=1, topic="hall", granted_by=first.pk)
    today = access_of(organization, 1, None, alias)
    page = stream.read(organization.pk, start, access=today, using=alias)
    assert today.topics == page.topics == {"hall": 1}
    assert [event.seq for event in page.events] == [1, 2, 3, 4]
    Seat.objects.using(alias).order_by("pk").last().delete()  # type: ignore[union-attr]
    assert access_of(organization, 1, None, alias).topics == {"hall": 1}


def test_an_old_grant_is_none_for_somebody_who_has_left_since() -> None:
    organization = new_organization("default")
    stream.position(organization)
    sit(organization, 1, "hall")
    publish(organization, "note", {}, topic="hall")
    rise(organization, 1, "hall")
    stream.position(organization)
    today = access_of(organization, 1, None, "default")
    events = stream.read(organization.pk, Cursor.parse(f"{epoch(organization, 'default')}.0")).events
    assert follow(today, events) == ([], today)


def epoch(organization: Organization, alias: str) -> str:
    return stream.position(organization, using=alias).epoch


@on_both_databases
def test_entries_are_noted_with_their_numbers(alias: str) -> None:
    organization = new_organization(alias)
    published = [
        publish(organization, "note", {}, using=alias),
        publish(organization, "note", {}, topic="hall", entry=True, actor=2, using=alias),
        publish(organization, "note", {}, topic="hall", using=alias),
        publish(organization, "note", {}, category="alarm", using=alias),
        publish(organization, "note", {}, category="alarm", to=[1], using=alias),
        publish(organization, "note", {}, category="alarm", topic="hall", using=alias),
    ]
    stream.position(organization, using=alias)
    entries = Entry.objects.using(alias).filter(organization=organization).order_by("seq")
    assert list(entries.values_list("collection", "seq", "event_id", "actor_id")) == [
        ("hall", 2, published[1].pk, 2),
        ("~alarm", 4, published[3].pk, None),
    ]
    recipients = Recipient.objects.using(alias).filter(organization=organization)
    assert list(recipients.values_list("user_id", "seq", "category")) == [(1, 5, "alarm")]


@on_both_databases
def test_scrubbing_replaces_what_is_there_and_nothing_else(alias: str) -> None:
    organization, other = new_organization(alias), new_organization(alias)
    for one in (organization, other):
        publish(one, "note", {"body": "secret", "n": 1}, subject="message:1", using=alias)
        publish(one, "note", {"n": 2}, subject="message:1", using=alias)
        publish(one, "note", {"body": "secret"}, subject="message:2", using=alias)
    assert stream.scrub(organization.pk, "message:1", {"body": "", "n": None, "'\"": 1}, alias) == 2
    events = NotificationEvent.objects.using(alias).order_by("id")
    assert list(events.filter(organization=organization).values_list("payload", flat=True)) == [
        {"body": "", "n": None},
        {"n": None},
        {"body": "secret"},
    ]
    assert list(events.filter(organization=other).values_list("payload", flat=True)) == [
        {"body": "secret", "n": 1},
        {"n": 2},
        {"body": "secret"},
    ]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"entry": True}, "give topic="),
        ({"grants": [1]}, "give topic="),
        ({"withdraws": []}, "give topic="),
        ({"replaces": True}, "give subject="),
        ({"topic": ""}, "topic= is a text of 1 to 64"),
        ({"topic": "a" * 65}, "topic= is a text of 1 to 64"),
        ({"topic": "~a"}, "topic= is a text"),
        ({"topic": 7}, "topic= is a text"),
        ({"category": "a" * 51}, "category= is a text of 1 to 50"),
        ({"subject": "a b"}, "subject= is a text of 1 to 100"),
        ({"topic": "a", "grants": ["x"]}, "grants= needs"),
    ],
)
def test_what_cannot_be_published_is_told(options: dict[str, Any], what: str) -> None:
    with pytest.raises((ValueError, TypeError), match=what):
        publish(new_organization("default"), "note", {}, **options)
    assert not NotificationEvent.objects.exists()
