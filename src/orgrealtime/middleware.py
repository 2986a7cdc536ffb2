"""Django middleware for logins that Django REST framework knows."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from orgrealtime.admission.refusals import refusal
from orgrealtime.errors import CloseCode
from orgrealtime.policy import Governed
from orgrealtime.sse import EventSourceView


class RestFrameworkAuthentication(MiddlewareMixin):
    """Has Django REST framework say who asks this app's views, by its `DEFAULT_AUTHENTICATION_CLASSES`.

    Put it below Django's own authentication middleware. A login by token is then that of pages, tickets and event
    streams, and its end that of what it opens: the claim `exp` of a JWT, or the token's `expiry` or `expires`. A token
    that isn't good is answered with 401. Sessions stay what they are.
    """

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Set `request.user` and `request.expires_at`, or refuse the request."""
        from rest_framework.authentication import SessionAuthentication
        from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
        from rest_framework.request import Request
        from rest_framework.settings import api_settings

        if not issubclass(getattr(view, "view_class", type), Governed | EventSourceView):
            return None
        asked = Request(
            request, authenticators=[cls() for cls in api_settings.DEFAULT_AUTHENTICATION_CLASSES]
        )
        own = getattr(request, "user", AnonymousUser())
        try:
            user, token = asked.user, asked.auth
        except (AuthenticationFailed, NotAuthenticated):
            return refusal(CloseCode.UNAUTHENTICATED, "the token isn't good, or has ended").response()
        except PermissionDenied:  # a session without a CSRF token, about which the view decides
            user, token = own, None
        if isinstance(asked.successful_authenticator, NoneType | SessionAuthentication):
            request.user = own
        else:
            _log_in(request, user, _end_of(token))
        return None


def _log_in(request: Any, user: Any, end: Any) -> None:
    request.user, request.expires_at = user, end
    if hasattr(request, "scope"):  # of which the event stream's consumer takes its user
        request.scope["user"] = user
        if end is not None:
            request.scope["expires_at"] = end


def _end_of(token: Any) -> Any:
    if hasattr(token, "get"):  # the claims of a JWT
        return token.get("exp")
    return getattr(token, "expiry", getattr(token, "expires", None))
