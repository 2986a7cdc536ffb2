"""What holds for tenants that have schemas and share their users. tests/test_howto.py runs it."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client as Browser
from django_tenants.utils import schema_context
from pytest_django.fixtures import Settings

from orgrealtime import publish, tables
from orgrealtime.checks import check_settings
from tests.sockets import Sockets, log_in
from tests.tenants.settings import NAMES
from tests.tenants.tenants import Tenants, tenants

__all__ = ["tenants"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_checks_have_nothing_to_say() -> None:
    assert check_settings(None) == []


MUST_BE_SHARED = {
    "orgrealtime": "orgrealtime.Ticket",
    "orgrealtime.apps.OrgRealtimeConfig": "orgrealtime.Ticket",
    "django.contrib.auth": "auth.User",
    "django.contrib.sessions": "sessions.Session",
    NAMES["customers"]: "customers.Client, customers.Membership",
}


@pytest.mark.parametrize(("app", "labels"), MUST_BE_SHARED.items())
@pytest.mark.parametrize("way", ["TENANT_APPS", "TENANT_TYPES", "TENANTS"])
def test_app_that_each_tenant_has_for_itself_is_e014(
    settings: Settings, app: str, labels: str, way: str
) -> None:
    kinds = {"public": {"APPS": [app]}, "default": {"APPS": ["django.contrib.sites", app]}}
    setattr(settings, way, ["django.contrib.sites", app] if way == "TENANT_APPS" else kinds)
    [error] = check_settings(None)
    assert error.id == "orgrealtime.E014"
    assert labels in error.msg


def test_app_of_the_shared_schema_alone_is_no_error(settings: Settings) -> None:
    settings.TENANT_TYPES = {"public": {"APPS": ["orgrealtime"]}, "free": {"APPS": ["django.contrib.sites"]}}
    assert check_settings(None) == []


def test_event_is_published_with_a_tenant_s_own_tables_and_read_by_its_members_alone(
    tenants: Tenants,
) -> None:
    alice, carol = User.objects.create_user("alice"), User.objects.create_user("carol")
    acme = tenants.make("acme", alice)
    tenants.make("globex", carol)
    with schema_context("acme"), transaction.atomic():
        publish(acme, "note", {}, actor=alice, to=[alice])
    assert [event["type"] for event in tenants.page("acme", alice).json()["events"]] == ["note"]
    assert tenants.page("acme", carol).status_code == 403
    assert tenants.page("acme", carol, host="globex.localhost").status_code == 403
    assert tenants.page("acme", alice, host="globex.localhost").status_code == 200


async def test_member_is_connected_and_hears_what_is_published_in_the_tenant_s_schema(
    sockets: Sockets, tenants: Tenants
) -> None:
    def make() -> tuple[Any, str]:
        alice = User.objects.create_user("alice")
        return tenants.make("acme", alice), log_in(alice)

    def publish_there(acme: Any) -> None:
        with schema_context("acme"):
            publish(acme, "note", {})

    acme, cookie = await sync_to_async(make)()
    given = {"host": "acme.localhost", "origin": "http://acme.localhost", "cookie": cookie}
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    socket = await sockets.open(scope={"headers": headers})
    await socket.synced()
    await sync_to_async(publish_there)(acme)
    await socket.assert_event("note")


def test_users_of_another_table_are_noticed_when_it_appears(tenants: Tenants) -> None:
    alice = User.objects.create_user("alice")
    publish(tenants.make("acme", alice), "secret", {})
    assert tenants.page("acme", alice).status_code == 200
    connection.set_schema_to_public()  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE acme.auth_user (LIKE public.auth_user INCLUDING ALL)")
        cursor.execute("INSERT INTO acme.auth_user SELECT * FROM public.auth_user")
    tables._ask_again_at.clear()  # a minute later
    assert tables.are_those_of_the_streams()
    with schema_context("acme"):
        assert not tables.are_those_of_the_streams()
    assert tenants.page("acme", alice, host="acme.localhost").status_code == 403


def test_page_is_read_in_a_browser_of_the_tenant(tenants: Tenants) -> None:
    alice = User.objects.create_user("alice")
    tenants.make("acme", alice)
    browser = Browser(headers={"host": "acme.localhost"})
    browser.force_login(alice)
    assert browser.get("/orgs/acme/notifications/").status_code == 200
    assert browser.post("/orgs/acme/notifications/ticket/").status_code == 201
