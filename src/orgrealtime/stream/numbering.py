"""Numbering: what has committed gets its numbers, dense and in the order in which events became visible."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from django.db import Error, IntegrityError, OperationalError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef

from orgrealtime.concurrency.threads import give_up_connections, lock_timeouts
from orgrealtime.keys import organization_keys
from orgrealtime.models import NotificationEvent, Stream, new_epoch
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import database, dialect
from orgrealtime.stream.mending import mend
from orgrealtime.stream.types import Head, Numbering, NumberingOutcome
from orgrealtime.stream.writing import create

NUMBERING_BATCH = 500  # a page's worth: after a burst each is read as soon as it has numbers


def position(organization: models.Model, using: str | None = None) -> Position:
    """Return where the organisation's stream stands, committed events without a number included.

    Raises OperationalError while the table of the streams is locked; if that of the events is, the position is the last
    one numbered. In a transaction that is open it waits, as the caller's own statements do.
    """
    with lock_timeouts():
        return advance(organization_keys().of(organization), using)


def advance(organization_id: Any, using: str | None = None) -> Position:
    """Number all that has committed and return where the stream stands then.

    Inside an open transaction nothing is numbered, for that would hold the stream's lock until its end, nor while
    another transaction holds it; the position is then the last one numbered, which is never too far.
    """
    while True:
        position, has_more = advance_some(organization_id, using)
        if not has_more:
            return position


def advance_some(organization_id: Any, using: str | None = None) -> NumberingOutcome:
    """Number at most a batch of what has committed, for somebody who waits; else as `advance`."""
    connection = connections[using or database.alias()]
    if not _is_in_transaction(connection):
        try:
            return number(organization_id, connection.alias)
        except OperationalError as error:
            if not dialect.of(connection).is_locked_out(error):
                raise
    return _advance(organization_id, connection, partial(_look, organization_id, connection))


def number(organization_id: Any, using: str | None = None) -> NumberingOutcome:
    """Number at most a batch of what has committed; not inside an open transaction.

    Raises OperationalError if another transaction holds the stream's lock beyond `postgresql.LOCK_MILLISECONDS`.
    """
    connection = connections[using or database.alias()]
    step = partial(_number, organization_id, connection)
    try:
        return _advance(organization_id, connection, step)
    except Error as error:
        if not dialect.of(connection).forgoes_timeline(error):
            raise
        return _advance(organization_id, connection, step)


def _number(organization_id: Any, connection: BaseDatabaseWrapper) -> Numbering | None:
    step = partial(dialect.of(connection).number, organization_id, NUMBERING_BATCH)
    with database.as_primary(connection):
        try:
            return step()
        except IntegrityError:  # the next numbers are noted for addressees of events that are gone
            mend(organization_id, connection.alias)
            return step()


def _advance(
    organization_id: Any, connection: BaseDatabaseWrapper, step: Callable[[], Numbering | None]
) -> NumberingOutcome:
    while True:
        outcome = step()
        if outcome is None:
            create(organization_id, connection.alias)
        elif not outcome.is_at_home:
            dialect.of(connection).settle(organization_id)
        elif not outcome.is_whole:
            mend(organization_id, connection.alias)
        elif outcome.waiting == outcome.numbered:  # else another process has numbered meanwhile
            return NumberingOutcome(outcome.position, has_more=outcome.numbered == NUMBERING_BATCH)


def _look(organization_id: Any, connection: BaseDatabaseWrapper) -> Numbering | None:
    streams = Stream.objects.using(connection.alias).filter(pk=organization_id)
    row = streams.values("epoch", "head", "floor").first()
    return None if row is None else Numbering(Position(**row), 0, 0, is_whole=row["head"] >= 0)


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    # The transaction around each test of Django's TestCase doesn't count, as with `atomic(durable=True)`.
    blocks = connection.atomic_blocks
    if not blocks:
        return not connection.get_autocommit()
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


def renew(organization_id: Any, known: Cursor, using: str | None = None) -> Position:
    """Give a stream another epoch that isn't the one in which a cursor was given out; return where it stands.

    An older database has been put in place: once the stream has grown past that cursor, nothing else would tell.
    """
    using = using or database.alias()
    # The first process does it: for the others the stream has another epoch already.
    Stream.objects.using(using).filter(pk=organization_id, epoch=known.epoch).update(epoch=new_epoch())
    return advance_some(organization_id, using).position


def heads(organization_ids: Collection[Any], using: str | None = None) -> dict[Any, Head]:
    """Return how far the streams of several organisations are, in one query; what has no stream is left out.

    A server that takes no writes, as a primary that has been demoted, knows that no longer: its connections are given
    up, and it is asked anew.
    """
    connection = connections[using or database.alias()]
    rows = _heads(organization_ids, connection)
    if any(row[-1] for row in rows) and not connection.in_atomic_block:
        give_up_connections(connection)
        rows = _heads(organization_ids, connection)
    return {pk: Head(epoch, head, waits) for pk, epoch, head, waits, _ in rows}


def _heads(organization_ids: Collection[Any], connection: BaseDatabaseWrapper) -> list[tuple[Any, ...]]:
    pending = NotificationEvent.objects.using(connection.alias).filter(
        organization_id=OuterRef("pk"), seq=None
    )
    return list(
        Stream.objects.using(connection.alias)
        .filter(pk__in=organization_ids)
        .annotate(pending=Exists(pending), is_read_only=dialect.of(connection).is_read_only())
        .values_list("pk", "epoch", "head", "pending", "is_read_only")
    )
