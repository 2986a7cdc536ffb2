"""Changing, deleting and reacting: the newest version counts, and nothing is left of what was there before."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from orgrealtime import stream
from orgrealtime.chat import history, services
from orgrealtime.chat.models import Message, Reaction, Room
from orgrealtime.chat.rules import Rules
from orgrealtime.models import NotificationEvent
from tests.chat.conftest import Limit
from tests.chat.contents import caught_up, events, payloads, refusal, tables_with
from tests.host.models import Organization

pytestmark = [pytest.mark.django_db(databases=["default", "lite"]), pytest.mark.usefixtures("alias")]

SENTINEL = "sentinel-of-a-secret"


@pytest.fixture
def message(acme: Organization, general: Room, alice: User, bob: User) -> Message:
    sent = services.send(
        acme, alice, room_id=general.pk, body=f"{SENTINEL} for you", client_message_id="k", mentions=[bob.pk]
    )
    return sent.message


def surfaces(acme: Organization, room: Room, user: User) -> str:
    """All that a user of a room is shown of it."""
    page = history.read(acme, user, room_id=room.pk)
    return f"{caught_up(acme, user)} {page.as_json()}"


# Editing


def test_edit_leaves_nothing_of_the_text_of_before(
    acme: Organization, general: Room, alice: User, bob: User, message: Message
) -> None:
    assert SENTINEL in surfaces(acme, general, bob)
    edited = services.edit(acme, alice, message_id=message.pk, body="harmless", version=1)
    assert (edited.body, edited.version) == ("harmless", 2)
    assert edited.edited_at
    assert SENTINEL not in surfaces(acme, general, bob)
    assert tables_with(SENTINEL) == []
    again = services.send(acme, alice, room_id=general.pk, body=f"{SENTINEL} for you", client_message_id="k")
    assert (again.duplicate, again.message.body) == (True, "harmless")


def test_edit_before_the_message_has_a_number_reaches_that_too(
    acme: Organization, general: Room, alice: User, message: Message
) -> None:
    assert NotificationEvent.objects.get(pk=message.event_id).seq is None
    services.edit(acme, alice, message_id=message.pk, body="harmless")
    assert tables_with(SENTINEL) == []


def test_edit_is_told_and_replaces_what_was_said(
    acme: Organization, general: Room, alice: User, message: Message
) -> None:
    services.edit(acme, alice, message_id=message.pk, body="harmless")
    (event,) = events(acme, "chat.edited")
    assert event.payload == {
        "room": general.pk,
        "message_id": message.pk,
        "body": "harmless",
        "version": 2,
        "mentions": [],
    }
    assert (event.topic, event.subject, event.replaces, event.entry) == (
        general.topic,
        message.subject,
        True,
        False,
    )
    (first,) = payloads(acme, "chat.message")
    assert (first["body"], first["version"], first["mentions"]) == ("harmless", 2, [])
    assert payloads(acme, "chat.mention")[0]["body"] == "harmless"


def test_edit_of_an_older_version_is_a_conflict(acme: Organization, alice: User, message: Message) -> None:
    services.edit(acme, alice, message_id=message.pk, body="second", version=1)
    error = refusal(lambda: services.edit(acme, alice, message_id=message.pk, body="third", version=1))
    assert (error.code, error.details) == ("conflict", {"version": 2, "body": "second"})
    assert services.edit(acme, alice, message_id=message.pk, body="third", version=2).version == 3


def test_edit_tells_those_alone_who_are_named_newly(
    acme: Organization, general: Room, alice: User, bob: User, dave: User, message: Message
) -> None:
    services.edit(acme, alice, message_id=message.pk, body="a", mentions=[bob.pk, dave.pk])
    assert [each.audience for each in events(acme, "chat.mention")] == [[bob.pk], [dave.pk]]


def test_nobody_is_told_twice_of_one_message(
    acme: Organization, general: Room, alice: User, bob: User, message: Message
) -> None:
    for mentions in ([], [bob.pk], [], [bob.pk]):
        services.edit(acme, alice, message_id=message.pk, body="a", mentions=mentions)
    assert [each.audience for each in events(acme, "chat.mention")] == [[bob.pk]]


def test_message_is_changed_a_hundred_times(acme: Organization, alice: User, message: Message) -> None:
    Message.objects.filter(pk=message.pk).update(version=100)
    assert services.edit(acme, alice, message_id=message.pk, body="last").version == 101
    error = refusal(lambda: services.edit(acme, alice, message_id=message.pk, body="no more"))
    assert (error.code, error.details["limit"]) == ("bad_request", 100)
    assert services.delete(acme, alice, message_id=message.pk).is_deleted


def test_deleted_message_is_not_edited(acme: Organization, alice: User, message: Message) -> None:
    services.delete(acme, alice, message_id=message.pk)
    error = refusal(lambda: services.edit(acme, alice, message_id=message.pk, body="back"))
    assert (error.code, error.details) == ("conflict", {"version": 2, "body": ""})


def test_others_do_not_edit_and_learn_nothing(
    acme: Organization,
    globex: Organization,
    leads: Room,
    alice: User,
    bob: User,
    dave: User,
    message: Message,
) -> None:
    hidden = services.send(acme, alice, room_id=leads.pk, body="hidden").message
    refusals = [
        refusal(lambda: services.edit(acme, bob, message_id=message.pk, body="a")),
        refusal(lambda: services.edit(acme, bob, message_id=hidden.pk, body="a")),
        refusal(lambda: services.edit(acme, dave, message_id=message.pk, body="a")),
        refusal(lambda: services.edit(acme, bob, message_id=message.pk + 1000, body="a")),
        refusal(lambda: services.edit(globex, alice, message_id=message.pk, body="a")),
        refusal(lambda: services.delete(acme, bob, message_id=message.pk)),
        refusal(lambda: services.delete(acme, bob, message_id=hidden.pk)),
        refusal(lambda: services.react(acme, bob, message_id=hidden.pk, emoji="👍")),
        refusal(lambda: services.react(acme, dave, message_id=message.pk, emoji="👍")),
    ]
    assert {(each.code, str(each)) for each in refusals} == {("forbidden", str(refusals[0]))}


def test_who_has_been_removed_does_not_edit(
    acme: Organization, general: Room, alice: User, message: Message
) -> None:
    services.remove_member(acme, None, room_id=general.pk, user=alice)
    for work in (
        lambda: services.edit(acme, alice, message_id=message.pk, body="a"),
        lambda: services.delete(acme, alice, message_id=message.pk),
    ):
        assert refusal(work).code == "forbidden"


def test_nothing_is_edited_in_an_archived_room_but_deleted(
    acme: Organization, general: Room, alice: User, message: Message
) -> None:
    services.update_room(acme, None, room_id=general.pk, version=1, archived=True)
    for work in (
        lambda: services.edit(acme, alice, message_id=message.pk, body="a"),
        lambda: services.react(acme, alice, message_id=message.pk, emoji="👍"),
    ):
        assert refusal(work).code == "archived"
    assert services.delete(acme, alice, message_id=message.pk).is_deleted


class Never(Rules):
    def can_edit(self, user: Any, room: Room, message: Message) -> bool:
        return False


def test_rules_say_who_edits(limit: Limit, acme: Organization, alice: User, message: Message) -> None:
    limit(RULES=f"{__name__}.Never")
    assert refusal(lambda: services.edit(acme, alice, message_id=message.pk, body="a")).code == "forbidden"


# Deleting


def test_deletion_leaves_nothing_but_the_place(
    acme: Organization, general: Room, alice: User, bob: User, message: Message
) -> None:
    services.react(acme, bob, message_id=message.pk, emoji="👍")
    stream.position(acme)
    deleted = services.delete(acme, alice, message_id=message.pk, version=1)
    assert (deleted.body, deleted.mentions, deleted.attachments, deleted.version) == ("", [], [], 2)
    assert deleted.deleted_by == alice
    assert SENTINEL not in surfaces(acme, general, bob)
    assert tables_with(SENTINEL) == []
    (shown,) = history.read(acme, bob, room_id=general.pk).messages
    assert (shown["deleted"], shown["body"], shown["reactions"]) == (True, "", [])
    (event,) = events(acme, "chat.deleted")
    assert event.payload == {
        "room": general.pk,
        "message_id": message.pk,
        "version": 2,
        "deleted_by": alice.pk,
    }
    assert (event.subject, event.replaces) == (message.subject, True)


def test_deletion_of_what_is_deleted_changes_nothing(
    acme: Organization, alice: User, message: Message
) -> None:
    services.delete(acme, alice, message_id=message.pk)
    assert services.delete(acme, alice, message_id=message.pk, version=1).version == 2
    assert len(events(acme, "chat.deleted")) == 1


def test_deletion_of_an_older_version_is_a_conflict(
    acme: Organization, alice: User, message: Message
) -> None:
    services.edit(acme, alice, message_id=message.pk, body="second")
    error = refusal(lambda: services.delete(acme, alice, message_id=message.pk, version=1))
    assert (error.code, error.details["version"]) == ("conflict", 2)


def test_moderators_and_the_host_delete(
    acme: Organization, general: Room, alice: User, bob: User, message: Message
) -> None:
    services.set_role(acme, None, room_id=general.pk, user=bob, role="moderator")
    assert services.delete(acme, bob, message_id=message.pk).deleted_by == bob
    other = services.post(general, "of the host")
    assert services.delete(acme, None, message_id=other.pk).is_deleted


def test_database_keeps_no_body_of_a_deleted_message(alias: str, message: Message) -> None:
    with pytest.raises(IntegrityError), transaction.atomic(alias):
        Message.objects.filter(pk=message.pk).update(deleted_at=message.created_at)


@pytest.mark.parametrize("what", ["message", "queryset", "room"])
def test_rows_deleted_by_hand_leave_no_text_in_events(
    what: str, acme: Organization, general: Room, message: Message
) -> None:
    stream.position(acme)
    if what == "message":
        message.delete()
    elif what == "queryset":
        Message.objects.filter(room=general).delete()
    else:
        general.delete()
    assert tables_with(SENTINEL) == []


def test_organisation_goes_with_its_rooms(acme: Organization, general: Room, message: Message) -> None:
    services.react(acme, message.author, message_id=message.pk, emoji="👍")
    acme.delete()
    assert not Room.objects.exists()
    assert not NotificationEvent.objects.exists()


# Reacting


def test_reaction_is_told_once_and_taken_back_once(
    acme: Organization, general: Room, bob: User, message: Message
) -> None:
    for on in (True, True, False, False):
        services.react(acme, bob, message_id=message.pk, emoji="👍", on=on)
    assert payloads(acme, "chat.reaction") == [
        {"room": general.pk, "message_id": message.pk, "user": bob.pk, "emoji": "👍", "on": on}
        for on in (True, False)
    ]
    assert not Reaction.objects.exists()


def test_message_takes_twenty_kinds_of_emoji(
    acme: Organization, alice: User, bob: User, message: Message
) -> None:
    for number in range(20):
        services.react(acme, bob, message_id=message.pk, emoji=f"e{number}")
    error = refusal(lambda: services.react(acme, bob, message_id=message.pk, emoji="one more"))
    assert (error.code, error.details["limit"]) == ("bad_request", 20)
    services.react(acme, alice, message_id=message.pk, emoji="e7")


@pytest.mark.parametrize(
    ("emoji", "code"),
    [("", "empty"), (" ", "empty"), ("a" * 33, "too_long"), ("\x00", "bad_request"), (7, "bad_request")],
)
def test_emoji_that_can_be_none_is_refused(
    emoji: Any, code: str, acme: Organization, bob: User, message: Message
) -> None:
    assert refusal(lambda: services.react(acme, bob, message_id=message.pk, emoji=emoji)).code == code


def test_nobody_reacts_to_what_is_deleted(
    acme: Organization, alice: User, bob: User, message: Message
) -> None:
    services.delete(acme, alice, message_id=message.pk)
    assert refusal(lambda: services.react(acme, bob, message_id=message.pk, emoji="👍")).code == "conflict"


@pytest.mark.parametrize("version", [True, "1", 1.5])
def test_version_that_is_no_number_is_refused(
    version: Any, acme: Organization, alice: User, message: Message
) -> None:
    error = refusal(lambda: services.delete(acme, alice, message_id=message.pk, version=version))
    assert (error.code, "version is a whole number" in str(error)) == ("bad_request", True)
