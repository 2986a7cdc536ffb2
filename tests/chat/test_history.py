"""History: full pages in the order of the stream, without a hole to what comes live, for those who may read it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from orgrealtime import stream
from orgrealtime.chat import history, services
from orgrealtime.chat.models import Message, Reaction, Room
from orgrealtime.chat.rules import Rules
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.cursors import Cursor
from tests.chat.conftest import Limit
from tests.chat.contents import refusal
from tests.host.models import Organization

pytestmark = [pytest.mark.django_db(databases=["default", "lite"]), pytest.mark.usefixtures("alias")]


def fill(room: Room, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        services.post(room, f"{number}")


def bodies(page: history.HistoryPage) -> list[str]:
    return [message["body"] for message in page.messages]


def texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


@pytest.fixture
def full(acme: Organization, general: Room, leads: Room, bob: User) -> dict[str, int]:
    """Thirty messages, with others between them: the position of each."""
    for number in range(1, 31):
        services.post(general, str(number))
        services.post(leads, "elsewhere")
    page = history.read(acme, bob, room_id=general.pk, limit=100)
    return {message["body"]: message["position"] for message in page.messages}


def test_newest_page_ends_at_the_newest_message(
    acme: Organization, general: Room, bob: User, full: dict[str, int]
) -> None:
    page = history.read(acme, bob, room_id=general.pk, limit=10)
    assert (bodies(page), page.has_older, page.has_newer) == (texts(21, 30), True, False)
    assert list(full) == texts(1, 30)
    assert sorted(full.values()) == list(full.values())


def test_pages_before_and_after_are_full_and_meet(
    acme: Organization, general: Room, bob: User, full: dict[str, int]
) -> None:
    older = history.read(acme, bob, room_id=general.pk, before=full["21"], limit=10)
    assert (bodies(older), older.has_older, older.has_newer) == (texts(11, 20), True, True)
    oldest = history.read(acme, bob, room_id=general.pk, before=full["11"], limit=10)
    assert (bodies(oldest), oldest.has_older, oldest.has_newer) == (texts(1, 10), False, True)
    newer = history.read(acme, bob, room_id=general.pk, after=full["10"], limit=10)
    assert (bodies(newer), newer.has_older, newer.has_newer) == (texts(11, 20), True, True)
    newest = history.read(acme, bob, room_id=general.pk, after=full["20"], limit=10)
    assert (bodies(newest), newest.has_older, newest.has_newer) == (texts(21, 30), True, False)


def test_page_around_has_the_message_and_what_is_on_either_side(
    acme: Organization, general: Room, bob: User, full: dict[str, int]
) -> None:
    page = history.read(acme, bob, room_id=general.pk, around=full["15"], limit=10)
    assert (bodies(page), page.has_older, page.has_newer) == (texts(10, 19), True, True)
    first = history.read(acme, bob, room_id=general.pk, around=full["1"], limit=10)
    assert (bodies(first), first.has_older, first.has_newer) == (texts(1, 5), False, True)


@pytest.mark.parametrize(
    ("where", "has_older", "has_newer"),
    [({"before": "1"}, False, True), ({"after": "30"}, True, False), ({"before": 0}, False, True)],
)
def test_page_beyond_an_end_is_empty_and_says_where_there_is_more(
    where: dict[str, Any],
    has_older: bool,
    has_newer: bool,
    acme: Organization,
    general: Room,
    bob: User,
    full: dict[str, int],
) -> None:
    at = {name: full[value] if isinstance(value, str) else value for name, value in where.items()}
    page = history.read(acme, bob, room_id=general.pk, **at)
    assert (page.messages, page.has_older, page.has_newer) == ([], has_older, has_newer)


def test_room_in_which_nothing_was_said_has_an_empty_page(
    acme: Organization, general: Room, bob: User
) -> None:
    for where in ({}, {"before": 5}, {"after": 0}, {"around": 3}):
        page = history.read(acme, bob, room_id=general.pk, **where)
        assert (page.messages, page.has_older, page.has_newer) == ([], False, False)


def test_what_comes_after_the_cursor_of_a_page_is_the_rest(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    fill(general, 3)
    page = history.read(acme, bob, room_id=general.pk)
    fill(general, 2, first=4)
    later = stream.read(acme.pk, Cursor.parse(page.cursor)).events
    assert bodies(page) == texts(1, 3)
    assert len(later) == 2


def test_message_is_shown_with_all_that_a_reader_needs(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    first = services.send(acme, alice, room_id=general.pk, body="a").message
    sent = services.send(
        acme, bob, room_id=general.pk, body="b", client_message_id="k", reply_to=first.pk, mentions=[alice.pk]
    ).message
    for user, emoji in ((bob, "👍"), (alice, "🎉"), (alice, "👍")):
        services.react(acme, user, message_id=sent.pk, emoji=emoji)
    (_, shown) = history.read(acme, bob, room_id=general.pk).messages
    created = sent.created_at.isoformat().replace("+00:00", "Z")
    assert shown == {
        "message_id": sent.pk,
        "room": general.pk,
        "position": shown["position"],
        "client_message_id": "k",
        "author": bob.pk,
        "body": "b",
        "version": 1,
        "reply_to": first.pk,
        "mentions": [alice.pk],
        "mentions_all": False,
        "attachments": [],
        "reactions": [
            {"emoji": "👍", "count": 2, "mine": True, "users": [bob.pk, alice.pk]},
            {"emoji": "🎉", "count": 1, "mine": False, "users": [alice.pk]},
        ],
        "created_at": created,
        "edited_at": None,
        "deleted": False,
    }
    (_, of_another) = history.read(acme, alice, room_id=general.pk).messages
    assert of_another["client_message_id"] is None
    assert [each["mine"] for each in of_another["reactions"]] == [True, True]


def test_only_the_first_of_many_who_react_are_named(
    acme: Organization, general: Room, alice: User, bob: User
) -> None:
    message = services.send(acme, alice, room_id=general.pk, body="liked by many").message
    many = User.objects.bulk_create(User(username=f"user-{number}") for number in range(history.NAMED + 5))
    Reaction.objects.bulk_create(
        Reaction(organization_id=acme.pk, message=message, user=user, emoji="👍") for user in [*many, bob]
    )
    (shown,) = history.read(acme, bob, room_id=general.pk).messages
    named = [user.pk for user in many[: history.NAMED]]
    assert shown["reactions"] == [
        {"emoji": "👍", "count": history.NAMED + 6, "mine": True, "users": named},
    ]


def test_history_outlives_the_events(acme: Organization, general: Room, bob: User) -> None:
    fill(general, 3)
    before = history.read(acme, bob, room_id=general.pk)
    list(stream.prune(acme.pk, stream.position(acme).head))
    assert not NotificationEvent.objects.exists()
    assert history.read(acme, bob, room_id=general.pk).messages == before.messages


# Who may read


def test_strangers_are_refused_as_for_a_room_that_does_not_exist(
    acme: Organization, globex: Organization, leads: Room, bob: User, dave: User
) -> None:
    services.post(leads, "secret")
    elsewhere = services.create_room(globex, None, kind="public", name="Other", members=[dave])
    refusals = [
        refusal(lambda: history.read(acme, bob, room_id=leads.pk)),
        refusal(lambda: history.read(acme, bob, room_id=leads.pk + 1000)),
        refusal(lambda: history.read(acme, dave, room_id=elsewhere.pk)),
        refusal(lambda: services.find_room(acme, bob, slug="leads")),
        refusal(lambda: services.find_room(acme, bob, slug="nowhere")),
        refusal(lambda: services.find_room(acme, bob, slug="\x00")),
    ]
    assert {(each.code, str(each), str(each.details)) for each in refusals} == {
        ("forbidden", str(refusals[0]), "{}")
    }


def test_public_room_is_read_by_everybody_of_the_organisation_until_the_rules_close_it(
    limit: Limit, acme: Organization, general: Room, bob: User, dave: User
) -> None:
    fill(general, 1)
    assert bodies(history.read(acme, dave, room_id=general.pk)) == ["1"]
    limit(RULES=f"{__name__}.Closed")
    assert refusal(lambda: history.read(acme, dave, room_id=general.pk)).code == "forbidden"
    assert services.rooms_of(acme, dave) == []
    assert bodies(history.read(acme, bob, room_id=general.pk)) == ["1"]


class Closed(Rules):
    def can_read(self, user: Any, room: Room) -> bool:
        return False


def test_archived_room_is_read(acme: Organization, general: Room, bob: User) -> None:
    fill(general, 1)
    services.update_room(acme, None, room_id=general.pk, version=1, archived=True)
    assert bodies(history.read(acme, bob, room_id=general.pk)) == ["1"]


@pytest.mark.parametrize("is_pruned", [False, True])
def test_history_that_begins_with_joining_has_nothing_of_before(
    is_pruned: bool, acme: Organization, alice: User, bob: User, dave: User
) -> None:
    room = services.create_room(acme, None, kind="public", name="New", members=[alice], history="joined")
    fill(room, 2)
    services.join(acme, bob, room_id=room.pk)
    assert bodies(history.read(acme, bob, room_id=room.pk)) == []
    fill(room, 2, first=3)
    if is_pruned:
        list(stream.prune(acme.pk, stream.position(acme).head))
    page = history.read(acme, bob, room_id=room.pk)
    assert (bodies(page), page.has_older) == (texts(3, 4), False)
    assert bodies(history.read(acme, bob, room_id=room.pk, before=page.messages[0]["position"])) == []
    assert bodies(history.read(acme, alice, room_id=room.pk)) == texts(1, 4)
    assert bodies(history.read(acme, dave, room_id=room.pk)) == []
    services.leave(acme, bob, room_id=room.pk)
    services.join(acme, bob, room_id=room.pk)
    assert bodies(history.read(acme, bob, room_id=room.pk)) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"before": 1, "after": 1},
        {"before": -1},
        {"after": "1"},
        {"around": True},
        {"before": 2**63},
        {"limit": 0},
        {"limit": 101},
        {"limit": "10"},
    ],
)
def test_what_can_not_be_asked_is_refused(
    asked: dict[str, Any], acme: Organization, general: Room, bob: User
) -> None:
    assert refusal(lambda: history.read(acme, bob, room_id=general.pk, **asked)).code == "bad_request"


def test_row_of_another_room_with_the_number_of_an_entry_is_not_shown(
    acme: Organization, general: Room, leads: Room, bob: User
) -> None:
    hidden = services.post(leads, "secret")
    services.post(general, "open")
    Message.objects.filter(body="open").delete()
    assert bodies(history.read(acme, bob, room_id=general.pk)) == []
    assert Message.objects.get() == hidden
