import logging

from config.environment import is_loopback
from django.apps import AppConfig
from django.conf import settings

logger = logging.getLogger(__name__)


class TrackerConfig(AppConfig):
    name = "tracker"

    def ready(self) -> None:
        from orgrealtime import events
        from tracker.events import TaskEvent

        events.register("task_event", TaskEvent)
        if settings.DEBUG and not all(is_loopback(host) for host in settings.ALLOWED_HOSTS):
            logger.warning("DEBUG is on, so only this computer is answered: set DEBUG=off for others.")
        if not settings.DEBUG and settings.SECRET_KEY == settings.DEMO_SECRET_KEY:
            logger.warning(
                "SECRET_KEY is the demo's, which everybody knows: set your own before others get access."
            )
