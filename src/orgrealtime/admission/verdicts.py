"""Verdicts: whether clients that are connected still may, asked of the database for many of them at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from orgrealtime import adapters
from orgrealtime.admission import sessions
from orgrealtime.admission.authentication import Identity
from orgrealtime.admission.sessions import StoredSession
from orgrealtime.errors import CloseCode
from orgrealtime.stream.access import Access
from orgrealtime.stream.database import may_pass

logger = logging.getLogger("orgrealtime.recheck")


class Rule(Protocol):
    """The host's own condition for a connection; runs in a database thread."""

    def __call__(self, user: Any, access: Access, /) -> bool: ...


class Credentials:
    """By what a connection has been admitted: an identity, and the host's own condition.

    `admitted_at` is when its access began to be looked up, in seconds of the loop's clock.
    """

    __slots__ = ("admitted_at", "failing_since", "identity", "is_allowed")

    def __init__(self, identity: Identity, is_allowed: Rule, admitted_at: float) -> None:
        self.identity = identity
        self.is_allowed = is_allowed
        self.admitted_at = admitted_at
        self.failing_since: float | None = None  # by the loop's clock, while it can't be checked


class Checked(NamedTuple):
    """A connection as it is when a check of it begins."""

    connection_id: str
    access: Access
    credentials: Credentials


class Verdict(NamedTuple):
    """What a check has found: today's access or the code to close with, and the identity as its session is now."""

    answer: Access | CloseCode
    identity: Identity


def recheck(checked: Sequence[Checked]) -> list[Verdict | Exception]:
    """Return for each connection today's access, or the code to close it with.

    Needs a thread that may use the database; two queries whatever the number of connections, and one of topics.
    """
    pairs = {(each.access.organization_id, each.access.user_id) for each in checked}
    accesses = adapters.accesses(pairs)
    identities = [each.credentials.identity for each in checked]
    stored = _read({identity.session_key for identity in identities if identity.session_key is not None})
    return [
        _verdict(one, _renewed(identity, stored), accesses)
        for one, identity in zip(checked, identities, strict=True)
    ]


def _read(keys: set[str]) -> Mapping[str, StoredSession] | None:
    """The sessions that stand; None if nobody can say."""
    if sessions.are_in_cookies():
        return None
    try:
        return sessions.read(keys)
    except Exception as error:
        # Sessions may be kept in a cache that is away; users who are no longer members must go nevertheless.
        logger.warning("the sessions can't be asked, taken as living", extra={"error": type(error).__name__})
        return None


def _renewed(identity: Identity, stored: Mapping[str, StoredSession] | None) -> Identity | None:
    """The identity as its session is now; None if that doesn't stand, or isn't the user's any more."""
    if stored is None or identity.session_key is None:
        return identity
    found = stored.get(identity.session_key)
    return None if found is None else identity.renewed(found)


def _verdict(
    one: Checked, identity: Identity | None, accesses: Mapping[tuple[Any, Any], tuple[Access, Any]]
) -> Verdict | Exception:
    if identity is None:
        return Verdict(CloseCode.UNAUTHENTICATED, one.credentials.identity)
    try:
        return Verdict(_judge(one, identity, accesses), identity)
    except Exception as error:  # of a database: the others are none the worse for it
        return error


def _judge(
    one: Checked, identity: Identity, accesses: Mapping[tuple[Any, Any], tuple[Access, Any]]
) -> Access | CloseCode:
    if identity.has_expired(time.time()):
        return CloseCode.UNAUTHENTICATED
    found = accesses.get((one.access.organization_id, one.access.user_id))
    if found is None:
        return CloseCode.FORBIDDEN
    access, user = found
    if one.access.only_topic is not None:
        access = access.narrowed(one.access.only_topic)
    if access.lacks_topic:
        return CloseCode.FORBIDDEN
    if not identity.is_valid_for(user):
        return CloseCode.UNAUTHENTICATED
    try:
        return access if one.credentials.is_allowed(user, access) else CloseCode.FORBIDDEN
    except Exception as error:
        if may_pass(error):
            raise  # all connections stay until the database can be asked
        # A connection that can't be checked must not keep the others from it. Its client may come again.
        logger.exception("a connection can't be checked again", extra={"connection_id": one.connection_id})
        return CloseCode.OVERLOADED
