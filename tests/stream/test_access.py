"""The filter for live delivery and the filter for catching up let the same through."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import Page
from orgrealtime.stream.types import StreamEvent
from tests.host.models import Organization

pytestmark = pytest.mark.django_db(databases=["default", "lite"])

USERS = [1, 2, 3]
STRANGER = 99
TYPES = ["note", "task", "alarm"]


class Draft(NamedTuple):
    type: str
    to: list[int] | None


drafts = st.builds(Draft, st.sampled_from(TYPES), st.none() | st.lists(st.sampled_from(USERS), max_size=3))
event_types = st.none() | st.frozensets(st.sampled_from([*TYPES, "other"]))

on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])
with_examples = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Published(NamedTuple):
    organization: Organization
    start: Cursor
    events: list[StreamEvent]
    alias: str

    def seen_by(self, access: Access) -> list[StreamEvent]:
        return [event for event in self.events if access.sees(event)]


def publish_all(drafts: list[Draft], alias: str) -> Published:
    """A new organisation's whole stream, as the live side reads it."""
    slug = uuid.uuid4().hex
    organization = Organization.objects.using(alias).create(name=slug, slug=slug)
    start = Cursor.parse(stream.position(organization, using=alias).cursor)
    for draft in drafts:
        publish(organization, draft.type, {}, to=draft.to, using=alias)
    return Published(organization, start, stream.read(organization.pk, start, using=alias).events, alias)


def pages(published: Published, access: Access, limits: list[int]) -> list[Page]:
    """All pages for a reader who asks for another number each time."""
    found: list[Page] = []
    cursor, more = published.start, True
    while more:
        limit = limits[len(found) % len(limits)]
        page = stream.read(
            published.organization.pk, cursor, access=access, limit=limit, using=published.alias
        )
        found.append(page)
        cursor, more = Cursor.parse(page.cursor), page.has_more
    return found


@on_both_databases
@with_examples
@given(drafts=st.lists(drafts, max_size=12), user=st.sampled_from([*USERS, STRANGER]), types=event_types)
def test_reader_gets_what_its_access_sees(
    alias: str, drafts: list[Draft], user: int, types: frozenset[str] | None
) -> None:
    published = publish_all(drafts, alias)
    access = Access(published.organization.pk, user, event_types=types)
    page = stream.read(published.organization.pk, published.start, access=access, using=alias)
    assert page.events == published.seen_by(access)


@on_both_databases
@with_examples
@given(
    drafts=st.lists(drafts, max_size=15),
    user=st.sampled_from([*USERS, STRANGER]),
    types=event_types,
    limits=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_pages_of_any_size_make_up_the_whole(
    alias: str, drafts: list[Draft], user: int, types: frozenset[str] | None, limits: list[int]
) -> None:
    published = publish_all(drafts, alias)
    access = Access(published.organization.pk, user, event_types=types)
    found = pages(published, access, limits)
    assert [event for page in found for event in page.events] == published.seen_by(access)
    assert found[-1].seq == len(drafts)


@on_both_databases
@with_examples
@given(
    drafts=st.lists(drafts, max_size=12),
    user=st.sampled_from([*USERS, STRANGER]),
    types=event_types,
    limit=st.integers(1, 6),
)
def test_newest_events_are_the_last_of_those_the_reader_sees(
    alias: str, drafts: list[Draft], user: int, types: frozenset[str] | None, limit: int
) -> None:
    published = publish_all(drafts, alias)
    access = Access(published.organization.pk, user, event_types=types)
    page = stream.read_last(published.organization.pk, access=access, limit=limit, using=alias)
    assert page.events == published.seen_by(access)[-limit:]


@on_both_databases
def test_another_organisations_events_are_never_read(alias: str) -> None:
    acme, globex = (publish_all([Draft("note", None), Draft("note", [1])], alias) for _ in range(2))
    page = stream.read(acme.organization.pk, acme.start, access=Access(acme.organization.pk, 1), using=alias)
    assert page.events == acme.events
    assert {event.text for event in acme.events}.isdisjoint(event.text for event in globex.events)


@pytest.mark.parametrize(
    ("user", "audience", "sees"),
    [
        (1, None, True),
        (1, frozenset({1, 2}), True),
        (3, frozenset({1, 2}), False),
        (1, frozenset(), False),
        ("1", frozenset({1}), True),  # as the column takes it, and catching up with it
        ("x", frozenset({1}), False),
        (None, frozenset({1}), False),
    ],
)
def test_user_sees_what_is_for_all_or_for_them(
    user: Any, audience: frozenset[int] | None, sees: bool
) -> None:
    assert Access(1, user).sees(StreamEvent(1, "note", "{}", audience)) is sees


@pytest.mark.parametrize(
    ("types", "sees"), [(None, True), (frozenset({"note"}), True), (frozenset({"task"}), False), (frozenset(), False)]
)  # fmt: skip
def test_user_sees_only_the_types_that_are_shown(types: frozenset[str] | None, sees: bool) -> None:
    assert Access(1, 1, event_types=types).sees(StreamEvent(1, "note", "{}", None)) is sees
