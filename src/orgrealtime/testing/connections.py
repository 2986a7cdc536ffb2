"""Database connections that asynchronous tests leave open in other threads."""

from __future__ import annotations

from django.db import connections

__all__ = ["close_connections"]


def close_connections() -> None:
    """Close the database connections of this thread, but for one in a transaction, as that of a `TestCase`.

    PostgreSQL doesn't drop a test database to which the thread of `sync_to_async` is still connected.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
