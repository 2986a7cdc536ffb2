"""The settings: one dict `ORGREALTIME`, read live, each key with its default and meaning here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from orgrealtime.rates import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keys of `ORGREALTIME` (reference page "Settings")."""

    ADAPTER: str = "orgrealtime.adapters.MembershipAdapter"
    MEMBERSHIP: str = ""
    MEMBERSHIP_MODEL: str = ""
    MEMBERSHIP_ORGANIZATION_FIELD: str = "organization"
    MEMBERSHIP_USER_FIELD: str = "user"
    ORGANIZATION_SLUG_FIELD: str = "slug"
    PUBLISHER: str = "orgrealtime.publishers.StreamPublisher"
    STRICT_TYPES: bool = False
    MAX_PAYLOAD_BYTES: int = 65_536
    URL_HOSTS: tuple[str, ...] = ()
    CHANNEL_LAYER: str = "default"
    ALLOWED_ORIGINS: tuple[str, ...] = ()
    SOCKET_RATE: Rate | None = Rate(30, 1, burst=60)
    SOCKET_BYTE_RATE: Rate | None = Rate(65_536, 1, burst=262_144)
    USER_RATE: Rate | None = Rate(600, 60)
    USER_BYTE_RATE: Rate | None = Rate(65_536, 1, burst=262_144)
    REQUEST_RATE: Rate | None = Rate(600, 60)
    MAX_MESSAGE_BYTES: int = 16_384
    MAX_QUEUED_COMMANDS: int = 16
    CONNECTIONS_PER_USER: int | None = 50
    CONNECTIONS_PER_ORGANIZATION: int | None = 10_000
    CONNECTIONS_PER_ADDRESS: int | None = None
    TRUSTED_PROXIES: tuple[str, ...] = ()
    MAX_HANDSHAKES: int | None = 50
    MAX_CATCH_UP_PAGES: int | None = 20
    MAX_EVENT_STREAMS: int | None = 150
    LIMITS_DRY_RUN: bool = False
    HEARTBEAT_SECONDS: float = 25.0
    POLL_SECONDS: float = 2.0
    IDLE_POLL_SECONDS: float = 10.0
    ACCESS_CHECK_SECONDS: float = 30.0
    SEND_TIMEOUT_SECONDS: float = 20.0
    DRAIN_SECONDS: float = 10.0


TYPES = {field.name: str(field.type) for field in fields(Settings)}
NAMES = frozenset(TYPES)
UNIX_SOCKET = "unix:"  # in TRUSTED_PROXIES; so nginx calls it too
FLAT_NAMES = ("ORGREALTIME_ORGANIZATION_MODEL", "ORGREALTIME_ORGANIZATION_MIGRATION")

_cache: tuple[dict[str, Any], Settings] | None = None


def get_settings() -> Settings:
    """Return the settings in force; raise ImproperlyConfigured for a key that doesn't exist or a wrong value."""
    global _cache
    given: dict[str, Any] = getattr(django_settings, "ORGREALTIME", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"ORGREALTIME is a dict, not {given!r:.60}")
    if _cache is None or _cache[0] != given:
        if mistakes := list(_mistakes(given)):
            raise ImproperlyConfigured("; ".join(mistakes))
        _cache = (dict(given), Settings(**given))  # a copy, so that a change of the dict itself is seen
    return _cache[1]


def _mistakes(given: dict[str, Any]) -> Iterator[str]:
    if unknown := sorted(set(given) - NAMES):
        yield f"ORGREALTIME has no setting {', '.join(unknown)}; allowed are {', '.join(sorted(NAMES))}"
    for name in sorted(given.keys() & NAMES):
        yield from _mistakes_of(name, given[name])


def _mistakes_of(name: str, value: Any) -> Iterator[str]:
    match TYPES[name]:
        case "Rate | None":
            fits, wanted = value is None or isinstance(value, Rate), "an orgrealtime.limits.Rate or None"
        case "bool":
            fits, wanted = isinstance(value, bool), "True or False"
        case "int":
            fits, wanted = type(value) is int and value > 0, "a whole number above 0"
        case "int | None":
            fits = value is None or (type(value) is int and value > 0)
            wanted = "a whole number above 0, or None for no limit"
        case "float":
            fits, wanted = type(value) in {int, float} and value > 0, "a number of seconds above 0"
        case "tuple[str, ...]":
            is_list = isinstance(value, list | tuple | set | frozenset)
            fits, wanted = is_list and all(isinstance(item, str) for item in value), "a list of texts"
        case _:
            fits, wanted = isinstance(value, str), "a text"
    if not fits:
        yield f"ORGREALTIME[{name!r}] is {wanted}, not {value!r:.60}"
    elif name == "TRUSTED_PROXIES":
        yield from _mistakes_of_networks(value)


def _mistakes_of_networks(entries: Iterable[str]) -> Iterator[str]:
    for entry in entries:
        try:
            ipaddress.ip_network("::1" if entry == UNIX_SOCKET else entry)
        except ValueError as error:
            yield (
                f"ORGREALTIME['TRUSTED_PROXIES'] has addresses and networks, as '10.0.0.0/8', and {UNIX_SOCKET!r} "
                f"for what comes through a unix socket: {error}"
            )


def organization_model() -> str:
    """Return `app_label.ModelName` of the host's organisation."""
    name: str = getattr(django_settings, "ORGREALTIME_ORGANIZATION_MODEL", "")
    if name.count(".") != 1:
        raise ImproperlyConfigured(
            f"Set ORGREALTIME_ORGANIZATION_MODEL to your organisation's model, as 'app_label.ModelName', not {name!r}"
        )
    return name


def organization_migration() -> tuple[str, str]:
    """Return app label and name of the migration that creates the host's organisation."""
    name: str = getattr(django_settings, "ORGREALTIME_ORGANIZATION_MIGRATION", "__first__")
    return organization_model().split(".")[0], name
