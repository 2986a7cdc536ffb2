"""The one index of the connections against a model: who is served, and who is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.access import Access
from orgrealtime.delivery.registry import NONE, Registry


class Served:
    """As much of a connection as a registry knows."""

    def __init__(self, organization_id: Any, user_id: Any) -> None:
        self.access = Access(organization_id, user_id)


class Observer:
    """Notes what it is told, and what the index says at that moment."""

    def __init__(self, registry: Registry) -> None:
        self.told: list[tuple[str, Any, bool]] = []
        self._registry = registry

    def on_join(self, connection: Any) -> None:
        self.told.append(("join", connection, connection in set(self._registry)))

    def on_leave(self, connection: Any) -> None:
        self.told.append(("leave", connection, connection in set(self._registry)))


PLACES = [(organization, user) for organization in (1, 2) for user in (1, "1", 7) for _ in range(2)]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, len(PLACES) - 1))))
def test_index_is_what_has_joined_and_not_left(steps: list[tuple[bool, int]]) -> None:
    registry, connections, served = Registry(), [Served(*place) for place in PLACES], set[Any]()
    observer = Observer(registry)
    registry.observe(observer)
    expected: list[tuple[str, Any, bool]] = []
    for joins, number in steps:
        connection: Any = connections[number]
        if joins and connection not in served:
            registry.add(connection)
            served.add(connection)
            expected.append(("join", connection, True))
        elif not joins:
            registry.remove(connection)
            expected += [("leave", connection, False)] if connection in served else []
            served.discard(connection)
    assert observer.told == expected
    assert sorted(map(id, registry)) == sorted(map(id, served))
    assert len(registry) == len(served)
    for key in ("1", "2", "7", "nobody"):
        assert set(registry.of_organization(key)) == {
            each for each in served if str(each.access.organization_id) == key
        }
        assert set(registry.of_user(key)) == {each for each in served if str(each.access.user_id) == key}


def test_observer_is_told_of_those_that_join_and_leave_from_then_on(registry: Registry) -> None:
    before: Any = Served(1, 1)
    after: Any = Served(1, 1)
    registry.add(before)
    observers = [Observer(registry), Observer(registry)]
    for observer in observers:
        registry.observe(observer)
    registry.add(after)
    registry.remove(before)
    assert [observer.told for observer in observers] == [
        [("join", after, True), ("leave", before, False)]
    ] * 2


def test_connections_of_an_organisation_change_with_the_index(registry: Registry) -> None:
    first: Any = Served(1, 1)
    second: Any = Served(1, 2)
    registry.add(first)
    here = registry.of_organization("1")
    registry.add(second)
    assert set(here) == {first, second}


def test_connection_whose_access_has_other_keys_by_now_leaves_all_the_same(registry: Registry) -> None:
    connection: Any = Served("acme", "alice")
    registry.add(connection)
    connection.access = Access("ACME", "ALICE")
    registry.remove(connection)
    assert not registry.of_organization("acme")
    assert not registry.of_user("alice")


def test_registry_keeps_nothing_of_who_has_left(registry: Registry) -> None:
    connection: Any = Served(1, 1)
    registry.add(connection)
    registry.remove(connection)
    assert registry.of_organization("1") is registry.of_user("1") is NONE
