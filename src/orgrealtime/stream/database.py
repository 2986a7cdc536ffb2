"""The database of the streams, and the threads in which it is asked, apart from the threads of requests."""

from __future__ import annotations

import sqlite3

from django.db import Error, InterfaceError, OperationalError, connections, router

from orgrealtime.concurrency.threads import Threads
from orgrealtime.models import NotificationEvent

# Apart, so that a crowd of handshakes, or slow code of the host's, never holds up the connections that stand.
LIVE = Threads("live", 3)  # reads for all connections; no code of the host's
ACCESS = Threads("checks", 2)  # asks the host which connections may stay
BACKLOG = Threads("backlog", 2)  # reads old events for a single connection
HANDSHAKE = Threads("visitors", 4)  # lets a single connection in

# What a statement was canceled for by its own time limit, or waited for in vain.
OF_WHAT_WAS_ASKED = {"57014", "55P03"}


def alias() -> str:
    """Return the alias of the primary database of the streams: a replica may lag and would break the order."""
    return router.db_for_write(NotificationEvent)


def is_away(error: Exception) -> bool:
    """Tell whether the database can't be asked even now that it has failed with this error; for its threads."""
    if not isinstance(error, Error):
        return False
    try:
        with connections[alias()].cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return True
    return False


def may_pass(error: Exception) -> bool:
    """Tell whether an error may come from the state of the database, and not from what it was asked.

    Decided by the error alone (PostgreSQL's appendix A, SQLite's result codes): a database that drops its connections
    and takes new ones answers again by the time anything could be asked.
    """
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) in OF_WHAT_WAS_ASKED:
        return False
    return getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
