"""Which pages may open a connection: pages of exactly this scheme, host and port, and pages of listed origins."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from orgrealtime.admission import sessions
from orgrealtime.conf import get_settings
from orgrealtime.errors import CloseCode, Refused

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_HEADERS = ("HTTP_HOST", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT")

# RFC 6454 section 7: scheme, host and port alone. Checked first, because urlsplit drops tabs and newlines.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\\\x00-\x20\x7f-\xff]+", re.IGNORECASE)
# Of these no page has an origin: it is opaque, "null", or that of the page around it.
SCHEMES_WITHOUT_ORIGIN = {"about", "blob", "data", "file", "javascript", "ws", "wss"}

# Scheme, host and port; None where the scheme has no default port, as those of apps and browser extensions.
Origin = tuple[str, str, int | None]


def check_origin(scope: Mapping[str, Any]) -> None:
    """Raise Refused (4403) unless the page that opens this connection may (RFC 6455 section 10.2).

    Without an Origin only a client that isn't a browser may connect: one without a session cookie.
    """
    origins = _given_origins(scope)
    if not origins:
        if sessions.is_in_scope(scope):
            raise _refused("cookie without origin", "a session cookie counts only together with an Origin")
        return
    origin = parse(origins[0])
    if len(origins) > 1 or origin is None:
        raise _refused("malformed origin", "the Origin isn't scheme, host and port")
    if origin not in _allowed_origins(scope):
        raise _refused(
            "foreign origin", "pages of this Origin may not connect: it is neither this site's nor allowed"
        )


def fits_origin(scope: Mapping[str, Any], bound: str | None) -> bool:
    """Tell whether the handshake has no Origin, or exactly the one to which it is bound."""
    origins = _given_origins(scope)
    if not origins:
        return True
    return len(origins) == 1 and (origin := parse(origins[0])) is not None and origin == parse(bound or "")


def _given_origins(scope: Mapping[str, Any]) -> list[str]:
    return [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"origin"]


def _refused(reason: str, message: str) -> Refused:
    return Refused(CloseCode.FORBIDDEN, reason, message)


def _allowed_origins(scope: Mapping[str, Any]) -> set[Origin]:
    listed = {parse(origin) for origin in get_settings().ALLOWED_ORIGINS}
    own = _own_origin(scope)
    return {origin for origin in (*listed, own) if origin is not None}


def _own_origin(scope: Mapping[str, Any]) -> Origin | None:
    if "*" in django_settings.ALLOWED_HOSTS and not django_settings.DEBUG:
        return None  # any host name would do, so that of a foreign page too (DNS rebinding)
    request = _Request(scope)
    try:
        return parse(f"{request.scheme}://{request.get_host()}")
    except DisallowedHost:
        return None


def parse(origin: str) -> Origin | None:
    """Return scheme, host and port of an origin such as `https://example.com` or `capacitor://localhost`.

    None for anything else.
    """
    if not _ORIGIN.fullmatch(origin):
        return None
    try:
        parts = urlsplit(origin)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        return None
    if host is None or scheme in SCHEMES_WITHOUT_ORIGIN:
        return None
    return scheme, host, DEFAULT_PORTS.get(scheme) if port is None else port


class _Request(HttpRequest):
    """The handshake as Django's settings about hosts and proxies see a request: what these look at, and no more."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._secure = scope.get("scheme") in {"wss", "https"}
        host, port = scope.get("server") or ("", None)
        self.META = {"SERVER_NAME": host or "", "SERVER_PORT": str(port or (443 if self._secure else 80))}
        told_by = [*HOST_HEADERS, *(django_settings.SECURE_PROXY_SSL_HEADER or ())[:1]]
        names = {meta.removeprefix("HTTP_").lower().replace("_", "-").encode(): meta for meta in told_by}
        headers = defaultdict(list)
        for name, value in scope.get("headers", ()):
            if meta := names.get(name.lower()):
                headers[meta].append(value.decode("latin-1"))
        self.META.update({meta: ",".join(values) for meta, values in headers.items()})

    def _get_scheme(self) -> str:
        return "https" if self._secure else "http"
