"""The database of the streams, and the threads in which it is asked, apart from the threads of requests."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from django.db import Error, InterfaceError, OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from orgrealtime.concurrency.threads import Threads, give_up_connections
from orgrealtime.models import NotificationEvent

# PostgreSQL, appendix A.
READ_ONLY = "25006"
CONNECTION_LOST = ("08", "57P")  # what the codes of an end from outside begin with
LOCK_NOT_AVAILABLE = "55P03"
SERIALIZATION_FAILURE = "40001"  # what REPEATABLE READ says where READ COMMITTED waits for the newest row
OF_WHAT_WAS_ASKED = {"57014", LOCK_NOT_AVAILABLE}  # a time limit of its own, or a lock it waited for in vain

# Apart, so that a crowd of handshakes, or slow code of the host's, never holds up the connections that stand.
LIVE = Threads("live", 3)  # reads for all connections; no code of the host's
ACCESS = Threads("checks", 2)  # asks the host which connections may stay
BACKLOG = Threads("backlog", 2)  # reads old events for a single connection
HANDSHAKE = Threads("visitors", 4)  # lets a single connection in
COMMANDS = Threads("commands", 4)  # does what clients ask for by commands


def alias() -> str:
    """Return the alias of the primary database of the streams: a replica may lag and would break the order."""
    return router.db_for_write(NotificationEvent)


@contextlib.contextmanager
def as_primary(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Give up the connections of this process if the database takes no writes, as a primary that has been demoted."""
    try:
        yield
    except Error as error:
        if is_read_only(error):
            give_up_connections(connection)
        raise


def is_read_only(error: Exception) -> bool:
    """Tell whether an error came because the database, or the transaction, takes no writes."""
    return READ_ONLY in sqlstates(error)


def sqlstates(error: Exception) -> tuple[str | None, ...]:
    """Return what PostgreSQL calls an error, as either driver tells it."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)


def is_table_locked(error: Exception) -> bool:
    """Tell whether a statement waited in vain for a table, which another transaction has locked as a whole."""
    # PostgreSQL says in the context of an error which row it waited for, if it was one.
    diagnosis = getattr(error.__cause__, "diag", None)
    return LOCK_NOT_AVAILABLE in sqlstates(error) and diagnosis is not None and diagnosis.context is None


def is_away(error: Exception) -> bool:
    """Tell whether the database couldn't be asked, or can't be even now that it has failed; for its threads."""
    if not isinstance(error, Error):
        return False
    if is_read_only(error) or _has_lost_connection(error) or is_table_locked(error):
        return True  # even if it is there again, for what is asked next
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
    if is_read_only(error) or is_table_locked(error):
        return True
    if not isinstance(error, OperationalError | InterfaceError) or OF_WHAT_WAS_ASKED & {*sqlstates(error)}:
        return False
    return getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def _has_lost_connection(error: Exception) -> bool:
    codes = [code for code in sqlstates(error) if code is not None]
    is_of_postgresql = hasattr(error.__cause__, "sqlstate") or hasattr(error.__cause__, "pgcode")
    if not codes:
        return is_of_postgresql and isinstance(error, OperationalError)  # the driver's own
    return codes[0].startswith(CONNECTION_LOST)
