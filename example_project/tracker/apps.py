import logging

from django.apps import AppConfig
from django.conf import settings

logger = logging.getLogger(__name__)


class TrackerConfig(AppConfig):
    name = "tracker"

    def ready(self) -> None:
        from orgrealtime import events
        from tracker.events import TaskEvent

        events.register("task_event", TaskEvent)
        if not settings.DEBUG and settings.SECRET_KEY == settings.DEMO_SECRET_KEY:
            logger.warning(
                "SECRET_KEY is the demo's, which everybody knows: set your own before others get access."
            )
