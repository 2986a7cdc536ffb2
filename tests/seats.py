"""A host of the tests whose users have topics by rows: `Seat`."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction

from orgrealtime import publish
from orgrealtime.models import NotificationEvent
from orgrealtime.stream.topics import TopicProvider, number_of
from tests.host.models import Organization, Seat


class Seats(TopicProvider):
    def queryset(self) -> models.QuerySet[Any]:
        return Seat.objects.annotate(from_seq=number_of("granted_by"))


def sit(
    organization: Organization, user: Any, topic: str = "room", using: str = "default"
) -> NotificationEvent:
    """Grant a topic, by a row and by the event that is the first of it for the user."""
    with transaction.atomic(using):
        event = publish(organization, "joined", {}, topic=topic, grants=[user], using=using)
        Seat.objects.using(using).create(
            organization=organization, user_id=getattr(user, "pk", user), topic=topic, granted_by=event.pk
        )
    return event


def rise(
    organization: Organization, user: Any, topic: str = "room", using: str = "default"
) -> NotificationEvent:
    """Withdraw a topic."""
    with transaction.atomic(using):
        seats = Seat.objects.using(using).filter(organization=organization, topic=topic)
        seats.filter(user_id=getattr(user, "pk", user)).delete()
        return publish(organization, "left", {}, topic=topic, withdraws=[user], using=using)
