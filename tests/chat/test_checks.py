"""The system checks of rooms, each with what it finds."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from pytest_django.fixtures import Settings

from orgrealtime.chat import conf
from orgrealtime.chat.rules import Rules, get_rules
from tests.chat.conftest import Limit, OnSQLite
from tests.conftest import Configure


def shown() -> set[str]:
    messages = run_checks(tags=["orgrealtime"], databases=["default"])
    return {str(message.id).removeprefix("orgrealtime.") for message in messages}


def test_checks_are_silent_where_all_is_well() -> None:
    assert shown() == set()


@pytest.mark.parametrize(
    "given",
    [
        {"MAX_LENGHT": 5},
        {"MAX_LENGTH": 0},
        {"MESSAGES_PER_MINUTE": None},
        {"MAX_BYTES": True},
        {"ROOM_BURST": "100"},
        {"RULES": None},
        [],
    ],
)
def test_wrong_settings_are_e020(given: Any, settings: Settings) -> None:
    settings.ORGREALTIME_CHAT = given
    assert shown() == {"E020"}
    with pytest.raises(ImproperlyConfigured, match="ORGREALTIME_CHAT"):
        conf.get_settings()


class Other:
    """No rules."""


class Later(Rules):
    """Rules that are made async after their class."""


@pytest.mark.parametrize("name", ["nowhere.Rules", f"{__name__}.Missing", f"{__name__}.Other", "rules"])
def test_rules_that_can_not_be_used_are_e021(name: str, limit: Limit) -> None:
    limit(RULES=name)
    assert shown() == {"E021"}


def test_async_rules_are_refused_when_they_are_written_and_are_e021(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def can_post(self: Rules, *args: Any) -> bool:
        return False

    with pytest.raises(TypeError, match="can_post must not be async"):
        type("Async", (Rules,), {"can_post": can_post})
    monkeypatch.setattr(Later, "can_post", can_post)
    limit(RULES=f"{__name__}.Later")
    assert shown() == {"E021"}


def test_rules_are_made_once(limit: Limit) -> None:
    assert get_rules() is get_rules()
    limit(RULES=f"{__name__}.Later")
    assert type(get_rules()) is Later


class ChatOnSQLite(OnSQLite):
    """A router that keeps rooms apart from events."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "lite" if model._meta.app_label == "orgrealtime_chat" else "default"

    db_for_write = db_for_read


def test_rooms_in_another_database_than_events_are_e022(settings: Settings) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.ChatOnSQLite"]
    assert shown() == {"E022"}


def test_events_too_small_for_messages_are_e023(limit: Limit, configure: Configure) -> None:
    limit(MAX_LENGTH=10_000, MAX_BYTES=40_000)
    assert shown() == {"E023"}
    configure(MAX_PAYLOAD_BYTES=88_192)
    assert shown() == set()


def test_bytes_below_the_length_are_w013(limit: Limit) -> None:
    limit(MAX_LENGTH=16_001)
    assert shown() == {"W013"}


def test_sqlite_that_writes_late_is_w012(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATABASE_ROUTERS = ["tests.chat.conftest.OnSQLite"]
    assert "W012" not in shown()
    monkeypatch.delitem(connections["lite"].settings_dict["OPTIONS"], "transaction_mode")
    assert "W012" in shown()
