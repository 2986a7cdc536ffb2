"""What holds for tenants that have users of their own, which is not supported. tests/test_howto.py runs it."""

from __future__ import annotations

import logging

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django_tenants.utils import schema_context

from orgrealtime import publish
from orgrealtime.checks import check_settings
from orgrealtime.models import Ticket
from tests.tenants.tenants import Tenants, tenants

__all__ = ["tenants"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_check_refuses_it() -> None:
    [error] = check_settings(None)
    assert error.id == "orgrealtime.E014"
    assert "auth.User, sessions.Session" in error.msg


def test_user_of_another_tenant_with_the_key_of_a_member_gets_nothing(
    tenants: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    staff = User.objects.create_user("staff", password="demo")
    acme = tenants.make("acme", staff)
    tenants.make("globex")
    publish(acme, "secret", {"text": "acme only"})
    with schema_context("globex"):
        carol = User.objects.create(pk=staff.pk, username="carol")
        browser = tenants.browser(carol, "globex.localhost")
    caplog.set_level(logging.ERROR, "orgrealtime.adapters")
    page = browser.get("/orgs/acme/notifications/")
    assert (page.status_code, b"acme only" in page.content) == (403, False)
    assert browser.post("/orgs/acme/notifications/ticket/").status_code == 403
    assert not Ticket.objects.exists()
    assert {record.message for record in caplog.records} == {
        "users here aren't those of the streams, refused"
    }


@override_settings(PUBLIC_SCHEMA_URLCONF="orgrealtime.urls")
def test_user_of_the_shared_schema_is_a_member_there(tenants: Tenants) -> None:
    staff = User.objects.create_user("staff", password="demo")
    publish(tenants.make("acme", staff), "note", {})
    from tests.tenants.customers.models import Client, Domain  # type: ignore[attr-defined]

    public = Client(schema_name="public", name="public")
    public.auto_create_schema = False
    public.save()
    Domain.objects.create(domain="localhost", tenant=public)
    assert tenants.page("acme", staff, host="localhost").status_code == 200
