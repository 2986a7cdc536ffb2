"""WebSocket routes, for `orgrealtime.asgi.realtime` or a URLRouter of your own."""

from __future__ import annotations

from django.urls import path

from orgrealtime.consumers import NotificationsConsumer

websocket_urlpatterns = [path("ws/orgs/<slug:org_slug>/notifications/", NotificationsConsumer.as_asgi())]
