"""The URLs of a host with rooms."""

from django.urls import include, path

from orgrealtime.chat.routing import routes

websocket, http = routes()
urlpatterns = [path("", include(http))]
