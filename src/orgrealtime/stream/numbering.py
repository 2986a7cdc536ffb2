"""Numbering: what has committed gets its numbers, dense and in the order in which events became visible."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from django.db import OperationalError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef

from orgrealtime.keys import organization_keys
from orgrealtime.models import NotificationEvent, Stream, new_epoch
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import database, dialect
from orgrealtime.stream.types import Head, Numbering
from orgrealtime.stream.writing import create

NUMBERING_BATCH = 1000


def position(organization: models.Model, using: str | None = None) -> Position:
    """Return where the organisation's stream stands, committed events without a number included."""
    return advance(organization_keys().of(organization), using)


def advance(organization_id: Any, using: str | None = None) -> Position:
    """Number what has committed and return where the stream stands then.

    Inside an open transaction nothing is numbered, for that would hold the stream's lock until its end, nor while
    somebody else holds it; the position is then the last one numbered, which is never too far.
    """
    connection = connections[using or database.alias()]
    if not _is_in_transaction(connection):
        try:
            return number(organization_id, connection.alias)
        except OperationalError as error:
            if not dialect.of(connection).is_locked_out(error):
                raise
    return _advance(organization_id, connection, partial(_look, organization_id, connection))


def number(organization_id: Any, using: str | None = None) -> Position:
    """Number what has committed and return where the stream stands then; not inside an open transaction.

    Raises OperationalError if somebody else holds the stream's lock for longer than `postgresql.LOCK_MILLISECONDS`.
    """
    connection = connections[using or database.alias()]
    step = partial(dialect.of(connection).number, organization_id, NUMBERING_BATCH)
    return _advance(organization_id, connection, step)


def _advance(
    organization_id: Any, connection: BaseDatabaseWrapper, step: Callable[[], Numbering | None]
) -> Position:
    while True:
        outcome = step()
        if outcome is None:
            create(organization_id, connection.alias)
        elif not outcome.is_at_home:
            dialect.of(connection).settle(organization_id)
        elif outcome.waiting == outcome.numbered < NUMBERING_BATCH:
            return outcome.position


def _look(organization_id: Any, connection: BaseDatabaseWrapper) -> Numbering | None:
    streams = Stream.objects.using(connection.alias).filter(pk=organization_id)
    row = streams.values("epoch", "head", "floor").first()
    return None if row is None else Numbering(Position(**row), 0, 0)


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    # The transaction around each test of Django's TestCase doesn't count, as with `atomic(durable=True)`.
    blocks = connection.atomic_blocks
    if not blocks:
        return not connection.get_autocommit()
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


def renew(organization_id: Any, known: Cursor, using: str | None = None) -> Position:
    """Give a stream another epoch if it ends before a cursor that it is known to have had; return where it stands.

    An older database has been restored: once the stream has grown past that cursor, nothing else would tell.
    """
    using = using or database.alias()
    streams = Stream.objects.using(using).filter(
        pk=organization_id, epoch=known.epoch, head__lt=known.seq
    )  # whoever comes first: to the others it has another epoch already
    streams.update(epoch=new_epoch())
    return advance(organization_id, using)


def heads(organization_ids: Collection[Any], using: str | None = None) -> dict[Any, Head]:
    """Return how far the streams of several organisations are, in one query; those that don't exist are left out."""
    using = using or database.alias()
    pending = NotificationEvent.objects.using(using).filter(organization_id=OuterRef("pk"), seq=None)
    rows = (
        Stream.objects.using(using)
        .filter(pk__in=organization_ids)
        .annotate(pending=Exists(pending))
        .values_list("pk", "epoch", "head", "pending")
    )
    return {pk: Head(epoch, head, waits) for pk, epoch, head, waits in rows}
