"""Pruning: old events go, and readers that have not had them are told so."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import models, transaction
from django.db.models.functions import Cast
from django.utils import timezone

from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.stream import database
from orgrealtime.stream.numbering import advance

LOOKED_AT = 10_000  # events after the floor, for those that are older than what is kept before them


class PruningReport(NamedTuple):
    """Events whose order isn't that of their dates: `future` of those that go are dated in the future, and `older` of
    those that stay, at least, are older than the limit, because event `seq` before them, of `moment`, stays."""

    future: int
    older: int
    seq: int
    moment: str


def retention_floor(
    organization_id: Any, *, before: datetime.datetime | None, keep: int | None, using: str | None = None
) -> int:
    """Return the number up to which events may go: all older than `before`, and all but the newest `keep`.

    Only events from a number on can stay. One that is dated in the future is taken to be as old as those after it.
    """
    using = using or database.alias()
    position = advance(organization_id, using)
    floor = position.floor
    if keep is not None:
        floor = max(floor, position.head - keep)
    if before is not None:
        numbered = _events(organization_id, using).filter(seq__gt=floor, seq__lte=position.head)
        kept = _seqs(numbered.filter(created_at__range=(before, timezone.now()))).first()
        older = _seqs(numbered.filter(created_at__lt=before, seq__lt=kept or position.head + 1))
        floor = older.last() or floor
    return floor


def misdated(
    organization_id: Any, floor: int, *, before: datetime.datetime, using: str | None = None
) -> PruningReport:
    """Return which events a prune by age up to number `floor` treats otherwise than their dates say."""
    events = _events(organization_id, using or database.alias())
    future = events.filter(seq__lte=floor, created_at__gt=timezone.now()).count()
    # As text: there are moments in PostgreSQL that Python doesn't know.
    kept = (
        events.filter(seq__gt=floor).order_by("seq").annotate(moment=Cast("created_at", models.TextField()))
    )
    number, moment = kept.values_list("seq", "moment").first() or (None, "")
    seq = floor if number is None else number
    older = events.filter(seq__gt=seq, seq__lte=seq + LOOKED_AT, created_at__lt=before).count()
    return PruningReport(future, older, seq, moment)


def prune(organization_id: Any, floor: int, *, batch: int = 1000, using: str | None = None) -> Iterator[int]:
    """Delete all events up to number `floor`, in batches; yield how many events each batch has deleted.

    The floor is raised first: from then on a reader that is behind it is told `reset`.
    """
    using = using or database.alias()
    streams = Stream.objects.using(using).filter(pk=organization_id)
    streams.filter(floor__lt=floor).update(floor=floor)
    events = _events(organization_id, using).filter(seq__lte=floor)
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
    return _events(organization_id, using or database.alias()).filter(seq__lte=floor).count()


def _events(organization_id: Any, using: str) -> models.QuerySet[NotificationEvent]:
    return NotificationEvent.objects.using(using).filter(organization_id=organization_id)


def _seqs(events: models.QuerySet[NotificationEvent]) -> models.QuerySet[NotificationEvent, int | None]:
    return events.order_by("seq").values_list("seq", flat=True)
