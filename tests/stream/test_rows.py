"""A column of an event is written, read and told: the four places that name it agree."""

from __future__ import annotations

import inspect

import pytest
from django.db import connections

from orgrealtime import publish
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.cursors import Position
from orgrealtime.stream.rows import EVENT_COLUMNS, MEASURED_COLUMNS, Columns, Row, decode, page_columns
from orgrealtime.stream.types import StreamEvent

OF_THE_MODEL = {field.attname for field in NotificationEvent._meta.concrete_fields}
NOT_READ = {
    "id",
    "organization_id",
    "dedupe_key",
    "category",
    "entry",
}  # the last two are noted beside the event
NOT_PUBLISHED = {"id", "seq", "payload_chars", "created_at"}
ARGUMENTS = {
    "organization_id": "organization",
    "actor_id": "actor",
    "audience": "to",
    "access_change": "grants",
}

ROW = Row(
    1, "note", '{"n": 1}', "2026-01-01T00:00:00+00:00", 1, "[1]", "room", '{"grants": [1]}', "task:1", False
)
OTHER = Row(
    2, "task", '{"n": 2}', "2026-01-02T00:00:00+00:00", 2, "[2]", "hall", '{"withdraws": [1]}', "task:2", True
)


def decoded(row: Row) -> StreamEvent:
    (event,) = decode([row], Position("0123abcd", 9, 0), connections["default"])
    return event


def test_every_column_of_the_model_is_read_or_known_not_to_be() -> None:
    assert {*Row._fields, *MEASURED_COLUMNS} == OF_THE_MODEL - NOT_READ
    assert len(EVENT_COLUMNS) == len(set(EVENT_COLUMNS)) == len(OF_THE_MODEL - NOT_READ)


def test_every_column_of_the_model_is_published_or_known_not_to_be() -> None:
    arguments = inspect.signature(publish).parameters.keys() - {"using", "withdraws"}
    assert {ARGUMENTS.get(column, column) for column in OF_THE_MODEL - NOT_PUBLISHED} == arguments


@pytest.mark.parametrize("column", Row._fields)
def test_event_differs_where_its_row_does(column: str) -> None:
    assert getattr(ROW, column) != getattr(OTHER, column)
    assert decoded(ROW._replace(**{column: getattr(OTHER, column)})) != decoded(ROW)


def test_page_selects_every_column_under_its_name() -> None:
    selected = page_columns(lambda column: f"moment({column})").split(", ")
    assert [column.rpartition(" AS ")[2] for column in selected] == list(Row._fields)
    assert "moment(page.created_at) AS created_at" in selected
    assert "CAST(page.payload AS text) AS payload" in selected


def test_columns_are_taken_by_their_names() -> None:
    class Cursor:
        description = [(name,) for name in ("head", *reversed(Row._fields), "epoch", "floor")]

    columns, found = Columns(Cursor), (7, *reversed(ROW), "0123abcd", 3)
    assert columns.take(Row)(found) == ROW
    assert columns.take(Position)(found) == Position("0123abcd", 7, 3)
    assert columns.value("head")(found) == 7
