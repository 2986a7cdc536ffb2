"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class OrgRealtimeConfig(AppConfig):
    """Registers the system checks and the receivers of signals."""

    name = "orgrealtime"
    verbose_name = "Realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from orgrealtime import checks, receivers

        checks.register_all()
        receivers.connect_receivers()
