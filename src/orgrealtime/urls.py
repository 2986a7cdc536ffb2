"""HTTP routes: `path("", include("orgrealtime.urls"))`."""

from __future__ import annotations

from orgrealtime.routing import APP_NAME, http_urlpatterns

app_name = APP_NAME
urlpatterns = http_urlpatterns
