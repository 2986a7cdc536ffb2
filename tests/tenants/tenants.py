"""Tenants for the scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client as Browser

from tests.tenants.customers.models import Client, Domain, Membership  # type: ignore[attr-defined]


class Tenants:
    """Makes tenants with a schema and a domain each, and asks for their events."""

    def make(self, name: str, *members: Any) -> Any:
        client = Client.objects.create(schema_name=name, name=name)
        Domain.objects.create(domain=f"{name}.localhost", tenant=client)
        for user in members:
            Membership.objects.create(client=client, user=user)
        return client

    def page(self, name: str, user: Any, host: str | None = None) -> Any:
        """What a user gets who asks for a tenant's events, on its domain or on another one."""
        return self.browser(user, host or f"{name}.localhost").get(f"/orgs/{name}/notifications/")

    def browser(self, user: Any, host: str) -> Browser:
        browser = Browser(headers={"host": host})
        browser.force_login(user)
        return browser


@pytest.fixture
def tenants(transactional_db: None) -> Iterator[Tenants]:
    yield Tenants()
    connection.set_schema_to_public()  # type: ignore[attr-defined]
    for client in Client.objects.exclude(schema_name="public"):
        client.delete(force_drop=True)
