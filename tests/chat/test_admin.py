"""The admin of rooms: changes are told, and what messages say is shown by a permission of its own."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import path

from orgrealtime.chat import services
from orgrealtime.chat.admin import MemberAdmin, MessageAdmin, RoomAdmin
from orgrealtime.chat.models import Member, Message, Room
from tests.chat.contents import events, payloads
from tests.host.models import Organization

site = admin.AdminSite("admin")
site.register(Room, RoomAdmin)
site.register(Member, MemberAdmin)
site.register(Message, MessageAdmin)
urlpatterns = [path("admin/", site.urls)]

PAGES = "/admin/orgrealtime_chat"
SECRET = "the-salary-of-bob"

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.chat.test_admin")]


@pytest.fixture
def message(acme: Organization, general: Room, alice: User) -> Message:
    return services.send(acme, alice, room_id=general.pk, body=SECRET, client_message_id=SECRET).message


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_what_messages_say_needs_a_permission_of_its_own(message: Message) -> None:
    client = staff("view_message", "delete_message")
    pages = [
        f"{PAGES}/message/",
        f"{PAGES}/message/{message.pk}/change/",
        f"{PAGES}/message/{message.pk}/delete/",
    ]
    for page in pages:
        response = client.get(page)
        assert response.status_code == 200
        assert SECRET not in response.content.decode()
    assert client.get(pages[0], {"body__contains": SECRET}).status_code == 400
    client = staff_with_body()
    assert SECRET in client.get(pages[1]).content.decode()


def staff_with_body() -> Client:
    user = User.objects.get(username="staff")
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_message", "view_message_body"]))
    client = Client()
    client.force_login(user)
    return client


def test_messages_are_neither_added_nor_changed_but_emptied(acme: Organization, message: Message) -> None:
    client = staff("view_message", "add_message", "change_message", "delete_message")
    assert client.get(f"{PAGES}/message/add/").status_code == 403
    assert client.post(f"{PAGES}/message/{message.pk}/change/", {"body": "a"}).status_code == 403
    client.post(f"{PAGES}/message/", {"action": "empty", "_selected_action": [message.pk]})
    message.refresh_from_db()
    assert message.is_deleted
    assert len(events(acme, "chat.deleted")) == 1


def test_room_that_is_changed_is_told(acme: Organization, general: Room) -> None:
    client = staff("view_room", "change_room")
    page = f"{PAGES}/room/{general.pk}/change/"
    given = {
        "name": " Renamed ",
        "slow_mode_seconds": "5",
        "archived_at_0": "2026-01-01",
        "archived_at_1": "12:00",
    }
    assert client.post(page, given).status_code == 302
    (event,) = payloads(acme, "chat.room")
    assert (event["name"], event["slow_mode_seconds"], event["archived"], event["version"]) == (
        "Renamed",
        5,
        True,
        2,
    )
    for wrong in (
        {"name": "a\u0007"},
        {"name": "\u200b"},
        {"slow_mode_seconds": "86401"},
        {"name": "a" * 101},
    ):
        assert client.post(page, {**given, **wrong}).status_code == 200
    assert len(payloads(acme, "chat.room")) == 1
    assert client.get(f"{PAGES}/room/add/").status_code == 403


def test_conversation_is_looked_at_alone(acme: Organization, alice: User, bob: User) -> None:
    room = services.open_direct(acme, alice, bob)
    client = staff("view_room", "change_room")
    page = f"{PAGES}/room/{room.pk}/change/"
    assert client.get(page).status_code == 200
    assert client.post(page, {"name": "a"}).status_code == 403


def test_role_and_removal_are_told(acme: Organization, general: Room, alice: User) -> None:
    member = Member.objects.get(room=general, user=alice)
    client = staff("view_member", "change_member", "delete_member")
    page = f"{PAGES}/member/{member.pk}"
    assert client.post(f"{page}/change/", {"role": "moderator"}).status_code == 302
    assert payloads(acme, "chat.joined")[-1]["role"] == "moderator"
    assert client.post(f"{page}/delete/", {"post": "yes"}).status_code == 302
    assert [event.access_change for event in events(acme, "chat.left")] == [{"withdraws": [alice.pk]}, None]
    assert client.get(f"{PAGES}/member/add/").status_code == 403


def test_rooms_are_deleted_with_their_texts(acme: Organization, general: Room, message: Message) -> None:
    client = staff("view_room", "delete_room", "delete_member", "delete_message", "delete_reaction")
    assert client.post(f"{PAGES}/room/{general.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Message.objects.exists()
    assert payloads(acme, "chat.message")[0]["body"] == ""
