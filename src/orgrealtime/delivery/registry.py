"""The connections of one event loop: the one index of them, which tells observers when one joins or leaves."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from orgrealtime.delivery.connection import Connection
from orgrealtime.keys import organization_keys, user_keys

NONE: frozenset[Connection] = frozenset()


class Observer(Protocol):
    """What is told of the connections of a registry; must not raise."""

    def on_join(self, connection: Connection) -> None:
        """A connection is served from now on."""

    def on_leave(self, connection: Connection) -> None:
        """A connection is no longer served."""


class Registry:
    """Knows the connections that are served now, by the names of their organisations and users."""

    def __init__(self) -> None:
        self._of_organization: dict[str, set[Connection]] = {}
        self._of_user: dict[str, set[Connection]] = {}
        self._observers: list[Observer] = []

    def __iter__(self) -> Iterator[Connection]:
        for connections in self._of_organization.values():
            yield from connections

    def __len__(self) -> int:
        return sum(map(len, self._of_organization.values()))

    def observe(self, observer: Observer) -> None:
        """Tell an observer of all connections that join and leave from now on, after the index has changed."""
        self._observers.append(observer)

    def of_organization(self, organization: str) -> Collection[Connection]:
        """Return the connections to an organisation; changes with the index."""
        return self._of_organization.get(organization, NONE)

    def of_user(self, user: str) -> Collection[Connection]:
        """Return the connections of a user; changes with the index."""
        return self._of_user.get(user, NONE)

    def add(self, connection: Connection) -> None:
        """Add a connection, which is then served."""
        organization, user = names_of(connection)
        self._of_organization.setdefault(organization, set()).add(connection)
        self._of_user.setdefault(user, set()).add(connection)
        for observer in self._observers:
            observer.on_join(connection)

    def remove(self, connection: Connection) -> None:
        """Remove a connection, which is then no longer served; a connection that isn't there is fine."""
        organization, user = names_of(connection)
        is_known = _discard(self._of_organization, organization, connection)
        _discard(self._of_user, user, connection)
        for observer in self._observers if is_known else ():
            observer.on_leave(connection)


def names_of(connection: Connection) -> tuple[str, str]:
    """Return the names of a connection's organisation and user."""
    access = connection.access
    return organization_keys().name(access.organization_id), user_keys().name(access.user_id)


def _discard(index: dict[str, set[Connection]], name: str, connection: Connection) -> bool:
    """Take a connection out of an index; return whether it was in it."""
    if connection not in index.get(name, NONE):  # its access may have been given with other keys since
        found = next((other for other, connections in index.items() if connection in connections), None)
        if found is None:
            return False
        name = found
    index[name].discard(connection)
    if not index[name]:
        del index[name]
    return True
