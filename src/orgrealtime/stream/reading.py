"""Reading: pages of what has a number, for one reader, or for several organisations at once."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import Error, IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import database, dialect, numbering, topics
from orgrealtime.stream.access import Access, Topics
from orgrealtime.stream.rows import Columns, Followed, Row, decode, event_columns, joint, page_columns
from orgrealtime.stream.types import Page

PAGE_SIZE = 500
MERGED_TYPES = 50
PAGE_CHARS = 524_288  # a page ends with the event that exceeds it: what a reader waits for is kept in memory


def read(
    organization_id: Any,
    after: Cursor,
    *,
    access: Access | None = None,
    limit: int = PAGE_SIZE,
    position: Position | None = None,
    using: str | None = None,
) -> Page:
    """Return the next events after a cursor, oldest first: all of them, or all that `access` sees.

    `position` is what `advance` or `advance_some` has just returned, if the caller has asked it.
    Raises StreamReset if the cursor is of another epoch, beyond the head, or older than what is kept.
    """
    connection = connections[using or database.alias()]
    is_cut = False  # events wait for a number
    if position is None:
        position, is_cut = numbering.advance_some(organization_id, connection.alias)
    if position.resume(after) == position.head:
        return Page(position, [], position.head, is_cut)
    # The floor comes with the rows, in one snapshot: pruning between two statements would leave a silent gap.
    found = _select(connection, organization_id, access, _Span("ASC", limit + 1, after.seq))
    position, rows = found.position, found.rows[:limit]
    position.resume(after)
    has_more = len(rows) < found.in_all
    seq = rows[-1].seq if has_more else position.head
    events = decode(rows, position, connection)
    return Page(position, events, seq, has_more or is_cut, found.joint, _end(rows), found.topics)


def read_last(
    organization_id: Any,
    *,
    access: Access | None = None,
    limit: int = PAGE_SIZE,
    position: Position | None = None,
    using: str | None = None,
) -> Page:
    """Return the newest events, oldest first, at most `limit`; the reader stands at the head after them.

    `position` is what `advance` or `advance_some` has just returned, if the caller has asked it.
    """
    connection = connections[using or database.alias()]
    is_cut = position is None and numbering.advance_some(organization_id, connection.alias).has_more
    return _newest(connection, organization_id, access, limit)._replace(has_more=is_cut)


def read_recent(organization_id: Any, limit: int, using: str | None = None) -> Page:
    """Return the newest events that have a number, oldest first, all of them from the first one on, for everybody.

    At most `limit`, and as many as a page has room for.
    """
    return _newest(connections[using or database.alias()], organization_id, None, limit)


def _newest(connection: BaseDatabaseWrapper, organization_id: Any, access: Access | None, limit: int) -> Page:
    found = _select(connection, organization_id, access, _Span("DESC", limit))
    events = decode(found.rows[::-1], found.position, connection)
    return Page(found.position, events, found.position.head, has_more=False, topics=found.topics)


def follow(cursors: Mapping[Any, Cursor], *, limit: int = PAGE_SIZE) -> dict[Any, Page | StreamReset]:
    """Number what has committed in these organisations, and return for each all that comes after a cursor; not inside
    an open transaction.

    One statement for all of them on PostgreSQL, which waits for nobody. Left out are organisations that another
    process numbers at this moment, that have no stream yet, that have to be settled or mended, or that are too far
    behind: read them one by one, with `follow_one`.
    """
    connection = connections[database.alias()]
    try:
        with database.as_primary(connection):
            together = dialect.of(connection).follow(cursors, limit=limit, most=numbering.NUMBERING_BATCH)
    except IntegrityError:  # a stream has to be mended, which `follow_one` does
        return {}
    except Error as error:
        if not dialect.of(connection).forgoes_timeline(error):
            raise
        return {}
    if together is None:
        return {key: follow_one(key, after, limit=limit) for key, after in cursors.items()}
    return {key: _followed(cursors[key], found, connection) for key, found in together.items()}


def _followed(after: Cursor, found: Followed, connection: BaseDatabaseWrapper) -> Page | StreamReset:
    position, rows, has_more, joint = found
    try:
        position.resume(after)
    except StreamReset as reset:
        return reset
    return Page(position, decode(rows, position, connection), position.head, has_more, joint, _end(rows))


def _end(rows: list[Row]) -> datetime.datetime | str | None:
    return rows[-1].created_at if rows else None


def follow_one(organization_id: Any, after: Cursor, *, limit: int = PAGE_SIZE) -> Page | StreamReset:
    """Number what has committed in an organisation, and return the next events after a cursor, as `follow` does.

    Of a burst a page is numbered and read, so that the first of its events don't wait for the last, nor others for it.
    Raises OperationalError if another transaction holds the stream's lock beyond `postgresql.LOCK_MILLISECONDS`.
    """
    # Not `advance`, which would leave out events while the stream's lock is held, and say nothing of it.
    position, is_cut = numbering.number(organization_id)
    try:
        page = read(organization_id, after, limit=limit, position=position)
    except StreamReset as reset:
        return reset
    return page._replace(has_more=page.has_more or is_cut)


@dataclass(frozen=True, slots=True)
class _Span:
    """Which events are wanted: after number `after`, from the oldest on (ASC) or the newest (DESC), at most `limit`."""

    order: str
    limit: int
    after: int = 0


class _Selected(NamedTuple):
    """`rows` in the order asked for, of so many `in_all`: they end where a page would be too large.

    `joint` is when the event was created after which they come, and `topics` what the reader's access has.
    """

    position: Position
    rows: list[Row]
    in_all: int
    joint: datetime.datetime | str | None = None
    topics: Topics | None = None


def _select(
    connection: BaseDatabaseWrapper, organization_id: Any, access: Access | None, span: _Span
) -> _Selected:
    organization = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    wanted, params = (
        _of_all(organization, span) if access is None else _of_access(organization, access, span, connection)
    )
    here = dialect.of(connection)
    granted = None if access is None else topics.granted(access, connection)
    its_topics = "NULL"
    beginning, beginning_params = "", []
    if granted is not None:
        beginning, beginning_params = f"WITH granted (topic, from_seq) AS ({granted[0]})", granted[1]
        its_topics = f"(SELECT {here.object_of('topic', 'from_seq')} FROM granted)"
    # What a page has no room for is measured, not unpacked: a payload becomes text at the very end.
    sql = f"""
        {beginning} SELECT stream.epoch, stream.head, stream.floor, {page_columns(here.moment)}, page.count,
            ({joint("%s", "%s", here.moment)}) AS joint, {its_topics} AS topics
        FROM {Stream._meta.db_table} AS stream LEFT JOIN (
            SELECT * FROM (
                SELECT found.*, count(*) OVER () AS count,
                    sum(found.payload_chars) OVER (ORDER BY found.seq {span.order}) - found.payload_chars AS before
                FROM ({wanted}) AS found
            ) AS sized WHERE before < {PAGE_CHARS}
        ) AS page ON 1 = 1 WHERE stream.organization_id = %s ORDER BY page.seq {span.order}
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*beginning_params, organization, span.after, *params, organization])
        columns, found = Columns(cursor), cursor.fetchall()
    if not found:
        return _Selected(numbering.advance_some(organization_id, connection.alias).position, [], 0)
    count = columns.value("count")(found[0])
    rows = list(map(columns.take(Row), found)) if count else []
    first = found[0]
    return _Selected(
        columns.take(Position)(first),
        rows,
        count or 0,
        columns.value("joint")(first),
        None if granted is None else topics.read_topics(columns.value("topics")(first)),
    )


def _of_all(organization: Any, span: _Span) -> tuple[str, list[Any]]:
    sql = f"""
        SELECT {event_columns()} FROM {NotificationEvent._meta.db_table} AS event
        WHERE event.organization_id = %s AND event.seq > %s ORDER BY event.seq {span.order} LIMIT {span.limit}
    """
    return sql, [organization, span.after]


def _of_access(
    organization: Any, access: Access, span: _Span, connection: BaseDatabaseWrapper
) -> tuple[str, list[Any]]:
    # Index reads that are merged: of what all get, for each type that this user may see if they are few, and of what
    # this user gets. One condition for it all would read past what others got, and past all other types.
    event, recipient = NotificationEvent._meta.db_table, Recipient._meta.db_table
    columns, order, limit = event_columns(), span.order, span.limit
    types, type_params = access.type_condition("event.type")
    user = Recipient._meta.get_field("user").get_db_prep_value(access.user_id, connection)
    parts, params = [], []
    # What all get has no topic: nothing of it is for who sees one topic alone.
    shown = [] if access.only_topic is not None else access.type_conditions("event.type", MERGED_TYPES)
    for condition, condition_params in shown:
        parts.append(f"""
            SELECT {columns} FROM {event} AS event
            WHERE event.organization_id = %s AND event.audience IS NULL AND event.topic IS NULL AND event.seq > %s
                AND {condition}
            ORDER BY event.seq {order} LIMIT {limit}
        """)
        params += [organization, span.after, *condition_params]
    parts.append(f"""
        SELECT {columns} FROM {recipient} AS recipient
        JOIN {event} AS event ON event.organization_id = recipient.organization_id AND event.seq = recipient.seq
        WHERE recipient.organization_id = %s AND recipient.user_id = %s AND recipient.seq > %s AND {types}
            AND {_has_topic(access)}
        ORDER BY recipient.seq {order} LIMIT {limit}
    """)
    params += [organization, user, span.after, *type_params]
    if topics.has_providers():
        condition = f"event.seq > %s AND event.audience IS NULL AND {types}"
        parts.append(
            dialect.of(connection).of_topics(f"{condition} ORDER BY event.seq {order} LIMIT {limit}")
        )
        params += [organization, span.after, *type_params]
    union = " UNION ALL ".join(f"SELECT * FROM ({part}) AS part{number}" for number, part in enumerate(parts))
    return f"SELECT * FROM ({union}) AS merged ORDER BY seq {order} LIMIT {limit}", params


def _has_topic(access: Access) -> str:
    """Return the condition that agrees with `Access.sees` on the topic of an event that is for somebody."""
    if not topics.has_providers():
        return "event.topic IS NULL" if access.only_topic is None else "1 = 0"
    has = "event.seq >= (SELECT max(from_seq) FROM granted WHERE granted.topic = event.topic)"
    return has if access.only_topic is not None else f"(event.topic IS NULL OR {has})"
