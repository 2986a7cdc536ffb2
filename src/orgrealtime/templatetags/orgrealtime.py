"""What a page needs to follow an organisation: `{% load orgrealtime %}`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urljoin

from django import template
from django.conf import settings
from django.db import models
from django.templatetags.static import static
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.html import format_html, json_script
from django.utils.http import escape_leading_slashes
from django.utils.safestring import SafeString, mark_safe

from orgrealtime import stream
from orgrealtime.conf import get_settings
from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.protocol.keys import key_as_json

register = template.Library()

CONFIG_ID = "orgrealtime-config"
MODULES = {
    "orgrealtime": "orgrealtime/client.js",
    "orgrealtime/chat": "orgrealtime/chat.js",
    "orgrealtime/notifications": "orgrealtime/notifications.js",
    "orgrealtime/room": "orgrealtime/room.js",
}
# What the modules import from each other, by these plain names.
IMPORTED = (
    "orgrealtime/actions.js",
    "orgrealtime/chat.js",
    "orgrealtime/client.js",
    "orgrealtime/diagnostics.js",
    "orgrealtime/fallbacks.js",
    "orgrealtime/panel.js",
    "orgrealtime/texts.js",
)
# As in Django's json_script: text inside of a script element must not end it.
ESCAPES = {ord(">"): "\\u003E", ord("<"): "\\u003C", ord("&"): "\\u0026"}


@register.simple_tag
def orgrealtime_position(organization: models.Model) -> str:
    """Return the cursor of the organisation's newest event; what is read from the database after it may be newer."""
    _check(organization, "orgrealtime_position")
    return stream.position(organization).cursor


@register.simple_tag(takes_context=True)
def orgrealtime_client(
    context: dict[str, Any], organization: models.Model, since: str | None = None, url: str | None = None
) -> SafeString:
    """Return an import map for `orgrealtime`, and what `connect(config())` needs, for the head of a page.

    `since` is the position that the view has taken before it read what the page shows; default: the position now.
    `url` is the path of your WebSocket, if it isn't that of `orgrealtime.routing` below the script prefix. A nonce of
    Django's or django-csp's Content-Security-Policy is used.
    """
    _check(organization, "orgrealtime_client")
    slug = str(getattr(organization, get_settings().ORGANIZATION_SLUG_FIELD))
    given = {
        "org": slug,
        "since": since or orgrealtime_position(organization),
        "url": url or _socket_path(slug),
        "catchUpUrl": _path("catch-up", slug),
        "streamUrl": _path("stream", slug),
        **_user(context),
    }
    config = {name: value for name, value in given.items() if value is not None}
    imports = json.dumps({"imports": _imports()})
    return format_html(
        '<script type="importmap"{}>{}</script>\n{}',
        _nonce(context),
        mark_safe(imports.translate(ESCAPES)),  # noqa: S308 - escaped for this place
        json_script(config, CONFIG_ID),
    )


def _check(organization: Any, tag: str) -> None:
    keys = organization_keys()
    if not keys.is_of_family(organization):
        raise TypeError(
            f"{{% {tag} %}} needs an instance of {keys.model._meta.label}, not {organization!r:.80}"
        )


def _imports() -> dict[str, str]:
    imports = {name: static(path) for name, path in MODULES.items()}
    # What has a hash in its name, or is elsewhere, is found by the plain name too.
    plain = {urljoin(settings.STATIC_URL, path): static(path) for path in IMPORTED}
    return imports | {name: url for name, url in plain.items() if name != url}


def _path(name: str, slug: str) -> str | None:
    try:
        return reverse(f"orgrealtime:{name}", args=[slug])
    except NoReverseMatch:
        return None


def _socket_path(slug: str) -> str:
    """The path of `orgrealtime.routing` below the script prefix, written as reverse() writes paths."""
    return escape_leading_slashes(quote(f"{get_script_prefix()}ws/orgs/{slug}/notifications/"))


def _user(context: dict[str, Any]) -> dict[str, Any]:
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {"user": key_as_json(user_keys().of(user)), "shareKey": user_keys().name(user.pk)}


def _nonce(context: dict[str, Any]) -> SafeString | str:
    # Django's, else django-csp's. Either is made, and sent, only when it is asked for as text.
    made = (
        context["csp_nonce"] if "csp_nonce" in context else getattr(context.get("request"), "csp_nonce", "")
    )
    nonce = str(made)
    return format_html(' nonce="{}"', nonce) if nonce else ""
