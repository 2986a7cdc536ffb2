"""The HTTP door: the catch-up view, and tickets for clients without cookies."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from django.contrib.auth.decorators import login_not_required
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.vary import vary_on_cookie

from orgrealtime import stream
from orgrealtime.adapters import find
from orgrealtime.admission import tickets
from orgrealtime.admission.authentication import session_of
from orgrealtime.admission.refusals import no_access
from orgrealtime.conf import get_settings
from orgrealtime.delivery.hub import is_draining
from orgrealtime.errors import CloseCode, CursorError, Refused, StreamReset
from orgrealtime.limits import exceeded
from orgrealtime.policy import refuse_coroutines
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.protocol.query_string import parse_count
from orgrealtime.stream import Page
from orgrealtime.stream.access import Access

logger = logging.getLogger("orgrealtime.views")

MAX_LIMIT = 500
PAGE_WAIT_SECONDS = 2.0
RETRY_AFTER_SECONDS = 2


class _Desk:
    """The pages that this process reads at once; the others wait a little."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places; raise Refused if none comes free."""
        with self._changed:
            if not self._changed.wait_for(self._has_room, self._patience()) and exceeded(
                "MAX_CATCH_UP_PAGES"
            ):
                raise Refused(CloseCode.OVERLOADED, "MAX_CATCH_UP_PAGES", "too many pages are being read")
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    def _has_room(self) -> bool:
        most = get_settings().MAX_CATCH_UP_PAGES
        return most is None or self._busy < most

    def _patience(self) -> float:
        return 0.0 if get_settings().LIMITS_DRY_RUN else PAGE_WAIT_SECONDS


_desk = _Desk()


# Numbering doesn't happen inside a transaction that stays open, so ATOMIC_REQUESTS must not open one here. And clients
# are answered with 401, not sent to a page to log in.
@method_decorator([transaction.non_atomic_requests, login_not_required, vary_on_cookie], name="dispatch")
class CatchUpView(View):
    """Answers `GET …?since=<cursor>&limit=<n>` with the events after the cursor, as the socket would send them.

    Without `since`: the newest `limit` events. Answers 400, 401, 403, 410 and 503 with
    `{"error": {"code", "message"}}`.
    """

    http_method_names = ["get", "head", "options"]
    default_limit = 100

    organization: models.Model
    access: Access

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_coroutines(cls, "allow", "render")

    def allow(self, user: Any, access: Access) -> bool:
        """Tell whether this member may read; default: every member may."""
        return True

    def render(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Return an event as this client shall see it, or None to hide it; keep it in step with the consumer's."""
        return event

    def get(self, request: HttpRequest, org_slug: str) -> HttpResponse:
        """Answer with a page of events."""
        try:
            # As sockets are refused: a client takes the two together for a network without sockets.
            if is_draining():
                raise Refused(CloseCode.OVERLOADED, "draining", "this server is stopping; try again")
            self.organization, self.access = self.let_in(request, org_slug)
            with _desk.place():
                return _answer(HTTPStatus.OK, self._body(self._read(request)))
        except CursorError as error:
            return _error(CloseCode.BAD_REQUEST, f"since: {error}")
        except Refused as refused:
            return _error(refused.code, refused.message)
        except StreamReset as reset:
            body = {"error": {"code": "reset", "message": str(reset)}, "cursor": reset.position.cursor}
            body["reason"] = reset.reason
            return _answer(HTTPStatus.GONE, msgspec.json.encode(body))

    def let_in(self, request: HttpRequest, org_slug: str) -> tuple[models.Model, Access]:
        """Return organisation and access of the user who asks; raise Refused for anybody else."""
        return _let_in(request, org_slug, self.allow)

    def _read(self, request: HttpRequest) -> Page:
        organization_id, access = self.organization.pk, self.access
        limit = (
            parse_count(request.GET["limit"], "limit", MAX_LIMIT)
            if "limit" in request.GET
            else self.default_limit
        )
        if "since" not in request.GET:
            return stream.read_last(organization_id, access=access, limit=limit)
        return stream.read(organization_id, Cursor.parse(request.GET["since"]), access=access, limit=limit)

    def _body(self, page: Page) -> bytes:
        texts = [text for event in page.events if (text := self._render_text(event.text)) is not None]
        has_more = "true" if page.has_more else "false"
        return f'{{"events":[{",".join(texts)}],"cursor":"{page.cursor}","has_more":{has_more}}}'.encode()

    def _render_text(self, text: str) -> str | None:
        if type(self).render is CatchUpView.render:
            return text
        try:
            rendered = self.render(msgspec.json.decode(text))
            return None if rendered is None else wire.encode(rendered)
        except Exception:
            logger.exception("render failed, the event is skipped")
            return None


# Committed before the answer goes out, whatever ATOMIC_REQUESTS says.
@method_decorator(
    [transaction.non_atomic_requests, login_not_required, csrf_protect, vary_on_cookie], name="dispatch"
)
class TicketView(View):
    """Answers `POST` of a logged-in member with `{"ticket": "…", "expires_in": 30}`: good for one connection.

    Protected against CSRF whatever middleware there is. Answers 401, 403 and 429 as `CatchUpView` does.
    """

    http_method_names = ["post", "options"]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_coroutines(cls, "allow")

    def allow(self, user: Any, access: Access) -> bool:
        """Tell whether this member may have a ticket; default: every member may."""
        return True

    def post(self, request: HttpRequest, org_slug: str) -> HttpResponse:
        """Answer with a new ticket."""
        try:
            organization, _ = _let_in(request, org_slug, self.allow)
            session_key = session_of(request.user, getattr(request, "session", None))
            ticket = tickets.issue(request.user, organization, session_key, request.headers.get("Origin"))
        except Refused as refused:
            return _error(refused.code, refused.message)
        body = {"ticket": ticket, "expires_in": tickets.LIFE_SECONDS}
        return _answer(HTTPStatus.CREATED, msgspec.json.encode(body))


def _let_in(
    request: HttpRequest, org_slug: str, allow: Callable[[Any, Access], bool]
) -> tuple[models.Model, Access]:
    user = request.user
    if not user.is_authenticated or not user.is_active:
        raise Refused(CloseCode.UNAUTHENTICATED, "anonymous")
    found = find(org_slug, user)
    if found is None or not allow(user, found[1]):
        raise no_access()
    return found


def _error(code: CloseCode, message: str) -> HttpResponse:
    answer = _answer(code.outcome.http_status or HTTPStatus.BAD_REQUEST, wire.refusal(code, message))
    if code is CloseCode.OVERLOADED:
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _answer(status: int, body: bytes) -> HttpResponse:
    return HttpResponse(
        body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
