"""What the database remembers: events, their numbers, and where each stream stands."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models
from django.db.models.functions import Cast, Length
from django.utils import timezone

from orgrealtime.conf import organization_model

CATEGORY_MARK = "~"  # before the name of a category, where a topic could stand


def new_epoch() -> str:
    """Return a fresh random epoch: cursors of one epoch mean nothing in another."""
    return secrets.token_hex(4)


class Stream(models.Model):
    """Where one organisation's stream stands; written only by `orgrealtime.stream`."""

    organization = models.OneToOneField(
        organization_model(), on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    epoch = models.CharField(max_length=16, default=new_epoch, editable=False)
    head = models.BigIntegerField(default=0, editable=False)
    floor = models.BigIntegerField(default=0, editable=False)
    # PostgreSQL's number of the table in which this row belongs: in one restored from a dump it is another's.
    table_oid = models.BigIntegerField(null=True, editable=False)
    # PostgreSQL's number of the database, and the timeline of its history: in a copy, and after a promotion, others.
    home = models.CharField(max_length=40, null=True, editable=False)  # noqa: DJ001 - NULL: not looked at yet

    def __str__(self) -> str:
        return f"stream of {self.organization_id} at {self.epoch}.{self.head}"


class NotificationEvent(models.Model):
    """One event of an organisation; `seq` is its number in the stream, given after its transaction has committed."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    seq = models.BigIntegerField(null=True, blank=True, editable=False)
    type = models.CharField(max_length=100)
    payload = models.JSONField(default=dict)
    # By which a page is measured before payloads are unpacked; the database's own, so that it is always true.
    payload_chars = models.GeneratedField(
        expression=Length(Cast("payload", models.TextField())),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # None: all members; else the primary keys of the users it is for, as their column holds them.
    audience = models.JSONField(null=True, blank=True)
    # None: whoever is in the audience; else only those of them whose access has this topic.
    topic = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 - NULL: no topic
    # {"grants": […], "withdraws": […]}: whose access to the topic begins or ends here, by keys as in the audience.
    access_change = models.JSONField(null=True, blank=True)
    # What kind of notification it is; None: data only.
    category = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001 - NULL: no notification
    # What it is about, by which it is found again, as `message:17`.
    subject = models.CharField(max_length=100, null=True, blank=True)  # noqa: DJ001 - NULL: nothing in particular
    replaces = models.BooleanField(
        default=False, db_default=False
    )  # what events before it have said of the same subject
    entry = models.BooleanField(default=False, db_default=False)  # it counts among the entries of its topic
    dedupe_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 - NULL: no key, and not unique

    class Meta:
        # Besides Django's own: the admin shows events of all organisations to whoever may view them.
        permissions = [("view_notificationevent_payload", "Can view the payloads of notification events")]
        constraints = [
            models.UniqueConstraint(fields=["organization", "seq"], name="orgrealtime_event_seq"),
            models.UniqueConstraint(
                fields=["organization", "dedupe_key"],
                condition=models.Q(dedupe_key__isnull=False),
                name="orgrealtime_event_dedupe",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "id"],
                condition=models.Q(seq__isnull=True),
                name="orgrealtime_event_pending",
            ),
            models.Index(
                fields=["organization", "-seq"],
                condition=models.Q(audience__isnull=True, topic__isnull=True),
                name="orgrealtime_event_newest",
            ),
            # Only of events that have a number: what is published doesn't pay for it twice.
            models.Index(
                fields=["organization", "type", "seq"],
                condition=models.Q(audience__isnull=True, topic__isnull=True, seq__isnull=False),
                name="orgrealtime_event_type",
            ),
            models.Index(
                fields=["organization", "topic", "seq"],
                condition=models.Q(topic__isnull=False),
                name="orgrealtime_event_topic",
            ),
            models.Index(
                fields=["organization", "subject"],
                condition=models.Q(subject__isnull=False),
                name="orgrealtime_event_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class Recipient(models.Model):
    """The numbers of the events that are for one user alone or among others, so that catching up is an index read."""

    # The order of the key is the order of the read: this user's events of this organisation, by number.
    pk = models.CompositePrimaryKey("organization_id", "user_id", "seq")
    # Without constraints: numbering must neither wait for a transaction that has locked the organisation, nor be
    # stopped by an event for a user who has been deleted since.
    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    seq = models.BigIntegerField()
    category = models.CharField(max_length=50, null=True)  # noqa: DJ001 - as the event's

    class Meta:
        indexes = [
            models.Index(fields=["organization", "seq"], name="orgrealtime_recipient_seq"),
            models.Index(
                fields=["organization", "user", "seq"],
                condition=models.Q(category__isnull=False),
                name="orgrealtime_recipient_category",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} gets {self.organization_id}/{self.seq}"


class Entry(models.Model):
    """The numbers of what can be counted and paged through: the entries of a topic, the notifications of a category.

    Kept when their events are pruned, as long as who uses them wants. `collection` is a topic, or `~` and a category.
    """

    pk = models.CompositePrimaryKey("organization_id", "collection", "seq")
    # Without constraints, as of recipients.
    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    collection = models.CharField(max_length=64)
    seq = models.BigIntegerField()
    event_id = models.BigIntegerField()
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        null=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )

    class Meta:
        indexes = [
            models.Index(fields=["organization", "seq"], name="orgrealtime_entry_seq"),
            models.Index(fields=["event_id"], name="orgrealtime_entry_event"),
        ]

    def __str__(self) -> str:
        return f"{self.collection} has {self.organization_id}/{self.seq}"


class Ticket(models.Model):
    """A client's right to connect once, within seconds, without a cookie; the ticket itself is not kept."""

    digest = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    session_key = models.TextField(null=True)  # noqa: DJ001 - NULL: issued without a session
    origin = models.TextField(null=True)  # noqa: DJ001 - NULL: issued to no page
    expires_at = models.DateTimeField()
    login_expires_at = models.DateTimeField(null=True)  # NULL: the login has no end of its own

    def __str__(self) -> str:
        return f"ticket of {self.user_id} for {self.organization_id}"
