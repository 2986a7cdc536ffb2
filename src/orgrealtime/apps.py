"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class OrgRealtimeConfig(AppConfig):
    """Registers the system checks and the receivers that end access."""

    name = "orgrealtime"
    verbose_name = "Realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from orgrealtime import checks, organizations, revocation

        checks.register_all()
        organizations.connect_receivers()
        revocation.connect_receivers()
