"""One room as a connection and as pages: who isn't in it is refused as for one that doesn't exist, on every surface."""

from __future__ import annotations

from typing import Any

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.test import Client
from pytest_django.fixtures import Settings

from orgrealtime import publish
from orgrealtime.access import Access, revoke
from orgrealtime.asgi import realtime
from orgrealtime.chat import services
from orgrealtime.chat.consumers import ChatConsumer, RoomConsumer
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.chat.routing import routes
from orgrealtime.policy import Policy
from orgrealtime.stream import database
from orgrealtime.testing.chat import assert_message, connect_to_room, send_message
from tests.chat.halls import APPLICATION, attend, enter, in_thread, make_room
from tests.host.models import Organization
from tests.sockets import Socket, Sockets, browser_headers, events_of, log_in
from tests.test_sse import Pages, pages

__all__ = ["pages"]  # a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.chat.urls")]

ROOMS = "/orgs/acme/rooms/"
WHOLE: Any = realtime(routes().websocket, http=get_asgi_application())


@pytest.fixture
def leads(transactional_db: None, acme: Organization, alice: User, bob: User) -> Room:
    return make_room(acme, "leads", alice, bob, kind="private")


@pytest.fixture
def general(transactional_db: None, acme: Organization, alice: User) -> Room:
    return make_room(acme, "general", alice)


async def refusal_of(sockets: Sockets, user: User, room: str, application: Any = APPLICATION) -> int:
    """The code with which a user is refused at the socket of a room."""
    cookie = await database.LIVE.run(log_in, user)
    socket = Socket(application, f"/ws/orgs/acme/rooms/{room}/", browser_headers(cookie))
    sockets._sockets.append(socket)
    is_accepted, code = await socket.connect()
    assert not is_accepted
    return int(code)


async def test_member_gets_the_room_s_events_and_nothing_else(
    sockets: Sockets, acme: Organization, alice: User, bob: User, leads: Room, general: Room
) -> None:
    socket = await enter(sockets, alice, leads)
    await in_thread(publish, acme, "note", {})
    await in_thread(services.send, acme, alice, room_id=general.pk, body="elsewhere")
    await in_thread(services.send, acme, bob, room_id=leads.pk, body="here")
    await assert_message(socket, "here", room=leads.pk)
    await socket.assert_silent(0.2)


@pytest.mark.parametrize("room", ["leads", "no-such-room", "general", "7", "9" * 40, "{pk}", "x" * 300])
async def test_who_isnt_in_a_room_is_refused_with_4403(
    sockets: Sockets, dave: User, leads: Room, general: Room, room: str
) -> None:
    assert await refusal_of(sockets, dave, room.format(pk=leads.pk)) == 4403


async def test_room_of_another_organisation_is_refused(
    sockets: Sockets, globex: Organization, dave: User, leads: Room
) -> None:
    await in_thread(make_room, globex, "night-shift", dave)
    assert await refusal_of(sockets, dave, "night-shift") == 4403


async def test_conversation_of_two_is_found_by_its_key_and_by_nothing_else(
    sockets: Sockets, acme: Organization, alice: User, bob: User, dave: User, leads: Room
) -> None:
    room = await in_thread(services.open_direct, acme, alice, dave)
    socket = await enter(sockets, dave, room)
    hers = await enter(sockets, alice, room)
    await send_message(hers, "just you")
    await assert_message(socket, "just you")
    assert await refusal_of(sockets, bob, str(room.pk)) == 4403
    assert await refusal_of(sockets, alice, str(leads.pk)) == 4403  # which has a slug


async def test_page_goes_on_at_a_room_s_cursor_on_the_organisation_s_socket(
    sockets: Sockets, acme: Organization, alice: User, leads: Room
) -> None:
    narrow = await enter(sockets, alice, leads)
    await send_message(narrow, "one")
    cursor = (await assert_message(narrow, "one"))["cursor"]
    await send_message(narrow, "two")
    wide = await attend(sockets, alice, query=f"since={cursor}")
    await assert_message(wide, "two")
    again = await enter(sockets, alice, leads, since=cursor)
    await assert_message(again, "two")


async def test_who_is_removed_by_hand_is_closed_at_the_next_check(
    sockets: Sockets, bob: User, leads: Room, acme: Organization
) -> None:
    socket = await enter(sockets, bob, leads)
    await in_thread(Member.objects.filter(user=bob)._raw_delete, "default")
    await in_thread(revoke, bob, acme)
    assert await socket.close_code() == 4403


async def test_message_that_is_deleted_by_hand_is_sent_to_nobody_any_more(
    sockets: Sockets, acme: Organization, alice: User, bob: User, leads: Room
) -> None:
    socket = await attend(sockets, alice)
    cursor = socket.frames[0]["cursor"]
    await in_thread(services.send, acme, bob, room_id=leads.pk, body="sentinel")
    await assert_message(socket, "sentinel")
    await in_thread(Message.objects.all().delete)
    assert (await socket.frame())["type"] == "chat.deleted"
    again = await attend(sockets, alice, query=f"since={cursor}")
    assert [event["type"] for event in events_of(again.frames)] == ["chat.message", "chat.deleted"]
    assert "sentinel" not in str(again.frames)


# ----------------------------------------------------------------------------------------------------------- HTTP


def test_catch_up_of_a_room_has_its_events_alone(
    client: Client, acme: Organization, alice: User, leads: Room, general: Room
) -> None:
    publish(acme, "note", {})
    services.send(acme, alice, room_id=general.pk, body="elsewhere")
    services.send(acme, alice, room_id=leads.pk, body="here")
    client.force_login(alice)
    page = client.get(f"{ROOMS}leads/notifications/").json()
    assert {event["room"] for event in page["events"]} == {leads.pk}
    assert page["events"][-1]["body"] == "here"
    wide = client.get("/orgs/acme/notifications/").json()
    assert [event.get("body") for event in wide["events"][-3:]] == [None, "elsewhere", "here"]


SURFACES = [
    ("get", ""),
    ("get", "messages/"),
    ("get", "messages/?around=1"),
    ("get", "messages/?before=1&after=1"),
    ("get", "notifications/"),
    ("get", "notifications/?since=00000000.0"),
    ("post", "messages/"),
    ("post", "join/"),
    ("post", "leave/"),
    ("patch", ""),
    ("put", "members/1/"),
    ("delete", "members/1/"),
    ("patch", "messages/{message}/"),
    ("delete", "messages/{message}/"),
    ("post", "messages/{message}/reactions/"),
    ("delete", "messages/{message}/reactions/?emoji=👍"),
]


@pytest.mark.parametrize(("method", "url"), SURFACES, ids=[f"{method} {url}" for method, url in SURFACES])
def test_private_room_is_answered_as_one_that_doesnt_exist(
    client: Client, acme: Organization, alice: User, dave: User, leads: Room, method: str, url: str
) -> None:
    message = services.send(acme, alice, room_id=leads.pk, body="sentinel").message
    client.force_login(dave)
    body = {"body": "hi", "emoji": "👍", "name": "mine"}
    options: dict[str, Any] = {"content_type": "application/json", "headers": {"If-Match": '"1"'}}
    if method != "get":
        options["data"] = body if url != "" else {"name": "mine"}
    private, unknown = (
        getattr(client, method)(f"{ROOMS}{slug}/{url.format(message=message.pk)}", **options)
        for slug in ("leads", "no-such-room")
    )
    assert private.status_code == unknown.status_code == 403
    assert private.content == unknown.content
    assert private.json()["error"]["code"] == "forbidden"
    assert private["Cache-Control"] == "no-store"
    assert services.rooms_of(acme, dave) == []
    assert client.get(ROOMS).json() == {"rooms": []}


async def test_event_stream_of_a_room_has_its_frames_alone_and_refuses_others(
    pages: Pages, acme: Organization, alice: User, dave: User, leads: Room, general: Room
) -> None:
    url = f"{ROOMS}leads/notifications/stream/"
    page = await pages.open(alice, path=url, application=WHOLE)
    await page.until("synced")
    await in_thread(services.send, acme, alice, room_id=general.pk, body="elsewhere")
    await in_thread(services.send, acme, alice, room_id=leads.pk, body="here")
    (event,) = events_of([(await page.event()).data])
    assert event["body"] == "here"
    refused, unknown = [
        await pages.open(dave, path=each, application=WHOLE)
        for each in (url, url.replace("leads", "no-such"))
    ]
    assert (refused.status, unknown.status) == (403, 403)
    assert await refused.body() == await unknown.body()


async def test_event_stream_of_an_organisation_has_a_room_from_joining_to_leaving(
    pages: Pages, acme: Organization, alice: User, bob: User, general: Room
) -> None:
    page = await pages.open(bob, path="/orgs/acme/notifications/stream/", application=WHOLE)
    await page.until("synced")

    async def say(body: str) -> None:
        await in_thread(services.send, acme, alice, room_id=general.pk, body=body)

    await say("before")
    await in_thread(services.join, acme, bob, room_id=general.pk)
    await say("together")
    await in_thread(services.leave, acme, bob, room_id=general.pk)
    await say("after")
    await in_thread(publish, acme, "over", {})
    found: list[Any] = []
    while "over" not in found:
        frames = events_of([(await page.event()).data])
        found += [event.get("body", event["type"]) for event in frames if event["type"] != "chat.room"]
    assert found == ["chat.joined", "together", "chat.left", "over"]


# --------------------------------------------------------------------------------------------------------- routes


class Nobody(Policy):
    def allow(self, user: Any, access: Access) -> bool:
        return False


class Strict(RoomConsumer):
    def allow(self, user: Any, access: Access) -> bool:
        return True


async def test_one_policy_holds_for_all_ways_to_a_room(
    sockets: Sockets, acme: Organization, alice: User, leads: Room, settings: Settings
) -> None:
    found = routes(policy=Nobody)
    application = realtime(found.websocket, http=get_asgi_application())
    assert await refusal_of(sockets, alice, "leads", application) == 4403
    views = {str(pattern.name): pattern.callback for pattern in found.http[0]}
    assert {"rooms", "room", "messages", "message", "reactions", "room-catch-up", "room-stream"} <= set(views)
    for name, view in views.items():
        governed = getattr(view, "view_initkwargs", {}).get("consumer") or view.view_class  # type: ignore[union-attr]
        assert isinstance(governed.policy, Nobody), name


def test_rules_of_a_room_s_consumer_belong_into_the_policy() -> None:
    for policy in (None, Nobody):
        with pytest.raises(
            TypeError, match=r"Strict has its own allow, which wouldn't hold for the HTTP views"
        ):
            routes(room_consumer=Strict, policy=policy)


class Quiet(RoomConsumer):
    """A host's own."""


async def test_host_s_consumers_have_the_places_of_the_app_s(
    sockets: Sockets, acme: Organization, alice: User, leads: Room
) -> None:
    class Greeting(ChatConsumer):
        async def connected(self) -> None:
            await self.send_json({"type": "hello"})

    websocket, _ = routes(Greeting, Quiet, converter="str")
    socket = await sockets.open(alice, application=URLRouter(websocket))
    assert [(await socket.frame())["type"] for _ in range(3)].count("hello") == 1
    room = await connect_to_room(
        alice, acme, leads, application=realtime(websocket, http=get_asgi_application()), communicator=Socket
    )
    await send_message(room, "hi")
    await room.disconnect()
