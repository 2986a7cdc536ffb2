"""Pruning: old events go, and readers that have not had them are told so."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from django.db import transaction

from orgrealtime.models import NotificationEvent, Recipient, Stream
from orgrealtime.stream import database
from orgrealtime.stream.numbering import advance


def retention_floor(
    organization_id: Any, *, before: datetime.datetime | None, keep: int | None, using: str | None = None
) -> int:
    """Return the number up to which events may go: all older than `before`, and all but the newest `keep`."""
    using = using or database.alias()
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
    using = using or database.alias()
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
    using = using or database.alias()
    return (
        NotificationEvent.objects.using(using).filter(organization_id=organization_id, seq__lte=floor).count()
    )
