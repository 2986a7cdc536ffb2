"""Rooms and who is in them: what a member has begins and ends with an event, and nobody else learns of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connections, transaction
from django.test.utils import CaptureQueriesContext

from orgrealtime import stream
from orgrealtime.chat import history, services
from orgrealtime.chat.models import Member, Room
from orgrealtime.chat.rules import Rules
from tests.chat.conftest import Limit
from tests.chat.contents import access_of, caught_up, events, payloads, refusal
from tests.conftest import MakeUser
from tests.host.models import Membership, Organization

pytestmark = [pytest.mark.django_db(databases=["default", "lite"]), pytest.mark.usefixtures("alias")]

SENTINEL = "sentinel-of-a-secret"


def names(organization: Organization, user: User) -> list[str]:
    return [summary.room.name for summary in services.rooms_of(organization, user)]


def topics(organization: Organization, user: User) -> set[str]:
    return set(access_of(organization, user).topics)


# Making and finding


def test_room_is_made_with_its_members_and_its_owner(
    limit: Limit, acme: Organization, alice: User, bob: User
) -> None:
    limit(RULES=f"{__name__}.Open")
    room = services.create_room(
        acme, alice, kind="private", name=" Team ", slug="team", members=[bob, bob.pk, alice]
    )
    assert (room.name, room.slug, room.kind, room.history, room.created_by) == (
        "Team",
        "team",
        "private",
        "all",
        alice,
    )
    assert dict(room.members.values_list("user", "role")) == {alice.pk: "owner", bob.pk: "member"}
    assert payloads(acme, "chat.joined") == [
        {"room": room.pk, "users": [alice.pk], "role": "owner"},
        {"room": room.pk, "users": [bob.pk], "role": "member"},
    ]
    assert topics(acme, bob) == {room.topic}
    assert Open.made == [(room, alice)]


class Open(Rules):
    """Everybody makes rooms."""

    made: list[Any] = []

    def can_create(self, user: Any, organization_id: Any, kind: str) -> bool:
        return True

    def room_created(self, room: Room, user: Any) -> None:
        self.made[:] = [(room, user)]


def test_nobody_makes_a_room_unless_the_rules_say_so(acme: Organization, alice: User) -> None:
    for kind in ("public", "private"):
        refused = refusal(lambda kind=kind: services.create_room(acme, alice, kind=kind, name="Mine"))
        assert refused.code == "forbidden"
    assert not Room.objects.exists()


def test_nobody_of_another_organisation_is_put_into_a_room(acme: Organization, carol: User) -> None:
    for user in (carol, carol.pk, 10**6, "nobody"):
        refused = refusal(
            lambda user=user: services.create_room(acme, None, kind="public", name="A", members=[user])
        )
        assert (refused.code, str(refused)) == ("forbidden", "not a member of this organisation")
    assert not Room.objects.exists()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"kind": "direct"}, "bad_request"),
        ({"kind": ""}, "bad_request"),
        ({"kind": []}, "bad_request"),
        ({"members": 5}, "bad_request"),
        ({"members": "12"}, "bad_request"),
        ({"name": " "}, "empty"),
        ({"name": "a" * 101}, "too_long"),
        ({"slug": "17"}, "bad_request"),
        ({"slug": "a b"}, "bad_request"),
        ({"slug": "a" * 61}, "bad_request"),
        ({"history": "none"}, "bad_request"),
    ],
)
def test_room_that_can_not_be_made_is_refused(given: dict[str, Any], code: str, acme: Organization) -> None:
    options = {"kind": "public", "name": "A", **given}
    assert refusal(lambda: services.create_room(acme, None, **options)).code == code


def test_slug_is_taken_once_in_an_organisation(
    acme: Organization, globex: Organization, general: Room
) -> None:
    taken = refusal(lambda: services.create_room(acme, None, kind="private", name="B", slug="general"))
    assert taken.code == "conflict"
    services.create_room(globex, None, kind="public", name="B", slug="general")


def test_list_has_the_public_rooms_and_those_one_is_in(
    alias: str, acme: Organization, globex: Organization, general: Room, leads: Room, alice: User, dave: User
) -> None:
    services.create_room(globex, None, kind="public", name="Other", members=[dave])
    direct = services.open_direct(acme, alice, dave)
    assert names(acme, alice) == ["General", "Leads", ""]
    assert names(acme, dave) == ["General", ""]
    with CaptureQueriesContext(connections[alias]) as captured:
        (summary, of_two) = services.rooms_of(acme, dave)
    assert len(captured) == 1
    assert summary.as_json() == {
        "id": general.pk,
        "slug": "general",
        "name": "General",
        "kind": "public",
        "archived": False,
        "slow_mode_seconds": 0,
        "version": 1,
        "role": None,
        "notify": None,
        "muted_until": None,
        "people": [],
    }
    assert (of_two.room, of_two.role, of_two.people) == (
        direct,
        "member",
        sorted([alice.pk, dave.pk], key=str),
    )


def test_room_is_found_by_slug_and_by_key_with_the_role_in_it(
    acme: Organization, general: Room, leads: Room, alice: User, dave: User
) -> None:
    found = services.find_room(acme, alice, slug="leads")
    assert (found, found.role) == (leads, "owner")  # type: ignore[attr-defined]
    found = services.find_room(acme, dave, room_id=general.pk)
    assert (found, found.role) == (general, None)  # type: ignore[attr-defined]
    assert refusal(lambda: services.find_room(acme, dave)).code == "bad_request"


def test_organisation_may_be_given_by_its_key(acme: Organization, general: Room, alice: User) -> None:
    assert services.find_room(acme.pk, alice, slug="general") == general
    assert services.send(acme.pk, alice, room_id=general.pk, body="a").message.organization == acme


def test_room_is_a_conversation_if_it_has_two_people(alias: str, acme: Organization) -> None:
    for wrong in ({"kind": "direct"}, {"kind": "public", "direct_key": "[1, 2]"}):
        with pytest.raises(IntegrityError), transaction.atomic(alias):
            Room.objects.create(organization=acme, name="A", **wrong)


# Changing


def test_room_is_changed_at_its_version_and_all_are_told(
    acme: Organization, general: Room, alice: User
) -> None:
    services.set_role(acme, None, room_id=general.pk, user=alice, role="moderator")
    changed = services.update_room(
        acme, alice, room_id=general.pk, version=1, name="All", slow_mode_seconds=5, archived=True
    )
    assert (changed.name, changed.slow_mode_seconds, changed.version) == ("All", 5, 2)
    (event,) = events(acme, "chat.room")
    assert (event.topic, event.payload) == (
        general.topic,
        {
            "room": general.pk,
            "name": "All",
            "slug": "general",
            "kind": "public",
            "archived": True,
            "slow_mode_seconds": 5,
            "version": 2,
        },
    )
    late = refusal(lambda: services.update_room(acme, alice, room_id=general.pk, version=1, name="Late"))
    assert (late.code, late.details) == ("conflict", {"version": 2})


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "private"}, "bad_request"),
        ({"slug": "other"}, "bad_request"),
        ({"archived": "yes"}, "bad_request"),
        ({"slow_mode_seconds": -1}, "bad_request"),
        ({"slow_mode_seconds": 86_401}, "bad_request"),
        ({"slow_mode_seconds": True}, "bad_request"),
        ({"name": ""}, "empty"),
    ],
)
def test_change_that_can_not_be_is_refused(
    fields: dict[str, Any], code: str, acme: Organization, general: Room
) -> None:
    refused = refusal(lambda: services.update_room(acme, None, room_id=general.pk, version=None, **fields))
    assert refused.code == code
    assert Room.objects.get(pk=general.pk).version == 1


# Coming and going


def test_public_room_is_joined_once(acme: Organization, general: Room, dave: User) -> None:
    member = services.join(acme, dave, room_id=general.pk)
    assert (member.role, services.join(acme, dave, room_id=general.pk)) == ("member", member)
    (_, event) = events(acme, "chat.joined")
    assert event.pk == member.joined_event
    assert event.access_change == {"grants": [dave.pk]}
    assert topics(acme, dave) == {general.topic}


def test_private_room_is_not_joined_and_looks_like_none(
    acme: Organization, leads: Room, alice: User, bob: User
) -> None:
    refusals = [
        refusal(lambda room_id=room_id: services.join(acme, bob, room_id=room_id))
        for room_id in (leads.pk, leads.pk + 1000)
    ]
    assert len({(each.code, str(each)) for each in refusals}) == 1


class Inviting(Rules):
    def can_join(self, user: Any, room: Room) -> bool:
        return True


def test_rules_open_a_private_room_and_never_a_conversation(
    limit: Limit, acme: Organization, leads: Room, alice: User, bob: User, dave: User
) -> None:
    limit(RULES=f"{__name__}.Inviting")
    services.join(acme, bob, room_id=leads.pk)
    direct = services.open_direct(acme, alice, bob)
    assert refusal(lambda: services.join(acme, dave, room_id=direct.pk)).code == "forbidden"


def test_archived_room_is_not_joined(acme: Organization, general: Room, dave: User) -> None:
    services.update_room(acme, None, room_id=general.pk, version=1, archived=True)
    assert refusal(lambda: services.join(acme, dave, room_id=general.pk)).code == "archived"


def test_leaving_withdraws_the_topic_and_is_told_to_who_leaves(
    acme: Organization, general: Room, bob: User
) -> None:
    services.leave(acme, bob, room_id=general.pk)
    (to_all, to_one) = events(acme, "chat.left")
    payload = {"room": general.pk, "users": [bob.pk]}
    assert (to_all.topic, to_all.access_change, to_all.audience) == (
        general.topic,
        {"withdraws": [bob.pk]},
        None,
    )
    assert (to_one.topic, to_one.access_change, to_one.audience) == (None, None, [bob.pk])
    assert to_all.payload == to_one.payload == payload
    assert topics(acme, bob) == set()
    assert refusal(lambda: services.leave(acme, bob, room_id=general.pk)).code == "forbidden"


def test_who_has_been_removed_has_nothing_of_the_room_anywhere(
    acme: Organization, leads: Room, alice: User, bob: User
) -> None:
    services.add_member(acme, alice, room_id=leads.pk, user=bob)
    before = access_of(acme, bob)
    sent = services.send(acme, alice, room_id=leads.pk, body=SENTINEL, mentions=[bob.pk]).message
    start = stream.position(acme)
    services.remove_member(acme, alice, room_id=leads.pk, user=bob)
    services.send(acme, alice, room_id=leads.pk, body=f"{SENTINEL} later", mentions=[bob.pk])
    services.edit(acme, alice, message_id=sent.pk, body=f"{SENTINEL} edited")
    services.update_room(acme, alice, room_id=leads.pk, version=None, name=f"{SENTINEL} name")
    stream.position(acme)

    live, access = [], before
    for event in stream.read(acme.pk, stream.Cursor(start.epoch, start.head)).events:
        if access.sees(event):
            live.append(event.text)
        access = access.after(event)
    assert [event for event in live if SENTINEL in event] == []
    assert any("chat.left" in event for event in live)
    assert SENTINEL not in "".join(caught_up(acme, bob))
    assert SENTINEL not in str(names(acme, bob))
    for work in (
        lambda: history.read(acme, bob, room_id=leads.pk),
        lambda: services.find_room(acme, bob, slug="leads"),
        lambda: services.find_room(acme, bob, room_id=leads.pk),
        lambda: services.send(acme, bob, room_id=leads.pk, body="a"),
        lambda: services.edit(acme, bob, message_id=sent.pk, body="a"),
        lambda: services.delete(acme, bob, message_id=sent.pk),
        lambda: services.react(acme, bob, message_id=sent.pk, emoji="👍"),
        lambda: services.update_room(acme, bob, room_id=leads.pk, version=None, name="a"),
        lambda: services.add_member(acme, bob, room_id=leads.pk, user=bob),
        lambda: services.join(acme, bob, room_id=leads.pk),
        lambda: services.leave(acme, bob, room_id=leads.pk),
    ):
        assert refusal(work).code == "forbidden"


# Roles


def test_role_is_given_by_owners_and_told(acme: Organization, leads: Room, alice: User, bob: User) -> None:
    services.add_member(acme, alice, room_id=leads.pk, user=bob.pk, role="moderator")
    assert (
        refusal(lambda: services.set_role(acme, bob, room_id=leads.pk, user=bob, role="owner")).code
        == "forbidden"
    )
    member = services.set_role(acme, alice, room_id=leads.pk, user=bob, role="guest")
    assert member.role == "guest"
    event = events(acme, "chat.joined")[-1]
    assert event.payload == {"room": leads.pk, "users": [bob.pk], "role": "guest"}
    assert event.access_change is None
    assert topics(acme, bob) == {leads.topic}


def test_moderators_have_no_power_over_those_above_them(
    acme: Organization, leads: Room, alice: User, bob: User, dave: User
) -> None:
    services.add_member(acme, alice, room_id=leads.pk, user=bob, role="moderator")
    for work in (
        lambda: services.add_member(acme, bob, room_id=leads.pk, user=dave, role="owner"),
        lambda: services.remove_member(acme, bob, room_id=leads.pk, user=alice),
        lambda: services.set_role(acme, bob, room_id=leads.pk, user=alice, role="guest"),
    ):
        assert refusal(work).code == "forbidden"
    services.add_member(acme, bob, room_id=leads.pk, user=dave, role="readonly")
    services.remove_member(acme, bob, room_id=leads.pk, user=dave)


def test_members_add_and_remove_nobody(
    acme: Organization, general: Room, alice: User, bob: User, dave: User
) -> None:
    for work in (
        lambda: services.add_member(acme, alice, room_id=general.pk, user=dave),
        lambda: services.remove_member(acme, alice, room_id=general.pk, user=bob),
        lambda: services.update_room(acme, alice, room_id=general.pk, version=1, name="Mine"),
        lambda: services.set_role(acme, alice, room_id=general.pk, user=alice, role="owner"),
    ):
        assert refusal(work).code == "forbidden"


def test_nobody_of_another_organisation_is_added(
    acme: Organization, leads: Room, alice: User, carol: User
) -> None:
    for user in (carol, 10**6, "nobody", None):
        refused = refusal(lambda user=user: services.add_member(acme, alice, room_id=leads.pk, user=user))
        assert str(refused) == "not a member of this organisation"
    assert (
        refusal(lambda: services.add_member(acme, alice, room_id=leads.pk, user=alice, role="king")).code
        == "bad_request"
    )


def test_removal_of_who_is_not_there_changes_nothing(
    acme: Organization, leads: Room, alice: User, dave: User
) -> None:
    services.remove_member(acme, alice, room_id=leads.pk, user=dave)
    assert events(acme, "chat.left") == []


# The limits


def test_nobody_is_put_into_more_rooms_than_the_limit(
    limit: Limit, acme: Organization, general: Room, leads: Room, alice: User, dave: User
) -> None:
    limit(MAX_ROOMS_PER_USER=2)
    for work in (
        lambda: services.create_room(acme, None, kind="public", name="A", members=[alice]),
        lambda: services.open_direct(acme, dave, alice),
    ):
        refused = refusal(work)
        assert (refused.code, refused.details["limit"]) == ("bad_request", 2)
    assert Room.objects.count() == 2


def test_many_members_are_told_in_several_events(
    acme: Organization, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch, limit: Limit
) -> None:
    monkeypatch.setattr("orgrealtime.chat.rooms.JOINED_TOGETHER", 2)
    users = [make_user(f"user {number}", acme) for number in range(5)]
    room = services.create_room(acme, None, kind="public", name="Many", members=users)
    assert [len(each["users"]) for each in payloads(acme, "chat.joined")] == [2, 2, 1]
    assert all(topics(acme, user) == {room.topic} for user in users)
    limit(MAX_MEMBERS=4)
    refused = refusal(lambda: services.create_room(acme, None, kind="public", name="More", members=users))
    assert (refused.code, refused.details["limit"]) == ("bad_request", 4)


# Conversations of two people


def test_conversation_is_one_room_whoever_opens_it(
    acme: Organization, globex: Organization, alice: User, dave: User
) -> None:
    room = services.open_direct(acme, alice, dave)
    assert services.open_direct(acme, dave, alice.pk) == room
    assert (room.kind, room.members.count()) == ("direct", 2)
    assert len(events(acme, "chat.joined")) == 2
    Membership.objects.create(organization=globex, user=alice)
    assert services.open_direct(globex, alice, dave) != room


def test_conversation_needs_another_of_the_organisation(
    limit: Limit, acme: Organization, alice: User, bob: User, carol: User
) -> None:
    assert refusal(lambda: services.open_direct(acme, alice, alice)).code == "bad_request"
    for other in (carol, 10**6, "nobody", None):
        refused = refusal(lambda other=other: services.open_direct(acme, alice, other))
        assert str(refused) == "not a member of this organisation"
    limit(RULES=f"{__name__}.Alone")
    assert refusal(lambda: services.open_direct(acme, alice, bob)).code == "forbidden"
    assert not Room.objects.exists()


class Alone(Rules):
    def can_create(self, user: Any, organization_id: Any, kind: str) -> bool:
        return False


def test_conversation_stays_as_it_is(acme: Organization, alice: User, bob: User) -> None:
    room = services.open_direct(acme, alice, bob)
    Member.objects.filter(room=room).update(role="owner")
    for actor in (alice, None):
        for work in (
            lambda actor=actor: services.update_room(acme, actor, room_id=room.pk, version=None, name="A"),
            lambda actor=actor: services.remove_member(acme, actor, room_id=room.pk, user=bob),
            lambda actor=actor: services.add_member(acme, actor, room_id=room.pk, user=bob),
        ):
            assert refusal(work).code in {"forbidden", "bad_request"}
    assert refusal(lambda: services.leave(acme, alice, room_id=room.pk)).code == "forbidden"
    assert room.members.count() == 2


def test_who_leaves_the_organisation_leaves_the_other_the_conversation(
    acme: Organization, alice: User, dave: User
) -> None:
    room = services.open_direct(acme, alice, dave)
    services.send(acme, dave, room_id=room.pk, body="bye")
    services.leave_all(acme, dave)
    assert [each["body"] for each in history.read(acme, alice, room_id=room.pk).messages] == ["bye"]
    (summary,) = services.rooms_of(acme, alice)
    assert summary.people == sorted([alice.pk, dave.pk], key=str)
    assert refusal(lambda: history.read(acme, dave, room_id=room.pk)).code == "forbidden"
    assert services.open_direct(acme, alice, dave) == room
    services.send(acme, alice, room_id=room.pk, body="back again")
