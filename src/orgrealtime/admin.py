"""The admin shows events; it can't change the stream."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from orgrealtime.models import NotificationEvent


@admin.register(NotificationEvent)
class NotificationEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list of events, newest first."""

    list_display = ("id", "organization", "seq", "type", "actor", "created_at")
    list_select_related = ("organization", "actor")
    search_fields = ("=type",)
    ordering = ("-id",)
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Events come from `publish`."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Clients have what was published already."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Pruning tells clients what is gone; deleting here wouldn't."""
        return False
