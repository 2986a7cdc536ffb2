"""The HTTP views: catching up by pages, and tickets for clients without cookies."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from django.contrib.auth.decorators import login_not_required
from django.db import Error, models, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.vary import vary_on_cookie

from orgrealtime import stream
from orgrealtime.admission import tickets
from orgrealtime.admission.authentication import is_of_session
from orgrealtime.admission.gate import refuse_if
from orgrealtime.admission.handshake import check_request
from orgrealtime.admission.refusals import HttpAnswer, answer, refusal
from orgrealtime.concurrency.limiter import ThreadLimiter
from orgrealtime.concurrency.threads import lock_timeouts
from orgrealtime.conf import get_settings
from orgrealtime.delivery.hub import is_draining
from orgrealtime.errors import CloseCode, Refused, StreamReset
from orgrealtime.keys import organization_keys
from orgrealtime.limits import is_enforced, log_exceeded
from orgrealtime.policy import Governed, render_text
from orgrealtime.protocol import wire
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.protocol.query_string import parse_count, parse_since
from orgrealtime.stream import Access, Page
from orgrealtime.stream.database import may_pass

logger = logging.getLogger("orgrealtime.views")

MAX_LIMIT = 500
PAGE_WAIT_SECONDS = 2.0
CHECKED_HERE = "by the view itself"
SCHEMES_OF_BROWSERS = {"basic", "digest", "negotiate", "ntlm"}

_limiter = ThreadLimiter()


def refusing(
    respond: Callable[..., HttpResponse],
) -> Callable[..., HttpResponse]:
    """Have a view answer what it is refused for, and that the database can't be asked, as the socket is refused."""

    @functools.wraps(respond)
    def respond_or_refuse(
        view: GovernedView, request: HttpRequest, org_slug: str, **kwargs: Any
    ) -> HttpResponse:
        try:
            with lock_timeouts():
                return respond(view, request, org_slug, **kwargs)
        except Refused as refused:
            return refusal(refused.code, refused.message, refused.retry_after).response()
        except Error as error:
            if not may_pass(error):
                raise
            logger.warning("the database can't be asked", extra={"error": type(error).__name__})
            return refusal(CloseCode.OVERLOADED, "the database can't be asked now; try again").response()

    return respond_or_refuse


@contextlib.contextmanager
def _reading_a_page() -> Iterator[None]:
    """Hold one of the `MAX_CATCH_UP_PAGES` of this process; raise Refused if none comes free in time."""
    seconds = PAGE_WAIT_SECONDS if is_enforced() else 0.0
    if not _limiter.acquire(get_settings().MAX_CATCH_UP_PAGES, seconds):
        log_exceeded("MAX_CATCH_UP_PAGES")
        if is_enforced():
            raise Refused(CloseCode.OVERLOADED, "MAX_CATCH_UP_PAGES", "too many pages are being read")
        _limiter.acquire_over_limit()
    try:
        yield
    finally:
        _limiter.release()


class GovernedView(Governed, View):
    """A view under a policy."""

    @classmethod
    def as_view(cls, *, policy: Any = None, **attributes: Any) -> Any:
        """Return the view for a route, under a `policy` of its own if one is given."""
        return super().as_view(**attributes) if policy is None else cls.under(policy).as_view(**attributes)


# Numbering doesn't happen inside a transaction that stays open, so ATOMIC_REQUESTS must not open one here. And clients
# are answered with 401, not sent to a page to log in.
@method_decorator([transaction.non_atomic_requests, login_not_required, vary_on_cookie], name="dispatch")
class CatchUpView(GovernedView):
    """Answers `GET …?since=<cursor>&limit=<n>` with the events after the cursor, as the socket would send them.

    Without `since`: the newest `limit` events. Answers 400, 401, 403, 410, 429 and 503 with
    `{"error": {"code", "message"}}`.
    """

    http_method_names = ["get", "head", "options"]
    default_limit = 100

    organization: models.Model
    access: Access

    @refusing
    def get(self, request: HttpRequest, org_slug: str, **kwargs: Any) -> HttpResponse:
        """Answer with a page of events."""
        # As sockets are refused: a client takes the two together for a network without sockets.
        refuse_if(is_draining())
        self.organization, self.access = self.let_in(request, org_slug)
        try:
            with _reading_a_page():
                return answer(HTTPStatus.OK, self._body(self._read(request))).response()
        except StreamReset as reset:
            return self._reset(reset).response()

    def let_in(self, request: HttpRequest, org_slug: str) -> tuple[models.Model, Access]:
        """Return organisation and access of the request's user; raise Refused without user or access."""
        found = check_request(request, org_slug, self.allow)
        return found.organization, found.access

    def _read(self, request: HttpRequest) -> Page:
        organization_id, access = organization_keys().of(self.organization), self.access
        limit = (
            parse_count(request.GET["limit"], "limit", MAX_LIMIT)
            if "limit" in request.GET
            else self.default_limit
        )
        if "since" not in request.GET:
            return stream.read_last(organization_id, access=access, limit=limit)
        return stream.read(organization_id, parse_since(request.GET["since"]), access=access, limit=limit)

    def _body(self, page: Page) -> bytes:
        texts = [text for event in page.events if (text := self._render_text(event.text)) is not None]
        has_more = "true" if page.has_more else "false"
        user = wire.encode(self._user())
        return (
            f'{{"events":[{",".join(texts)}],"cursor":"{page.cursor}","has_more":{has_more},"user":{user}}}'
        ).encode()

    def _user(self) -> dict[str, Any]:
        # A browser may have another login than the one with which its page began.
        return {"id": key_as_json(self.access.user_id)}

    def _reset(self, reset: StreamReset) -> HttpAnswer:
        error = {"code": "reset", "message": str(reset)}
        body = {"error": error, "cursor": reset.position.cursor, "reason": reset.reason, "user": self._user()}
        return answer(HTTPStatus.GONE, msgspec.json.encode(body))

    def _render_text(self, text: str) -> str | None:
        return render_text(text, self.render) if self.has_rule("render") else text


# Committed before the answer goes out, whatever ATOMIC_REQUESTS says.
@method_decorator([transaction.non_atomic_requests, login_not_required, vary_on_cookie], name="dispatch")
class WritingView(GovernedView):
    """A view under a policy by which clients change something.

    Protected against CSRF whatever middleware there is, unless no page of another site can have made a browser send
    the request, or the host has put `csrf_exempt` around this view.
    """

    @classmethod
    def as_view(cls, **attributes: Any) -> Any:
        """Return the view for a route; it asks for a CSRF token itself."""
        view = super().as_view(**attributes)
        # For Django's middleware, which would ask clients that need no token. True: a subclass's dispatch is exempt.
        view.csrf_exempt = getattr(view, "csrf_exempt", CHECKED_HERE)
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, if the request has a CSRF token or needs none."""
        answering = super().dispatch
        if not _is_exempt(request) and _may_be_forged(request):
            return csrf_protect(answering)(request, *args, **kwargs)
        return answering(request, *args, **kwargs)


class TicketView(WritingView):
    """Answers `POST` of a logged-in member with `{"ticket": "…", "expires_in": 30}`: good for one connection.

    Asks for a CSRF token as `WritingView` does, and answers 401, 403 and 429 as `CatchUpView`. If middleware has set
    `request.expires_at`, the end of the login, what the ticket opens ends then.
    """

    http_method_names = ["post", "options"]

    @refusing
    def post(self, request: HttpRequest, org_slug: str) -> HttpResponse:
        """Answer with a new ticket."""
        identity, organization, _ = check_request(request, org_slug, self.allow)
        origin = request.headers.get("Origin")
        ticket = tickets.issue(identity.user, organization, identity.session_key, origin, identity.expires_at)
        body = {"ticket": ticket, "expires_in": tickets.LIFE_SECONDS}
        return answer(HTTPStatus.CREATED, msgspec.json.encode(body)).response()


def _is_exempt(request: HttpRequest) -> bool:
    """Tell whether the host has put Django's `csrf_exempt` around the view or its dispatch.

    The decorator's mark on the route is overwritten by the view's own, so its layer is looked for.
    """
    layer: Any = getattr(request.resolver_match, "func", None)
    if getattr(layer, "csrf_exempt", False) is True:
        return True
    while layer is not None and getattr(layer, "__globals__", None) is not csrf_exempt.__globals__:
        layer = getattr(layer, "__wrapped__", None)
    return layer is not None


def _may_be_forged(request: HttpRequest) -> bool:
    """Tell whether a page of another site can have made a browser send this request as its user.

    It can't add an `Authorization` of a scheme that browsers don't use by themselves. And what has neither cookies nor
    an `Origin` comes from no page.
    """
    if is_of_session(request):
        return True
    scheme = request.headers.get("Authorization", "").partition(" ")[0].lower()
    if scheme:
        return scheme in SCHEMES_OF_BROWSERS
    return bool(request.headers.get("Cookie") or request.headers.get("Origin"))
