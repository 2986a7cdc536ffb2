"""What is in a stream, and something to be in it."""

from __future__ import annotations

from orgrealtime import publish, stream
from orgrealtime.protocol.cursors import Cursor
from tests.host.models import Organization


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
