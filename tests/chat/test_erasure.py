"""Erasing a person: afterwards no dump of the database contains what they said, or whose it was."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from orgrealtime import stream
from orgrealtime.chat import erasure, history, services
from orgrealtime.chat.models import Member, Message, Reaction, Room, Typing
from orgrealtime.models import Entry, NotificationEvent
from tests.chat.contents import events, tables_with
from tests.host.models import Membership, Organization

pytestmark = [pytest.mark.django_db(databases=["default", "lite"]), pytest.mark.usefixtures("alias")]

SENTINEL = "sentinel-of-a-secret"


@pytest.fixture(params=["numbered", "waiting"])
def said(
    request: pytest.FixtureRequest, acme: Organization, general: Room, alice: User, bob: User
) -> dict[str, Message]:
    """What two people have said to each other."""
    direct = services.open_direct(acme, alice, bob)
    found = {
        "own": services.send(
            acme,
            alice,
            room_id=general.pk,
            body=f"{SENTINEL} 1",
            client_message_id=SENTINEL,
            mentions=[bob.pk],
        ).message,
        "direct": services.send(acme, alice, room_id=direct.pk, body=f"{SENTINEL} 2").message,
        "edited": services.send(acme, alice, room_id=general.pk, body=f"{SENTINEL} 3").message,
        "other": services.send(acme, bob, room_id=general.pk, body="hello", mentions=[alice.pk]).message,
    }
    services.edit(acme, alice, message_id=found["edited"].pk, body=f"{SENTINEL} 4")
    services.react(acme, alice, message_id=found["other"].pk, emoji="👍")
    Typing.objects.create(organization=acme, room=general, user=alice, until=timezone.now())
    if request.param == "numbered":
        stream.position(acme)
    return found


def test_erased_person_has_said_nothing(
    acme: Organization, general: Room, alice: User, bob: User, said: dict[str, Message]
) -> None:
    services.erase(alice, acme)
    own = Message.objects.filter(author=alice)
    assert [(each.body, each.is_deleted) for each in own] == [("", True)] * 3
    assert not Reaction.objects.exists()
    assert not Typing.objects.exists()
    assert not Member.objects.filter(user=alice).exists()
    assert Message.objects.get(pk=said["other"].pk).mentions == []
    for event in events(acme):
        assert f"{SENTINEL} " not in str(event.payload)
    mentions = [event.payload["mentions"] for event in events(acme, "chat.message")]
    assert mentions == [[]] * 4
    assert tables_with(f"{SENTINEL} ") == []
    page = history.read(acme, bob, room_id=general.pk)
    assert [each["body"] for each in page.messages] == ["", "", "hello"]
    services.erase(alice, acme)  # again, as after an interruption


def test_anonymised_texts_stay_and_are_nobody_s(
    acme: Organization, general: Room, alice: User, bob: User, said: dict[str, Message]
) -> None:
    services.delete(acme, alice, message_id=said["edited"].pk)
    services.erase(alice, acme, anonymise=True)
    stream.position(acme)
    assert not Message.objects.filter(author=alice).exists()
    page = history.read(acme, bob, room_id=general.pk)
    assert [(each["author"], each["body"]) for each in page.messages] == [
        (None, f"{SENTINEL} 1"),
        (None, ""),
        (bob.pk, "hello"),
    ]
    own = [said[name] for name in ("own", "direct", "edited")]
    about = NotificationEvent.objects.filter(subject__in=[message.subject for message in own])
    assert {event.actor_id for event in about} == {None}
    assert {event.payload.get("by") for event in about} == {None}
    assert {event.payload.get("client_message_id") for event in about} == {None}
    entries = Entry.objects.filter(event_id__in=[message.event_id for message in own])
    assert set(entries.values_list("actor", flat=True)) == {None}
    assert about.filter(type="chat.edited").last().replaces


def test_erasure_in_one_organisation_leaves_the_other(
    acme: Organization, globex: Organization, alice: User, said: dict[str, Message]
) -> None:
    Membership.objects.create(organization=globex, user=alice)
    room = services.create_room(globex, None, kind="public", name="Other", members=[alice])
    services.send(globex, alice, room_id=room.pk, body="stays")
    services.erase(alice, acme)
    assert Message.objects.get(organization=globex).body == "stays"
    assert room.members.count() == 1


def test_erasure_goes_on_beyond_a_batch(
    acme: Organization, general: Room, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    for number in range(5):
        services.send(acme, alice, room_id=general.pk, body=f"{SENTINEL} {number}")
    services.erase(alice, acme)
    assert tables_with(SENTINEL) == []
