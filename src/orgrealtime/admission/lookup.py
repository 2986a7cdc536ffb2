"""Letting newcomers in: those who come at the same moment are asked about together, as in a reconnect storm."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import models

from orgrealtime import stream
from orgrealtime.adapters import find, finds_together, get_adapter, is_text
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
from orgrealtime.protocol.cursors import Position
from orgrealtime.stream import database
from orgrealtime.stream.access import Access

GATHER_SECONDS = 0.02  # how long a desk lets a crowd come together


@dataclass(frozen=True, slots=True, eq=False)
class AdmissionRequest:
    """Somebody who wants to connect to the organisation with this slug, by a session or a ticket."""

    scope: Mapping[str, Any]
    slug: str
    ticket: str | None = None


class Admission(NamedTuple):
    """Who has come, and what they may see; those who came together share the organisation."""

    identity: Identity
    organization: models.Model
    access: Access


class Lookup:
    """Asks the database about visitors of one event loop, about a crowd together."""

    def __init__(self) -> None:
        self._batcher = Batcher[AdmissionRequest, Admission](
            database.HANDSHAKE.run, _admit_together, GATHER_SECONDS
        )
        self._positions: dict[Any, asyncio.Task[Position]] = {}
        self._works: set[asyncio.Task[Any]] = set()

    async def admit(self, visitor: AdmissionRequest) -> Admission:
        """Return the admission of a visitor, at most three queries; raise Refused, or what went wrong."""
        if _can_wait_with_others(visitor):
            return await self._batcher.ask(visitor)
        return await database.HANDSHAKE.run(_admit_alone, visitor)

    async def position(self, organization_id: Any) -> Position:
        """Return where an organisation's stream stands now or later; one query for all who ask while it waits."""
        asking = self._positions.get(organization_id)
        if asking is None:
            asking = background.start(self._ask_position(organization_id), self._works)
            asking.add_done_callback(_look_at)
            self._positions[organization_id] = asking
        await asyncio.wait([asking])
        return asking.result()

    async def _ask_position(self, organization_id: Any) -> Position:
        def ask() -> Position:
            # Who comes from here on asks anew: a cursor may be of an event that this query doesn't see.
            self._positions.pop(organization_id, None)
            return stream.advance(organization_id)

        return await database.HANDSHAKE.run(ask)

    async def close(self) -> None:
        """End all work; who still waits is not let in."""
        await self._batcher.close()
        await background.end(self._works)


def _look_at(asked: asyncio.Task[Position]) -> None:
    if not asked.cancelled():
        asked.exception()  # told to those who wait, of whom there may be none any more


def _can_wait_with_others(visitor: AdmissionRequest) -> bool:
    return (
        visitor.ticket is None
        and "expires_at" not in visitor.scope
        and has_plain_session(visitor.scope)
        and finds_together()
    )


def _admit_together(visitors: Sequence[AdmissionRequest]) -> list[Admission | Exception]:
    identities = authenticate_together([visitor.scope for visitor in visitors])
    pairs = {
        (visitor.slug, identity.user)
        for visitor, identity in zip(visitors, identities, strict=True)
        if isinstance(identity, Identity) and is_text(visitor.slug)
    }
    found = get_adapter().find_together(pairs) if pairs else {}
    return [
        identity
        if isinstance(identity, Refused)
        else _admission(identity, found.get((visitor.slug, identity.user.pk)))
        for visitor, identity in zip(visitors, identities, strict=True)
    ]


def _admit_alone(visitor: AdmissionRequest) -> Admission:
    redeemed = None if visitor.ticket is None else tickets.redeem(visitor.ticket, visitor.scope)
    identity = authenticate(visitor.scope) if redeemed is None else redeemed.identity
    found = find(visitor.slug, identity.user)
    if redeemed is not None:
        _check_organization(redeemed, found)
    admission = _admission(identity, found)
    if isinstance(admission, Refused):
        raise admission
    return admission


def _admission(identity: Identity, found: tuple[models.Model, Access] | None) -> Admission | Refused:
    if found is None:
        return no_access()
    organization, access = found
    return Admission(identity, organization, access)


def _check_organization(redeemed: tickets.Redeemed, found: tuple[models.Model, Access] | None) -> None:
    if found is not None:
        fits = found[0].pk == redeemed.organization_id
    else:  # the member of before is told 4403, as ever; any other organisation is one for which the ticket isn't
        pair = (redeemed.organization_id, redeemed.identity.user.pk)
        fits = pair not in get_adapter().accesses({pair})
    if not fits:
        raise tickets.refusal("ticket of another organisation")
