"""The stream of an organisation: append, number, read, prune. The only writer of its three tables.

An event is inserted without a number, in the transaction of its publisher. After the commit somebody numbers it:
whoever wants to read does so first. Numbers are therefore in the order in which events became visible, and dense.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import logging
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import OperationalError, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast
from django.utils import timezone

from orgrealtime.errors import StreamReset
from orgrealtime.models import NotificationEvent, Recipient, Stream, new_epoch
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream.access import Access
from orgrealtime.stream.types import StreamEvent

__all__ = [
    "Access", "Cursor", "Head", "Page", "Position", "StreamEvent", "advance", "append", "count_up_to", "create",
    "follow", "follow_one", "heads", "number", "numbering_sql", "position", "prune", "read", "read_last", "read_recent",
    "renew",
    "retention_floor",
]  # fmt: skip

logger = logging.getLogger("orgrealtime.stream")

NUMBERING_BATCH = 1000
PAGE_SIZE = 500
LOCK_MILLISECONDS = 200
LOCK_NOT_AVAILABLE = "55P03"
PATIENCE = f"set_config('lock_timeout', '{LOCK_MILLISECONDS}', TRUE)"
EVENT_COLUMNS = ("seq", "type", "payload", "payload_chars", "created_at", "actor_id", "audience")
INTEGER_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
FOLLOWED_CHARS = 16_384  # up to 64 KB: what a socket takes though nobody reads from it
ROW_CHARS = 200  # about what a row takes besides its payload
PAGE_CHARS = 524_288  # a page ends with the event that exceeds it: what a reader waits for is kept in memory


class Page(NamedTuple):
    """Consecutive events after a cursor: the reader stands at number `seq` after them, `has_more` says if more wait."""

    position: Position
    events: list[StreamEvent]
    seq: int
    has_more: bool

    @property
    def cursor(self) -> str:
        """The cursor of a reader that has got this page."""
        return self.position.cursor_at(self.seq)


class Head(NamedTuple):
    """How far an organisation's stream is, and whether committed events wait for a number."""

    epoch: str
    head: int
    pending: bool


# ---------------------------------------------------------------------------------------------------- writing


def append(event: NotificationEvent, using: str) -> bool:
    """Insert an event without a number, in the transaction that is open; return whether it is a new one.

    With a `dedupe_key` that its organisation has had before, `event` becomes the first one. One statement either way.
    """
    if event.dedupe_key is not None:
        return _insert_or_fetch(event, using)
    event.save(using=using, force_insert=True)
    return True


def _insert_or_fetch(event: NotificationEvent, using: str) -> bool:
    sql, values = _insert_or_fetch_sql(event, connections[using])
    stored: Any = None
    while stored is None:  # the first event may have been committed while the statement waited for that
        stored = next(iter(NotificationEvent.objects.using(using).raw(sql, values)), None)
    for field in event._meta.concrete_fields:
        setattr(event, field.attname, getattr(stored, field.attname))
    event._state.adding = False
    event._state.db = using
    return bool(stored.is_new)


def _insert_or_fetch_sql(event: NotificationEvent, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
    values = {
        field.attname: field.get_db_prep_save(getattr(event, field.attname), connection)
        for field in event._meta.concrete_fields
        if field.attname not in {"id", "seq"} and not field.generated
    }
    table, columns = event._meta.db_table, ", ".join(values)
    all_columns = ", ".join(field.attname for field in event._meta.concrete_fields)
    insert = (
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(values))}) "
        f"ON CONFLICT (organization_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO"
    )
    if connection.vendor == "postgresql":
        # The first event isn't locked: numbering would have to wait for the transaction that is open here.
        sql = (
            f"WITH fresh AS ({insert} NOTHING RETURNING {all_columns}) "
            f"SELECT *, TRUE AS is_new FROM fresh UNION ALL SELECT {all_columns}, FALSE FROM {table} "
            f"WHERE organization_id = %s AND dedupe_key = %s ORDER BY is_new DESC"
        )
        return sql, [*values.values(), values["organization_id"], values["dedupe_key"]]
    # An update that changes nothing makes the first event come back.
    sql = (
        f"{insert} UPDATE SET dedupe_key = EXCLUDED.dedupe_key "
        f"RETURNING {all_columns}, created_at = %s AS is_new"
    )
    return sql, [*values.values(), values["created_at"]]


# -------------------------------------------------------------------------------------------------- numbering


def position(organization: models.Model, using: str | None = None) -> Position:
    """Return where the organisation's stream stands, committed events without a number included."""
    return advance(organization.pk, using)


def advance(organization_id: Any, using: str | None = None) -> Position:
    """Number what has committed and return where the stream stands then.

    Inside an open transaction nothing is numbered, for that would hold the stream's lock until its end, nor while
    somebody else holds it; the position is then the last one numbered, which is never too far.
    """
    using = using or router.db_for_write(NotificationEvent)
    connection = connections[using]
    if not _is_in_transaction(connection):
        try:
            return number(organization_id, using)
        except OperationalError as error:
            if not _is_locked_out(error):
                raise
    return _advance(organization_id, connection, _no_numbering)


def number(organization_id: Any, using: str | None = None) -> Position:
    """Number what has committed and return where the stream stands then; not inside an open transaction.

    Raises OperationalError if somebody else holds the stream's lock for longer than LOCK_MILLISECONDS.
    """
    connection = connections[using or router.db_for_write(NotificationEvent)]
    way = _number_postgresql if connection.vendor == "postgresql" else _number_portably
    return _advance(organization_id, connection, way)


def _advance(
    organization_id: Any,
    connection: BaseDatabaseWrapper,
    number: Callable[[Any, BaseDatabaseWrapper], _Numbering | None],
) -> Position:
    using = connection.alias
    while True:
        outcome = number(organization_id, connection)
        if outcome is None:
            create(organization_id, using)
        elif not outcome.is_at_home:
            _settle(organization_id, connection)
        elif outcome.waiting == outcome.numbered < NUMBERING_BATCH:
            return outcome.position


def _is_locked_out(error: OperationalError) -> bool:
    cause = error.__cause__
    return LOCK_NOT_AVAILABLE in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    # The transaction around each test of Django's TestCase doesn't count, as with `atomic(durable=True)`.
    blocks = connection.atomic_blocks
    if not blocks:
        return not connection.get_autocommit()
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


class _Numbering(NamedTuple):
    position: Position
    waiting: int
    numbered: int
    is_at_home: bool = True


def create(organization_id: Any, using: str) -> None:
    """Begin the stream of an organisation, unless it has one."""
    stream = Stream(organization_id=organization_id)
    if connections[using].vendor == "postgresql":
        stream.table_oid = RawSQL("%s::regclass::oid::bigint", [Stream._meta.db_table])
    Stream.objects.using(using).bulk_create([stream], ignore_conflicts=True)


def renew(organization_id: Any, known: Cursor, using: str | None = None) -> Position:
    """Give a stream another epoch if it ends before a cursor that it is known to have had; return where it stands.

    An older database has been restored: once the stream has grown past that cursor, nothing else would tell.
    """
    using = using or router.db_for_write(NotificationEvent)
    streams = Stream.objects.using(using).filter(
        pk=organization_id, epoch=known.epoch, head__lt=known.seq
    )  # whoever comes first: to the others it has another epoch already
    streams.update(epoch=new_epoch())
    return advance(organization_id, using)


def _settle(organization_id: Any, connection: BaseDatabaseWrapper) -> None:
    # The row has been copied into another table, as when a dump is restored: how far the stream was is unknown.
    stream = Stream._meta.db_table
    sql = f"""
    WITH patience AS MATERIALIZED (SELECT {PATIENCE})
    UPDATE {stream} AS stream
    SET table_oid = stream.tableoid::bigint, epoch = CASE WHEN table_oid IS NULL THEN epoch ELSE %s END
    FROM patience WHERE organization_id = %s AND table_oid IS DISTINCT FROM stream.tableoid::bigint
    """
    organization = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    with connection.cursor() as cursor:
        cursor.execute(sql, [new_epoch(), organization])


def _no_numbering(organization_id: Any, connection: BaseDatabaseWrapper) -> _Numbering | None:
    streams = Stream.objects.using(connection.alias).filter(pk=organization_id)
    row = streams.values_list("epoch", "head", "floor").first()
    return None if row is None else _Numbering(Position(*row), 0, 0)


@functools.cache
def _numbering_sql(key: str, user_key: str, patience: str, who_waits: str) -> str:
    # One statement, so that no client ever holds a stream's lock while it sleeps, hangs or dies. All parts of a
    # statement see the snapshot of its start, except rows that FOR UPDATE locks, which are the newest. If the two
    # heads differ, somebody has numbered since the snapshot: nothing is done, and the caller tries again. Events that
    # a transaction of the host has locked (deleting a user does, for the actor) get their numbers when it has ended.
    # The wait for the stream itself is bounded, within this statement: who deletes an organisation holds its stream.
    event, stream, recipient = (model._meta.db_table for model in (NotificationEvent, Stream, Recipient))
    columns = ", ".join(f"event.{column}" for column in EVENT_COLUMNS)
    return f"""
    WITH asked AS (
        SELECT * FROM unnest(%(orgs)s::{key}[], %(after)s::bigint[])
            WITH ORDINALITY AS asked (organization_id, after, place)
    ), seen AS (
        SELECT stream.organization_id, asked.after, epoch, head, floor,
            table_oid IS NOT DISTINCT FROM stream.tableoid::bigint AS is_at_home, EXISTS (
                SELECT 1 FROM {event} AS event WHERE event.organization_id = stream.organization_id AND seq IS NULL
            ) AS has_pending
        FROM asked JOIN {stream} AS stream USING (organization_id)
    ), patience AS MATERIALIZED (
        SELECT {patience}
    ), locked AS (
        SELECT stream.organization_id, stream.head
        FROM seen JOIN {stream} AS stream USING (organization_id), patience
        WHERE seen.is_at_home AND seen.has_pending AND seen.after <= seen.head FOR UPDATE OF stream {who_waits}
    ), pending AS (
        SELECT oldest.id, locked.organization_id, locked.head,
            row_number() OVER (PARTITION BY locked.organization_id ORDER BY oldest.id) AS place
        FROM locked CROSS JOIN LATERAL (
            SELECT event.id FROM {event} AS event
            WHERE event.organization_id = locked.organization_id AND event.seq IS NULL
            ORDER BY event.id LIMIT %(most)s FOR UPDATE OF event SKIP LOCKED
        ) AS oldest
    ), numbered AS (
        UPDATE {event} AS event SET seq = pending.head + pending.place FROM pending JOIN seen USING (organization_id)
        WHERE event.id = pending.id AND pending.head = seen.head
        RETURNING event.organization_id, {columns}
    ), addressed AS (
        INSERT INTO {recipient} (organization_id, user_id, seq)
        SELECT DISTINCT organization_id, who::{user_key}, seq FROM numbered, jsonb_array_elements_text(
            CASE WHEN jsonb_typeof(audience) = 'array' THEN audience ELSE '[]' END
        ) AS who WHERE {_is_key(user_key)}
    ), newest AS (
        SELECT organization_id, max(seq) AS head, count(*) AS count FROM numbered GROUP BY organization_id
    ), raised AS (
        UPDATE {stream} AS stream SET head = newest.head FROM newest
        WHERE stream.organization_id = newest.organization_id
    ), waiting AS (
        SELECT organization_id, count(*) AS count FROM pending GROUP BY organization_id
    ), outcome AS (
        SELECT seen.organization_id, seen.epoch, seen.floor, seen.is_at_home, seen.has_pending, seen.head AS seen_head,
            locked.head AS locked_head, newest.head AS new_head,
            COALESCE(waiting.count, 0) AS waiting, COALESCE(newest.count, 0) AS numbered
        FROM seen LEFT JOIN locked USING (organization_id) LEFT JOIN newest USING (organization_id)
            LEFT JOIN waiting USING (organization_id)
    )"""


def numbering_sql(connection: BaseDatabaseWrapper, *, waits: bool) -> str:
    """Return the beginning of a statement that numbers the pending events of organisations, at most `most` of each.

    What follows may select from `outcome`, a row per organisation, and `numbered`, the events that have got a number
    now. A stream that somebody else has locked is waited for, or not numbered; nor is one that ends before a cursor it
    is known to have had, which would hide that. Parameters: `orgs`, `after`, `most`.
    """
    key = str(Stream._meta.pk.db_type(connection))
    user_key = str(Recipient._meta.get_field("user").db_type(connection))
    # In the transaction of a TestCase a setting would last beyond the statement.
    patience = "1" if connection.in_atomic_block else PATIENCE
    return _numbering_sql(key, user_key, patience, "" if waits else "SKIP LOCKED")


def _number_postgresql(organization_id: Any, connection: BaseDatabaseWrapper) -> _Numbering | None:
    organization = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    sql = f"""{numbering_sql(connection, waits=True)}
    SELECT epoch, COALESCE(new_head, locked_head, seen_head), floor, waiting, numbered, is_at_home FROM outcome
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, {"orgs": [organization], "after": [0], "most": NUMBERING_BATCH})
        row = cursor.fetchone()
    if row is None:
        return None
    epoch, head, floor, waiting, numbered, is_at_home = row
    return _Numbering(Position(epoch, head, floor), waiting, numbered, is_at_home)


def _is_key(user_key: str) -> str:
    # What somebody has put there by hand, and is no key, is left out: the cast would stop the stream for ever.
    if user_key == "uuid":
        return "who ~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$'"
    if user_key in INTEGER_BITS:
        most = 2 ** (INTEGER_BITS[user_key] - 1) - 1
        return f"CASE WHEN who ~ '^-?[0-9]{{1,19}}$' THEN who::numeric BETWEEN {-most - 1} AND {most} ELSE FALSE END"
    return "who IS NOT NULL"


def _number_portably(organization_id: Any, connection: BaseDatabaseWrapper) -> _Numbering | None:
    using = connection.alias
    streams = Stream.objects.using(using).filter(pk=organization_id)
    pending = NotificationEvent.objects.using(using).filter(organization_id=organization_id, seq=None)
    row = streams.annotate(pending=Exists(pending)).values_list("epoch", "head", "floor", "pending").first()
    if row is None:
        return None
    if not row[3]:
        return _Numbering(Position(*row[:3]), 0, 0)
    with transaction.atomic(using):
        streams.update(head=models.F("head"))  # takes SQLite's write lock before anything is read under it
        stream = streams.get()
        as_text = Cast("audience", models.TextField())
        waiting = list(pending.order_by("id").only("id").annotate(text=as_text)[:NUMBERING_BATCH])
        for seq, event in enumerate(waiting, stream.head + 1):
            event.seq = seq
        NotificationEvent.objects.using(using).bulk_update(waiting, ["seq"])
        Recipient.objects.using(using).bulk_create(_recipients(organization_id, waiting))
        streams.update(head=stream.head + len(waiting))
    return _Numbering(
        Position(stream.epoch, stream.head + len(waiting), stream.floor), len(waiting), len(waiting)
    )


def _recipients(organization_id: Any, events: Iterable[NotificationEvent]) -> list[Recipient]:
    return [
        Recipient(organization_id=organization_id, user_id=user_id, seq=event.seq)
        for event in events
        if event.seq is not None
        for user_id in _addressed(event.text)  # type: ignore[attr-defined]
    ]


def _addressed(audience: str | None) -> Collection[Any]:
    if audience is None:
        return ()
    try:
        keys = _audience(json.loads(audience))
        for key in keys:
            get_user_model()._meta.pk.clean(key, None)
        return keys
    except (TypeError, ValueError, ValidationError):
        return ()  # somebody has edited it; whoever reads the event will say so


def _audience(stored: Any) -> frozenset[Any]:
    if not isinstance(stored, list) or None in stored:
        raise TypeError("an audience is a list of primary keys")
    to_python = get_user_model()._meta.pk.to_python
    return frozenset(to_python(user_id) for user_id in stored)


def heads(organization_ids: Collection[Any], using: str | None = None) -> dict[Any, Head]:
    """Return how far the streams of several organisations are, in one query; those that don't exist are left out."""
    using = using or router.db_for_write(NotificationEvent)
    pending = NotificationEvent.objects.using(using).filter(organization_id=OuterRef("pk"), seq=None)
    rows = (
        Stream.objects.using(using)
        .filter(pk__in=organization_ids)
        .annotate(pending=Exists(pending))
        .values_list("pk", "epoch", "head", "pending")
    )
    return {pk: Head(epoch, head, waits) for pk, epoch, head, waits in rows}


# ---------------------------------------------------------------------------------------------------- reading


def read(
    organization_id: Any,
    after: Cursor,
    *,
    access: Access | None = None,
    limit: int = PAGE_SIZE,
    position: Position | None = None,
    using: str | None = None,
) -> Page:
    """Return the next events after a cursor, oldest first: all of them, or those that `access` may see.

    `position` is what `advance` has just returned, if the caller has asked it.
    Raises StreamReset if the cursor is of another epoch, beyond the head, or older than what is kept.
    """
    position = position or advance(organization_id, using)
    if position.resume(after) == position.head:
        return Page(position, [], position.head, has_more=False)
    # The floor comes with the rows, in one snapshot: pruning between two statements would leave a silent gap.
    position, rows, count = _select(organization_id, access, "seq > %s", after.seq, "ASC", limit + 1, using)
    position.resume(after)
    rows = rows[:limit]
    has_more = len(rows) < count
    return Page(
        position, _decode(rows, position, using), rows[-1].seq if has_more else position.head, has_more
    )


def read_last(
    organization_id: Any,
    *,
    access: Access | None = None,
    limit: int = PAGE_SIZE,
    position: Position | None = None,
    using: str | None = None,
) -> Page:
    """Return the newest events, oldest first, at most `limit`; the reader stands at the head after them.

    `position` is what `advance` has just returned, if the caller has asked it.
    """
    if position is None:
        advance(organization_id, using)
    position, rows, _ = _select(organization_id, access, "seq > %s", 0, "DESC", limit, using)
    return Page(position, _decode(rows[::-1], position, using), position.head, has_more=False)


def read_recent(organization_id: Any, limit: int, using: str | None = None) -> Page:
    """Return the newest events that have a number, oldest first, all of them from the first one on, for everybody.

    At most `limit`, and as many as a page has room for.
    """
    position, rows, _ = _select(organization_id, None, "seq > %s", 0, "DESC", limit, using)
    return Page(position, _decode(rows[::-1], position, using), position.head, has_more=False)


def follow(cursors: Mapping[Any, Cursor], *, limit: int = PAGE_SIZE) -> dict[Any, Page | StreamReset]:
    """Number what has committed in these organisations, and return for each all that comes after a cursor; not inside
    an open transaction.

    One statement for all of them on PostgreSQL, which waits for nobody. Left out are those that somebody else numbers
    at this moment, that have no stream yet, or that are too far behind: read them one by one, with `follow_one`.
    """
    connection = connections[router.db_for_write(NotificationEvent)]
    if connection.vendor == "postgresql":
        return _follow_together(cursors, limit, connection)
    return {
        organization_id: follow_one(organization_id, after, limit=limit)
        for organization_id, after in cursors.items()
    }


def follow_one(organization_id: Any, after: Cursor, *, limit: int = PAGE_SIZE) -> Page | StreamReset:
    """Number what has committed in an organisation, and return the next events after a cursor, as `follow` does.

    Raises OperationalError if somebody else holds the stream's lock for longer than LOCK_MILLISECONDS.
    """
    # Not `advance`, which would leave out events while somebody holds the stream's lock, and say nothing of it.
    position = number(organization_id)
    try:
        return read(organization_id, after, limit=limit, position=position)
    except StreamReset as reset:
        return reset


class _Outcome(NamedTuple):
    """What `_following_sql` says of an organisation, beside its events."""

    place: int  # among those that were asked for, from 1 on
    epoch: str
    floor: int
    head: int
    is_cut: bool  # more of them wait than were to get one


def _follow_together(
    cursors: Mapping[Any, Cursor], limit: int, connection: BaseDatabaseWrapper
) -> dict[Any, Page | StreamReset]:
    asked = list(cursors.items())
    values: dict[str, Any] = {
        "orgs": [
            Stream._meta.pk.get_db_prep_value(organization_id, connection) for organization_id, _ in asked
        ],
        "after": [after.seq for _, after in asked],
        "most": max(1, NUMBERING_BATCH // len(asked)),
        "limit": max(1, limit // len(asked)),
        "room": FOLLOWED_CHARS,
    }
    with connection.cursor() as database:
        database.execute(_following_sql(connection), values)
        rows = database.fetchall()
    width = len(_Outcome._fields)
    found: dict[Any, Page | StreamReset] = {}
    for place, (first, *more) in itertools.groupby(rows, operator.itemgetter(0)):
        organization_id, after = asked[place - 1]
        events = [_Row(*row[width:]) for row in (first, *more) if row[width] is not None]
        found[organization_id] = _followed(after, _Outcome(*first[:width]), events, connection.alias)
    return found


def _followed(after: Cursor, outcome: _Outcome, rows: list[_Row], using: str) -> Page | StreamReset:
    position = Position(outcome.epoch, outcome.head, outcome.floor)
    try:
        position.resume(after)
    except StreamReset as reset:
        return reset
    return Page(position, _decode(rows, position, using), position.head, outcome.is_cut)


def _following_sql(connection: BaseDatabaseWrapper) -> str:
    # What had a number before is read in the snapshot in which `seen_head` is the newest; what gets one now follows
    # it without a gap, since nothing is numbered if the stream has gone on since; if it has, what it is now isn't known
    # here. PostgreSQL commits when the rows have been taken, and a client that hangs must not keep others out: so there
    # are no more rows than the buffers of a socket have room for, of the smallest first.
    event = NotificationEvent._meta.db_table
    columns = ", ".join(f"event.{column}" for column in EVENT_COLUMNS)
    return f"""{numbering_sql(connection, waits=False)}, found AS (
        SELECT * FROM numbered UNION ALL
        SELECT asked.organization_id, kept.* FROM asked CROSS JOIN LATERAL (
            SELECT {columns} FROM {event} AS event
            WHERE event.organization_id = asked.organization_id AND event.seq > asked.after
            ORDER BY event.seq LIMIT %(limit)s + 1
        ) AS kept
    ), weighed AS (
        SELECT organization_id, count(*) AS count, sum(
            {ROW_CHARS} + payload_chars + COALESCE(length(CAST(audience AS text)), 0)
        ) AS weight FROM found GROUP BY organization_id
    ), heaped AS (
        SELECT organization_id, count, sum(weight) OVER (ORDER BY weight, organization_id) AS heap FROM weighed
    )
    SELECT asked.place, epoch, floor, COALESCE(new_head, seen_head), waiting = %(most)s,
        {_columns(connection)}
    FROM asked JOIN outcome USING (organization_id) LEFT JOIN heaped USING (organization_id)
        LEFT JOIN found AS page ON page.organization_id = asked.organization_id AND asked.after <= seen_head
    WHERE is_at_home AND (asked.after > seen_head OR (
        (NOT has_pending OR (locked_head = seen_head AND waiting = numbered))
        AND (heap IS NULL OR (heap <= %(room)s AND heaped.count <= %(limit)s))
    ))
    ORDER BY asked.place, page.seq
    """


class _Row(NamedTuple):
    seq: int
    type: str
    payload: str
    created_at: datetime.datetime | str | None
    actor: Any
    audience: str | None


def _columns(connection: BaseDatabaseWrapper) -> str:
    created_at = "page.created_at"
    if connection.vendor == "postgresql":
        # As text: PostgreSQL knows moments that Python doesn't, and one such row would spoil the page it is in.
        offset = "TZH:TZM" if settings.USE_TZ else ""
        created_at = f"to_char(page.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US{offset}')"
    return f"page.seq, page.type, CAST(page.payload AS text), {created_at}, page.actor_id, CAST(page.audience AS text)"


def _select(
    organization_id: Any,
    access: Access | None,
    condition: str,
    bound: int,
    order: str,
    limit: int,
    using: str | None,
) -> tuple[Position, list[_Row], int]:
    """Return the position, the rows in order, and how many there are: the rows end where a page would be too large."""
    connection = connections[using or router.db_for_write(NotificationEvent)]
    organization = Stream._meta.pk.get_db_prep_value(organization_id, connection)
    event, stream, recipient = (model._meta.db_table for model in (NotificationEvent, Stream, Recipient))
    columns = ", ".join(f"event.{column}" for column in EVENT_COLUMNS)
    if access is None:
        inner = f"""
        SELECT {columns} FROM {event} AS event
        WHERE event.organization_id = %s AND event.{condition} ORDER BY event.seq {order} LIMIT {limit}
        """
        params = [organization, bound]
    else:
        # Two index reads that are merged. One condition with OR would read past all that others got.
        types, type_params = access.type_condition("event.type")
        user = Recipient._meta.get_field("user").get_db_prep_value(access.user_id, connection)
        inner = f"""
        SELECT * FROM (
            SELECT {columns} FROM {event} AS event
            WHERE event.organization_id = %s AND event.audience IS NULL AND event.{condition} AND {types}
            ORDER BY event.seq {order} LIMIT {limit}
        ) AS shared UNION ALL SELECT * FROM (
            SELECT {columns} FROM {recipient} AS recipient
            JOIN {event} AS event ON event.organization_id = recipient.organization_id AND event.seq = recipient.seq
            WHERE recipient.organization_id = %s AND recipient.user_id = %s AND recipient.{condition} AND {types}
            ORDER BY recipient.seq {order} LIMIT {limit}
        ) AS addressed ORDER BY seq {order} LIMIT {limit}
        """
        params = [organization, bound, *type_params, organization, user, bound, *type_params]
    # What a page has no room for is measured, not unpacked: a payload becomes text at the very end.
    sql = f"""
        SELECT stream.epoch, stream.head, stream.floor, {_columns(connection)}, page.count
        FROM {stream} AS stream LEFT JOIN (
            SELECT * FROM (
                SELECT found.*, count(*) OVER () AS count,
                    sum(found.payload_chars) OVER (ORDER BY found.seq {order}) - found.payload_chars AS before
                FROM ({inner}) AS found
            ) AS sized WHERE before < {PAGE_CHARS}
        ) AS page ON 1 = 1 WHERE stream.organization_id = %s ORDER BY page.seq {order}
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*params, organization])
        rows = cursor.fetchall()
    if not rows:
        return advance(organization_id, using), [], 0
    found = [_Row(*row[3:-1]) for row in rows if row[3] is not None]
    return Position(*rows[0][:3]), found, rows[0][-1] or 0


def _decode(rows: Sequence[_Row], position: Position, using: str | None) -> list[StreamEvent]:
    zone = (
        connections[using or router.db_for_write(NotificationEvent)].timezone
        or timezone.get_default_timezone()
    )
    return [event for row in rows if (event := _decode_row(row, position, zone)) is not None]


def _decode_row(row: _Row, position: Position, zone: datetime.tzinfo) -> StreamEvent | None:
    try:
        actor = None if row.actor is None else get_user_model()._meta.pk.to_python(row.actor)
        text = wire.encode_event(
            row.type,
            position.cursor_at(row.seq),
            _utc(row.created_at, zone),
            actor if isinstance(actor, int | None) else str(actor),
            row.payload,
        )
        audience = None if row.audience is None else _audience(json.loads(row.audience))
        return StreamEvent(row.seq, row.type, text, audience)
    except Exception as error:
        # Somebody has edited the row: better to lose one event loudly than to stop the stream for ever.
        logger.error(
            "event skipped, its row can't be encoded",
            extra={"cursor": position.cursor_at(row.seq), "seq": row.seq, "error": type(error).__name__},
        )
        return None


def _utc(moment: datetime.datetime | str | None, zone: datetime.tzinfo) -> datetime.datetime:
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.fromisoformat(moment or "")
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=zone)).astimezone(datetime.UTC)


# ---------------------------------------------------------------------------------------------------- pruning


def retention_floor(
    organization_id: Any, *, before: datetime.datetime | None, keep: int | None, using: str | None = None
) -> int:
    """Return the number up to which events may go: all older than `before`, and all but the newest `keep`."""
    using = using or router.db_for_write(NotificationEvent)
    position = advance(organization_id, using)
    floor = position.floor
    if keep is not None:
        floor = max(floor, position.head - keep)
    if before is not None:
        numbered = NotificationEvent.objects.using(using).filter(
            organization_id=organization_id, seq__gt=floor, created_at__gte=before
        )
        first_kept = numbered.order_by("seq").values_list("seq", flat=True).first()
        floor = max(floor, position.head if first_kept is None else first_kept - 1)
    return floor


def prune(organization_id: Any, floor: int, *, batch: int = 1000, using: str | None = None) -> Iterator[int]:
    """Delete all events up to number `floor`, in batches; yield how many events each batch has deleted.

    The floor is raised first: from then on a reader that is behind it is told `reset`.
    """
    using = using or router.db_for_write(NotificationEvent)
    streams = Stream.objects.using(using).filter(pk=organization_id)
    streams.filter(floor__lt=floor).update(floor=floor)
    events = NotificationEvent.objects.using(using).filter(organization_id=organization_id, seq__lte=floor)
    recipients = Recipient.objects.using(using).filter(organization_id=organization_id)
    while True:
        seqs = list(events.order_by("seq").values_list("seq", flat=True)[:batch])
        if not seqs:
            return
        with transaction.atomic(using):
            recipients.filter(seq__lte=seqs[-1])._raw_delete(using)
            events.filter(seq__lte=seqs[-1])._raw_delete(using)
        yield len(seqs)


def count_up_to(organization_id: Any, floor: int, *, using: str | None = None) -> int:
    """Return how many events have a number up to `floor`."""
    using = using or router.db_for_write(NotificationEvent)
    return (
        NotificationEvent.objects.using(using).filter(organization_id=organization_id, seq__lte=floor).count()
    )
