"""Who types: told to those who watch the room, ended by timers, and nothing while the layer isn't proved to ring."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import User

from orgrealtime.chat import services, typing
from orgrealtime.chat.models import Room, Typing
from orgrealtime.delivery import bell
from orgrealtime.delivery.hub import get_hub
from orgrealtime.testing.chat import send_message
from tests.chat.halls import attend, enter, in_thread, make_room
from tests.conftest import MakeUser
from tests.host.models import Organization
from tests.sockets import Frame, Socket, Sockets, settled
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typing, "GATHER_SECONDS", 0.05)


@pytest.fixture
def general(transactional_db: None, acme: Organization, alice: User, bob: User, dave: User) -> Room:
    return make_room(acme, "general", alice, bob, dave)


async def watch(socket: Socket, room: Room) -> Socket:
    assert (await socket.answer_to({"type": "watch", "room": room.pk}))["type"] == "done"
    return socket


async def type_in(socket: Socket, room: Room, **members: Any) -> Frame:
    return await socket.answer_to({"type": "chat.typing", "room": room.pk, **members})


async def typing_frame(socket: Socket) -> Frame:
    return (await socket.until("chat.typing"))[-1]


def service() -> typing.TypingService:
    return get_hub().service(typing.TypingService)


async def test_watchers_are_told_who_types_and_that_it_has_ended(
    sockets: Sockets, alice: User, bob: User, general: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typing, "TYPING_SECONDS", 1.0)
    hers, his = await enter(sockets, alice, general), await watch(await attend(sockets, bob), general)
    await settled()
    assert (await type_in(hers, general))["type"] == "done"
    assert await typing_frame(his) == {
        "type": "chat.typing", "room": general.pk, "users": [alice.pk], "count": 1,
    }  # fmt: skip
    assert await typing_frame(his) == {"type": "chat.typing", "room": general.pk, "users": [], "count": 0}


async def test_sending_or_saying_so_ends_it_at_once(
    sockets: Sockets, alice: User, bob: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await watch(await enter(sockets, bob, general), general)
    await settled()
    await type_in(hers, general)
    assert (await typing_frame(his))["count"] == 1
    await send_message(hers, "done")
    assert (await typing_frame(his))["count"] == 0
    await type_in(hers, general)
    assert (await typing_frame(his))["count"] == 1
    await type_in(hers, general, on=False)
    assert (await typing_frame(his))["count"] == 0
    assert not await Typing.objects.aexists()


async def test_only_who_watches_and_is_in_the_room_is_told_and_nobody_of_oneself(
    sockets: Sockets, acme: Organization, alice: User, bob: User, dave: User, general: Room
) -> None:
    leads = await in_thread(make_room, acme, "leads", alice, bob, kind="private")
    hers, his, daves = [await attend(sockets, user) for user in (alice, bob, dave)]
    await watch(hers, leads)
    await watch(daves, general)
    await settled()
    await type_in(his, leads)
    assert (await typing_frame(hers))["users"] == [bob.pk]
    await type_in(hers, leads)  # of which she isn't told
    await eventually(lambda: len(service()._watched[leads.pk].typists) == 2)
    for socket in (his, daves):
        assert await socket.is_alive()
    await hers.send_json_to({"type": "ping"})
    await hers.until("pong")
    told = [frame["users"] for frame in hers.frames if frame["type"] == "chat.typing"]
    assert set(map(tuple, told)) == {(bob.pk,)}


async def test_who_leaves_the_room_is_told_no_more(
    sockets: Sockets, acme: Organization, alice: User, bob: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await watch(await attend(sockets, bob), general)
    await settled()
    await in_thread(services.remove_member, acme, None, room_id=general.pk, user=bob)
    await his.assert_event("chat.left")
    await type_in(hers, general)
    await eventually(lambda: service()._watched[general.pk].typists)
    assert await his.is_alive()


async def test_more_than_five_are_a_number(
    sockets: Sockets, acme: Organization, alice: User, general: Room, make_user: MakeUser
) -> None:
    def add() -> list[User]:
        people = [make_user(f"user{number}", acme) for number in range(7)]
        for user in people:
            services.add_member(acme, None, room_id=general.pk, user=user)
            typing._write(acme.pk, user.pk, general.pk)
        return people

    people = await in_thread(add)
    hers = await enter(sockets, alice, general)
    await settled()
    await watch(hers, general)
    frame = await typing_frame(hers)
    assert (frame["users"], frame["count"]) == ([user.pk for user in people[:5]], 7)


async def test_one_row_is_written_for_a_user_and_room_in_three_seconds(
    sockets: Sockets, alice: User, general: Room, statements: list[str]
) -> None:
    hers, other = await enter(sockets, alice, general), await attend(sockets, alice)
    await settled()
    statements.clear()
    for _ in range(5):
        await type_in(hers, general)
        await type_in(other, general)
    assert len([sql for sql in statements if "INSERT" in sql and "typing" in sql]) == 1
    assert await Typing.objects.acount() == 1


async def test_hints_that_come_together_cost_one_query_for_all_organisations(
    sockets: Sockets, acme: Organization, globex: Organization, bob: User, dave: User, carol: User,
    general: Room, statements: list[str],
) -> None:  # fmt: skip
    stock = await in_thread(make_room, globex, "stock", dave, carol)
    his, daves = await attend(sockets, bob), await attend(sockets, dave, "globex")
    await watch(his, general)
    await watch(daves, stock)
    await settled()
    await eventually(lambda: not service()._due.waiting and not service()._due._running)
    statements.clear()
    for _ in range(20):
        bell.tell(acme.pk, "typing")
        bell.tell(globex.pk, "typing")
    await eventually(lambda: service()._due._running)
    await eventually(lambda: not service()._due._running)
    assert len([sql for sql in statements if "typing" in sql]) == 1


async def test_nothing_is_written_or_told_while_the_layer_isnt_proved(
    sockets: Sockets,
    acme: Organization,
    alice: User,
    bob: User,
    general: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hers, his = await enter(sockets, alice, general), await watch(await attend(sockets, bob), general)
    await settled()
    monkeypatch.setattr(type(get_hub()), "is_rung_for", False)
    assert (await type_in(hers, general))["type"] == "done"
    assert not await Typing.objects.aexists()
    await in_thread(typing._write, acme.pk, alice.pk, general.pk)
    bell.tell(acme.pk, "typing")
    await asyncio.sleep(0)
    assert not service()._due.waiting
    assert await his.is_alive()


async def test_connection_watches_three_rooms(
    sockets: Sockets, acme: Organization, alice: User, general: Room
) -> None:
    def make() -> list[Room]:
        return [general, *(make_room(acme, f"room-{number}", alice) for number in range(3))]

    rooms = await in_thread(make)
    socket = await attend(sockets, alice)
    for room in rooms[:3]:
        await watch(socket, room)
    refused = await socket.answer_to({"type": "watch", "room": rooms[3].pk})
    assert (refused["error"]["code"], refused["error"]["limit"]) == ("bad_request", 3)
    await watch(socket, rooms[0])
    assert (await socket.answer_to({"type": "unwatch", "room": rooms[0].pk}))["type"] == "done"
    await watch(socket, rooms[3])
    await socket.disconnect()
    await eventually(lambda: not service()._watched and not service()._rooms)


async def test_who_may_only_read_doesnt_type(
    sockets: Sockets, acme: Organization, bob: User, general: Room
) -> None:
    await in_thread(services.set_role, acme, None, room_id=general.pk, user=bob, role="readonly")
    his = await enter(sockets, bob, general)
    await settled()
    assert (await type_in(his, general))["error"]["code"] == "forbidden"


@pytest.mark.django_db(databases=["default", "lite"])
def test_row_ends_by_the_clock_of_either_database(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    organization = Organization.objects.create(slug="acme", name="Acme")
    user = User.objects.create_user("alice")
    room = Room.objects.create(organization=organization, kind="public", name="General")
    room.members.create(organization=organization, user=user, joined_event=1)
    typing._write(organization.pk, user.pk, room.pk)
    typing._write(organization.pk, user.pk, room.pk)
    ((room_id, user_id, _, left),) = typing._read({organization.pk}, [room.pk])
    assert (room_id, user_id) == (room.pk, user.pk)
    assert 0 < left.total_seconds() <= typing.TYPING_SECONDS
    monkeypatch.setattr(typing, "TYPING_SECONDS", -1.0)
    typing._write(organization.pk, user.pk, room.pk)
    assert typing._read({organization.pk}, [room.pk]) == []
    typing._delete(organization.pk, user.pk, room.pk)
    assert not Typing.objects.using(alias).exists()
