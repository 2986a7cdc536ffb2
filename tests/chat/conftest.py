"""Fixtures of the tests of rooms: on PostgreSQL, or on SQLite where `alias` says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from orgrealtime.chat import services
from orgrealtime.chat.models import Room
from tests.host.models import Organization

Limit = Callable[..., None]


class OnSQLite:
    """A router by which everything is in the SQLite file."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "lite"

    db_for_write = db_for_read


@pytest.fixture(params=["default", pytest.param("lite", marks=pytest.mark.slow)])
def alias(request: pytest.FixtureRequest, settings: Settings) -> str:
    """The database of a test, which runs on each; on the second one among the slow tests."""
    if request.param == "lite":
        settings.DATABASE_ROUTERS = [f"{__name__}.{OnSQLite.__name__}"]
    return str(request.param)


@pytest.fixture
def limit(settings: Settings) -> Limit:
    """`limit(MESSAGES_PER_MINUTE=2)`: other values in `ORGREALTIME_CHAT` for this test."""

    def put(**values: Any) -> None:
        settings.ORGREALTIME_CHAT = {**getattr(settings, "ORGREALTIME_CHAT", {}), **values}

    return put


@pytest.fixture
def general(acme: Organization, alice: User, bob: User) -> Room:
    """A public room with two people."""
    return services.create_room(
        acme, None, kind="public", name="General", slug="general", members=[alice, bob]
    )


@pytest.fixture
def leads(acme: Organization, alice: User) -> Room:
    """A private room of one person, its owner."""
    room = services.create_room(acme, None, kind="private", name="Leads", slug="leads", members=[alice])
    services.set_role(acme, None, room_id=room.pk, user=alice, role="owner")
    return room
