"""Tickets: how a client without a cookie connects as a user, once and within seconds."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from django.conf import settings
from django.db import models, router
from django.utils import timezone

from orgrealtime.admission.authentication import Identity, identify, unix_seconds
from orgrealtime.admission.origins import fits_origin
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.keys import organization_keys
from orgrealtime.models import Ticket

PREFIX = "orgrealtime.ticket."
LIFE_SECONDS = 30
# The last that a database can keep, in whatever time zone.
LAST_SECOND = datetime.datetime.max.replace(tzinfo=datetime.UTC).timestamp() - 86_400
MAX_LIVING = 100  # of one user; requests of the same moment may get a few more
MESSAGE = "the ticket isn't known, has expired, was used, or isn't for this connection; ask for a new one"


class Redeemed(NamedTuple):
    """The identity that a ticket stands for, and the organisation for which it was issued."""

    identity: Identity
    organization_id: Any


def issue(
    user: Any,
    organization: models.Model,
    session_key: str | None,
    origin: str | None,
    login_expires_at: object = None,
) -> str:
    """Return a new ticket; raise Refused (4429) if the user has too many that are still good.

    `login_expires_at` is when the login ends by which it is issued, in Unix seconds or as an aware datetime. What is
    opened with the ticket ends then too.
    """
    now = timezone.now()
    end = None if login_expires_at is None else unix_seconds(login_expires_at)
    if end is not None and end <= now.timestamp():
        raise Refused(CloseCode.UNAUTHENTICATED, "login expired")
    tickets = _tickets()
    tickets.filter(user_id=user.pk, expires_at__lte=now).delete()
    if tickets.filter(user_id=user.pk).count() >= MAX_LIVING:
        raise Refused(
            CloseCode.RATE_LIMITED,
            "too many tickets",
            f"at most {MAX_LIVING} unused tickets; use one or wait",
        )
    ticket = secrets.token_urlsafe(32)
    tickets.create(
        digest=_digest(ticket),
        user_id=user.pk,
        organization_id=organization_keys().of(organization),
        session_key=session_key,
        origin=origin,
        expires_at=now + datetime.timedelta(seconds=LIFE_SECONDS),
        login_expires_at=None if end is None else _as_datetime(end),
    )
    return ticket


def offered(scope: Mapping[str, Any]) -> str | None:
    """Return the ticket among the subprotocols of a handshake, or None; raise Refused (4401) for several."""
    tickets = [
        name.removeprefix(PREFIX) for name in scope.get("subprotocols") or () if name.startswith(PREFIX)
    ]
    if len(tickets) > 1:
        raise refusal("several tickets")
    return tickets[0] if tickets else None


def redeem(ticket: str, scope: Mapping[str, Any]) -> Redeemed:
    """Use up a ticket and return what it stands for; raise Refused (4401) unless all that it is bound to holds.

    Needs a thread that may use the database.
    """
    found = _take(_digest(ticket))
    if found is None:
        raise refusal("unknown or used ticket")
    if found.expires_at <= timezone.now():
        raise refusal("expired ticket")
    if not fits_origin(scope, found.origin):
        raise refusal("ticket of another origin")
    try:
        identity = identify(found.user_id, found.session_key)
    except Refused as refused:
        raise refusal(f"ticket: {refused.reason}") from None
    if found.login_expires_at is not None:
        identity = replace(identity, expires_at=unix_seconds(found.login_expires_at))
    if identity.has_expired(time.time()):
        raise refusal("ticket: login expired")
    return Redeemed(identity, found.organization_id)


def refusal(reason: str) -> Refused:
    """Return the one answer to all tickets that don't count; only the log is told why."""
    return Refused(CloseCode.UNAUTHENTICATED, reason, MESSAGE)


def prune() -> int:
    """Delete the tickets that have expired, and return how many."""
    return _tickets().filter(expires_at__lte=timezone.now()).delete()[0]


def _take(digest: str) -> Ticket | None:
    ticket = _tickets().filter(digest=digest).first()
    # Of all handshakes that have read it, one deletes it.
    return ticket if ticket is not None and _tickets().filter(digest=digest).delete()[0] == 1 else None


def _as_datetime(seconds: float) -> datetime.datetime:
    moment = datetime.datetime.fromtimestamp(min(seconds, LAST_SECOND), datetime.UTC)
    return moment if settings.USE_TZ else timezone.make_naive(moment)


def _tickets() -> models.QuerySet[Ticket]:
    # The primary: a replica may not have the ticket yet, or have it still.
    return Ticket._default_manager.using(router.db_for_write(Ticket))


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode(errors="surrogatepass")).hexdigest()
