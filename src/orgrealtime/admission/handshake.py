"""The handshake: all that a connection has to pass before it is accepted, in one order for every kind of transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.http import HttpRequest

from orgrealtime.adapters import find_in_request
from orgrealtime.admission import tickets
from orgrealtime.admission.addresses import client_address as client_of
from orgrealtime.admission.authentication import Identity, authenticate_request
from orgrealtime.admission.lookup import AdmissionRequest, Found
from orgrealtime.admission.origins import check_origin
from orgrealtime.admission.quotas import Reservation, quotas_of
from orgrealtime.admission.refusals import no_access
from orgrealtime.admission.service import AdmissionService
from orgrealtime.admission.verdicts import Credentials, Rule
from orgrealtime.concurrency import background
from orgrealtime.delivery.resume import Start, find_start
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.keys import organization_keys
from orgrealtime.limits import IS_REQUEST, admit_request, admit_request_here
from orgrealtime.protocol.query_string import parse_beginning
from orgrealtime.stream.access import Access
from orgrealtime.stream.database import HANDSHAKE, may_pass

__all__ = ["Admission", "Handshake", "check_request", "check_size", "client_of", "slug_of"]

logger = logging.getLogger("orgrealtime.connection")

# Servers differ in what they let through; session cookies and what proxies add stay far below.
MAX_HANDSHAKE_BYTES = 16_384
MAX_HEADERS = 100
CHECK_SECONDS = 4.0  # a client that has heard nothing by then is told to come again
# The time passes in so many parts. However long the loop is blocked, one part passes: no check can go on meanwhile.
TICKS = 8


TopicFinder = Callable[[Access], str | None]


class Admission(NamedTuple):
    """What a handshake that passed has found: user, organisation, access, and where the connection begins."""

    identity: Identity
    organization: models.Model
    access: Access
    credentials: Credentials
    start: Start


class Handshake:
    """Admits one connection, or refuses it.

    `is_allowed` is the host's own condition, and `find_topic` returns the one topic to which the connection is to be
    narrowed; both are asked in a database thread; None if there is none.
    """

    def __init__(
        self,
        scope: Mapping[str, Any],
        service: AdmissionService,
        is_allowed: Rule | None = None,
        find_topic: TopicFinder | None = None,
    ) -> None:
        self._scope = scope
        self._service = service
        self._is_allowed = is_allowed
        self._find_topic = find_topic
        self._reservation: Reservation | None = None

    async def admit(self) -> Admission:
        """Return the admission, whose place in the quotas is given back by `release`; raise Refused otherwise."""
        try:
            async with self._service.gate.passing():
                return await self._check_in_time()
        except Refused:
            raise
        except Exception as error:
            if may_pass(error):
                raise Refused(CloseCode.OVERLOADED, "the database can't be asked") from None
            logger.exception("a connection can't be checked")
            raise Refused(CloseCode.OVERLOADED, "the checks failed") from None

    def release(self) -> None:
        """Give back the connection's place in the quotas."""
        if self._reservation is not None:
            self._service.quotas.release(self._reservation)

    async def _check_in_time(self) -> Admission:
        checking = asyncio.get_running_loop().create_task(self._check())
        try:
            for _ in range(TICKS):
                if (await asyncio.wait([checking], timeout=CHECK_SECONDS / TICKS))[0]:
                    return checking.result()
        finally:
            await background.end({checking})
            if not checking.cancelled():
                checking.exception()  # of one that failed too late, which nobody else looks at
        raise Refused(CloseCode.OVERLOADED, "the checks took too long")

    async def _check(self) -> Admission:
        began = asyncio.get_running_loop().time()
        check_size(self._scope)
        beginning = parse_beginning(self._scope.get("query_string", b""))
        ticket = tickets.offered(self._scope)
        if ticket is None:  # which is bound to an origin of its own
            check_origin(self._scope)
        request = AdmissionRequest(self._scope, slug_of(self._scope), ticket)
        identity, organization, access = await self._service.lookup.find(request)
        if IS_REQUEST in (self._scope.get("extensions") or {}):
            await admit_request(access.user_id)
        await self._ask_host(identity, access)
        access = await self._narrow(access)
        key = organization_keys().of(organization)
        position = await self._service.lookup.position(key)
        access = _checked_topic(await self._service.lookup.as_of(access, position))
        start = await find_start(self._service.hub, key, access, beginning, position)
        quotas = quotas_of(access.user_id, key, client_of(self._scope))
        self._reservation = await self._service.quotas.reserve(quotas)
        credentials = Credentials(identity, self._is_allowed or _everybody, began)
        return Admission(identity, organization, access, credentials, start)

    async def _ask_host(self, identity: Identity, access: Access) -> None:
        if self._is_allowed is not None and not await HANDSHAKE.run(self._is_allowed, identity.user, access):
            raise no_access()

    async def _narrow(self, access: Access) -> Access:
        if self._find_topic is None:
            return access
        return await HANDSHAKE.run(narrow, access, self._find_topic)


def narrow(access: Access, find_topic: TopicFinder) -> Access:
    """Return an access to one topic alone; raise Refused if there is no such topic, or if this user hasn't got it.

    Needs a thread that may use the database.
    """
    topic = find_topic(access)
    if topic is None:
        raise no_access()
    return _checked_topic(access.narrowed(topic))


def _checked_topic(access: Access) -> Access:
    """Return the access; raise Refused if it is narrowed to a topic that the user hasn't got."""
    if access.lacks_topic:
        raise no_access()
    return access


def check_request(request: HttpRequest, slug: str, is_allowed: Rule) -> Found:
    """Return what an HTTP request stands for; raise Refused without user or access, or if there are too many requests
    of this user.

    Needs a thread that may use the database.
    """
    identity = authenticate_request(request)
    admit_request_here(identity.user.pk)
    found = find_in_request(slug, identity.user)
    if found is None or not is_allowed(identity.user, found[1]):
        raise no_access()
    return Found(identity, *found)


def check_size(scope: Mapping[str, Any]) -> None:
    """Raise Refused (4400) for a handshake with more than a browser and its proxies send."""
    headers = scope.get("headers", ())
    size = len(scope.get("query_string", b"")) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HANDSHAKE_BYTES:
        raise Refused(
            CloseCode.BAD_REQUEST,
            "oversized handshake",
            f"at most {MAX_HEADERS} headers, and {MAX_HANDSHAKE_BYTES} bytes of headers and query",
        )


def slug_of(scope: Mapping[str, Any]) -> str:
    """Return the organisation's slug in the path of a scope; raise ImproperlyConfigured if its route has none."""
    slug = str(scope["url_route"]["kwargs"].get("org_slug", ""))
    if not slug:
        raise ImproperlyConfigured("the route of this consumer needs <slug:org_slug> in its path")
    return slug


def _everybody(user: Any, access: Access) -> bool:
    return True
