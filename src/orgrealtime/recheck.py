"""Whether those who are connected still may: asked again for many connections at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from orgrealtime.access import Access
from orgrealtime.adapters import get_adapter
from orgrealtime.connection import Connection
from orgrealtime.errors import CloseCode
from orgrealtime.identity import living_sessions

Verdict = Access | CloseCode


def recheck(connections: Collection[Connection]) -> dict[Connection, Verdict]:
    """Return for each connection today's access, or the code to close it with.

    Needs a thread that may use the database; two queries whatever the number of connections.
    """
    pairs = {(connection.access.organization_id, connection.access.user_id) for connection in connections}
    accesses = get_adapter().accesses(pairs)
    sessions = {connection.identity.session_key for connection in connections} - {None}
    living = living_sessions([key for key in sessions if key is not None]) if sessions else set()
    return {connection: _judge(connection, accesses, living) for connection in connections}


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
    return access if connection.is_allowed(user, access) else CloseCode.FORBIDDEN
