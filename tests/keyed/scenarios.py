"""What holds for keys of every kind. Not collected by itself: tests/test_keys.py runs it for each kind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import connections
from django.test import Client, RequestFactory

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.adapters import get_adapter
from orgrealtime.admission.quotas import quotas_of
from orgrealtime.chat import history
from orgrealtime.chat import services as chat
from orgrealtime.delivery import bell
from orgrealtime.delivery.hub import get_hub
from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.models import NotificationEvent, Recipient
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.stream.topics import with_topics
from orgrealtime.templatetags.orgrealtime import orgrealtime_client
from tests.keyed.fields import BEYOND_JAVASCRIPT, KIND
from tests.keyed.models import Membership, Organization, User
from tests.sockets import ORIGIN, Sockets, settled
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["default", "lite"])
on_both_databases = pytest.mark.parametrize("alias", ["default", "lite"])


def person(name: str, *organizations: Organization, using: str = "default") -> User:
    user = User(username=name)
    user.set_password("demo")
    user.save(using=using)
    for organization in organizations:
        Membership.objects.using(using).create(organization=organization, user=user)
    return User.objects.using(using).get(username=name)  # as it is loaded, not as it was made


def organization(slug: str, using: str = "default") -> Organization:
    Organization.objects.using(using).create(slug=slug)
    return Organization.objects.using(using).get(slug=slug)


def types(found: list[Any]) -> list[str]:
    return [event.type for event in found]


@pytest.fixture
def acme(db: None) -> Organization:
    return organization("acme")


@pytest.fixture
def alice(acme: Organization) -> User:
    return person("alice", acme)


@pytest.fixture
def bob(acme: Organization) -> User:
    return person("bob", acme)


@on_both_databases
def test_event_for_some_is_theirs_live_and_in_catch_up(alias: str) -> None:
    acme = organization("acme", alias)
    alice, bob = (person(name, acme, using=alias) for name in ("alice", "bob"))
    start = Cursor.parse(stream.position(acme, using=alias).cursor)
    for type, to in {"for_bob": [bob], "by_key": bob.pk, "by_text": str(bob.pk), "for_alice": alice}.items():
        publish(acme, type, {}, to=to, using=alias)
    publish(acme, "for_all", {}, using=alias)
    everything = stream.read(acme.pk, start, using=alias).events
    for user, expected in {
        alice: ["for_alice", "for_all"],
        bob: ["for_bob", "by_key", "by_text", "for_all"],
    }.items():
        access = Access(acme.pk, user.pk)
        caught_up = stream.read(acme.pk, start, access=access, using=alias).events
        assert types(caught_up) == expected
        assert caught_up == [event for event in everything if access.sees(event)]
        assert types(stream.read_last(acme.pk, access=access, using=alias).events) == expected


@on_both_databases
def test_actor_is_sent_as_a_browser_can_read_it(alias: str) -> None:
    acme = organization("acme", alias)
    alice = person("alice", acme, using=alias)
    publish(acme, "note", {}, actor=alice, using=alias)
    publish(acme, "note", {}, actor=alice, using=alias, dedupe_key="once")
    stream.position(acme, using=alias)
    sent = [json.loads(event.text)["actor"] for event in stream.read_last(acme.pk, using=alias).events]
    assert sent == [str(alice.pk)] * 2
    if KIND == "big":
        assert alice.pk >= BEYOND_JAVASCRIPT
    if KIND.startswith("prefixed"):
        assert sent[0].startswith("usr_")


@on_both_databases
def test_audience_that_was_stored_as_text_is_still_read(alias: str) -> None:
    acme = organization("acme", alias)
    bob = person("bob", acme, using=alias)
    NotificationEvent.objects.using(alias).create(organization=acme, type="note", audience=[str(bob.pk)])
    stream.position(acme, using=alias)
    (event,) = stream.read_last(acme.pk, using=alias).events
    assert Access(acme.pk, bob.pk).sees(event)
    if alias == "lite" or not KIND.startswith("prefixed"):  # PostgreSQL can't read those
        assert Recipient.objects.using(alias).get().user_id == bob.pk


def test_key_is_one_whether_made_or_loaded(alice: User) -> None:
    keys = user_keys()
    made = keys.loaded(connections["default"])(keys.stored(alice.pk)) if KIND == "prefixed" else alice.pk
    assert keys.stored(made) == keys.stored(alice.pk) == keys.stored(str(alice.pk))
    assert len({keys.name(key) for key in (made, alice.pk, str(alice.pk))}) == 1


def test_names_fit_every_channel_layer_and_are_read(acme: Organization, alice: User) -> None:
    assert BaseChannelLayer().require_valid_group_name(bell.group(acme.pk))
    names = organization_keys().name(acme.pk), user_keys().name(alice.pk)
    message = {"type": bell.MESSAGE_TYPE, "organization": names[0], "user": names[1]}
    assert bell.read_message(message) == bell.Hint(*names)
    assert len({quota.key for quota in quotas_of(alice.pk, acme.pk, None)}) == 2


@pytest.mark.django_db(transaction=True)
async def test_client_is_let_in_gets_its_events_and_catches_up(
    sockets: Sockets, acme: Organization, alice: User, bob: User
) -> None:
    socket = await sockets.open(bob)
    welcome = (await socket.until("synced"))[0]
    assert welcome["org"] == {"id": str(acme.pk), "slug": "acme"}
    assert welcome["user"] == {"id": str(bob.pk)}
    for to in (alice, bob, None):
        await sync_to_async(publish)(acme, "note", {"to": to and to.username}, to=to, actor=alice)
    events = await socket.next_events(2)
    assert [event["to"] for event in events] == ["bob", None]
    assert {event["actor"] for event in events} == {str(alice.pk)}
    again = await sockets.open(bob, query=f"since={welcome['cursor']}")
    assert [event["to"] for event in await again.next_events(2)] == ["bob", None]
    over_http = await sync_to_async(caught_up_over_http)(bob, welcome["cursor"])
    assert [event["to"] for event in over_http["events"]] == ["bob", None]
    assert over_http["user"] == {"id": str(bob.pk)}


def caught_up_over_http(user: User, cursor: str) -> Any:
    return logged_in(user).get("/orgs/acme/notifications/", {"since": cursor}).json()


@pytest.mark.django_db(transaction=True)
async def test_crowd_is_let_in_together(sockets: Sockets, acme: Organization) -> None:
    users = [await sync_to_async(person)(f"user-{number}", acme) for number in range(5)]
    for user in users:
        await (await sockets.open(user)).synced()
    assert len(get_hub().registry) == 5
    found = await sync_to_async(get_adapter().find_together)({("acme", user) for user in users})
    assert found.keys() == {("acme", user.pk) for user in users}


@pytest.mark.django_db(transaction=True)
async def test_hint_from_another_process_finds_the_feed_and_the_user(
    sockets: Sockets, acme: Organization, alice: User, bob: User
) -> None:
    hers, his = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await settled()
    names = organization_keys().name(acme.pk), user_keys().name(alice.pk)
    layer = bell.get_layer()
    await sync_to_async(Membership.objects.filter(user=alice)._raw_delete)("default")  # without a signal
    message = {"type": bell.MESSAGE_TYPE, "sender": "another process", "everybody": False}
    await layer.group_send(bell.group(acme.pk), {**message, "organization": names[0], "user": names[1]})
    assert await hers.close_code() == 4403
    assert await his.is_alive()
    feed = get_hub().feed(acme.pk)
    assert feed is not None
    await layer.group_send(bell.group(acme.pk), {**message, "organization": names[0], "user": None})
    await eventually(lambda: feed._task is None)


@pytest.mark.django_db(transaction=True)
async def test_member_who_leaves_is_closed(sockets: Sockets, alice: User, bob: User) -> None:
    hers, his = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    await sync_to_async(lambda: Membership.objects.get(user=alice).delete())()
    assert await hers.close_code() == 4403
    assert await his.is_alive()


@pytest.mark.django_db(transaction=True)
async def test_logout_closes_the_connection(sockets: Sockets, alice: User, bob: User) -> None:
    client = await sync_to_async(logged_in)(alice)
    hers = await (await sockets.open(cookie=f"sessionid={client.cookies['sessionid'].value}")).synced()
    his = await (await sockets.open(bob)).synced()
    await sync_to_async(client.logout)()
    assert await hers.close_code() == 4401
    assert await his.is_alive()


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.django_db(transaction=True)
async def test_ticket_ends_with_the_session_it_was_issued_in(sockets: Sockets, alice: User) -> None:
    client = await sync_to_async(logged_in)(alice)
    first, second = [await sync_to_async(ticket)(client) for _ in range(2)]
    await sockets.open(scope={"subprotocols": ["orgrealtime.v1", first]})
    await sync_to_async(client.logout)()
    assert await sockets.refused(scope={"subprotocols": ["orgrealtime.v1", second]}) == 4401


def ticket(client: Client) -> str:
    """A ticket as a subprotocol."""
    answer = client.post("/orgs/acme/notifications/ticket/", headers={"origin": ORIGIN})
    return f"orgrealtime.ticket.{answer.json()['ticket']}"


def test_tabs_share_under_the_name_of_the_user(acme: Organization, alice: User) -> None:
    request = RequestFactory().get("/")
    request.user = alice
    page = orgrealtime_client({"request": request}, acme)
    assert f'"shareKey": "{user_keys().name(alice.pk)}"' in page


def test_rooms_know_users_and_organisations_by_their_keys(acme: Organization, alice: User, bob: User) -> None:
    room = chat.open_direct(acme, alice, bob)
    assert chat.open_direct(acme.pk, bob, key_as_json(alice.pk)) == room
    sent = chat.send(acme, alice, room_id=room.pk, body="hello", mentions=[key_as_json(bob.pk)])
    assert (
        chat.send(acme, bob, room_id=room.pk, body="and you", reply_to=sent.message.pk).message.author == bob
    )
    page = history.read(acme, bob, room_id=room.pk)
    assert [message["author"] for message in page.messages] == [key_as_json(alice.pk), key_as_json(bob.pk)]
    assert page.messages[0]["mentions"] == [key_as_json(bob.pk)]
    (summary,) = chat.rooms_of(acme, alice)
    assert set(summary.people) == {key_as_json(alice.pk), key_as_json(bob.pk)}
    (access,) = with_topics([Access(acme.pk, bob.pk)])
    assert list(access.topics) == [room.topic]
    start = Cursor(stream.position(acme).epoch, 0)
    assert "chat.mention" in types(stream.read(acme.pk, start, access=access).events)
    chat.edit(acme, alice, message_id=sent.message.pk, body="other")
    chat.react(acme, bob, message_id=sent.message.pk, emoji="👍")
    chat.erase(alice, acme)
    assert room.members.get().user == bob
    team = chat.create_room(acme, None, kind="private", name="Team", members=[alice, key_as_json(bob.pk)])
    chat.set_role(acme, None, room_id=team.pk, user=key_as_json(bob.pk), role="owner")
    chat.remove_member(acme, bob, room_id=team.pk, user=alice.pk)
    assert team.members.get().role == "owner"
