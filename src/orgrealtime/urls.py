"""HTTP routes: `path("", include("orgrealtime.urls"))`."""

from __future__ import annotations

from django.urls import path

from orgrealtime.sse import EventSourceView
from orgrealtime.views import CatchUpView, TicketView

app_name = "orgrealtime"
urlpatterns = [
    path("orgs/<slug:org_slug>/notifications/", CatchUpView.as_view(), name="catch-up"),
    path("orgs/<slug:org_slug>/notifications/stream/", EventSourceView.as_view(), name="stream"),
    path("orgs/<slug:org_slug>/notifications/ticket/", TicketView.as_view(), name="ticket"),
]
