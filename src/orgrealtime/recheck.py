"""Whether those who are connected still may: asked again for many connections at once."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from django.db import InterfaceError, OperationalError

from orgrealtime.access import Access
from orgrealtime.adapters import get_adapter
from orgrealtime.connection import Connection
from orgrealtime.errors import CloseCode
from orgrealtime.identity import living_sessions

logger = logging.getLogger("orgrealtime.recheck")

Verdict = Access | CloseCode


def recheck(connections: Collection[Connection]) -> dict[Connection, Verdict]:
    """Return for each connection today's access, or the code to close it with.

    Needs a thread that may use the database; two queries whatever the number of connections.
    """
    pairs = {(connection.access.organization_id, connection.access.user_id) for connection in connections}
    accesses = get_adapter().accesses(pairs)
    sessions = {key for connection in connections if (key := connection.identity.session_key) is not None}
    living = _living(sessions) if sessions else set()
    return {connection: _judge(connection, accesses, living) for connection in connections}


def _living(sessions: set[str]) -> set[str]:
    try:
        return living_sessions(sessions)
    except Exception as error:
        # Sessions may be kept in a cache that is away; who is no longer a member must go nevertheless.
        logger.warning("the sessions can't be asked, taken as living", extra={"error": type(error).__name__})
        return sessions


def _judge(
    connection: Connection, accesses: dict[tuple[Any, Any], tuple[Access, Any]], living: set[str]
) -> Verdict:
    key = connection.identity.session_key
    if key is not None and key not in living:
        return CloseCode.UNAUTHENTICATED
    found = accesses.get((connection.access.organization_id, connection.access.user_id))
    if found is None:
        return CloseCode.FORBIDDEN
    access, user = found
    if not connection.identity.is_valid_for(user):
        return CloseCode.UNAUTHENTICATED
    try:
        return access if connection.is_allowed(user, access) else CloseCode.FORBIDDEN
    except (InterfaceError, OperationalError):
        raise  # the database is away: all stay until it can be asked
    except Exception:
        # One that can't be checked must not keep the others from it. It may come again, and is then a newcomer.
        logger.exception("a connection can't be checked again", extra={"connection_id": connection.id})
        return CloseCode.OVERLOADED
