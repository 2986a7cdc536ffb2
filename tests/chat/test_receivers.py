"""Rows that go without a service, and memberships that end: the topic ends with them, and those who stay are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from orgrealtime import stream
from orgrealtime.chat import services
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.models import NotificationEvent
from tests.chat.contents import access_of, events
from tests.host.models import Membership, Organization

pytestmark = [
    pytest.mark.django_db(databases=["default", "lite"], transaction=True),
    pytest.mark.usefixtures("alias"),
]


def left(organization: Organization) -> list[dict[str, object]]:
    """What the rooms were told of those who left."""
    return [event.payload for event in events(organization, "chat.left") if event.topic]


@pytest.mark.parametrize(
    "end",
    [
        lambda user: Membership.objects.get(user=user, organization__slug="acme").delete(),
        lambda user: Membership.objects.filter(user=user, organization__slug="acme").delete(),
    ],
    ids=["instance", "queryset"],
)
def test_who_leaves_the_organisation_is_out_of_its_rooms(
    end: Callable[[User], object],
    acme: Organization,
    globex: Organization,
    general: Room,
    leads: Room,
    alice: User,
) -> None:
    Membership.objects.create(organization=globex, user=alice)
    other = services.create_room(globex, None, kind="public", name="Other", members=[alice])
    end(alice)
    assert list(Member.objects.filter(user=alice).values_list("room", flat=True)) == [other.pk]
    assert left(acme) == [{"room": room.pk, "users": [alice.pk]} for room in (general, leads)]
    assert access_of(acme, alice).topics == {}
    assert left(globex) == []


def test_membership_that_changes_and_stays_keeps_the_rooms(
    acme: Organization, general: Room, alice: User
) -> None:
    membership = Membership.objects.get(user=alice)
    membership.role = "guest"
    membership.save()
    assert general.members.filter(user=alice).exists()


def test_membership_that_is_not_ended_after_all_keeps_the_rooms(
    alias: str, acme: Organization, general: Room, alice: User
) -> None:
    with transaction.atomic(alias):
        Membership.objects.get(user=alice).delete()
        transaction.set_rollback(True, alias)
    assert general.members.filter(user=alice).exists()
    assert left(acme) == []


def test_deleted_user_leaves_rooms_and_messages_stay(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    services.send(acme, alice, room_id=general.pk, body="hello")
    key = alice.pk
    alice.delete()
    assert left(acme) == [{"room": general.pk, "users": [key]}]
    assert Message.objects.get().author is None


@pytest.mark.parametrize(
    "end",
    [
        lambda members: members.get().delete(),
        lambda members: members.delete(),
    ],
    ids=["instance", "queryset"],
)
def test_member_that_is_deleted_by_hand_loses_the_topic_in_order(
    end: Callable[..., object], acme: Organization, general: Room, alice: User
) -> None:
    end(Member.objects.filter(user=alice))
    (to_all, to_one) = events(acme, "chat.left")
    assert to_all.access_change == {"withdraws": [alice.pk]}
    assert to_one.audience == [alice.pk]


def test_deleted_room_is_withdrawn_from_all(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    pk = general.pk
    general.delete()
    assert left(acme) == [{"room": pk, "users": [alice.pk, bob.pk]}]
    assert access_of(acme, alice).topics == {}


def test_organisation_is_deleted_with_all_that_is_in_it(
    acme: Organization, general: Room, leads: Room, alice: User
) -> None:
    services.send(acme, alice, room_id=general.pk, body="hello")
    stream.position(acme)
    acme.delete()
    assert not Room.objects.exists()
    assert not Member.objects.exists()
    assert not NotificationEvent.objects.exists()
