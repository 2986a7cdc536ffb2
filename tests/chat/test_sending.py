"""Sending: three statements, once, within the limits, and to those in the room alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from orgrealtime import stream
from orgrealtime.chat import services, writing
from orgrealtime.chat.drafts import checked_mentions
from orgrealtime.chat.models import Message, Room
from orgrealtime.chat.rules import Draft, Rules
from orgrealtime.models import Entry
from tests.chat.conftest import Limit
from tests.chat.contents import access_of, events, payloads, refusal
from tests.conftest import Configure
from tests.host.models import Membership, Organization

pytestmark = [pytest.mark.django_db(databases=["default", "lite"]), pytest.mark.usefixtures("alias")]

OF_TRANSACTIONS = ("SAVEPOINT", "RELEASE", "BEGIN")


def say(room: Room, user: User, body: str = "hello", key: str | None = None, **more: Any) -> services.Sent:
    return services.send(
        room.organization_id, user, room_id=room.pk, body=body, client_message_id=key, **more
    )


def statements_of(alias: str, work: Any) -> list[str]:
    with CaptureQueriesContext(connections[alias]) as captured:
        work()
    return [each["sql"] for each in captured if not each["sql"].startswith(OF_TRANSACTIONS)]


def age(seconds: float) -> None:
    """Have all messages be older by so many seconds."""
    for message in Message.objects.all():
        Message.objects.filter(pk=message.pk).update(
            created_at=message.created_at - timedelta(seconds=seconds)
        )


# What is written


def test_message_takes_three_statements_and_one_more_if_it_mentions_somebody(
    alias: str, general: Room, alice: User, bob: User
) -> None:
    plain = statements_of(alias, lambda: say(general, alice, key="1"))
    assert [each.split()[0] for each in plain] == ["SELECT", "INSERT", "INSERT"]
    assert len(statements_of(alias, lambda: say(general, alice, mentions=[bob.pk]))) == 4


def test_message_is_stored_with_its_event_and_is_an_entry_of_the_room(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    sent = say(general, alice, "he\u0301llo", "k", mentions=[bob.pk, bob.pk], mentions_all=True)
    message, duplicate = sent
    assert not duplicate
    stored = Message.objects.get()
    assert stored == message
    assert (stored.body, stored.author, stored.room, stored.organization) == ("héllo", alice, general, acme)
    (event,) = events(acme, "chat.message")
    assert (event.pk, event.topic, event.subject) == (stored.event_id, general.topic, f"message:{stored.pk}")
    assert (event.actor, event.audience, event.entry) == (alice, None, True)
    assert event.payload == {
        "room": general.pk,
        "message_id": stored.pk,
        "client_message_id": "k",
        "body": "héllo",
        "version": 1,
        "reply_to": None,
        "mentions": [bob.pk],
        "mentions_all": True,
        "attachments": [],
    }
    stream.position(acme)
    assert Entry.objects.filter(collection=general.topic, event_id=stored.event_id).exists()


def test_mention_is_for_those_named_who_are_in_the_room(
    acme: Organization, general: Room, alice: User, bob: User, dave: User
) -> None:
    sent = say(general, alice, mentions=[alice.pk, bob.pk, dave.pk])
    (event,) = events(acme, "chat.mention")
    assert event.payload == {
        "room": general.pk,
        "message_id": sent.message.pk,
        "body": "hello",
        "by": alice.pk,
    }
    assert (event.audience, event.topic, event.category) == ([bob.pk, dave.pk], general.topic, "mention")
    stream.position(acme)
    event.refresh_from_db()
    page = stream.read_last(acme.pk, access=access_of(acme, bob))
    assert "chat.mention" in [each.type for each in page.events]
    page = stream.read_last(acme.pk, access=access_of(acme, dave))
    assert [each.type for each in page.events] == []


def test_event_that_nobody_but_the_author_is_named_in_is_no_mention(
    acme: Organization, general: Room, alice: User
) -> None:
    say(general, alice, mentions=[alice.pk])
    assert events(acme, "chat.mention") == []


def test_rooms_work_where_types_have_to_be_registered(
    configure: Configure, acme: Organization, general: Room, alice: User, bob: User
) -> None:
    configure(STRICT_TYPES=True)
    sent = say(general, alice, mentions=[bob.pk])
    services.edit(acme, alice, message_id=sent.message.pk, body="other")
    services.react(acme, bob, message_id=sent.message.pk, emoji="👍")
    services.delete(acme, alice, message_id=sent.message.pk)
    services.update_room(acme, None, room_id=general.pk, version=1, name="Other")
    services.leave(acme, bob, room_id=general.pk)


def test_rolled_back_message_leaves_nothing(
    alias: str, acme: Organization, general: Room, alice: User
) -> None:
    with transaction.atomic(alias):
        say(general, alice)
        transaction.set_rollback(True, alias)
    assert not Message.objects.exists()
    assert events(acme, "chat.message") == []


# Once


def test_retry_returns_the_first_message_and_publishes_nothing(
    acme: Organization, general: Room, alice: User
) -> None:
    first = say(general, alice, "hello", "k")
    assert say(general, alice, "hello", "k") == (first.message, True)
    assert len(events(acme, "chat.message")) == Message.objects.count() == 1


def test_other_text_with_the_same_id_is_a_conflict(general: Room, alice: User) -> None:
    first = say(general, alice, "hello", "k")
    error = refusal(lambda: say(general, alice, "other", "k"))
    assert (error.code, error.details) == ("conflict", {"version": 1, "body": "hello"})
    assert Message.objects.get() == first.message


def test_retry_is_known_by_the_text_of_before_an_edit(acme: Organization, general: Room, alice: User) -> None:
    first = say(general, alice, "hello", "k").message
    services.edit(acme, alice, message_id=first.pk, body="bye")
    again = say(general, alice, "hello", "k")
    assert again.duplicate
    assert (again.message.pk, again.message.body, again.message.version) == (first.pk, "bye", 2)
    assert refusal(lambda: say(general, alice, "bye", "k")).code == "conflict"


def test_retry_after_deletion_returns_the_tombstone(acme: Organization, general: Room, alice: User) -> None:
    first = say(general, alice, "hello", "k").message
    services.delete(acme, alice, message_id=first.pk)
    again = say(general, alice, "hello", "k")
    assert (again.message.pk, again.message.is_deleted, again.duplicate) == (first.pk, True, True)


@pytest.mark.parametrize("obstacle", ["rate", "archive", "slow mode", "role", "rules"])
def test_retry_of_an_accepted_message_is_never_refused(
    obstacle: str, limit: Limit, acme: Organization, general: Room, alice: User
) -> None:
    first = say(general, alice, "hello", "k").message
    if obstacle == "rate":
        limit(MESSAGES_PER_MINUTE=1)
    elif obstacle == "archive":
        services.update_room(acme, None, room_id=general.pk, version=None, archived=True)
    elif obstacle == "slow mode":
        services.update_room(acme, None, room_id=general.pk, version=None, slow_mode_seconds=60)
    elif obstacle == "role":
        services.set_role(acme, None, room_id=general.pk, user=alice, role="readonly")
    else:
        limit(RULES=f"{__name__}.NoWord")
    assert refusal(lambda: say(general, alice, "hello", "other")).code
    assert say(general, alice, "hello", "k") == (first, True)


class Counting(Rules):
    """Notes what it is asked about."""

    asked: list[str] = []

    def moderate(self, draft: Draft) -> Draft | None:
        self.asked.append(draft.body)
        return draft


def test_rules_are_not_asked_about_a_retry(alias: str, limit: Limit, general: Room, alice: User) -> None:
    limit(RULES=f"{__name__}.Counting")
    Counting.asked.clear()
    say(general, alice, "hello", "k")
    again = statements_of(alias, lambda: say(general, alice, "hello", "k"))
    assert [each.split()[0] for each in again] == ["SELECT", "SELECT"]
    assert Counting.asked == ["hello"]


def test_retry_is_known_after_the_secret_key_has_changed(
    general: Room, alice: User, settings: Settings
) -> None:
    first = say(general, alice, "hello", "k").message
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    assert say(general, alice, "hello", "k") == (first, True)


def test_same_id_of_another_author_or_in_another_room_is_another_message(
    acme: Organization, general: Room, leads: Room, alice: User, bob: User
) -> None:
    sent = [say(general, alice, "a", "k"), say(general, bob, "b", "k"), say(leads, alice, "c", "k")]
    assert [each.duplicate for each in sent] == [False] * 3


@pytest.mark.parametrize("key", ["", "a" * 65, "a\x00", "a\n", 7, ["a"], "\ud800"])
def test_client_message_id_that_can_be_none_is_refused(key: Any, general: Room, alice: User) -> None:
    error = refusal(lambda: say(general, alice, key=key))
    assert error.code == "bad_request"
    assert "client_message_id is a text of 1 to 64 printable characters" in str(error)


# The limits


def test_one_message_more_in_a_minute_is_refused_over_all_rooms(
    limit: Limit, general: Room, leads: Room, alice: User, bob: User
) -> None:
    limit(MESSAGES_PER_MINUTE=3)
    for room in (general, leads, general):
        say(room, alice)
        age(10)
    error = refusal(lambda: say(leads, alice))
    assert (error.code, error.details["limit"], error.details["seconds"]) == ("rate_limited", 3, 60)
    assert 29_000 < error.details["retry_after_ms"] <= 30_000
    assert not say(general, bob).duplicate  # whose minute is another
    age(30)
    say(leads, alice)
    assert refusal(lambda: say(general, alice)).code == "rate_limited"


def test_messages_of_another_organisation_do_not_count(
    limit: Limit, general: Room, globex: Organization, alice: User
) -> None:
    limit(MESSAGES_PER_MINUTE=1)
    Membership.objects.create(organization=globex, user=alice)
    other = services.create_room(globex, None, kind="public", name="Other", members=[alice])
    say(general, alice)
    say(other, alice)


def test_deleted_messages_count(limit: Limit, acme: Organization, general: Room, alice: User) -> None:
    limit(MESSAGES_PER_MINUTE=1)
    services.delete(acme, alice, message_id=say(general, alice).message.pk)
    assert refusal(lambda: say(general, alice)).code == "rate_limited"


def test_slow_mode_holds_one_back_in_this_room_alone(
    acme: Organization, general: Room, leads: Room, alice: User, bob: User
) -> None:
    services.update_room(acme, None, room_id=general.pk, version=1, slow_mode_seconds=30)
    say(general, alice)
    error = refusal(lambda: say(general, alice))
    assert (error.code, error.details["limit"], error.details["seconds"]) == ("slow_mode", 1, 30)
    assert 0 < error.details["retry_after_ms"] <= 30_000
    say(leads, alice)
    say(general, bob)
    services.set_role(acme, None, room_id=general.pk, user=alice, role="moderator")
    say(general, alice)
    age(31)
    say(general, bob)


def test_room_takes_so_many_messages_in_ten_seconds(
    limit: Limit, general: Room, alice: User, bob: User
) -> None:
    limit(ROOM_BURST=2)
    say(general, alice)
    say(general, bob)
    error = refusal(lambda: say(general, alice))
    assert (error.code, error.details["limit"], error.details["unit"]) == ("rate_limited", 2, "in this room")
    age(10)
    say(general, alice)


@pytest.mark.parametrize("body", ["a" * 4001, "", "\x00"])
def test_text_that_is_refused_needs_no_statement(alias: str, body: str, general: Room, alice: User) -> None:
    assert statements_of(alias, lambda: refusal(lambda: say(general, alice, body))) == []


def test_message_of_exactly_the_limit_is_taken(acme: Organization, general: Room, alice: User) -> None:
    say(general, alice, "😀" * 4000)
    assert payloads(acme, "chat.message")[0]["body"] == "😀" * 4000
    assert refusal(lambda: say(general, alice, "😀" * 4001)).code == "too_long"


# Who may


def test_strangers_of_a_room_are_refused_as_for_one_that_does_not_exist(
    acme: Organization, globex: Organization, general: Room, leads: Room, alice: User, bob: User, dave: User
) -> None:
    unknown = Room(pk=leads.pk + 1000, organization=acme)
    elsewhere = services.create_room(globex, None, kind="public", name="Other", members=[dave])
    elsewhere.organization = acme  # as somebody might ask
    refusals = [
        refusal(lambda: say(leads, bob)),
        refusal(lambda: say(general, dave)),
        refusal(lambda: say(unknown, bob)),
        refusal(lambda: say(elsewhere, dave)),
    ]
    assert {(each.code, str(each), str(each.details)) for each in refusals} == {
        ("forbidden", str(refusals[0]), "{}")
    }
    assert not Message.objects.exists()


def test_who_only_reads_does_not_post(acme: Organization, general: Room, alice: User) -> None:
    services.set_role(acme, None, room_id=general.pk, user=alice, role="readonly")
    assert refusal(lambda: say(general, alice)).code == "forbidden"


def test_nothing_is_said_in_an_archived_room(acme: Organization, general: Room, alice: User) -> None:
    services.update_room(acme, None, room_id=general.pk, version=1, archived=True)
    assert refusal(lambda: say(general, alice)).code == "archived"
    services.update_room(acme, None, room_id=general.pk, version=2, archived=False)
    say(general, alice)


@pytest.mark.parametrize("room_id", [0, -1, 2**63, True, "1", None, 1.0])
def test_room_that_is_no_number_is_refused(room_id: Any, acme: Organization, alice: User) -> None:
    error = refusal(lambda: services.send(acme, alice, room_id=room_id, body="a"))
    assert (error.code, "room is a whole number" in str(error)) == ("bad_request", True)


def test_reply_is_to_a_message_of_the_same_room(
    acme: Organization, general: Room, leads: Room, alice: User
) -> None:
    first = say(general, alice).message
    assert say(general, alice, reply_to=first.pk).message.reply_to == first
    assert payloads(acme, "chat.message")[-1]["reply_to"] == first.pk
    elsewhere = say(leads, alice).message
    for wrong in (elsewhere.pk, first.pk + 1000):
        error = refusal(lambda wrong=wrong: say(general, alice, reply_to=wrong))
        assert (error.code, "reply_to" in str(error)) == ("bad_request", True)


@pytest.mark.parametrize("mentions", ["alice", 7, [None], [True], ["x"], [[1]], list(range(1, 52))])
def test_mentions_that_can_be_none_are_refused(mentions: Any, general: Room, alice: User) -> None:
    error = refusal(lambda: say(general, alice, mentions=mentions))
    assert (error.code, "mentions" in str(error)) == ("bad_request", True)


def test_key_that_is_longer_than_an_index_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "stored_key", str)  # as where users have texts for keys
    assert checked_mentions(["u" * 255]) == ["u" * 255]
    assert refusal(lambda: checked_mentions(["u" * 256])).code == "bad_request"


# The rules


class NoWord(Rules):
    """Refuses a word, changes another, and takes attachments by their number."""

    def moderate(self, draft: Draft) -> Draft | None:
        if "hello" in draft.body:
            return None
        draft.body = draft.body.replace("bad", "b*d")
        return draft

    def attachment(self, user: Any, room: Room, ref: Any) -> Any:
        return {"file": ref, "url": f"/files/{ref}/"}


class Loud(Rules):
    def moderate(self, draft: Draft) -> Draft | None:
        draft.body *= 3
        return draft


def test_rules_refuse_and_change_what_is_posted(limit: Limit, general: Room, alice: User) -> None:
    limit(RULES=f"{__name__}.NoWord")
    assert refusal(lambda: say(general, alice, "hello")).code == "moderated"
    assert say(general, alice, "too bad", "k").message.body == "too b*d"
    assert say(general, alice, "too bad", "k").duplicate


def test_what_the_rules_make_of_a_text_is_held_to_its_length(
    limit: Limit, general: Room, alice: User
) -> None:
    limit(RULES=f"{__name__}.Loud", MAX_LENGTH=10)
    assert say(general, alice, "abc").message.body == "abcabcabc"
    assert refusal(lambda: say(general, alice, "abcd")).code == "too_long"


def test_nothing_is_attached_unless_the_rules_take_it(limit: Limit, general: Room, alice: User) -> None:
    assert refusal(lambda: say(general, alice, attachments=[7])).code == "bad_request"
    limit(RULES=f"{__name__}.NoWord")
    assert say(general, alice, "a", attachments=[7]).message.attachments == [{"file": 7, "url": "/files/7/"}]
    for wrong in ("x", [1] * 11, [{1}], ["\x00"], [2**60]):
        assert refusal(lambda wrong=wrong: say(general, alice, "a", attachments=wrong)).code == "bad_request"


def test_attachment_that_no_event_can_hold_leaves_no_message(
    limit: Limit, acme: Organization, general: Room, alice: User
) -> None:
    limit(RULES=f"{__name__}.NoWord")
    error = refusal(lambda: say(general, alice, "a", attachments=["x" * 70_000]))
    assert (error.code, Message.objects.exists()) == ("bad_request", False)


# The host


def test_host_says_something_with_one_insert_each(alias: str, acme: Organization, general: Room) -> None:
    said = statements_of(alias, lambda: services.post(general, "Deployed."))
    assert [each.split()[0] for each in said] == ["INSERT", "INSERT"]
    assert Message.objects.get().author is None
    assert events(acme, "chat.message")[0].actor is None


def test_only_who_is_somebody_sends(acme: Organization, general: Room) -> None:
    with pytest.raises(TypeError, match="actor is a user"):
        services.send(acme, None, room_id=general.pk, body="a")


# Conversations of two people


def test_who_has_stayed_alone_reads_and_does_not_post(acme: Organization, alice: User, dave: User) -> None:
    room = services.open_direct(acme, alice, dave)
    say(room, alice)
    services.leave_all(acme, dave)
    error = refusal(lambda: say(room, alice))
    assert (error.code, "no more" in str(error)) == ("forbidden", True)
    assert refusal(lambda: say(room, dave)).code == "forbidden"
