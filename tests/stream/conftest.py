"""Fixtures of the stream's tests."""

from __future__ import annotations

import pytest

from tests.host.models import Organization


@pytest.fixture
def org(alias: str) -> Organization:
    return Organization.objects.using(alias).create(slug="acme", name="Acme")
