"""How much has happened in an organisation during the last day."""

from datetime import timedelta
from typing import Any

from django.db.models import Case, CharField, Count, Q, Value, When
from django.db.models.functions import TruncMinute
from django.utils import timezone

from orgrealtime.models import NotificationEvent, Recipient
from tracker.models import Organization

LENGTH = timedelta(hours=24)
KIND = Case(
    When(type="task_event", payload__action="status_changed", then=Value("move")),
    When(type="export_done", then=Value("export")),
    default=Value("other"),
    output_field=CharField(),
)


def pulse_of(organization: Organization, user_id: int, head: int) -> list[dict[str, Any]]:
    """The events up to this number that the user may see, those of rooms left out: how many in each minute, of which
    kind and by whom.

    The database counts, so that it doesn't matter how many there are.
    """
    mine = Recipient.objects.filter(organization=organization, user=user_id).values("seq")
    events = NotificationEvent.objects.filter(
        Q(audience__isnull=True) | Q(seq__in=mine),
        organization=organization,
        topic__isnull=True,
        seq__lte=head,
        created_at__gte=timezone.now() - LENGTH,
    ).exclude(type="export_progress")
    counted = (
        events.annotate(minute=TruncMinute("created_at"), kind=KIND)
        .values("minute", "kind", "actor_id")
        .annotate(count=Count("pk"))
        .order_by("minute")
    )
    return [
        {
            "minute": int(row["minute"].timestamp()) // 60,
            "kind": row["kind"],
            "actor": row["actor_id"],
            "count": row["count"],
        }
        for row in counted
    ]
