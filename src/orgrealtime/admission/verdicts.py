"""Whether those who are connected still may: asked again for many connections at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from orgrealtime.adapters import get_adapter
from orgrealtime.admission.authentication import living_sessions
from orgrealtime.delivery.connection import Connection
from orgrealtime.errors import CloseCode
from orgrealtime.stream import database
from orgrealtime.stream.access import Access

logger = logging.getLogger("orgrealtime.recheck")

Verdict = Access | CloseCode


def recheck(connections: Collection[Connection]) -> dict[Connection, Verdict]:
    """Return for each connection today's access, or the code to close it with.

    Needs a thread that may use the database; two queries whatever the number of connections.
    """
    pairs = {(connection.access.organization_id, connection.access.user_id) for connection in connections}
    accesses = get_adapter().accesses(pairs)
    sessions = {key for connection in connections if (key := connection.identity.session_key) is not None}
    living = _living(sessions) if sessions else {}
    _note_ends(connections, living)
    return {connection: _judge(connection, accesses, living) for connection in connections}


def _living(sessions: set[str]) -> dict[str, float | None]:
    try:
        return living_sessions(sessions)
    except Exception as error:
        # Sessions may be kept in a cache that is away; who is no longer a member must go nevertheless.
        logger.warning("the sessions can't be asked, taken as living", extra={"error": type(error).__name__})
        return dict.fromkeys(sessions)


def _note_ends(connections: Collection[Connection], living: dict[str, float | None]) -> None:
    for connection in connections:
        identity = connection.identity
        end = living.get(identity.session_key or "")
        if end != identity.session_expires_at:
            connection.identity = replace(identity, session_expires_at=end)


def _judge(
    connection: Connection, accesses: dict[tuple[Any, Any], tuple[Access, Any]], living: Collection[str]
) -> Verdict:
    key = connection.identity.session_key
    if connection.identity.has_expired(time.time()) or (key is not None and key not in living):
        return CloseCode.UNAUTHENTICATED
    found = accesses.get((connection.access.organization_id, connection.access.user_id))
    if found is None:
        return CloseCode.FORBIDDEN
    access, user = found
    if not connection.identity.is_valid_for(user):
        return CloseCode.UNAUTHENTICATED
    try:
        return access if connection.is_allowed(user, access) else CloseCode.FORBIDDEN
    except Exception as error:
        if database.explains(error):
            raise  # all stay until it can be asked
        # One that can't be checked must not keep the others from it. It may come again, and is then a newcomer.
        logger.exception("a connection can't be checked again", extra={"connection_id": connection.id})
        return CloseCode.OVERLOADED
