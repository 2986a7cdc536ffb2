"""Which connections of a feed have which topics, so that an event of one costs what its readers cost."""

from __future__ import annotations

from collections.abc import Iterable, Set

from orgrealtime.delivery.chunks import Chunk
from orgrealtime.delivery.connection import Connection
from orgrealtime.keys import StoredKey
from orgrealtime.stream.access import Topics


class TopicIndex:
    """The connections of one feed, by their topics."""

    def __init__(self) -> None:
        self._connections: dict[str, set[Connection]] = {}

    def add(self, connection: Connection, topics: Iterable[str]) -> None:
        """Add a connection with these topics."""
        for topic in topics:
            self._connections.setdefault(topic, set()).add(connection)

    def discard(self, connection: Connection, topics: Iterable[str]) -> None:
        """Take a connection with these topics out; one that isn't there is fine."""
        for topic in topics:
            connections = self._connections.get(topic)
            if connections is not None:
                connections.discard(connection)
                if not connections:
                    del self._connections[topic]

    def of(self, topics: Iterable[str]) -> set[Connection]:
        """Return the connections that have one of these topics."""
        found: set[Connection] = set()
        return found.union(*(self._connections.get(topic, ()) for topic in topics))


class Unseen:
    """Events at the end of a stream which only the readers of their topics have been given.

    All others stand where they stood, at number `start` or later, and may go on to the end without a look at them.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self._topics: set[str] = set()
        self._users: set[StoredKey] = set()

    def add(self, chunk: Chunk) -> None:
        """Add events that all have topics."""
        self._topics |= chunk.topics
        if chunk.change is not None:
            self._users |= chunk.change.grants | chunk.change.withdraws

    def are_none_of(self, connection: Connection) -> bool:
        """Tell whether none of these events concerns a connection that stands before them, or among them.

        Of one that is held back it isn't known what it may see.
        """
        access = connection.access
        return (
            connection.held is None
            and connection.seq >= self.start
            and access.user_key not in self._users
            and _are_disjoint(self._topics, access.topics)
        )


def _are_disjoint(names: Set[str], topics: Topics) -> bool:
    return not names or not topics or names.isdisjoint(topics)
