"""Mending: a stream that ends before events which have numbers begins anew beyond all of them."""

from __future__ import annotations

import logging
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.models import Entry, NotificationEvent, Recipient, Stream, new_epoch
from orgrealtime.stream import dialect

LOST = -1  # the head of a stream that is made again though events of it have numbers

logger = logging.getLogger("orgrealtime.stream")


def mend(organization_id: Any, using: str) -> None:
    """Give a stream that has been restored in parts another epoch and a head beyond all numbers; else do nothing.

    Its next numbers would be those of events that exist already, or of their addressees.
    """
    connection = connections[using]
    key = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    damage = _damage(key, connection)
    # The first process mends it: once another has, or has gone on with the stream, it isn't as it was found.
    if damage is not None and _begin_anew(key, *damage, connection):
        epoch, head, last, floor = damage
        logger.error(
            "the stream ended before its events; it begins anew beyond them and clients are told to reset",
            extra={
                "organization_id": str(organization_id),
                "cursor": f"{epoch}.{max(0, head)}",
                "last": last,
                "floor": floor,
            },
        )


def _damage(key: Any, connection: BaseDatabaseWrapper) -> tuple[str, int, int, int] | None:
    """Return epoch and head of a stream, the last number that is taken, and the floor then; None if it is whole."""
    models = Stream, NotificationEvent, Recipient, Entry
    stream, event, recipient, entry = (model._meta.db_table for model in models)
    # As far back as the newest events follow each other without a gap they can be read.
    sql = f"""
        WITH taken AS (
            SELECT COALESCE(max(seq), 0) AS last FROM (
                SELECT max(seq) AS seq FROM {event} WHERE organization_id = %s
                UNION ALL SELECT max(seq) FROM {recipient} WHERE organization_id = %s
                UNION ALL SELECT max(seq) FROM {entry} WHERE organization_id = %s
            ) AS numbers
        )
        SELECT epoch, head, last, last - (
            SELECT count(*) FROM (
                SELECT seq + row_number() OVER (ORDER BY seq DESC) AS place FROM {event} AS event
                WHERE event.organization_id = stream.organization_id AND seq > floor
            ) AS placed WHERE place = last + 1
        ) FROM {stream} AS stream, taken WHERE organization_id = %s AND head < last
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [key, key, key, key])
        found: tuple[str, int, int, int] | None = cursor.fetchone()
    return found


def _begin_anew(
    key: Any, epoch: str, head: int, last: int, floor: int, connection: BaseDatabaseWrapper
) -> bool:
    sql = f"""
        WITH patience AS MATERIALIZED (SELECT {dialect.of(connection).patience()})
        UPDATE {Stream._meta.db_table} AS stream SET epoch = %s, head = %s, floor = %s FROM patience
        WHERE organization_id = %s AND epoch = %s AND head = %s
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [new_epoch(), last, floor, key, epoch, head])
        return bool(cursor.rowcount)
