"""Rooms in Django's admin. What is changed here goes through the services, so that clients are told."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from orgrealtime.chat import services
from orgrealtime.chat.models import MAX_NAME, Member, Message, Room
from orgrealtime.chat.text import checked_line

BODY_PERMISSION = "orgrealtime_chat.view_message_body"
# What a message says, or is made from what it says.
CONTENTS = ("body", "text_digest", "mentions", "mentions_all", "attachments", "client_message_id")


class RoomForm(forms.ModelForm):  # type: ignore[type-arg]
    """What can be changed of a room, held to what the service takes."""

    def clean_name(self) -> str:
        """Return the name as it is kept."""
        try:
            return checked_line("name", self.cleaned_data["name"], max_length=MAX_NAME)
        except services.ChatError as error:
            raise forms.ValidationError(error.message) from error


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rooms: made by services, renamed, slowed down and archived here, too."""

    form = RoomForm
    list_display = ("id", "organization", "kind", "slug", "name", "archived_at", "created_at")
    list_filter = ("kind",)
    list_select_related = ("organization",)
    search_fields = ("=slug", "name")
    ordering = ("-id",)
    show_full_result_count = False
    fields = (
        "organization",
        "kind",
        "slug",
        "name",
        "history",
        "slow_mode_seconds",
        "archived_at",
        "created_by",
    )
    readonly_fields = ("organization", "kind", "slug", "history", "created_by")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rooms come from `create_room` and `open_direct`."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A conversation of two people stays as it is."""
        return (obj is None or not obj.is_direct) and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        """Change the room, and tell its members."""
        fields = {"name": obj.name, "slow_mode_seconds": obj.slow_mode_seconds}
        services.update_room(
            obj.organization_id,
            None,
            room_id=obj.pk,
            version=None,
            archived=obj.archived_at is not None,
            **{name: value for name, value in fields.items() if name in form.changed_data},
        )


@admin.register(Member)
class MemberAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who is in which room: added by services, given roles and removed here, too."""

    list_display = ("id", "organization", "room", "user", "role", "joined_at")
    list_filter = ("role",)
    list_select_related = ("organization", "room", "user")
    ordering = ("-id",)
    show_full_result_count = False
    fields = ("organization", "room", "user", "role", "notify", "muted_until", "joined_at")
    readonly_fields = ("organization", "room", "user", "notify", "muted_until", "joined_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Members come from `add_member` and `join`, with the event that lets them in."""
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        """Give the role, and tell the room."""
        services.set_role(obj.organization_id, None, room_id=obj.room_id, user=obj.user_id, role=obj.role)


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Messages, newest first; what they say is shown to those who have a permission for it."""

    list_display = ("id", "organization", "room", "author", "created_at", "edited_at", "deleted_at")
    list_select_related = ("organization", "room", "author")
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("empty",)

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what messages say, for those without the permission to see it."""
        return None if request.user.has_perm(BODY_PERMISSION) else CONTENTS

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse to search in what a user may not see: a filter tells by its results."""
        if lookup.split("__")[0] in CONTENTS and not request.user.has_perm(BODY_PERMISSION):
            return False
        return super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Messages come from `send` and `post`."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What somebody has said is theirs to change."""
        return False

    @admin.action(description="Delete what they say, and leave their places", permissions=["delete"])
    def empty(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Make tombstones of messages."""
        for message in queryset:
            services.delete(message.organization_id, None, message_id=message.pk)
