"""HTTP routes: `path("", include("orgrealtime.urls"))`."""

from __future__ import annotations

from django.urls import path

from orgrealtime.views import CatchUpView

app_name = "orgrealtime"
urlpatterns = [path("orgs/<slug:org_slug>/notifications/", CatchUpView.as_view(), name="catch-up")]
