"""Whose tables a connection sees, where its search path has been set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from orgrealtime import publish, tables
from tests.host.models import Membership, Organization

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _not_asked_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_ask_again_at", {})


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def globex(acme: Organization) -> Iterator[str]:
    """A schema with users of its own."""
    run("CREATE SCHEMA globex", "CREATE TABLE globex.auth_user (LIKE public.auth_user INCLUDING ALL)")
    yield "globex"
    run("RESET search_path", "DROP SCHEMA globex CASCADE")


@pytest.mark.parametrize(
    ("path", "same"),
    [("public", True), ("public, globex", True), ("globex, public", False), ('"globex", "public"', False)],
)
def test_search_path_says_whose_tables_a_connection_sees(globex: str, path: str, same: bool) -> None:
    run(f"SET search_path TO {path}")
    for _ in range(2):
        assert tables.are_those_of_the_streams() is same


def test_organisations_of_another_table_are_noticed_too(globex: str) -> None:
    run(
        "DROP TABLE globex.auth_user",
        "CREATE TABLE globex.host_organization (LIKE public.host_organization INCLUDING ALL)",
        "SET search_path TO globex, public",
    )
    assert not tables.are_those_of_the_streams()


def test_user_of_another_table_gets_nothing_by_the_number_of_a_member(
    acme: Organization, alice: User, globex: str
) -> None:
    publish(acme, "secret", {"text": "acme only"})
    run("INSERT INTO globex.auth_user SELECT * FROM auth_user")
    client = Client()
    client.force_login(alice)
    assert client.get("/orgs/acme/notifications/").status_code == 200
    run("SET search_path TO globex, public")
    page = client.get("/orgs/acme/notifications/")
    assert (page.status_code, b"acme only" in page.content) == (403, False)
    assert client.post("/orgs/acme/notifications/ticket/").status_code == 403


def test_database_is_asked_once_a_minute_while_each_name_has_one_table(
    acme: Organization, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with django_assert_num_queries(1):
        for _ in range(3):
            assert tables.are_those_of_the_streams()
    monkeypatch.setattr(tables, "ASK_AGAIN_SECONDS", 0.0)
    tables._ask_again_at.clear()
    with django_assert_num_queries(3):
        for _ in range(3):
            assert tables.are_those_of_the_streams()


def test_database_is_asked_always_where_a_name_has_two_tables(
    globex: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(3):
        for _ in range(3):
            assert tables.are_those_of_the_streams()


def test_membership_counts_where_nothing_refers_to_users(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables.Ticket._meta, "db_table", "nothing")
    assert Membership.objects.filter(user=alice).exists()
    assert tables.are_those_of_the_streams()
