"""For the tests of host projects: events in a list instead of the database, as `django.core.mail.outbox` is for mail.

    from orgrealtime.testing import capture_events

    def test_finishing_a_task_tells_the_organisation():
        with capture_events() as outbox:
            finish(task)
        assert [event.type for event in outbox] == ["task_event"]

For all tests at once, set `ORGREALTIME = {..., "PUBLISHER": "orgrealtime.testing.OutboxPublisher"}` in the settings
of the tests, read `orgrealtime.testing.outbox`, and clear it before each test:

    @pytest.fixture(autouse=True)
    def _empty_outbox():
        orgrealtime.testing.outbox.clear()

Arguments and payloads are checked as ever. An event is there at once, as a mail would be, even if the transaction is
rolled back later; it isn't saved, so it has no `pk`, and `event_published` isn't sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import override_settings

from orgrealtime.delivery import hub
from orgrealtime.models import NotificationEvent
from orgrealtime.publishers import Publisher
from orgrealtime.testing.connections import close_connections

__all__ = ["OutboxPublisher", "capture_events", "close_hub", "outbox"]

outbox: list[NotificationEvent] = []


class OutboxPublisher(Publisher):
    """Appends events to `outbox`; needs no database."""

    def publish(self, event: NotificationEvent, using: str) -> NotificationEvent:
        """Append the event, unless its organisation has one with this `dedupe_key` already; return that or this."""
        if event.dedupe_key is not None:
            for first in outbox:
                if (first.organization_id, first.dedupe_key) == (event.organization_id, event.dedupe_key):
                    return first
        event.payload = json.loads(json.dumps(event.payload))  # what the caller changes later doesn't count
        outbox.append(event)
        return event


async def close_hub() -> None:
    """End what runs in the background of this event loop, and close the database connections of `sync_to_async`."""
    await hub.close_hub()
    await sync_to_async(close_connections)()


@contextmanager
def capture_events() -> Iterator[list[NotificationEvent]]:
    """Put what is published meanwhile into `outbox`, empty at the beginning, and give it."""
    given: dict[str, Any] = getattr(settings, "ORGREALTIME", {})
    outbox.clear()
    with override_settings(ORGREALTIME={**given, "PUBLISHER": f"{__name__}.{OutboxPublisher.__name__}"}):
        yield outbox
