"""Numbering in PostgreSQL against a plain list: whatever commits, numbers and dies in whichever order, the numbers are
dense, nobody has two, and what a reader has seen stays in front of what comes later."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from orgrealtime import stream
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream.numbering import NUMBERING_BATCH
from orgrealtime.stream.postgresql import PostgreSQL
from tests.host.models import Organization

pytestmark = pytest.mark.django_db(transaction=True)

FEW = settings(
    max_examples=4,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


class Numbering(RuleBasedStateMachine):
    """Writers with transactions of their own, which commit in any order, and numberers that may die half-way."""

    def __init__(self) -> None:
        super().__init__()
        self.org = Organization.objects.create(slug=uuid.uuid4().hex, name="Acme")
        self.epoch = stream.position(self.org).epoch
        self.other = Organization.objects.create(slug=uuid.uuid4().hex, name="Globex")
        self.other_epoch = stream.position(self.other).epoch
        self.writers: list[tuple[Any, list[str]]] = []
        self.names = 0
        self.pending: list[str] = []  # committed, in the order of their ids at the next numbering
        self.model: list[str] = []  # what the stream is to be
        self.seen: list[str] = []  # what a reader that looks now and then has got
        self.seq = 0

    def insert(self, db: Any) -> str:
        self.names += 1
        name = f"n{self.names:04}"
        event = NotificationEvent(organization=self.org, type=name, payload={})
        given = [field for field in event._meta.concrete_fields if not field.generated]
        fields = [field for field in given if field.attname not in {"id", "seq"}]
        values = [field.get_db_prep_save(getattr(event, field.attname), db) for field in fields]
        columns = ", ".join(field.column for field in fields)
        with db.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {event._meta.db_table} ({columns}) VALUES ({', '.join(['%s'] * len(values))})",  # noqa: S608
                values,
            )
        return name

    @precondition(lambda self: len(self.writers) < 4)
    @rule(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        db = connection.copy()
        db.set_autocommit(False)
        self.writers.append((db, [self.insert(db) for _ in range(count)]))

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), fate=st.sampled_from(["commit", "commit", "roll back", "die"]))
    def end(self, data: st.DataObject, fate: str) -> None:
        db, names = self.writers.pop(data.draw(st.integers(0, len(self.writers) - 1)))
        if fate == "commit":
            db.commit()
            self.pending += names
        elif fate == "roll back":
            db.rollback()
        db.close()

    @rule()
    def publish_alone(self) -> None:
        self.pending.append(self.insert(connection))

    @rule()
    def number(self) -> None:
        self.model += sorted(self.pending)
        self.pending.clear()
        assert stream.advance(self.org.pk).head == len(self.model)

    @rule()
    def number_and_die(self) -> None:
        db = connection.copy()
        db.set_autocommit(False)
        PostgreSQL(db).number(self.org.pk, NUMBERING_BATCH)
        db.close()  # before the commit: nothing of it may stay

    @rule()
    def read(self) -> None:
        self.number_first()
        self.seen += self.next_page()
        assert self.seen == self.model

    @rule(is_alone=st.booleans())
    def follow(self, is_alone: bool) -> None:
        self.number_first()
        cursors = {self.org.pk: Cursor(self.epoch, self.seq)}
        others = {} if is_alone else {self.other.pk: Cursor(self.other_epoch, 0)}
        page = stream.follow(cursors | others)[self.org.pk]
        assert isinstance(page, stream.Page)
        assert [event.seq for event in page.events] == list(range(self.seq + 1, page.seq + 1))
        self.seq = page.seq
        self.seen += [event.type for event in page.events]
        assert self.seen == self.model

    def number_first(self) -> None:
        self.model += sorted(self.pending)
        self.pending.clear()

    def next_page(self) -> list[str]:
        page = stream.read(self.org.pk, Cursor(self.epoch, self.seq))
        assert [event.seq for event in page.events] == list(range(self.seq + 1, page.seq + 1))
        self.seq = page.seq
        return [event.type for event in page.events]

    def teardown(self) -> None:
        try:
            self.read_all()
        finally:
            for db, _ in self.writers:
                db.close()

    def read_all(self) -> None:
        self.number_first()
        self.seen += self.next_page()
        assert self.seen == self.model


class ReadById(Numbering):
    """A reader by `id >`, as if ids were numbers."""

    def next_page(self) -> list[str]:
        stream.advance(self.org.pk)
        rows = NotificationEvent.objects.filter(organization=self.org, pk__gt=self.seq).exclude(seq=None)
        found = list(rows.order_by("pk").values_list("pk", "type"))
        self.seq = found[-1][0] if found else self.seq
        return [type for _, type in found]


def test_numbers_agree_with_the_model() -> None:
    run_state_machine_as_test(Numbering, settings=FEW)


def test_model_finds_a_reader_by_id() -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            ReadById,
            settings=settings(
                FEW, max_examples=60, stateful_step_count=25, derandomize=True, phases=[Phase.generate]
            ),
        )
