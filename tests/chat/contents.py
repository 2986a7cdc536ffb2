"""What is in a stream about rooms, and what the database would give away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections

from orgrealtime import stream
from orgrealtime.access import Access
from orgrealtime.chat.errors import ChatError
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import database, topics
from tests.host.models import Organization


def events(organization: Organization, type: str | None = None) -> list[NotificationEvent]:
    """The events of an organisation, of one type, in the order in which they were published."""
    found = NotificationEvent.objects.filter(organization=organization).order_by("id")
    return list(found if type is None else found.filter(type=type))


def payloads(organization: Organization, type: str) -> list[dict[str, Any]]:
    return [event.payload for event in events(organization, type)]


def access_of(organization: Organization, user: User) -> Access:
    """What a user may see now."""
    stream.position(organization)
    (access,) = topics.with_topics([Access(organization.pk, user.pk)])
    return access


def caught_up(organization: Organization, user: User) -> list[str]:
    """The texts of all that a user catches up with from the beginning."""
    beginning = Cursor(stream.position(organization).epoch, 0)
    return [
        event.text
        for event in stream.read(organization.pk, beginning, access=access_of(organization, user)).events
    ]


def tables_with(text: str) -> list[str]:
    """The tables whose rows have a text anywhere, as a dump would show."""
    connection = connections[database.alias()]
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        return sorted({line.split('"')[1] for line in connection.connection.iterdump() if text in line})
    with connection.cursor() as cursor:
        found = []
        for table in connection.introspection.table_names(cursor):
            sql = f'SELECT count(*) FROM "{table}" AS line WHERE line::text LIKE %s'  # noqa: S608 - a table's name
            cursor.execute(sql, [f"%{text}%"])
            if cursor.fetchone()[0]:
                found.append(table)
    return sorted(found)


def refusal(work: Callable[[], Any]) -> ChatError:
    """With what something is refused."""
    with pytest.raises(ChatError) as caught:
        work()
    return caught.value
