"""The commands of rooms over the socket: what is said is there for all in the room, once; the rest is refused."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, OperationalError
from pytest_django.fixtures import Settings

from orgrealtime.chat import commands, history, services
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.chat.typing import TypingService
from orgrealtime.delivery.hub import get_hub
from orgrealtime.stream.database import COMMANDS
from orgrealtime.testing.chat import assert_message, send_message
from tests.chat.halls import attend, enter, in_thread, make_room
from tests.conftest import Instead
from tests.host.models import Organization
from tests.sockets import Frame, Socket, Sockets
from tests.threads import open_transaction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def general(transactional_db: None, acme: Organization, alice: User, bob: User, dave: User) -> Room:
    return make_room(acme, "general", alice, bob, dave)


@pytest.fixture
def leads(transactional_db: None, acme: Organization, alice: User, bob: User) -> Room:
    return make_room(acme, "leads", alice, bob, kind="private")


def bodies(messages: list[Frame]) -> list[str]:
    return [message["body"] for message in messages]


def error_of(frame: Frame) -> Frame:
    """What an error says, without the text for people."""
    assert frame["type"] == "error", frame
    return {name: value for name, value in frame["error"].items() if name != "message"}


async def told(room: Room, user: User, **options: Any) -> list[Frame]:
    """The history of a room as a user reads it."""
    page = await in_thread(history.read, room.organization_id, user, room_id=room.pk, **options)
    messages: list[Frame] = page.messages
    return messages


# -------------------------------------------------------------------------------------------------------- sending


async def test_message_appears_for_all_in_the_room_and_is_there_after_a_reload(
    sockets: Sockets, alice: User, bob: User, dave: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await enter(sockets, bob, general)
    daves = await attend(sockets, dave)
    accepted = await send_message(hers, "Hello", client_message_id="m-1")
    message = await Message.objects.aget()
    assert accepted == {
        "type": "chat.accepted",
        "ref": accepted["ref"],
        "client_message_id": "m-1",
        "message_id": message.pk,
        "duplicate": False,
    }
    for socket in (hers, his, daves):
        event = await assert_message(socket, "Hello", room=general.pk, message_id=message.pk, version=1)
        assert event["actor"] == alice.pk
    (shown,) = await told(general, bob)
    assert (shown["message_id"], shown["author"], shown["body"]) == (message.pk, alice.pk, "Hello")


async def test_messages_of_several_are_in_one_order_live_and_in_the_history(
    sockets: Sockets, alice: User, bob: User, dave: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await attend(sockets, bob)
    reader = await enter(sockets, dave, general)

    async def say(socket: Socket, name: str, **about: Any) -> None:
        for number in range(10):
            await send_message(socket, f"{name} {number}", **about)

    await asyncio.gather(say(hers, "alice"), say(his, "bob", room=general))
    live = bodies(await reader.next_events(20))
    assert [text for text in live if "alice" in text] == [f"alice {number}" for number in range(10)]
    assert [text for text in live if "bob" in text] == [f"bob {number}" for number in range(10)]
    assert bodies(await told(general, dave)) == live
    late = await enter(sockets, alice, general, last=100)
    assert bodies([event for event in late.events() if event["type"] == "chat.message"]) == live


async def test_who_isnt_in_a_room_gets_nothing_of_it(
    sockets: Sockets, alice: User, dave: User, leads: Room
) -> None:
    hers, daves = await attend(sockets, alice), await attend(sockets, dave)
    await send_message(hers, "between us", room=leads)
    await assert_message(hers, "between us")
    assert await daves.is_alive()
    await daves.assert_silent(0.2)


@pytest.mark.parametrize("command", [
    {"type": "message", "body": "let me in"},
    {"type": "chat.typing"},
    {"type": "watch"},
], ids=lambda command: command["type"])  # fmt: skip
async def test_who_isnt_in_a_room_is_refused_as_for_one_that_doesnt_exist(
    sockets: Sockets, dave: User, leads: Room, command: Frame
) -> None:
    socket = await attend(sockets, dave)
    private = await socket.answer_to({**command, "room": leads.pk, "ref": 1})
    unknown = await socket.answer_to({**command, "room": leads.pk + 1, "ref": 1})
    assert error_of(private) == {"code": "forbidden"}
    assert private == unknown
    assert not await Message.objects.aexists()


@pytest.mark.parametrize("type", ["chat.edit", "chat.delete", "chat.react"])
async def test_message_of_a_private_room_is_refused_as_one_that_doesnt_exist(
    sockets: Sockets, alice: User, dave: User, leads: Room, type: str
) -> None:
    sent = await in_thread(services.send, leads.organization_id, alice, room_id=leads.pk, body="secret")
    socket = await attend(sockets, dave)
    ask = {"type": type, "body": "mine", "emoji": "👍", "ref": 1}
    private = await socket.answer_to({**ask, "message_id": sent.message.pk})
    unknown = await socket.answer_to({**ask, "message_id": sent.message.pk + 1})
    assert error_of(private) == {"code": "forbidden"}
    assert private == unknown


async def test_room_of_another_organisation_is_unknown(
    sockets: Sockets, globex: Organization, carol: User, dave: User, general: Room
) -> None:
    theirs = await in_thread(make_room, globex, "general", carol, dave)
    socket = await attend(sockets, dave, "acme")
    answer = await socket.answer_to({"type": "message", "room": theirs.pk, "body": "from acme"})
    assert error_of(answer) == {"code": "forbidden"}


async def test_message_beyond_the_rate_is_refused_with_the_limit(
    sockets: Sockets, alice: User, general: Room, settings: Settings
) -> None:
    settings.ORGREALTIME_CHAT = {"MESSAGES_PER_MINUTE": 3}
    socket = await enter(sockets, alice, general)
    for number in range(3):
        await send_message(socket, str(number), client_message_id=str(number))
    error = error_of(await socket.answer_to({"type": "message", "body": "3"}))
    assert (error["code"], error["limit"]) == ("rate_limited", 3)
    assert 0 < error["retry_after_ms"] <= 60_000
    again = await send_message(socket, "1", client_message_id="1")
    assert again["duplicate"] is True
    assert await socket.is_alive()
    assert bodies(await told(general, alice)) == ["0", "1", "2"]


async def test_longest_text_is_accepted_and_one_more_is_refused_with_the_limit(
    sockets: Sockets, alice: User, bob: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await attend(sockets, bob)
    await send_message(hers, "é😀" * 2000)  # sent with each emoji as two escapes
    assert len((await his.assert_event("chat.message"))["body"]) == 4000
    error = error_of(await hers.answer_to({"type": "message", "body": "😀" * 4001}))
    assert error == {"code": "too_long", "limit": 4000, "length": 4001, "unit": "code points"}
    assert await hers.is_alive()


async def test_paste_of_any_length_is_answered_and_the_socket_stays(
    sockets: Sockets, alice: User, general: Room
) -> None:
    socket = await enter(sockets, alice, general)
    assert socket.frames[0]["limits"]["message_bytes"] == 65_536
    for length in (20_000, 65_000, 70_000, 1_000_000):
        error = error_of(await socket.answer_to({"type": "message", "body": "x" * length}))
        assert error["code"] == "too_long"
        assert error["length"] >= length > error["limit"]
    await send_message(socket, "shorter")


async def test_retry_is_answered_with_the_first_message_and_isnt_told_twice(
    sockets: Sockets, alice: User, bob: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await enter(sockets, bob, general)
    first = await send_message(hers, "once", client_message_id="m-1")
    other = await attend(sockets, alice)
    again = await send_message(other, "once", room=general, client_message_id="m-1")
    assert (again["message_id"], again["duplicate"]) == (first["message_id"], True)
    answer = await hers.answer_to({"type": "message", "body": "other", "client_message_id": "m-1"})
    assert error_of(answer)["code"] == "conflict"
    await assert_message(his, "once")
    await his.assert_silent(0.2)


async def test_command_of_a_room_s_socket_is_for_that_room_alone(
    sockets: Sockets, alice: User, general: Room, leads: Room
) -> None:
    socket = await enter(sockets, alice, general)
    await send_message(socket, "here", room=general)
    answer = await socket.answer_to({"type": "message", "body": "there", "room": leads.pk})
    assert error_of(answer) == {"code": "bad_request"}
    assert bodies(await told(leads, alice)) == []


MISFITS: list[tuple[Frame, str]] = [
    ({"type": "message", "body": "hi", "room": None}, "bad_request"),
    ({"type": "message", "body": "hi", "room": "general"}, "bad_request"),
    ({"type": "message", "body": "hi", "room": True}, "bad_request"),
    ({"type": "message", "body": "hi", "room": 0}, "bad_request"),
    ({"type": "message"}, "bad_request"),
    ({"type": "message", "body": 7}, "bad_request"),
    ({"type": "message", "body": " \u200b\n"}, "empty"),
    ({"type": "message", "body": "hi", "client_message_id": 7}, "bad_request"),
    ({"type": "message", "body": "hi", "client_message_id": "x" * 65}, "bad_request"),
    ({"type": "message", "body": "hi", "reply_to": "first"}, "bad_request"),
    ({"type": "message", "body": "hi", "reply_to": 2**62}, "bad_request"),
    ({"type": "message", "body": "hi", "mentions": "all"}, "bad_request"),
    ({"type": "message", "body": "hi", "attachments": [{"file": 1}]}, "bad_request"),
    ({"type": "chat.edit", "body": "hi"}, "bad_request"),
    ({"type": "chat.edit", "message_id": "1", "body": "hi"}, "bad_request"),
    ({"type": "chat.delete"}, "bad_request"),
    ({"type": "chat.react", "message_id": 1}, "bad_request"),
    ({"type": "watch", "room": "general"}, "bad_request"),
]


async def test_commands_that_dont_fit_get_one_error_each_and_the_socket_lives(
    sockets: Sockets, alice: User, general: Room
) -> None:
    socket = await attend(sockets, alice)
    for command, code in MISFITS:
        answer = await socket.answer_to({"room": general.pk, **command})
        assert error_of(answer)["code"] == code, command
        assert len(answer["error"]["message"]) < 300
    assert await socket.is_alive()
    assert not await Message.objects.aexists()


# --------------------------------------------------------------------------------------- what becomes of a message


async def test_edited_and_deleted_message_is_told_and_its_old_text_is_nowhere(
    sockets: Sockets, alice: User, bob: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await enter(sockets, bob, general)
    pk = (await send_message(hers, "sentinel one"))["message_id"]
    await assert_message(his, "sentinel one")
    done = await hers.answer_to(
        {"type": "chat.edit", "message_id": pk, "body": "two", "version": 1, "ref": "e"}
    )
    assert done == {"type": "done", "ref": "e"}
    await his.assert_event("chat.edited", message_id=pk, body="two", version=2)
    stale = await hers.answer_to({"type": "chat.edit", "message_id": pk, "body": "three", "version": 1})
    assert error_of(stale) == {"code": "conflict", "version": 2, "body": "two"}
    reaction = await his.answer_to({"type": "chat.react", "message_id": pk, "emoji": "👍"})
    assert reaction["type"] == "done"
    await his.assert_event("chat.reaction", message_id=pk, user=bob.pk, emoji="👍", on=True)
    await his.answer_to({"type": "chat.react", "message_id": pk, "emoji": "👍", "on": False})
    await his.assert_event("chat.reaction", message_id=pk, user=bob.pk, emoji="👍", on=False)
    assert (await hers.answer_to({"type": "chat.delete", "message_id": pk}))["type"] == "done"
    await his.assert_event("chat.deleted", message_id=pk, deleted_by=alice.pk)
    late = await enter(sockets, bob, general, last=100)
    assert "sentinel" not in str(late.frames)
    assert "two" not in str(late.frames)


async def test_answer_to_a_command_without_a_ref_has_none(
    sockets: Sockets, alice: User, general: Room
) -> None:
    socket = await enter(sockets, alice, general)
    await socket.send_json_to({"type": "message", "body": "hi"})
    accepted = (await socket.until("chat.accepted"))[-1]
    assert (accepted.get("ref"), accepted["client_message_id"]) == (None, None)
    await socket.send_json_to({"type": "chat.delete", "message_id": accepted["message_id"]})
    assert (await socket.until("done"))[-1] == {"type": "done"}


# ---------------------------------------------------------------------------------------------- who isn't any more


async def test_who_is_removed_can_neither_send_nor_read_from_then_on(
    sockets: Sockets, acme: Organization, alice: User, bob: User, leads: Room
) -> None:
    hers, his, organizations = (
        await attend(sockets, alice), await enter(sockets, bob, leads), await attend(sockets, bob),
    )  # fmt: skip
    await in_thread(services.remove_member, acme, None, room_id=leads.pk, user=bob)
    assert (await his.receive_output())["code"] == 4403
    answer = await organizations.answer_to({"type": "message", "body": "still here", "room": leads.pk})
    assert error_of(answer) == {"code": "forbidden"}
    await organizations.assert_event("chat.left", room=leads.pk, users=[bob.pk])
    await send_message(hers, "without bob", room=leads)
    assert await organizations.is_alive()
    await organizations.assert_silent(0.2)
    assert "without bob" not in str(his.frames)


async def test_command_waits_while_the_access_is_being_asked_about(
    sockets: Sockets, alice: User, general: Room, instead: Instead
) -> None:
    socket = await enter(sockets, alice, general)
    (connection,) = get_hub().registry
    held = []

    def send(*arguments: Any, **options: Any) -> Any:
        held.append(connection.held)
        return services.send(*arguments, **options)

    instead(COMMANDS, services.send, send)
    connection.hold(10**9)
    await socket.send_json_to({"type": "message", "body": "held", "ref": 1})
    assert await socket.is_alive()
    connection.admit(connection.access, 10**9 + 1)
    assert (await socket.until("chat.accepted"))[-1]["ref"] == 1
    assert held == [None]


# ------------------------------------------------------------------------------------------ a database that is away


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("gone")], ids=repr)
async def test_database_that_cant_be_asked_is_unavailable_and_the_socket_lives(
    sockets: Sockets, alice: User, general: Room, instead: Instead, error: DatabaseError
) -> None:
    socket = await enter(sockets, alice, general)

    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    instead(COMMANDS, services.send, fail)
    error_frame = error_of(await socket.answer_to({"type": "message", "body": "keep me"}))
    assert error_frame == {"code": "unavailable", "retry_after_ms": 2000}
    assert await socket.is_alive()


async def test_member_that_another_transaction_has_locked_is_unavailable_for_now(
    sockets: Sockets, alice: User, general: Room
) -> None:
    socket = await enter(sockets, alice, general)

    def lock() -> None:
        list(Member.objects.select_for_update().filter(user=alice))

    with open_transaction(lock):
        answer = await socket.answer_to({"type": "message", "body": "now", "client_message_id": "m"})
        assert error_of(answer)["code"] == "unavailable"
    assert (await send_message(socket, "now", client_message_id="m"))["duplicate"] is False


async def test_command_that_takes_too_long_is_unavailable_and_its_retry_is_answered(
    sockets: Sockets, alice: User, general: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    socket = await enter(sockets, alice, general)
    monkeypatch.setattr(commands, "ANSWER_SECONDS", 0.2)

    def send_late(*arguments: Any, **options: Any) -> Any:
        release.wait(60)
        return services.send(*arguments, **options)

    with monkeypatch.context() as patch:
        run = COMMANDS.run

        async def run_late(asked: Any, *arguments: Any, **options: Any) -> Any:
            return await run(send_late if asked is services.send else asked, *arguments, **options)

        patch.setattr(COMMANDS, "run", run_late)
        answer = await socket.answer_to({"type": "message", "body": "late", "client_message_id": "m"})
        assert error_of(answer)["code"] == "unavailable"
    release.set()
    await assert_message(socket, "late")
    monkeypatch.setattr(commands, "ANSWER_SECONDS", 60)
    assert (await send_message(socket, "late", client_message_id="m"))["duplicate"] is True


async def test_accepted_message_is_no_error_though_who_types_cant_be_told(
    sockets: Sockets, alice: User, general: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two are not one: the message has been kept, and a client that is told of an error would send it again."""

    async def fail(*_: object) -> None:
        raise OperationalError("gone")

    socket = await enter(sockets, alice, general)
    monkeypatch.setattr(TypingService, "stop", fail)
    accepted = await send_message(socket, "kept")
    assert await socket.is_alive()
    assert [each for each in socket.frames if each["type"] == "error"] == []
    assert accepted["duplicate"] is False
