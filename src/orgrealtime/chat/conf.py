"""The settings of the rooms: one dict `ORGREALTIME_CHAT`, read live, each key with its default and meaning here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

NAME = "ORGREALTIME_CHAT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """The keys of `ORGREALTIME_CHAT` (reference page "Chat")."""

    RULES: str = "orgrealtime.chat.rules.Rules"
    MAX_LENGTH: int = 4_000
    MAX_BYTES: int = 16_000
    MESSAGES_PER_MINUTE: int = 30
    ROOM_BURST: int = 100
    MAX_ROOMS_PER_USER: int = 500
    MAX_MEMBERS: int = 10_000
    MAX_MENTIONS: int = 50


TYPES = {field.name: str(field.type) for field in fields(ChatSettings)}
NAMES = frozenset(TYPES)

_cache: tuple[dict[str, Any], ChatSettings] | None = None


def get_settings() -> ChatSettings:
    """Return the settings in force; raise ImproperlyConfigured for a key that doesn't exist or a wrong value."""
    global _cache
    given: dict[str, Any] = getattr(django_settings, NAME, {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"{NAME} is a dict, not {given!r:.60}")
    if _cache is None or _cache[0] != given:
        if mistakes := list(_mistakes(given)):
            raise ImproperlyConfigured("; ".join(mistakes))
        _cache = (dict(given), ChatSettings(**given))
    return _cache[1]


def _mistakes(given: dict[str, Any]) -> Iterator[str]:
    if unknown := sorted(set(given) - NAMES):
        yield f"{NAME} has no setting {', '.join(unknown)}; allowed are {', '.join(sorted(NAMES))}"
    for name in sorted(given.keys() & NAMES):
        value = given[name]
        if TYPES[name] == "int":
            if type(value) is not int or value < 1:
                yield f"{NAME}[{name!r}] is a whole number above 0, not {value!r:.60}"
        elif not isinstance(value, str):
            yield f"{NAME}[{name!r}] is a text, not {value!r:.60}"
