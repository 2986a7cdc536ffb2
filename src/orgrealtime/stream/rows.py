"""The columns of an event as they are written and read, and what a row of them says."""

# A new column of the event is written down in four places: in the model (and its migration), as an argument of
# `publish`, in `Row` with its decoding (here), and in `wire.encode_event`. tests/stream/test_rows.py holds that they
# agree.

from __future__ import annotations

import datetime
import json
import logging
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from orgrealtime.keys import StoredKey, user_keys
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import Position
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.stream.types import NOBODY, StreamEvent

logger = logging.getLogger("orgrealtime.stream")

Kind = TypeVar("Kind", bound=NamedTuple)


class Row(NamedTuple):
    """An event as a page selects it: JSON is text, and so is the moment, where the database knows more of them."""

    seq: int
    type: str
    payload: str
    created_at: datetime.datetime | str | None
    actor_id: Any
    audience: str | None
    topic: str | None
    access_change: str | None
    subject: str | None
    replaces: bool

    def decoded(
        self, position: Position, zone: datetime.tzinfo, load_key: Callable[[Any], Any], using: str
    ) -> StreamEvent:
        """Return the event in the stream at `position`; raises whatever comes of a row that has been edited by hand."""
        actor = None if self.actor_id is None else load_key(self.actor_id)
        text = wire.encode_event(
            self.type,
            position.cursor_at(self.seq),
            _utc(self.created_at, zone),
            None if actor is None else key_as_json(actor),
            self.payload,
        )
        audience = None if self.audience is None else read_audience(self.audience, using)
        if self.topic is None and self.subject is None:
            return StreamEvent(self.seq, self.type, text, audience)
        change = read_access_change(self.access_change, using)
        return StreamEvent(
            self.seq, self.type, text, audience, self.topic, *change, self.subject, bool(self.replaces)
        )


MEASURED_COLUMNS = ("payload_chars",)  # by which a page is cut off; not part of it
# What is noted beside an event when it gets its number.
NOTED_COLUMNS = ("id", "category", "entry")
EVENT_COLUMNS = (*Row._fields, *MEASURED_COLUMNS)


class Followed(NamedTuple):
    """What following found of one organisation: all events after a cursor, unless `has_more` says that some wait.

    `joint` is when the event at the cursor was created.
    """

    position: Position
    rows: list[Row]
    has_more: bool
    joint: datetime.datetime | str | None


class Insertion(NamedTuple):
    """The INSERT of an event, up to what is done if its organisation has had its `dedupe_key` before."""

    sql: str
    values: dict[str, Any]
    table: str
    all_columns: str


def insertion(event: NotificationEvent, connection: BaseDatabaseWrapper) -> Insertion:
    """Return the INSERT of an event without a number."""
    fields = event._meta.concrete_fields
    values = {
        field.attname: field.get_db_prep_save(getattr(event, field.attname), connection)
        for field in fields
        if field.attname not in {"id", "seq"} and not field.generated
    }
    table, columns = event._meta.db_table, ", ".join(values)
    sql = (
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(values))}) "
        f"ON CONFLICT (organization_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO"
    )
    return Insertion(sql, values, table, ", ".join(field.attname for field in fields))


class Columns:
    """The columns of what a cursor has found, by their names."""

    def __init__(self, cursor: Any) -> None:
        self._names = [column[0] for column in cursor.description]

    def value(self, name: str) -> Callable[[tuple[Any, ...]], Any]:
        """Return a function that takes the value of one column out of a row."""
        return operator.itemgetter(self._names.index(name))

    def take(self, kind: type[Kind]) -> Callable[[tuple[Any, ...]], Kind]:
        """Return a function that takes the columns with the names of a NamedTuple's fields out of a row."""
        values = operator.itemgetter(*map(self._names.index, kind._fields))
        make = kind._make
        return lambda row: make(values(row))


def event_columns(columns: Iterable[str] = EVENT_COLUMNS) -> str:
    """Return columns of the table `event`, by default those that a page is selected from."""
    return ", ".join(f"event.{column}" for column in columns)


def page_columns(moment: Callable[[str], str]) -> str:
    """Return the columns of `Row` out of the table `page`; `moment` is how the database writes a moment."""
    return ", ".join(f"{_expression(column, moment)} AS {column}" for column in Row._fields)


def joint(organization: str, seq: str, moment: Callable[[str], str]) -> str:
    """Return the statement that selects when the event at a cursor was created; it may be gone."""
    return f"""
        SELECT {moment("event.created_at")} FROM {NotificationEvent._meta.db_table} AS event
        WHERE event.organization_id = {organization} AND event.seq = {seq}
    """


def _expression(column: str, moment: Callable[[str], str]) -> str:
    field = NotificationEvent._meta.get_field(column)
    if isinstance(field, models.JSONField):
        return f"CAST(page.{column} AS text)"
    return moment(f"page.{column}") if isinstance(field, models.DateTimeField) else f"page.{column}"


def decode(rows: Iterable[Row], position: Position, connection: BaseDatabaseWrapper) -> list[StreamEvent]:
    """Return the events that rows stand for; a row that can't be read is left out and logged."""
    zone = connection.timezone or timezone.get_default_timezone()
    load_key = user_keys().loaded(connection)
    events = []
    for row in rows:
        try:
            events.append(row.decoded(position, zone, load_key, connection.alias))
        except Exception as error:
            # The row has been edited by hand: better to lose one event loudly than to stop the stream for ever.
            logger.error(
                "event skipped, its row can't be encoded",
                extra={"cursor": position.cursor_at(row.seq), "seq": row.seq, "error": type(error).__name__},
            )
    return events


def read_audience(text: str, using: str) -> frozenset[StoredKey]:
    """Return the stored keys of the users whom an audience names; raise an error if it is no list of such keys."""
    listed = json.loads(text)
    if not isinstance(listed, list):
        raise TypeError("an audience is a list of primary keys")
    keys = user_keys()
    return frozenset(keys.read(value, using) for value in listed)


def read_access_change(text: str | None, using: str) -> tuple[frozenset[StoredKey], frozenset[StoredKey]]:
    """Return the stored keys of the users to whom a topic is granted, and from whom it is withdrawn."""
    if text is None:
        return NOBODY, NOBODY
    change = json.loads(text)
    keys = user_keys()
    grants, withdraws = (change.get(name, ()) for name in ("grants", "withdraws"))
    return (
        frozenset(keys.read(value, using) for value in grants),
        frozenset(keys.read(value, using) for value in withdraws),
    )


def _utc(moment: datetime.datetime | str | None, zone: datetime.tzinfo) -> datetime.datetime:
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.fromisoformat(moment or "")
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=zone)).astimezone(datetime.UTC)
