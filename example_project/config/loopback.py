"""DEBUG, with its pages that tell all and the login by one click, is for this computer alone."""

import ipaddress
import logging
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

logger = logging.getLogger("tracker.loopback")

# By these a proxy or a tunnel says that the request comes from elsewhere.
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


@sync_and_async_middleware
def debug_on_loopback_only(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    async def answer_in_loop(request: HttpRequest) -> HttpResponseBase:
        return refusal(request) or await get_response(request)

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = refusal(request) or get_response(request)
        return response

    return answer_in_loop if iscoroutinefunction(get_response) else answer


def refusal(request: HttpRequest) -> HttpResponse | None:
    if not settings.DEBUG or is_from_here(request):
        return None
    logger.warning("refused a request from elsewhere: DEBUG is on, for this computer alone")
    text = "DEBUG is on, so this demo answers its own computer only. Start it with DEBUG=off for others.\n"
    return HttpResponse(text, status=403, content_type="text/plain; charset=utf-8")


def is_from_here(request: HttpRequest) -> bool:
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:  # a Unix socket, behind which is a proxy
        return False
