"""The Django app of the rooms."""

from __future__ import annotations

from django.apps import AppConfig


class ChatConfig(AppConfig):
    """Registers the topics of the rooms, the system checks and the receivers of signals."""

    name = "orgrealtime.chat"
    label = "orgrealtime_chat"
    verbose_name = "Chat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from orgrealtime.chat import checks, events, receivers
        from orgrealtime.chat.topics import RoomTopics
        from orgrealtime.stream.topics import register_topics

        checks.register_all()
        events.register_all()
        receivers.connect_receivers()
        register_topics(RoomTopics())
