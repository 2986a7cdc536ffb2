"""The database of the streams, and the threads in which it is asked, apart from the threads of requests."""

from __future__ import annotations

from django.db import Error, connections, router

from orgrealtime.concurrency.threads import Threads
from orgrealtime.models import NotificationEvent

# Apart, so that a crowd of handshakes, or slow code of the host's, never holds up the connections that stand.
LIVE = Threads("live", 3)  # reads for all connections; no code of the host's
ACCESS = Threads("checks", 2)  # asks the host which connections may stay
BACKLOG = Threads("backlog", 2)  # reads old events for a single connection
HANDSHAKE = Threads("visitors", 4)  # lets a single connection in


def alias() -> str:
    """Return the alias of the primary database of the streams: a replica may lag and would break the order."""
    return router.db_for_write(NotificationEvent)


def explains(error: Exception) -> bool:
    """Tell whether an error came because the database can't be asked now; needs a thread that may use it."""
    if not isinstance(error, Error):
        return False
    connection = connections[alias()]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return True
    return False
