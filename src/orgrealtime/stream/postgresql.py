"""The statements of a stream in PostgreSQL."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import Error, OperationalError, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from orgrealtime.keys import INTEGER_BITS
from orgrealtime.models import CATEGORY_MARK, Entry, NotificationEvent, Recipient, Stream, new_epoch
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream.database import LOCK_NOT_AVAILABLE, SERIALIZATION_FAILURE, sqlstates
from orgrealtime.stream.rows import (
    EVENT_COLUMNS,
    NOTED_COLUMNS,
    Columns,
    Followed,
    Insertion,
    Row,
    event_columns,
    joint,
    page_columns,
)
from orgrealtime.stream.types import Numbering

logger = logging.getLogger("orgrealtime.database")

LOCK_MILLISECONDS = 200
PATIENCE = f"set_config('lock_timeout', '{LOCK_MILLISECONDS}', TRUE)"
# Which database, and which timeline of its server's history: a copy by CREATE DATABASE is another database, and each
# promotion begins another timeline, which a restart doesn't. Both are for every role to see. A database's number isn't
# looked up by its name: what each connection already knows of its catalog costs less.
DATABASE = "split_part(pg_relation_filepath('pg_catalog.pg_class'::regclass), '/', -2)"
TIMELINE = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
NO_SUCH_FUNCTION = {"0A000", "42501", "42883"}  # not supported, not allowed, not there
FOLLOWED_CHARS = 16_384  # up to 64 KB: what a socket takes though its client doesn't read
ROW_CHARS = 200  # about what a row takes besides its payload


_without_timeline: set[str] = set()  # aliases of databases that don't tell it


class _Outcome(NamedTuple):
    """What a numbering says of one organisation."""

    epoch: str
    head: int
    floor: int
    waiting: int
    numbered: int
    is_at_home: bool
    is_whole: bool


class _Found(NamedTuple):
    """What following says of one organisation, beside its events."""

    epoch: str
    head: int
    floor: int
    is_cut: bool  # more events wait than were to get a number
    joint: str | None
    seq: int | None  # of the first event; None: there is none


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """What a stream needs of PostgreSQL: one statement for each step, so that nothing is held between two."""

    connection: BaseDatabaseWrapper

    def number(self, organization_id: Any, most: int) -> Numbering | None:
        """Number at most `most` of the events that wait; return None if the organisation has no stream.

        Raises OperationalError if another transaction holds the stream's lock for longer than LOCK_MILLISECONDS.
        """
        sql = f"""{self._numbering(waits=True)}
        SELECT epoch, COALESCE(new_head, locked_head, seen_head) AS head, floor, waiting, numbered,
            is_at_home, is_whole
        FROM outcome
        """
        with self.connection.cursor() as cursor:
            cursor.execute(sql, {"orgs": [self._key(organization_id)], "after": [0], "most": most})
            row = cursor.fetchone()
            if row is None:
                return None
            outcome = Columns(cursor).take(_Outcome)(row)
        position = Position(outcome.epoch, outcome.head, outcome.floor)
        return Numbering(position, outcome.waiting, outcome.numbered, outcome.is_at_home, outcome.is_whole)

    def settle(self, organization_id: Any) -> None:
        """Make a stream at home where it is now, with another epoch."""
        # The row has been copied, with its table, as when a dump is restored, or with the whole database, or a standby
        # has been promoted: how far the stream was is unknown. What was never noted down is taken as it is found.
        stream = Stream._meta.db_table
        sql = f"""
        WITH patience AS MATERIALIZED (SELECT {self.patience()}), here AS MATERIALIZED (SELECT {self._home()} AS home)
        UPDATE {stream} AS stream
        SET table_oid = stream.tableoid::bigint, home = here.home, epoch = CASE WHEN
            COALESCE(table_oid, stream.tableoid::bigint) = stream.tableoid::bigint
            AND COALESCE(stream.home, here.home) = here.home THEN epoch ELSE %s END
        FROM patience, here WHERE organization_id = %s AND (
            table_oid IS DISTINCT FROM stream.tableoid::bigint OR stream.home IS DISTINCT FROM here.home
        )
        """
        with self.connection.cursor() as cursor:
            cursor.execute(sql, [new_epoch(), self._key(organization_id)])

    def is_locked_out(self, error: OperationalError) -> bool:
        """Tell whether another transaction has held a lock for too long, or changed what was waited for."""
        return not {LOCK_NOT_AVAILABLE, SERIALIZATION_FAILURE}.isdisjoint(sqlstates(error))

    def is_read_only(self) -> RawSQL:
        """Return whether the server takes no writes, as a standby or a primary that has been demoted."""
        return RawSQL("current_setting('transaction_read_only')::boolean", [], models.BooleanField())

    def follow(self, cursors: Mapping[Any, Cursor], *, limit: int, most: int) -> dict[Any, Followed]:
        """Number at most `most` events, and find at most `limit` after the cursors, of all organisations together.

        Left out are organisations that can't be read without waiting, or that would make the whole too large.
        """
        asked = list(cursors.items())
        values: dict[str, Any] = {
            "orgs": [self._key(organization_id) for organization_id, _ in asked],
            "after": [after.seq for _, after in asked],
            "most": max(1, most // len(asked)),
            "limit": max(1, limit // len(asked)),
            "room": FOLLOWED_CHARS,
        }
        with self.connection.cursor() as cursor:
            cursor.execute(self._following(), values)
            columns, found = Columns(cursor), cursor.fetchall()
        to_found, to_row = columns.take(_Found), columns.take(Row)
        followed: dict[Any, Followed] = {}
        for place, group in itertools.groupby(found, columns.value("place")):
            of_one = list(group)
            outcome = to_found(of_one[0])
            position = Position(outcome.epoch, outcome.head, outcome.floor)
            rows = [] if outcome.seq is None else list(map(to_row, of_one))
            followed[asked[place - 1][0]] = Followed(position, rows, outcome.is_cut, outcome.joint)
        return followed

    def insert_or_fetch(self, insertion: Insertion) -> tuple[str, list[Any]]:
        """Return the statement that inserts an event, or finds the first one with its key, and its parameters."""
        # The first event isn't locked: numbering would have to wait for the transaction that is open here.
        sql, values, table, all_columns = insertion
        sql = (
            f"WITH fresh AS ({sql} NOTHING RETURNING {all_columns}) "
            f"SELECT *, TRUE AS is_new FROM fresh UNION ALL SELECT {all_columns}, FALSE FROM {table} "
            f"WHERE organization_id = %s AND dedupe_key = %s ORDER BY is_new DESC"
        )
        return sql, [*values.values(), values["organization_id"], values["dedupe_key"]]

    def event_id(self) -> str:
        """Return the expression that draws a primary key out of the table's own sequence."""
        return f"nextval(pg_get_serial_sequence('{NotificationEvent._meta.db_table}', 'id'))"

    def in_turn(self, name: str) -> models.Func:
        """Return an expression that waits for other transactions that have selected it with this name.

        It is computed before the row it stands in is locked, as PostgreSQL locks rows last; it is held until the end.
        """
        digest = hashlib.blake2s(name.encode(), digest_size=8).digest()
        key = models.Value(int.from_bytes(digest, signed=True), output_field=models.BigIntegerField())
        return models.Func(key, function="pg_advisory_xact_lock", output_field=models.TextField())

    def now(self) -> Now:
        """Return the moment of the statement: that of the transaction may be long ago."""
        return Now()

    def table_oid(self) -> RawSQL:
        """Return the number of the table that a new stream is at home in."""
        return RawSQL("%s::regclass::oid::bigint", [Stream._meta.db_table])

    def home(self) -> RawSQL:
        """Return the database, and its timeline, that a new stream is at home in."""
        return RawSQL(self._home(), [])  # noqa: S611 - of constants

    def forgoes_timeline(self, error: Exception) -> bool:
        """Tell whether an error came because this service doesn't tell the timeline, and do without it from now on."""
        if self.connection.alias in _without_timeline or NO_SUCH_FUNCTION.isdisjoint(sqlstates(error)):
            return False
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(f"SELECT {TIMELINE}")
        except Error as cause:
            if NO_SUCH_FUNCTION.isdisjoint(sqlstates(cause)):
                return False  # it isn't known: processes that disagree would take turns with new epochs
            _without_timeline.add(self.connection.alias)
            logger.warning(
                "the timeline can't be asked, a promoted standby isn't noticed",
                extra={"alias": self.connection.alias, "error": type(cause).__name__},
            )
            return True
        return False

    def _home(self) -> str:
        return DATABASE if self.connection.alias in _without_timeline else f"{DATABASE} || '.' || {TIMELINE}"

    def patience(self) -> str:
        """Return an expression that bounds the wait for a lock, of the statement that selects it."""
        # In the transaction of a TestCase a setting would last beyond the statement.
        return "1" if self.connection.in_atomic_block else PATIENCE

    def moment(self, column: str) -> str:
        """Return a moment as text: PostgreSQL knows some that Python doesn't, and one would spoil the page it is in.

        In UTC: a pool may give a connection whose time zone the host has set, and texts are compared.
        """
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')"

    def of_topics(self, condition: str) -> str:
        """Return the statement that selects the events of the topics that are `granted`, under a condition; its first
        parameter is the organisation."""
        # Of each topic no more is read than is wanted of all.
        return f"""
            SELECT kept.* FROM granted CROSS JOIN LATERAL (
                SELECT {event_columns()} FROM {NotificationEvent._meta.db_table} AS event
                WHERE event.organization_id = %s AND event.topic = granted.topic AND event.seq >= granted.from_seq
                    AND {condition}
            ) AS kept
        """

    def object_of(self, key: str, value: str) -> str:
        """Return the expression that makes the text of one JSON object of all rows."""
        return f"CAST(json_object_agg({key}, {value}) AS text)"

    def existing_replaced(self, column: str, keys: int) -> str:
        """Return a JSON column in which so many keys have other values, where it has the keys."""
        for _ in range(keys):
            column = f"jsonb_set({column}, ARRAY[%s], CAST(%s AS jsonb), FALSE)"
        return column

    def _key(self, organization_id: Any) -> Any:
        return Stream._meta.pk.get_db_prep_value(organization_id, self.connection)

    def _numbering(self, *, waits: bool) -> str:
        """Return the beginning of a statement that numbers the pending events of organisations.

        What follows may select from `outcome`, a row per organisation, and `numbered`, the events that have got a
        number now. A stream that another transaction has locked is waited for, or not numbered. Nor is a stream
        numbered that ends before a cursor it is known to have had, for that would hide it. Parameters: `orgs`,
        `after`, `most` of each.
        """
        key = str(Stream._meta.pk.db_type(self.connection))
        user_key = str(Recipient._meta.get_field("user").db_type(self.connection))
        return _numbering_sql(key, user_key, self._home(), self.patience(), "" if waits else "SKIP LOCKED")

    def _following(self) -> str:
        # What had a number before is read in the snapshot in which `seen_head` is the newest; what gets one now
        # follows it without a gap, since nothing is numbered if the stream has gone on since; if it has, what it is now
        # isn't known here. PostgreSQL commits when the rows have been taken, and a client that hangs must not keep
        # others out: so there are no more rows than the buffers of a socket have room for, of the smallest first.
        return f"""{self._numbering(waits=False)}, found AS (
            SELECT organization_id, {", ".join(EVENT_COLUMNS)} FROM numbered UNION ALL
            SELECT asked.organization_id, kept.* FROM asked CROSS JOIN LATERAL (
                SELECT {event_columns()} FROM {NotificationEvent._meta.db_table} AS event
                WHERE event.organization_id = asked.organization_id AND event.seq > asked.after
                ORDER BY event.seq LIMIT %(limit)s + 1
            ) AS kept
        ), weighed AS (
            SELECT organization_id, count(*) AS count, sum(
                {ROW_CHARS} + payload_chars + COALESCE(length(CAST(audience AS text)), 0)
            ) AS weight FROM found GROUP BY organization_id
        ), heaped AS (
            SELECT organization_id, count, sum(weight) OVER (ORDER BY weight, organization_id) AS heap FROM weighed
        ), joined AS MATERIALIZED (
            SELECT organization_id, ({joint("asked.organization_id", "asked.after", self.moment)}) AS joint FROM asked
        )
        SELECT asked.place, epoch, floor, COALESCE(new_head, seen_head) AS head, waiting = %(most)s AS is_cut, joint,
            {page_columns(self.moment)}
        FROM asked JOIN outcome USING (organization_id) LEFT JOIN heaped USING (organization_id)
            LEFT JOIN joined USING (organization_id)
            LEFT JOIN found AS page ON page.organization_id = asked.organization_id AND asked.after <= seen_head
        WHERE is_at_home AND is_whole AND (asked.after > seen_head OR (
            (NOT has_pending OR (locked_head = seen_head AND waiting = numbered))
            AND (heap IS NULL OR (heap <= %(room)s AND heaped.count <= %(limit)s))
        ))
        ORDER BY asked.place, page.seq
        """


@functools.cache
def _numbering_sql(key: str, user_key: str, home: str, patience: str, who_waits: str) -> str:
    # One statement, so that no client ever holds a stream's lock while it sleeps, hangs or dies. All parts of a
    # statement see the snapshot of its start, except rows that FOR UPDATE locks, which are the newest. If the two
    # heads differ, another process has numbered since: nothing is done, and the caller tries again. Events that
    # a transaction of the host has locked (deleting a user does, for the actor) get their numbers when it has ended.
    # That nothing is beyond the head is read off the end of an index: EXISTS might read through the whole table for it.
    # The wait for the stream itself is bounded, within this statement: who deletes an organisation holds its stream.
    models = NotificationEvent, Stream, Recipient, Entry
    event, stream, recipient, entry = (model._meta.db_table for model in models)
    return f"""
    WITH asked AS (
        SELECT * FROM unnest(%(orgs)s::{key}[], %(after)s::bigint[])
            WITH ORDINALITY AS asked (organization_id, after, place)
    ), seen AS (
        SELECT stream.organization_id, asked.after, epoch, head, floor,
            table_oid IS NOT DISTINCT FROM stream.tableoid::bigint
                AND home IS NOT DISTINCT FROM (SELECT {home}) AS is_at_home, (
                SELECT seq FROM {event} AS event WHERE event.organization_id = stream.organization_id AND seq > head
                ORDER BY seq LIMIT 1
            ) IS NULL AND head >= 0 AS is_whole, EXISTS (
                SELECT 1 FROM {event} AS event WHERE event.organization_id = stream.organization_id AND seq IS NULL
            ) AS has_pending
        FROM asked JOIN {stream} AS stream USING (organization_id)
    ), patience AS MATERIALIZED (
        SELECT {patience}
    ), locked AS (
        SELECT stream.organization_id, stream.head
        FROM seen JOIN {stream} AS stream USING (organization_id), patience
        WHERE seen.is_at_home AND seen.is_whole AND seen.has_pending AND seen.after <= seen.head
        FOR UPDATE OF stream {who_waits}
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
        RETURNING event.organization_id, {event_columns(EVENT_COLUMNS + NOTED_COLUMNS)}
    ), addressed AS (
        INSERT INTO {recipient} (organization_id, user_id, seq, category)
        SELECT DISTINCT organization_id, who::{user_key}, seq, category FROM numbered, jsonb_array_elements_text(
            CASE WHEN jsonb_typeof(audience) = 'array' THEN audience ELSE '[]' END
        ) AS who WHERE {_is_key(user_key)}
    ), entered AS (
        INSERT INTO {entry} (organization_id, collection, seq, event_id, actor_id)
        SELECT organization_id, topic, seq, id, actor_id FROM numbered WHERE entry AND topic IS NOT NULL
        UNION ALL SELECT organization_id, '{CATEGORY_MARK}' || category, seq, id, actor_id FROM numbered
        WHERE category IS NOT NULL AND audience IS NULL AND topic IS NULL
    ), newest AS (
        SELECT organization_id, max(seq) AS head, count(*) AS count FROM numbered GROUP BY organization_id
    ), raised AS (
        UPDATE {stream} AS stream SET head = newest.head FROM newest
        WHERE stream.organization_id = newest.organization_id
    ), waiting AS (
        SELECT organization_id, count(*) AS count FROM pending GROUP BY organization_id
    ), outcome AS (
        SELECT seen.organization_id, seen.epoch, seen.floor, seen.is_at_home, seen.is_whole, seen.has_pending,
            seen.head AS seen_head,
            locked.head AS locked_head, newest.head AS new_head,
            COALESCE(waiting.count, 0) AS waiting, COALESCE(newest.count, 0) AS numbered
        FROM seen LEFT JOIN locked USING (organization_id) LEFT JOIN newest USING (organization_id)
            LEFT JOIN waiting USING (organization_id)
    )"""


def _is_key(user_key: str) -> str:
    # What has been put there by hand, and is no key, is left out: the cast would stop the stream for ever.
    if user_key == "uuid":
        return "who ~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$'"
    if user_key in INTEGER_BITS:
        most = 2 ** (INTEGER_BITS[user_key] - 1) - 1
        return f"CASE WHEN who ~ '^-?[0-9]{{1,19}}$' THEN who::numeric BETWEEN {-most - 1} AND {most} ELSE FALSE END"
    return "who IS NOT NULL"
