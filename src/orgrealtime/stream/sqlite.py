"""The statements of a stream in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists
from django.db.models.functions import Cast
from django.utils import timezone

from orgrealtime.keys import StoredKey, user_keys
from orgrealtime.models import CATEGORY_MARK, Entry, NotificationEvent, Recipient, Stream
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream.rows import Followed, Insertion, event_columns, read_audience
from orgrealtime.stream.types import Numbering


@dataclass(frozen=True, slots=True)
class SQLite:
    """What a stream needs of SQLite, which has one write lock for the whole database: numbering holds that."""

    connection: BaseDatabaseWrapper

    def number(self, organization_id: Any, most: int) -> Numbering | None:
        """Number at most `most` of the events that wait; return None if the organisation has no stream."""
        using = self.connection.alias
        streams = Stream.objects.using(using).filter(pk=organization_id)
        pending = NotificationEvent.objects.using(using).filter(organization_id=organization_id, seq=None)
        ahead = NotificationEvent.objects.using(using).filter(
            organization_id=organization_id, seq__gt=models.OuterRef("head")
        )
        seen = streams.annotate(has_pending=Exists(pending), is_whole=~Exists(ahead)).first()
        if seen is None:
            return None
        is_whole = seen.is_whole and seen.head >= 0
        if not (seen.has_pending and is_whole):
            return Numbering(Position(seen.epoch, seen.head, seen.floor), 0, 0, is_whole=is_whole)
        with transaction.atomic(using):
            streams.update(head=models.F("head"))  # takes the write lock before anything is read under it
            stream = streams.get()
            as_text = Cast("audience", models.TextField())
            noted = "id", "organization_id", "actor_id", "topic", "category", "entry"
            waiting = list(pending.order_by("id").only(*noted).annotate(text=as_text)[:most])
            for seq, event in enumerate(waiting, stream.head + 1):
                event.seq = seq
            NotificationEvent.objects.using(using).bulk_update(waiting, ["seq"])
            self._address(organization_id, waiting)
            Entry.objects.using(using).bulk_create(_entries(enumerate(waiting, stream.head + 1)))
            streams.update(head=stream.head + len(waiting))
        position = Position(stream.epoch, stream.head + len(waiting), stream.floor)
        return Numbering(position, len(waiting), len(waiting))

    def _address(self, organization_id: Any, events: Iterable[NotificationEvent]) -> None:
        organization = Stream._meta.pk.get_db_prep_value(organization_id, self.connection)
        table = Recipient._meta.db_table
        sql = f"INSERT INTO {table} (organization_id, user_id, seq, category) VALUES (%s, %s, %s, %s)"
        rows = [
            (organization, user, event.seq, event.category)
            for event in events
            for user in _addressed(event.text, self.connection)  # type: ignore[attr-defined]
        ]
        with self.connection.cursor() as cursor:
            cursor.executemany(sql, rows)

    def settle(self, organization_id: Any) -> None:
        """Do nothing: a stream is at home wherever it is, since a copied file can't be told from the first."""

    def is_locked_out(self, error: OperationalError) -> bool:
        """Return False: no single stream is locked; a transaction without the write lock can't go on at all."""
        return False

    def is_read_only(self) -> models.Value:
        """Return that it is not: a file has no standby."""
        return models.Value(value=False)

    def follow(self, cursors: Mapping[Any, Cursor], *, limit: int, most: int) -> dict[Any, Followed] | None:
        """Return None: there is no statement that numbers and reads at once."""
        return None

    def insert_or_fetch(self, insertion: Insertion) -> tuple[str, list[Any]]:
        """Return the statement that inserts an event, or finds the first one with its key, and its parameters."""
        # An update that changes nothing makes the first event come back.
        sql, values, _, all_columns = insertion
        sql = (
            f"{sql} UPDATE SET dedupe_key = EXCLUDED.dedupe_key "
            f"RETURNING {all_columns}, created_at = %s AS is_new"
        )
        return sql, [*values.values(), values["created_at"]]

    def event_id(self) -> str:
        """Return the expression that draws a primary key; nobody else inserts before this transaction ends."""
        table = NotificationEvent._meta.db_table
        return f"(SELECT COALESCE(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = '{table}')"

    def in_turn(self, name: str) -> models.Value:
        """Return what waits for nobody: one transaction writes at a time."""
        return models.Value(1)

    def now(self) -> models.Value:
        """Return this process's moment: the file is on the same machine."""
        return models.Value(timezone.now(), output_field=models.DateTimeField())

    def table_oid(self) -> None:
        """Return None: tables have no numbers."""

    def home(self) -> None:
        """Return None: a copied file can't be told from the first."""

    def forgoes_timeline(self, error: Exception) -> bool:
        """Tell that it doesn't: there is none."""
        return False

    def patience(self) -> str:
        """Return what bounds nothing: how long SQLite waits for a lock is a setting of the connection."""
        return "1"

    def of_topics(self, condition: str) -> str:
        """Return the statement that selects the events of the topics that are `granted`, under a condition; its first
        parameter is the organisation."""
        return f"""
            SELECT {event_columns()} FROM granted JOIN {NotificationEvent._meta.db_table} AS event
                ON event.organization_id = %s AND event.topic = granted.topic AND event.seq >= granted.from_seq
            WHERE {condition}
        """

    def object_of(self, key: str, value: str) -> str:
        """Return the expression that makes the text of one JSON object of all rows."""
        return f"json_group_object({key}, {value})"

    def existing_replaced(self, column: str, keys: int) -> str:
        """Return a JSON column in which so many keys have other values, where it has the keys."""
        for _ in range(keys):
            column = f"json_replace({column}, '$.\"' || %s || '\"', json(%s))"
        return column

    def moment(self, column: str) -> str:
        """Return a moment as it is stored."""
        return column


def _entries(events: Iterable[tuple[int, NotificationEvent]]) -> Iterator[Entry]:
    """What counts among the entries of a topic, or among the notifications of a category that are for all."""
    for seq, event in events:
        is_for_all = event.topic is None and event.text is None  # type: ignore[attr-defined]
        collection = event.topic if event.entry else None
        if event.category is not None and is_for_all:
            collection = f"{CATEGORY_MARK}{event.category}"
        if collection is not None:
            yield Entry(
                organization_id=event.organization_id,
                collection=collection,
                seq=seq,
                event_id=event.pk,
                actor_id=event.actor_id,
            )


def _addressed(audience: str | None, connection: BaseDatabaseWrapper) -> Iterator[StoredKey]:
    """The users whom an audience names, as their column holds them."""
    if audience is None:
        return
    try:
        stored = read_audience(audience, connection.alias)
    except Exception:
        return  # edited by hand; reading the event will log it
    for key in stored:
        yield user_keys().column_value(key, connection)
