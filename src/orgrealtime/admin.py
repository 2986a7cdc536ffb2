"""Events in Django's admin, to look at: publishing is done by services, deleting by pruning."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from orgrealtime.models import NotificationEvent

PAYLOAD_PERMISSION = "orgrealtime.view_notificationevent_payload"
# What a payload says, or is made from what it says.
CONTENTS = ("payload", "payload_chars", "dedupe_key")


@admin.register(NotificationEvent)
class NotificationEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list of events, newest first; what they say is shown to those who have a permission for it."""

    list_display = ("id", "organization", "seq", "type", "actor", "created_at")
    list_select_related = ("organization", "actor")
    search_fields = ("=type",)
    ordering = ("-id",)
    show_full_result_count = False

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out what events say, for those without the permission to see it."""
        return None if request.user.has_perm(PAYLOAD_PERMISSION) else CONTENTS

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse to search in what a user may not see: a filter tells by its results."""
        if lookup.split("__")[0] in CONTENTS and not request.user.has_perm(PAYLOAD_PERMISSION):
            return False
        return super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Events come from `publish`."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Clients have what was published already."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only with what an event belongs to, about which the admin asks for each event that goes with it."""
        return obj is not None

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refuse: pruning tells clients what is gone; deleting here wouldn't."""
        raise PermissionDenied

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show an event, without a link to delete it."""
        return super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "show_delete": False}
        )
