"""The example's application, its consumer with a condition of the host's own that can be made to hang or fail."""

from __future__ import annotations

from typing import Any

from config.asgi import django_application
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.urls import path

from orgrealtime.access import Access
from orgrealtime.asgi import realtime
from orgrealtime.consumers import NotificationsConsumer
from tests.faults import trouble


class Consumer(NotificationsConsumer):
    def allow(self, user: Any, access: Access) -> bool:
        trouble.meet("allow", [access.user_id])
        return super().allow(user, access)


application = realtime(
    [path("ws/orgs/<slug:org_slug>/notifications/", Consumer.as_asgi())],
    http=ASGIStaticFilesHandler(django_application),
)
