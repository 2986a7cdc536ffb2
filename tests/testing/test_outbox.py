"""The outbox that host projects' tests use instead of the stream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from orgrealtime import publish, testing
from orgrealtime.errors import PayloadError
from orgrealtime.models import NotificationEvent
from orgrealtime.testing import capture_events
from tests.host.models import Organization

ACME, GLOBEX = Organization(pk=1, slug="acme"), Organization(pk=2, slug="globex")


@pytest.fixture
def outbox() -> Iterator[list[NotificationEvent]]:
    with capture_events() as outbox:
        yield outbox


def test_host_finds_what_it_published_without_a_database(outbox: list[NotificationEvent]) -> None:
    event = publish(ACME, "task_event", {"task_id": 1}, actor=User(pk=3), to=[4], dedupe_key="k")
    assert outbox == [event]
    assert (event.organization_id, event.type, event.payload, event.actor_id, event.audience, event.dedupe_key) == (
        1,
        "task_event",
        {"task_id": 1},
        3,
        [4],
        "k",
    )  # fmt: skip


def test_host_finds_the_payload_as_readers_would_get_it(outbox: list[NotificationEvent]) -> None:
    tags = ["a"]
    publish(ACME, "note", {"tags": tags, "point": (1, 2)})
    tags.append("b")
    assert outbox[0].payload == {"tags": ["a"], "point": [1, 2]}


def test_repeated_key_returns_the_first_event(outbox: list[NotificationEvent]) -> None:
    first = publish(ACME, "first", {}, dedupe_key="k")
    assert publish(ACME, "second", {}, dedupe_key="k") is first
    assert publish(GLOBEX, "third", {}, dedupe_key="k") is not first
    assert [event.type for event in outbox] == ["first", "third"]


def test_events_without_a_key_are_all_kept(outbox: list[NotificationEvent]) -> None:
    publish(ACME, "note", {})
    publish(ACME, "note", {})
    assert len(outbox) == 2


def test_what_publish_refuses_isnt_in_the_outbox(outbox: list[NotificationEvent]) -> None:
    with pytest.raises(PayloadError):
        publish(ACME, "note", {"a": {1}})
    assert outbox == []


def test_every_capture_begins_empty() -> None:
    with capture_events():
        publish(ACME, "note", {})
    with capture_events() as outbox:
        assert outbox == []


@pytest.mark.django_db
def test_events_go_into_the_stream_again_after_a_capture(acme: Organization) -> None:
    with capture_events():
        publish(acme, "note", {})
    publish(acme, "note", {})
    assert NotificationEvent.objects.count() == 1


def test_setting_names_the_publisher_for_all_tests(settings: Settings) -> None:
    settings.ORGREALTIME = {**settings.ORGREALTIME, "PUBLISHER": "orgrealtime.testing.OutboxPublisher"}
    testing.outbox.clear()
    event = publish(ACME, "note", {})
    assert testing.outbox == [event]
