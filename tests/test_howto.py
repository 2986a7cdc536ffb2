"""What the how-tos tell a reader to write does what they say."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from orgrealtime.access import Access
from orgrealtime.routing import Routes, routes
from tests.project import fenced, read
from tests.test_keys import run

SALARY = {"type": "salary_changed", "cursor": "0123abcd.1"}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's `teams/live.py` defines."""
    services: Any = ModuleType("teams.services")
    services.add_note = lambda organization, user, text: None
    monkeypatch.setitem(sys.modules, "teams", ModuleType("teams"))
    monkeypatch.setitem(sys.modules, "teams.services", services)
    names: dict[str, Any] = {"__name__": "teams.live"}
    exec(fenced(read("howto/own-consumer.md"), "python")[0], names)  # noqa: S102 - our own page
    return names


def test_example_gives_routes_of_all_ways(live: dict[str, Any]) -> None:
    assert isinstance(live["board"], Routes)
    paths, name = live["board"].http
    assert (len(live["board"].websocket), [path.name for path in paths]) == (
        1,
        ["catch-up", "stream", "ticket"],
    )
    assert name == "orgrealtime"


def test_example_lets_members_in_and_shows_salaries_to_admins_only(live: dict[str, Any]) -> None:
    rules = live["BoardConsumer"].policy
    member, admin, guest = (Access(1, 1, role) for role in ("member", "admin", "guest"))
    assert [rules.allow(None, access) for access in (member, admin, guest)] == [True, True, False]
    assert [rules.render(SALARY, access) for access in (member, admin)] == [None, SALARY]


def test_rules_need_no_consumer(live: dict[str, Any]) -> None:
    assert isinstance(routes(policy=live["BoardRules"]), Routes)


@pytest.mark.slow
def test_hosts_of_every_kind_are_wired_as_their_page_has_it() -> None:
    run("layouts", "orgrealtime_layouts")


@pytest.mark.slow
def test_tenants_may_have_schemas_and_share_their_users() -> None:
    run("tenants", "orgrealtime_tenants")


@pytest.mark.slow
def test_tenants_with_users_of_their_own_are_refused() -> None:
    run("tenants", "orgrealtime_tenants_users", scenarios="users", TENANTS_USERS="1")


@pytest.mark.slow
def test_logins_by_token_work_as_their_page_has_it() -> None:
    run("tokens", "orgrealtime_tokens")
