"""Rooms, who is in them, and what is said there. Written by `orgrealtime.chat.services` and `erasure` alone."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from orgrealtime.conf import organization_model

MAX_CLIENT_MESSAGE_ID = 64
MAX_EMOJI = 32
MAX_NAME = 100
MAX_SLOW_MODE_SECONDS = 86_400


class Room(models.Model):
    """A topic of its organisation's stream, and what people call it."""

    class Kind(models.TextChoices):
        """Who finds a room: everybody of the organisation, those in it, or two people."""

        PUBLIC = "public"
        PRIVATE = "private"
        DIRECT = "direct"

    class History(models.TextChoices):
        """What of its history a member may read: all, or what came after joining."""

        ALL = "all"
        JOINED = "joined"

    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    kind = models.CharField(max_length=10, choices=Kind)
    slug = models.SlugField(max_length=60, null=True, blank=True)  # noqa: DJ001 - NULL: none, and not unique
    name = models.CharField(max_length=MAX_NAME, blank=True)  # none where two people talk
    # The stored keys of the two people, as a sorted JSON list.
    direct_key = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001 - as the slug
    history = models.CharField(max_length=10, choices=History, default=History.ALL)
    slow_mode_seconds = models.PositiveIntegerField(
        default=0, validators=[MaxValueValidator(MAX_SLOW_MODE_SECONDS)]
    )
    archived_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "slug"],
                condition=Q(slug__isnull=False),
                name="orgrealtime_chat_room_slug",
            ),
            models.UniqueConstraint(
                fields=["organization", "direct_key"],
                condition=Q(direct_key__isnull=False),
                name="orgrealtime_chat_room_direct",
            ),
            models.CheckConstraint(
                condition=Q(kind="direct", direct_key__isnull=False)
                | (~Q(kind="direct") & Q(direct_key__isnull=True)),
                name="orgrealtime_chat_room_kind",
            ),
        ]
        indexes = [models.Index(fields=["organization", "kind"], name="orgrealtime_chat_room_org")]

    def __str__(self) -> str:
        return f"{self.name or self.slug or self.kind} ({self.pk})"

    @property
    def topic(self) -> str:
        """The topic of the room's events."""
        return topic_of(self.pk)

    @property
    def is_direct(self) -> bool:
        """Whether it is the conversation of two people."""
        return self.kind == self.Kind.DIRECT


def topic_of(room_id: int) -> str:
    """Return the topic of a room's events."""
    return f"room-{room_id}"


class Member(models.Model):
    """That a user is in a room, and since which event."""

    class Role(models.TextChoices):
        """What a member may do, from most to least."""

        OWNER = "owner"
        MODERATOR = "moderator"
        MEMBER = "member"
        GUEST = "guest"
        READONLY = "readonly"

    class Notify(models.TextChoices):
        """Which messages a member wants to be told of."""

        ALL = "all"
        MENTIONS = "mentions"
        NONE = "none"

    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="members", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    notify = models.CharField(max_length=10, choices=Notify, default=Notify.ALL, db_default=Notify.ALL)
    muted_until = models.DateTimeField(null=True, blank=True)
    # The event that granted the topic; its number is where the member's part of the room begins.
    joined_event = models.BigIntegerField(editable=False)
    joined_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["room", "user"], name="orgrealtime_chat_member_once")]
        indexes = [models.Index(fields=["organization", "user"], name="orgrealtime_chat_member_user")]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.room_id}"

    @property
    def moderates(self) -> bool:
        """Whether the role is that of an owner or a moderator."""
        return self.role in {self.Role.OWNER, self.Role.MODERATOR}


class Message(models.Model):
    """What somebody has said in a room; without a body where it has been deleted.

    `event_id` is the primary key of its event, by which `Entry` has its position. It outlives the event.
    """

    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages", db_index=False)
    # None: the host has said it, or who has is gone.
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    event_id = models.BigIntegerField(unique=True, editable=False)
    client_message_id = models.CharField(max_length=MAX_CLIENT_MESSAGE_ID, null=True, editable=False)  # noqa: DJ001 - NULL: none, and not unique
    body = models.TextField()
    # An HMAC of the text that was sent first, by which a retry is told from another message; empty once deleted.
    text_digest = models.CharField(max_length=64, blank=True, editable=False)
    reply_to = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    mentions = models.JSONField(default=list, blank=True)  # primary keys of users, as their column holds them
    mentions_all = models.BooleanField(default=False)
    attachments = models.JSONField(default=list, blank=True)
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(editable=False)
    edited_at = models.DateTimeField(null=True, blank=True, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    deleted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )

    class Meta:
        # Besides Django's own, as of events: the admin shows the rooms of all organisations to whoever may view them.
        permissions = [("view_message_body", "Can view what messages say")]
        constraints = [
            models.UniqueConstraint(
                fields=["room", "author", "client_message_id"],
                condition=Q(client_message_id__isnull=False),
                name="orgrealtime_chat_message_once",
            ),
            models.CheckConstraint(
                condition=Q(deleted_at__isnull=True) | Q(body="", text_digest=""),
                name="orgrealtime_chat_message_gone",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "author", "created_at"], name="orgrealtime_chat_message_rate"
            ),
            models.Index(fields=["room", "created_at"], name="orgrealtime_chat_message_room"),
            models.Index(
                fields=["reply_to"],
                condition=Q(reply_to__isnull=False),
                name="orgrealtime_chat_message_reply",
            ),
            models.Index(
                fields=["deleted_by"],
                condition=Q(deleted_by__isnull=False),
                name="orgrealtime_chat_message_del",
            ),
        ]

    def __str__(self) -> str:
        return f"message {self.pk} in {self.room_id}"

    @property
    def subject(self) -> str:
        """What the events about this message have as their subject."""
        return f"message:{self.pk}"

    @property
    def is_deleted(self) -> bool:
        """Whether nothing is left of it but that it was there."""
        return self.deleted_at is not None


class Reaction(models.Model):
    """An emoji that a user has put to a message."""

    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="reactions", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    emoji = models.CharField(max_length=MAX_EMOJI)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["message", "user", "emoji"], name="orgrealtime_chat_reaction_once"
            )
        ]
        indexes = [models.Index(fields=["organization", "user"], name="orgrealtime_chat_reaction_user")]

    def __str__(self) -> str:
        return f"{self.emoji} of {self.user_id} at {self.message_id}"


class Typing(models.Model):
    """That a user types in a room, until a moment of the database's clock; of the past, it means nothing."""

    organization = models.ForeignKey(
        organization_model(), on_delete=models.CASCADE, related_name="+", db_index=False
    )
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="+", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    until = models.DateTimeField(editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["room", "user"], name="orgrealtime_chat_typing_once")]

    def __str__(self) -> str:
        return f"{self.user_id} types in {self.room_id} until {self.until}"
