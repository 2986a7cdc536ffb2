"""Routes: all ways to read a stream, WebSocket and HTTP, under one policy."""

from __future__ import annotations

from typing import NamedTuple

from django.urls import URLPattern, path

from orgrealtime.consumers import NotificationsConsumer, OrgConsumer
from orgrealtime.policy import Policy, as_policy
from orgrealtime.sse import EventSourceView
from orgrealtime.views import CatchUpView, TicketView

__all__ = ["Routes", "routes", "websocket_urlpatterns"]

APP_NAME = "orgrealtime"
PATH = "orgs/<{converter}:org_slug>/notifications/"


class Routes(NamedTuple):
    """`websocket` is for `orgrealtime.asgi.realtime`, `http` for Django's `include`, with the names of this app."""

    websocket: list[URLPattern]
    http: tuple[list[URLPattern], str]


def routes(
    consumer: type[OrgConsumer] = NotificationsConsumer,
    *,
    policy: type[Policy] | Policy | None = None,
    converter: str = "slug",
) -> Routes:
    """Return the routes of all ways to read a stream, under one policy: `policy`, by default the consumer's own.

    `converter` is Django's path converter for the organisation's slug: "str" takes dots and other letters too.
    Raises TypeError if the policy is none, or if the consumer has an `allow` or `render` of its own, which wouldn't
    hold for the HTTP views: put these into a Policy.
    """
    refuse_own_rules(consumer)
    shared = consumer.policy if policy is None else as_policy(policy)
    socket = consumer.under(shared)
    base = PATH.format(converter=converter)
    http = [
        path(base, CatchUpView.as_view(policy=shared), name="catch-up"),
        path(f"{base}stream/", EventSourceView.as_view(consumer=socket), name="stream"),
        path(f"{base}ticket/", TicketView.as_view(policy=shared), name="ticket"),
    ]
    return Routes([path(f"ws/{base}", socket.as_asgi())], (http, APP_NAME))


def refuse_own_rules(consumer: type[OrgConsumer]) -> None:
    """Raise TypeError for a consumer with an `allow` or `render` of its own."""
    if own := consumer.own_rules():
        raise TypeError(
            f"{consumer.__qualname__} has its own {' and '.join(own)}, which wouldn't hold for the HTTP views: "
            f"put it into an orgrealtime.policy.Policy, and set `policy` on the consumer"
        )


_default = routes()
websocket_urlpatterns = _default.websocket
http_urlpatterns = _default.http[0]
