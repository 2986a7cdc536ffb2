"""The HTTP door: the catch-up view."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.vary import vary_on_cookie

from orgrealtime import stream, wire
from orgrealtime.access import Access
from orgrealtime.adapters import get_adapter
from orgrealtime.cursors import Cursor
from orgrealtime.errors import CloseCode, CursorError, Refused, StreamReset
from orgrealtime.hooks import refuse_coroutines
from orgrealtime.queries import parse_count
from orgrealtime.stream import Page

logger = logging.getLogger("orgrealtime.views")

MAX_LIMIT = 500


# Numbering doesn't happen inside a transaction that stays open, so ATOMIC_REQUESTS must not open one here.
@method_decorator([transaction.non_atomic_requests, vary_on_cookie], name="dispatch")
class CatchUpView(View):
    """Answers `GET …?since=<cursor>&limit=<n>` with the events after the cursor, as the socket would send them.

    Without `since`: the newest `limit` events. Answers 400, 401, 403 and 410 with `{"error": {"code", "message"}}`.
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
            self.organization, self.access = self.let_in(request, org_slug)
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
        user = request.user
        if not user.is_authenticated or not user.is_active:
            raise Refused(CloseCode.UNAUTHENTICATED, "anonymous")
        found = get_adapter().find(org_slug, user) if "\x00" not in org_slug else None
        if found is None or not self.allow(user, found[1]):
            raise Refused(CloseCode.FORBIDDEN, "no such organisation, or no access")
        return found

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


def _error(code: CloseCode, message: str) -> HttpResponse:
    return _answer(code.outcome.http_status or HTTPStatus.BAD_REQUEST, wire.refusal(code, message))


def _answer(status: int, body: bytes) -> HttpResponse:
    return HttpResponse(
        body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
