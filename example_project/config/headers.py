"""Headers for every answer."""

import secrets
from collections.abc import Callable
from functools import cached_property
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

# Nothing from elsewhere and nothing inline, so that text which got into a page as markup could still do nothing.
POLICY = [
    "default-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "object-src 'none'",
]


class Nonce:
    """Allows the inline scripts that carry it. Made when a template writes it, and sent only then."""

    @cached_property
    def text(self) -> str:
        return secrets.token_urlsafe(16)

    @property
    def is_used(self) -> bool:
        return "text" in vars(self)

    def __str__(self) -> str:
        return self.text


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    async def add_in_loop(request: HttpRequest) -> HttpResponseBase:
        nonce = give_nonce(request)
        return with_policy(await get_response(request), nonce)

    def add(request: HttpRequest) -> HttpResponseBase:
        nonce = give_nonce(request)
        return with_policy(get_response(request), nonce)

    return add_in_loop if iscoroutinefunction(get_response) else add


def give_nonce(request: HttpRequest) -> Nonce:
    nonce = Nonce()
    request.csp_nonce = nonce  # type: ignore[attr-defined]  # where django-csp has it, too
    return nonce


def with_policy(response: HttpResponseBase, nonce: Nonce) -> HttpResponseBase:
    scripts = [f"script-src 'self' 'nonce-{nonce}'"] if nonce.is_used else []
    response.headers.setdefault("Content-Security-Policy", "; ".join(POLICY + scripts))
    return response
