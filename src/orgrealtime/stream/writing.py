"""Writing: an event without a number, in the transaction of its publisher; and the stream that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import RawSQL

from orgrealtime.models import Entry, NotificationEvent, Recipient, Stream
from orgrealtime.stream import database, dialect
from orgrealtime.stream.mending import LOST
from orgrealtime.stream.rows import insertion


def append(event: NotificationEvent, using: str) -> bool:
    """Insert an event without a number, in the transaction that is open; return whether it is a new one.

    With a `dedupe_key` that its organisation has had before, `event` becomes the first one. One statement either way.
    """
    with database.as_primary(connections[using]):
        if event.dedupe_key is not None:
            return _insert_or_fetch(event, connections[using])
        event.save(using=using, force_insert=True)
        return True


def draw_event_id(using: str) -> int:
    """Return a primary key for an event that is inserted later in the transaction that is open."""
    connection = connections[using]
    with database.as_primary(connection), connection.cursor() as cursor:
        cursor.execute(f"SELECT {dialect.of(connection).event_id()}")
        return int(cursor.fetchone()[0])


def scrub(organization_id: Any, subject: str, patch: Mapping[str, Any], using: str) -> int:
    """Give the payloads of all events of a subject other values, where they have these keys; return how many there are.

    In the transaction that is open: numbering leaves out what it has locked. What processes have in memory goes with
    an event of the subject that `replaces`, published in the same transaction.
    """
    connection = connections[using]
    key = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    replaced = dialect.of(connection).existing_replaced("payload", len(patch))
    sql = f"""
        UPDATE {NotificationEvent._meta.db_table} SET payload = {replaced}
        WHERE organization_id = %s AND subject = %s
    """
    params = [part for name, value in patch.items() for part in (name, json.dumps(value))]
    with database.as_primary(connection), connection.cursor() as cursor:
        cursor.execute(sql, [*params, key, subject])
        return int(cursor.rowcount)


def forget_actor(organization_id: Any, subject: str, actor_id: Any, event_id: int, using: str) -> None:
    """Have the events of a subject say no more that it was this user who caused them, nor the entry of one of them.

    In the transaction that is open, and together with an event that `replaces` them, as `scrub`.
    """
    with database.as_primary(connections[using]):
        events = NotificationEvent.objects.using(using).filter(organization_id=organization_id)
        events.filter(subject=subject, actor_id=actor_id).update(actor_id=None)
        entries = Entry.objects.using(using).filter(organization_id=organization_id)
        entries.filter(event_id=event_id, actor_id=actor_id).update(actor_id=None)


def _insert_or_fetch(event: NotificationEvent, connection: BaseDatabaseWrapper) -> bool:
    sql, values = dialect.of(connection).insert_or_fetch(insertion(event, connection))
    stored: Any = None
    while stored is None:  # the first event may have been committed while the statement waited for that
        stored = next(iter(NotificationEvent.objects.using(connection.alias).raw(sql, values)), None)
    for field in event._meta.concrete_fields:
        setattr(event, field.attname, getattr(stored, field.attname))
    event._state.adding = False
    event._state.db = connection.alias
    return bool(stored.is_new)


def create(organization_id: Any, using: str) -> None:
    """Begin the stream of an organisation, unless it has one."""
    try:
        _create(organization_id, connections[using])
    except Error as error:
        if not dialect.of(connections[using]).forgoes_timeline(error):
            raise
        _create(organization_id, connections[using])


def _create(organization_id: Any, connection: BaseDatabaseWrapper) -> None:
    here = dialect.of(connection)
    key = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    stream = Stream(
        organization_id=organization_id, head=_first_head(key), table_oid=here.table_oid(), home=here.home()
    )
    Stream.objects.using(connection.alias).bulk_create([stream], ignore_conflicts=True)


def _first_head(key: Any) -> RawSQL:
    # What has numbers belongs to a stream that was lost. The head is before all of them: the first look mends it.
    tables = [model._meta.db_table for model in (NotificationEvent, Recipient, Entry)]
    newest = ", ".join(f"(SELECT max(seq) FROM {table} WHERE organization_id = %s)" for table in tables)
    return RawSQL(  # noqa: S611 - names of tables, from the models
        f"CASE WHEN COALESCE({newest}) IS NULL THEN 0 ELSE {LOST} END", [key] * len(tables)
    )
