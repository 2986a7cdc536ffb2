"""One policy for all ways to read a stream: the WebSocket, the event stream, and pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.test import AsyncClient
from django.urls import include, path
from pytest_django.fixtures import Settings

from orgrealtime.access import Access
from orgrealtime.asgi import realtime
from orgrealtime.consumers import NotificationsConsumer, OrgConsumer
from orgrealtime.policy import Policy
from orgrealtime.routing import Routes, http_urlpatterns, routes, websocket_urlpatterns
from orgrealtime.sse import EventSourceView
from orgrealtime.stream import database
from orgrealtime.views import CatchUpView, TicketView
from tests.host.models import Membership, Organization
from tests.sockets import Sockets, publish_event
from tests.test_sse import Pages, pages

__all__ = ["pages"]

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/orgs/acme/notifications/"


class MembersOnly(Policy):
    """Lets users of one name in, and hides one type of events from all but them."""

    def allow(self, user: Any, access: Access) -> bool:
        return user.username != "bob"

    def render(self, event: dict[str, Any], access: Access) -> dict[str, Any] | None:
        if event["type"] == "salary":
            return None
        return {**event, "seen_by": access.user_id}


class BoardConsumer(OrgConsumer):
    policy = MembersOnly


@pytest.fixture(params=["policy given", "policy of the consumer"])
def board(request: pytest.FixtureRequest, settings: Settings) -> Routes:
    board = routes(policy=MembersOnly) if request.param == "policy given" else routes(BoardConsumer)
    settings.ROOT_URLCONF = (path("", include(board.http)),)
    return board


def application(board: Routes) -> Any:
    return realtime(board.websocket, http=get_asgi_application())


async def browser(user: User) -> AsyncClient:
    client = AsyncClient()
    await database.LIVE.run(client.force_login, user)
    return client


async def test_policy_refuses_by_every_way(
    board: Routes, sockets: Sockets, pages: Pages, bob: User, acme: Organization
) -> None:
    client = await browser(bob)
    assert (await client.get(PATH)).status_code == 403
    assert (await client.post(f"{PATH}ticket/")).status_code == 403
    assert (await pages.open(bob, application=application(board))).status == 403
    assert await sockets.refused(bob, application=application(board)) == 4403


async def test_policy_renders_by_every_way(
    board: Routes, sockets: Sockets, pages: Pages, alice: User, acme: Organization
) -> None:
    for kind in ("note", "salary", "note"):
        await publish_event(acme, kind)
    socket = await sockets.open(alice, query="last=10", application=application(board))
    live = await socket.next_events(2)
    page = await pages.open(alice, "last=10", application=application(board))
    (batch,) = [frame for frame in await page.until("synced") if frame["type"] == "batch"]
    caught_up = (await (await browser(alice)).get(PATH)).json()["events"]
    for events in (live, batch["events"], caught_up):
        assert [(event["type"], event["seen_by"]) for event in events] == [("note", alice.pk)] * 2


async def test_policy_is_asked_again_when_access_is_checked(
    board: Routes, sockets: Sockets, alice: User
) -> None:
    socket = await (await sockets.open(alice, application=application(board))).synced()
    await database.LIVE.run(User.objects.filter(pk=alice.pk).update, username="bob")
    membership = await Membership.objects.aget(user=alice)
    await database.LIVE.run(membership.save)
    assert await socket.close_code() == 4403


def test_routes_have_the_names_of_the_app(board: Routes) -> None:
    patterns, app_name = board.http
    assert [pattern.name for pattern in patterns] == ["catch-up", "stream", "ticket"]
    assert app_name == "orgrealtime"


def test_routes_of_the_app_are_those_without_a_policy() -> None:
    views = [pattern.callback.view_class for pattern in http_urlpatterns]  # type: ignore[attr-defined]
    assert views == [CatchUpView, EventSourceView, TicketView]
    assert websocket_urlpatterns[0].callback.consumer_class is NotificationsConsumer  # type: ignore[attr-defined]


async def test_policy_may_be_given_route_by_route(
    settings: Settings, sockets: Sockets, pages: Pages, bob: User, acme: Organization
) -> None:
    socket = NotificationsConsumer.as_asgi(policy=MembersOnly)
    settings.ROOT_URLCONF = (path("page/<slug:org_slug>/", CatchUpView.as_view(policy=MembersOnly())),)
    assert (await (await browser(bob)).get("/page/acme/")).status_code == 403
    given = realtime([path("ws/orgs/<slug:org_slug>/notifications/", socket)], http=get_asgi_application())
    assert await sockets.refused(bob, application=given) == 4403


class OwnAllow(OrgConsumer):
    def allow(self, user: Any, access: Access) -> bool:
        return False


@pytest.mark.parametrize("given", [object(), dict, NotificationsConsumer, "policy"])
def test_what_is_no_policy_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"a policy is a subclass of orgrealtime\.policy\.Policy"):
        routes(policy=given)
    with pytest.raises(TypeError, match="a policy is a subclass"):
        type("Wrong", (OrgConsumer,), {"policy": given})


def test_consumer_whose_own_rule_would_not_hold_over_http_gets_no_routes() -> None:
    with pytest.raises(TypeError, match="OwnAllow has its own allow, which wouldn't hold for the HTTP views"):
        routes(OwnAllow)


@pytest.mark.parametrize("name", ["allow", "render"])
@pytest.mark.parametrize("base", [Policy, OrgConsumer, CatchUpView, TicketView])
def test_rule_that_is_a_coroutine_is_refused(base: type, name: str) -> None:
    async def rule(self: Any, *arguments: Any) -> bool:
        return False

    with pytest.raises(TypeError, match=f"{name} must not be async"):
        type("Wrong", (base,), {name: rule})


class Falsy(MembersOnly):
    """A policy that counts as false."""

    def __len__(self) -> int:
        return 0


def test_rule_on_an_instance_counts() -> None:
    policy = Policy()
    policy.allow = lambda user, access: False  # type: ignore[method-assign]
    socket = NotificationsConsumer.under(policy)
    assert socket.has_rule("allow")
    assert not socket.has_rule("render")


def test_coroutine_on_an_instance_is_refused() -> None:
    async def allow(user: Any, access: Access) -> bool:
        return False

    policy = Policy()
    policy.allow = allow  # type: ignore[assignment]
    with pytest.raises(TypeError, match="allow must not be async"):
        routes(policy=policy)


def test_policy_that_counts_as_false_counts() -> None:
    assert CatchUpView.as_view(policy=Falsy()).view_class.policy is not CatchUpView.policy
    assert NotificationsConsumer.as_asgi(policy=Falsy()).consumer_class.has_rule("allow")


def test_policy_that_would_not_be_asked_is_refused() -> None:
    with pytest.raises(TypeError, match="OwnAllow has its own allow; put it into the policy"):
        OwnAllow.as_asgi(policy=MembersOnly)
    with pytest.raises(TypeError, match="policy would not be asked: set it on the consumer"):
        type("Stream", (EventSourceView,), {"policy": MembersOnly})
