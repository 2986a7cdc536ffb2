"""What a stream needs of its database, and the dialect that knows how to ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Combinable, RawSQL

from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream.postgresql import PostgreSQL
from orgrealtime.stream.rows import Followed, Insertion
from orgrealtime.stream.sqlite import SQLite
from orgrealtime.stream.types import Numbering


class Dialect(Protocol):
    """The steps that each database takes in its own way."""

    def number(self, organization_id: Any, most: int) -> Numbering | None:
        """Number at most `most` of the events that wait; return None if the organisation has no stream."""

    def settle(self, organization_id: Any) -> None:
        """Make a stream at home where it is now, with another epoch."""

    def is_locked_out(self, error: OperationalError) -> bool:
        """Tell whether a numbering failed because another transaction holds the stream's lock."""

    def is_read_only(self) -> Combinable:
        """Return whether the database takes no writes, as an expression."""

    def follow(self, cursors: Mapping[Any, Cursor], *, limit: int, most: int) -> dict[Any, Followed] | None:
        """Number and read several organisations by one statement, as far as that can be done without waiting.

        At most `limit` events are read and `most` numbered, of all together. Returns None if the database has no such
        statement.
        """

    def insert_or_fetch(self, insertion: Insertion) -> tuple[str, list[Any]]:
        """Return the statement that inserts an event, or finds the first one with its key, and its parameters."""

    def event_id(self) -> str:
        """Return the expression that draws a primary key for an event that is inserted later in the transaction."""

    def in_turn(self, name: str) -> Combinable:
        """Return an expression that waits for other transactions that have selected it with this name."""

    def now(self) -> Combinable:
        """Return the moment of the statement, by the clock of the database."""

    def table_oid(self) -> RawSQL | None:
        """Return the number of the table that a new stream is at home in; None if tables have none."""

    def home(self) -> RawSQL | None:
        """Return the database, and its timeline, that a new stream is at home in; None if that can't be told."""

    def forgoes_timeline(self, error: Exception) -> bool:
        """Tell whether an error came because the timeline can't be asked, and do without it from now on."""

    def patience(self) -> str:
        """Return an expression that bounds the wait for a lock, of the statement that selects it."""

    def of_topics(self, condition: str) -> str:
        """Return the statement that selects the events of the topics that are `granted`, under a condition; its first
        parameter is the organisation."""

    def object_of(self, key: str, value: str) -> str:
        """Return the expression that makes the text of one JSON object of all rows."""

    def existing_replaced(self, column: str, keys: int) -> str:
        """Return a JSON column in which so many keys have other values, where it has the keys."""

    def moment(self, column: str) -> str:
        """Return the SQL that selects a moment so that every one can be fetched."""


def of(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the dialect of the database that a connection leads to."""
    return PostgreSQL(connection) if connection.vendor == "postgresql" else SQLite(connection)
