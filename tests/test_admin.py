"""Django's admin: events are looked at, and go only with what they belong to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import path
from django.utils import timezone

from orgrealtime import publish, stream
from orgrealtime.admin import NotificationEventAdmin
from orgrealtime.models import NotificationEvent, Recipient, Stream, Ticket
from tests.conftest import MakeOrg
from tests.host.models import Membership, Organization

site = admin.AdminSite("admin")
site.register([Organization, Membership, User])
site.register(NotificationEvent, NotificationEventAdmin)
urlpatterns = [path("admin/", site.urls)]

EVENTS = "/admin/orgrealtime/notificationevent/"
SECRET = "the-salary-of-bob"

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.test_admin")]


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def full(acme: Organization, alice: User, bob: User) -> Organization:
    """An organisation with a row in each table of this package."""
    publish(acme, "note", {"text": SECRET}, actor=alice, dedupe_key=SECRET)
    publish(acme, "note", {"text": "for one"}, to=bob)
    stream.position(acme)
    expires = timezone.now() + timedelta(minutes=1)
    Ticket.objects.create(digest="d" * 64, user=bob, organization=acme, expires_at=expires)
    for model in (NotificationEvent, Recipient, Stream, Ticket):
        assert model._default_manager.filter(organization=acme).exists()
    return acme


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def confirm(client: Client, model: str, pk: object) -> int:
    return int(client.post(f"/admin/{model}/{pk}/delete/", {"post": "yes"}).status_code)


# ------------------------------------------------------------------------------------------------------ deleting


def test_organisation_with_events_is_deleted_with_all_that_is_its(root: Client, full: Organization) -> None:
    assert root.get(f"/admin/host/organization/{full.pk}/delete/").status_code == 200
    assert confirm(root, "host/organization", full.pk) == 302
    assert not Organization.objects.filter(pk=full.pk).exists()
    for model in (NotificationEvent, Recipient, Stream, Ticket):
        assert not model._default_manager.exists()


def test_several_organisations_are_deleted_at_once(
    root: Client, full: Organization, make_org: MakeOrg
) -> None:
    pks = [full.pk, make_org("initech").pk]
    answer = root.post(
        "/admin/host/organization/",
        {"action": "delete_selected", "_selected_action": pks, "post": "yes"},
    )
    assert answer.status_code == 302
    assert not Organization.objects.exists()


def test_user_with_events_is_deleted_and_the_events_stay(
    root: Client, full: Organization, alice: User, bob: User
) -> None:
    assert [confirm(root, "auth/user", user.pk) for user in (alice, bob)] == [302, 302]
    assert list(NotificationEvent.objects.values_list("actor", flat=True)) == [None, None]


def test_who_may_delete_organisations_needs_no_permission_for_their_events(full: Organization) -> None:
    client = staff("delete_organization", "delete_membership")
    assert confirm(client, "host/organization", full.pk) == 302
    assert not Organization.objects.exists()


def test_event_isn_t_deleted_by_itself(root: Client, full: Organization) -> None:
    event = NotificationEvent.objects.first()
    assert event is not None
    page = root.get(f"{EVENTS}{event.pk}/change/")
    assert page.status_code == 200
    assert f"{event.pk}/delete/" not in page.content.decode()
    assert root.get(f"{EVENTS}{event.pk}/delete/").status_code == 403
    assert confirm(root, "orgrealtime/notificationevent", event.pk) == 403
    chosen = {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"}
    root.post(EVENTS, chosen)
    assert "delete_selected" not in root.get(EVENTS).content.decode()
    assert NotificationEvent.objects.count() == 2


# ------------------------------------------------------------------------------------------------------ payloads


def test_payload_is_hidden_from_who_may_only_view_events(full: Organization) -> None:
    client = staff("view_notificationevent")
    event = NotificationEvent.objects.get(dedupe_key=SECRET)
    page = client.get(f"{EVENTS}{event.pk}/change/")
    assert page.status_code == 200
    assert SECRET not in page.content.decode()
    assert SECRET not in client.get(EVENTS).content.decode()


@pytest.mark.parametrize(
    "lookup", ["payload__text__startswith", "payload__contains", "payload_chars", "dedupe_key__startswith"]
)
def test_payload_can_t_be_guessed_by_filters(full: Organization, lookup: str) -> None:
    assert staff("view_notificationevent").get(EVENTS, {lookup: "1"}).status_code == 400


def test_payload_is_shown_to_who_has_the_permission(full: Organization) -> None:
    client = staff("view_notificationevent", "view_notificationevent_payload")
    event = NotificationEvent.objects.get(dedupe_key=SECRET)
    assert SECRET in client.get(f"{EVENTS}{event.pk}/change/").content.decode()
    assert client.get(EVENTS, {"payload__text__startswith": SECRET[:4]}).status_code == 200
