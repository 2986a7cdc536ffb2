"""Several at once, on PostgreSQL: what is exact stays exact, and nobody who numbers waits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.contrib.auth.models import User

from orgrealtime import stream
from orgrealtime.chat import history, services
from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.models import Entry, NotificationEvent
from tests.chat.conftest import Limit
from tests.chat.contents import events
from tests.host.models import Organization
from tests.threads import is_waiting_for_a_lock, open_transaction, start, start_many
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def say(room: Room, user: User, body: str = "hello", key: str | None = None) -> services.Sent:
    return services.send(room.organization_id, user, room_id=room.pk, body=body, client_message_id=key)


def outcome(room: Room, user: User, body: str = "hello", key: str | None = None) -> str:
    try:
        return "duplicate" if say(room, user, body, key).duplicate else "sent"
    except ChatError as error:
        return error.code


def test_concurrent_retries_make_one_message(acme: Organization, general: Room, alice: User) -> None:
    sent = start_many(8, lambda number: say(general, alice, "hello", "k"))
    assert len({each.message.pk for each in sent}) == 1
    assert Counter(each.duplicate for each in sent) == {True: 7, False: 1}
    assert len(events(acme, "chat.message")) == 1


def test_concurrent_retries_at_the_limit_are_not_refused(limit: Limit, general: Room, alice: User) -> None:
    limit(MESSAGES_PER_MINUTE=1, ROOM_BURST=1)
    outcomes = start_many(6, lambda number: outcome(general, alice, "hello", "k"))
    assert Counter(outcomes) == {"sent": 1, "duplicate": 5}


def test_concurrent_texts_with_one_id_are_one_message_and_conflicts(general: Room, alice: User) -> None:
    outcomes = start_many(6, lambda number: outcome(general, alice, f"text {number}", "k"))
    assert Counter(outcomes) == {"sent": 1, "conflict": 5}


def test_retry_beside_a_first_one_that_rolls_back_is_sent(general: Room, alice: User) -> None:
    with open_transaction(lambda: say(general, alice, "hello", "k"), commits=False):
        retry = start(outcome, general, alice, "hello", "k")
        until(is_waiting_for_a_lock)
    assert retry.result() == "sent"
    assert Message.objects.count() == 1


def test_limit_is_exact_for_messages_at_once_in_several_rooms(
    limit: Limit, acme: Organization, general: Room, leads: Room, alice: User
) -> None:
    limit(MESSAGES_PER_MINUTE=5)
    rooms = [general, leads]
    outcomes = start_many(12, lambda number: outcome(rooms[number % 2], alice, key=str(number)))
    assert Counter(outcomes) == {"sent": 5, "rate_limited": 7}


def test_messages_of_two_rooms_in_one_transaction_do_not_deadlock(
    general: Room, leads: Room, alice: User
) -> None:
    def both(first: Room, second: Room) -> None:
        say(first, alice)
        say(second, alice)

    with open_transaction(lambda: both(general, leads)):
        other = start(both, leads, general)
        until(is_waiting_for_a_lock)
    other.result()
    assert Message.objects.count() == 3 or Message.objects.count() == 4


def test_who_is_being_removed_does_not_post_afterwards(
    acme: Organization, general: Room, alice: User
) -> None:
    with open_transaction(lambda: services.remove_member(acme, None, room_id=general.pk, user=alice)):
        late = start(outcome, general, alice)
        until(is_waiting_for_a_lock)
    assert late.result() == "forbidden"
    assert events(acme)[-1].type == "chat.left"


@pytest.mark.parametrize("table", ["message", "room", "author", "member"])
def test_numbering_does_not_wait_for_locked_rows(
    table: str, acme: Organization, general: Room, alice: User
) -> None:
    message = say(general, alice).message
    models = {"message": Message, "room": Room, "author": User, "member": Member}

    def lock() -> list[Any]:
        return list(models[table].objects.select_for_update())

    with open_transaction(lock):
        stream.position(acme)
        assert NotificationEvent.objects.get(pk=message.event_id).seq
        assert Entry.objects.filter(event_id=message.event_id).exists()


def test_numbering_does_not_wait_for_a_message_on_its_way(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    with open_transaction(lambda: say(general, alice, "slow")):
        fast = say(general, bob, "fast").message
        stream.position(acme)
        assert Entry.objects.filter(event_id=fast.event_id).exists()


def test_message_that_commits_late_is_later_in_history(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    with open_transaction(lambda: say(general, alice, "late")):
        say(general, bob, "early")
        page = history.read(acme, bob, room_id=general.pk)
        assert [each["body"] for each in page.messages] == ["early"]
    seen = page.messages[-1]["position"]
    assert [each["body"] for each in history.read(acme, bob, room_id=general.pk, after=seen).messages] == [
        "late"
    ]
    assert [each["body"] for each in history.read(acme, bob, room_id=general.pk).messages] == [
        "early",
        "late",
    ]


def test_two_edits_at_once_of_one_version_are_one_edit(
    acme: Organization, general: Room, alice: User
) -> None:
    message = say(general, alice).message

    def edit(number: int) -> str:
        try:
            services.edit(acme, alice, message_id=message.pk, body=f"edit {number}", version=1)
        except ChatError as error:
            return error.code
        return "edited"

    assert Counter(start_many(5, edit)) == {"edited": 1, "conflict": 4}
    assert Message.objects.get().version == 2


def test_conversation_opened_at_once_is_one_room(acme: Organization, alice: User, bob: User) -> None:
    pairs = [(alice, bob), (bob, alice)]
    rooms = start_many(8, lambda number: services.open_direct(acme, *pairs[number % 2]).pk)
    assert len(set(rooms)) == Room.objects.count() == 1
    assert Member.objects.count() == 2
    assert sum(len(each.payload["users"]) for each in events(acme, "chat.joined")) == 2


def test_room_is_joined_once_and_never_by_too_many(
    limit: Limit, acme: Organization, alice: User, bob: User, dave: User
) -> None:
    limit(MAX_MEMBERS=2)
    room = services.create_room(acme, None, kind="public", name="Small")
    users = [alice, bob, dave] * 2

    def join(number: int) -> str:
        try:
            services.join(acme, users[number], room_id=room.pk)
        except ChatError as error:
            return error.code
        return "joined"

    assert Counter(start_many(6, join)) == {"joined": 4, "bad_request": 2}
    assert Member.objects.count() == len(events(acme, "chat.joined")) == 2


def test_user_is_never_in_too_many_rooms(limit: Limit, acme: Organization, alice: User) -> None:
    limit(MAX_ROOMS_PER_USER=2)
    rooms = [services.create_room(acme, None, kind="public", name=str(number)) for number in range(5)]

    def join(number: int) -> str:
        try:
            services.join(acme, alice, room_id=rooms[number].pk)
        except ChatError as error:
            return error.code
        return "joined"

    assert Counter(start_many(5, join)) == {"joined": 2, "bad_request": 3}
