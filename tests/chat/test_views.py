"""Rooms over HTTP: the same service as the socket's commands, with the same refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from pytest_django.fixtures import Settings

from orgrealtime.chat import services, views
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.chat.rules import Rules
from orgrealtime.limits import Rate
from orgrealtime.testing.chat import assert_message, send_message
from tests.chat.halls import enter, in_thread, make_room
from tests.conftest import Configure
from tests.host.models import Organization
from tests.sockets import Sockets

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.chat.urls")]

ROOMS = "/orgs/acme/rooms/"
GENERAL = f"{ROOMS}general/messages/"


@pytest.fixture
def hers(client: Client, alice: User) -> Client:
    """Alice's browser."""
    client.force_login(alice)
    return client


@pytest.fixture
def general(acme: Organization, alice: User, bob: User) -> Room:
    return make_room(acme, "general", alice, bob)


def post(client: Client, url: str, body: Any = None, method: str = "post", **headers: str) -> Any:
    return getattr(client, method)(url, body or {}, content_type="application/json", headers=headers)


def error_of(answer: Any) -> dict[str, Any]:
    """What a refusal says, without the text for people."""
    assert answer["Cache-Control"] == "no-store"
    return {name: value for name, value in answer.json()["error"].items() if name != "message"}


# ---------------------------------------------------------------------------------------------------------- rooms


def test_member_gets_the_rooms_that_are_theirs_or_public(
    hers: Client, acme: Organization, globex: Organization, alice: User, bob: User, dave: User, general: Room
) -> None:
    make_room(acme, "leads", bob, kind="private")
    make_room(globex, "general", dave)
    lobby = make_room(acme, "lobby", bob)
    direct = services.open_direct(acme, alice, dave)
    answer = hers.get(ROOMS)
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    rooms = {room["id"]: room for room in answer.json()["rooms"]}
    assert set(rooms) == {general.pk, lobby.pk, direct.pk}
    about = {name: rooms[general.pk][name] for name in ("slug", "name", "kind", "role")}
    assert about == {"slug": "general", "name": "General", "kind": "public", "role": "member"}
    assert rooms[lobby.pk]["role"] is None
    assert (rooms[direct.pk]["slug"], rooms[direct.pk]["people"]) == (None, [alice.pk, dave.pk])


def test_conversation_of_two_is_opened_and_found_by_its_id(
    hers: Client, acme: Organization, alice: User, dave: User
) -> None:
    made = post(hers, ROOMS, {"kind": "direct", "user": dave.pk})
    assert (made.status_code, made.json()["kind"]) == (201, "direct")
    assert post(hers, ROOMS, {"kind": "direct", "user": dave.pk}).json()["id"] == made.json()["id"]
    url = f"{ROOMS}{made.json()['id']}/messages/"
    assert post(hers, url, {"body": "hi"}).status_code == 201
    assert hers.get(url).json()["messages"][0]["body"] == "hi"


def test_room_is_made_where_the_rules_allow_it(
    hers: Client, alice: User, settings: Settings, acme: Organization
) -> None:
    wanted = {"kind": "private", "name": "Plans", "slug": "plans"}
    assert error_of(post(hers, ROOMS, wanted)) == {"code": "forbidden"}
    settings.ORGREALTIME_CHAT = {"RULES": "tests.chat.open_rules.OpenRules"}
    made = post(hers, ROOMS, wanted)
    assert (made.status_code, made.json()["role"]) == (201, "owner")
    assert post(hers, ROOMS, wanted).status_code == 409
    assert error_of(post(hers, ROOMS, {"kind": "private"})) == {"code": "bad_request"}


def test_room_is_changed_by_who_moderates_it_at_its_version(
    hers: Client, acme: Organization, alice: User, general: Room
) -> None:
    url = f"{ROOMS}general/"
    headers = {"If-Match": hers.get(url)["ETag"]}
    assert post(hers, url, {"name": "All"}, "patch", **headers).status_code == 403
    services.set_role(acme, None, room_id=general.pk, user=alice, role="moderator")
    assert error_of(post(hers, url, {"name": "All"}, "patch")) == {"code": "bad_request"}
    changed = post(hers, url, {"name": "All"}, "patch", **headers)
    assert (changed.status_code, changed.json()["name"], changed["ETag"]) == (200, "All", '"2"')
    assert error_of(post(hers, url, {"name": "Old"}, "patch", **headers)) == {
        "code": "conflict",
        "version": 2,
    }
    assert (
        error_of(post(hers, url, {"kind": "private"}, "patch", **{"If-Match": '"2"'}))["code"]
        == "bad_request"
    )


def test_member_comes_and_goes(
    hers: Client, acme: Organization, alice: User, bob: User, dave: User, general: Room
) -> None:
    lobby = make_room(acme, "lobby", bob)
    assert error_of(post(hers, f"{ROOMS}lobby/messages/", {"body": "hi"})) == {"code": "forbidden"}
    assert post(hers, f"{ROOMS}lobby/join/").json()["role"] == "member"
    assert post(hers, f"{ROOMS}lobby/messages/", {"body": "hi"}).status_code == 201
    left = post(hers, f"{ROOMS}lobby/leave/")
    assert (left.status_code, left.content, left["Cache-Control"]) == (204, b"", "no-store")
    services.add_member(acme, None, room_id=lobby.pk, user=alice, role="moderator")
    member = f"{ROOMS}lobby/members/{dave.pk}/"
    assert post(hers, member, {"role": "guest"}, "put").status_code == 204
    assert Member.objects.get(room=lobby, user=dave).role == "guest"
    assert post(hers, member, method="delete").status_code == 204
    assert not Member.objects.filter(room=lobby, user=dave).exists()


@pytest.mark.parametrize("user", ["0", "999999", "alice", "9" * 40, "%00"])
def test_whoever_isnt_in_the_organisation_isnt_added(
    hers: Client, acme: Organization, alice: User, carol: User, general: Room, user: str
) -> None:
    services.set_role(acme, None, room_id=general.pk, user=alice, role="owner")
    assert post(hers, f"{ROOMS}general/members/{user}/", method="put").status_code == 403
    assert post(hers, f"{ROOMS}general/members/{carol.pk}/", method="put").status_code == 403


# ------------------------------------------------------------------------------------------------------- messages


def test_message_is_sent_once_whatever_is_retried(hers: Client, general: Room, alice: User) -> None:
    sent = post(hers, GENERAL, {"body": "cafe\u0301", "client_message_id": "m-1"})
    assert sent.status_code == 201
    message = sent.json()
    assert (message["body"], message["author"], message["client_message_id"]) == ("café", alice.pk, "m-1")
    assert message["duplicate"] is False
    again = post(hers, GENERAL, {"body": "café", "client_message_id": "m-1"})
    assert (again.status_code, again.json()["message_id"]) == (200, message["message_id"])
    assert again.json()["duplicate"] is True
    other = post(hers, GENERAL, {"body": "tea", "client_message_id": "m-1"})
    assert (other.status_code, error_of(other)) == (409, {"code": "conflict", "version": 1, "body": "café"})
    assert [each["body"] for each in hers.get(GENERAL).json()["messages"]] == ["café"]


def test_history_has_pages_by_position(hers: Client, general: Room, alice: User, acme: Organization) -> None:
    for number in range(5):
        services.send(acme, alice, room_id=general.pk, body=str(number))
    page = hers.get(GENERAL, {"limit": 2}).json()
    assert [each["body"] for each in page["messages"]] == ["3", "4"]
    assert (page["room"], page["has_older"], page["has_newer"]) == (general.pk, True, False)
    position = page["messages"][0]["position"]
    older = hers.get(GENERAL, {"before": position, "limit": 2}).json()
    assert [each["body"] for each in older["messages"]] == ["1", "2"]
    newer = hers.get(GENERAL, {"after": position}).json()
    assert [each["body"] for each in newer["messages"]] == ["4"]
    around = hers.get(GENERAL, {"around": position, "limit": 3}).json()
    assert [each["body"] for each in around["messages"]] == ["2", "3", "4"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "before=x",
        "before=-1",
        "after=9" + "9" * 30,
        "before=1&after=1",
        "around=",
    ],
)
def test_history_refuses_what_it_cant_read(hers: Client, general: Room, query: str) -> None:
    answer = hers.get(f"{GENERAL}?{query}")
    assert (answer.status_code, error_of(answer)["code"]) == (400, "bad_request")


def test_what_is_too_much_is_refused_with_its_limit(hers: Client, general: Room, settings: Settings) -> None:
    settings.ORGREALTIME_CHAT = {"MESSAGES_PER_MINUTE": 2}
    long = post(hers, GENERAL, {"body": "x" * 4001})
    assert (long.status_code, error_of(long)) == (
        413,
        {"code": "too_long", "limit": 4000, "length": 4001, "unit": "code points"},
    )
    assert post(hers, GENERAL, {"body": "x" * 4000}).status_code == 201
    assert post(hers, GENERAL, {"body": "2"}).status_code == 201
    refused = post(hers, GENERAL, {"body": "3"})
    error = error_of(refused)
    assert (refused.status_code, error["code"], error["limit"]) == (429, "rate_limited", 2)
    assert 0 < int(refused["Retry-After"]) <= 60
    large = post(hers, GENERAL, {"body": "x" * 70_000})
    assert (large.status_code, error_of(large)["limit"]) == (413, 65_536)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b"\xff", 400), (b"body=hi", 400), (b"{}", 400),
        (b'{"body": null}', 400), (b'{"body": 7}', 400), (b'{"body": "\\ud83d"}', 400), (b'{"body": "a\\u0000"}', 400),
        (b'{"body": "\\u200b"}', 422), (b"[" * 10_000, 400), (b'{"body": "hi", "n": 1e999}', 400),
    ],
)  # fmt: skip
def test_body_that_doesnt_fit_is_refused(hers: Client, general: Room, body: bytes, status: int) -> None:
    answer = hers.post(GENERAL, body, content_type="application/json")
    assert (answer.status_code, error_of(answer)["code"]) == (
        status,
        "empty" if status == 422 else "bad_request",
    )
    assert not Message.objects.exists()


def test_body_over_djangos_limit_is_too_long(hers: Client, general: Room, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    answer = post(hers, GENERAL, {"body": "x" * 200})
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_long")


def test_message_is_edited_reacted_to_and_deleted(
    hers: Client, general: Room, acme: Organization, alice: User
) -> None:
    pk = post(hers, GENERAL, {"body": "one"}).json()["message_id"]
    url = f"{GENERAL}{pk}/"
    edited = post(hers, url, {"body": "two", "version": 1}, "patch")
    assert (edited.status_code, edited.json()["body"], edited.json()["version"]) == (200, "two", 2)
    stale = post(hers, url, {"body": "three", "version": 1}, "patch")
    assert (stale.status_code, error_of(stale)) == (409, {"code": "conflict", "version": 2, "body": "two"})
    assert post(hers, f"{url}reactions/", {"emoji": "👍"}).status_code == 204
    (shown,) = hers.get(GENERAL).json()["messages"]
    assert shown["reactions"] == [{"emoji": "👍", "count": 1, "mine": True, "users": [alice.pk]}]
    assert hers.delete(f"{url}reactions/?emoji=👍").status_code == 204
    assert hers.delete(f"{url}?version=1").status_code == 409
    assert hers.delete(f"{url}?version=2").status_code == 204
    (shown,) = hers.get(GENERAL).json()["messages"]
    assert (shown["body"], shown["deleted"], shown["reactions"]) == ("", True, [])


def test_message_is_found_under_its_own_room_alone(
    hers: Client, acme: Organization, alice: User, general: Room
) -> None:
    make_room(acme, "lobby", alice)
    pk = post(hers, GENERAL, {"body": "one"}).json()["message_id"]
    url = f"{ROOMS}lobby/messages/{pk}/"
    assert post(hers, url, {"body": "two"}, "patch").status_code == 403
    assert hers.delete(url).status_code == 403
    assert post(hers, f"{url}reactions/", {"emoji": "👍"}).status_code == 403
    assert post(hers, f"{ROOMS}lobby/messages/{2**70}/", {"body": "two"}, "patch").status_code == 403
    assert Message.objects.get().body == "one"


# ----------------------------------------------------------------------------------------------- who asks, and how


@pytest.mark.parametrize("url", [ROOMS, f"{ROOMS}general/", GENERAL])
def test_stranger_is_refused_as_by_the_catch_up_view(
    client: Client, carol: User, general: Room, url: str
) -> None:
    assert client.get(url).status_code == 401
    client.force_login(carol)
    assert client.get(url).status_code == 403
    assert client.get(url.replace("acme", "initech")).content == client.get(url).content


@pytest.mark.parametrize("method", ["post", "patch", "put", "delete"])
@pytest.mark.parametrize(
    "url",
    [ROOMS, "general/", "general/join/", "general/members/1/", "general/messages/", "general/messages/1/"],
)
def test_whatever_changes_something_needs_a_csrf_token(
    alice: User, general: Room, url: str, method: str
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    answer = getattr(client, method)(
        url if url == ROOMS else ROOMS + url, {}, content_type="application/json"
    )
    assert answer.status_code in {403, 405}
    if answer.status_code == 403:
        assert b"CSRF" in answer.content
    assert not Message.objects.exists()


def test_request_with_a_csrf_token_is_answered(alice: User, general: Room) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    token = "a" * 32
    client.cookies["csrftoken"] = token
    answer = post(client, GENERAL, {"body": "hi"}, **{"X-CSRFToken": token})
    assert answer.status_code == 201


def test_requests_count_in_the_users_rate(hers: Client, general: Room, configure: Configure) -> None:
    configure(REQUEST_RATE=Rate(2, 1000))
    assert [hers.get(ROOMS).status_code for _ in range(3)] == [200, 200, 429]


def test_database_that_cant_be_asked_is_unavailable(
    hers: Client, general: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(views.services, "send", fail)
    answer = post(hers, GENERAL, {"body": "keep me"})
    assert (answer.status_code, error_of(answer)) == (503, {"code": "unavailable", "retry_after_ms": 2000})
    assert answer["Retry-After"] == "2"


@pytest.mark.django_db(transaction=True)
async def test_retry_over_http_of_what_was_sent_over_the_socket_is_the_same_message(
    sockets: Sockets, alice: User, bob: User, general: Room
) -> None:
    hers, his = await enter(sockets, alice, general), await enter(sockets, bob, general)
    first = await send_message(hers, "once", client_message_id="m-1")

    def retry() -> tuple[int, dict[str, Any]]:
        client = Client()
        client.force_login(alice)
        answer = post(client, GENERAL, {"body": "once", "client_message_id": "m-1"})
        return answer.status_code, json.loads(answer.content)

    status, message = await in_thread(retry)
    assert (status, message["message_id"]) == (200, first["message_id"])
    await assert_message(his, "once")
    await his.assert_silent(0.2)


def test_one_room_is_asked_for_without_the_others(
    hers: Client, acme: Organization, general: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_room(acme, "other")
    asked: list[int] = []
    monkeypatch.setattr(Rules, "can_read", lambda self, user, room: asked.append(room.pk) or True)
    assert hers.get(f"{ROOMS}general/").json()["id"] == general.pk
    assert post(hers, f"{ROOMS}general/join/").json()["role"] == "member"
    assert asked == []
    assert hers.get(f"{ROOMS}other/").json()["role"] is None
    assert set(asked) == {other.pk}
