"""Looking up the user and the organisation of a handshake: handshakes of the same moment together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import models

from orgrealtime import stream
from orgrealtime.adapters import find, find_together, finds_together, get_adapter
from orgrealtime.admission import tickets
from orgrealtime.admission.authentication import (
    Identity,
    authenticate,
    authenticate_together,
    has_plain_session,
)
from orgrealtime.admission.refusals import no_access
from orgrealtime.concurrency import background
from orgrealtime.concurrency.batching import Batcher
from orgrealtime.errors import Refused
from orgrealtime.keys import organization_keys
from orgrealtime.protocol.cursors import Position
from orgrealtime.stream import topics
from orgrealtime.stream.access import Access
from orgrealtime.stream.database import HANDSHAKE, is_away

GATHER_SECONDS = 0.02  # how long a batch waits for more of a crowd


@dataclass(frozen=True, slots=True, eq=False)
class AdmissionRequest:
    """A handshake for the organisation with this slug, by a session or a ticket."""

    scope: Mapping[str, Any]
    slug: str
    ticket: str | None = None


class Found(NamedTuple):
    """What a lookup has found; handshakes that were looked up together share the organisation."""

    identity: Identity
    organization: models.Model
    access: Access


class Lookup:
    """Asks the database about the handshakes of one event loop, about a crowd together."""

    def __init__(self) -> None:
        self._batcher = Batcher[AdmissionRequest, Found](
            HANDSHAKE.wrap(_find_together), HANDSHAKE.wrap(is_away), GATHER_SECONDS
        )
        self._with_topics = Batcher[Access, Access](
            HANDSHAKE.wrap(topics.with_topics), HANDSHAKE.wrap(is_away), GATHER_SECONDS
        )
        self._positions: dict[Any, asyncio.Task[Position]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def find(self, request: AdmissionRequest) -> Found:
        """Return what a handshake stands for, by at most three queries, and one of topics; raise Refused, or
        what went wrong."""
        if _can_wait_with_others(request):
            return await self._batcher.ask(request)
        return await HANDSHAKE.run(_find_alone, request)

    async def as_of(self, access: Access, position: Position) -> Access:
        """Return an access whose topics hold as of a position or later: what grants or withdraws one before that isn't
        passed by a connection that begins there."""
        if not topics.has_providers() or access.topics_at >= position.head:
            return access
        return await self._with_topics.ask(access)

    async def position(self, organization_id: Any) -> Position:
        """Return where an organisation's stream stands now or later; one query for all that ask while it waits."""
        asking = self._positions.get(organization_id)
        if asking is None:
            asking = background.start(self._ask_position(organization_id), self._tasks)
            asking.add_done_callback(_look_at)
            self._positions[organization_id] = asking
        await asyncio.wait([asking])
        return asking.result()

    async def _ask_position(self, organization_id: Any) -> Position:
        def ask() -> Position:
            # A handshake from here on asks anew: its cursor may be of an event that this query doesn't see.
            self._positions.pop(organization_id, None)
            return stream.advance_some(organization_id).position  # the rest of a burst comes live

        return await HANDSHAKE.run(ask)

    async def close(self) -> None:
        """End all work; handshakes that still wait are cancelled."""
        await self._batcher.close()
        await self._with_topics.close()
        await background.end(self._tasks)


def _look_at(asked: asyncio.Task[Position]) -> None:
    if not asked.cancelled():
        asked.exception()  # raised in the handshakes that wait, of which there may be none any more


def _can_wait_with_others(request: AdmissionRequest) -> bool:
    return (
        request.ticket is None
        and "expires_at" not in request.scope
        and has_plain_session(request.scope)
        and finds_together()
    )


def _find_together(requests: Sequence[AdmissionRequest]) -> list[Found | Exception]:
    identities = authenticate_together([request.scope for request in requests])
    pairs = {
        (request.slug, identity.user)
        for request, identity in zip(requests, identities, strict=True)
        if isinstance(identity, Identity)
    }
    found = find_together(pairs)
    return [
        identity
        if isinstance(identity, Refused)
        else _found(identity, found.get((request.slug, identity.user.pk)))
        for request, identity in zip(requests, identities, strict=True)
    ]


def _find_alone(request: AdmissionRequest) -> Found:
    redeemed = None if request.ticket is None else tickets.redeem(request.ticket, request.scope)
    identity = authenticate(request.scope) if redeemed is None else redeemed.identity
    found = find(request.slug, identity.user)
    if redeemed is not None:
        _check_organization(redeemed, found)
    given = _found(identity, found)
    if isinstance(given, Refused):
        raise given
    return given


def _found(identity: Identity, found: tuple[models.Model, Access] | None) -> Found | Refused:
    if found is None:
        return no_access()
    organization, access = found
    return Found(identity, organization, access)


def _check_organization(redeemed: tickets.Redeemed, found: tuple[models.Model, Access] | None) -> None:
    if found is not None:
        fits = organization_keys().of(found[0]) == redeemed.organization_id
    else:  # a former member is told 4403, as ever; for any other organisation the ticket isn't
        pair = (redeemed.organization_id, redeemed.identity.user.pk)
        fits = pair not in get_adapter().accesses({pair})
    if not fits:
        raise tickets.refusal("ticket of another organisation")
