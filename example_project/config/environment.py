"""Read settings from environment variables; a bad value is refused at start, by name."""

import ipaddress
import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}

# The connection parameters that libpq also accepts in the query, and what Django calls them.
DJANGO_NAMES = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


def flag(name: str, *, default: bool) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value not in FLAGS:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(FLAGS)}, not {value!r}.")
    return FLAGS[value]


def seconds(name: str, *, default: float) -> float:
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ImproperlyConfigured(f"{name} must be a number of seconds, not {value!r}.")
    return found


def names(name: str, *, default: list[str]) -> list[str]:
    found = [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]
    return found or default


def is_loopback(host: str) -> bool:
    """Whether a name of `ALLOWED_HOSTS`, or an address to listen on, leads to this computer alone."""
    if host in {"localhost", ".localhost"}:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def database(url: str) -> dict[str, Any]:
    """Turn a database URL into an entry of DATABASES.

    `postgresql://user:password@host:port/name`, `postgresql://user@/name?host=/socket/directory` or
    `sqlite:////absolute/path`. Any part may be percent-encoded; what else is in the query goes to OPTIONS.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("postgresql", "postgres"):
        return _postgresql(url)
    if scheme == "sqlite":
        return _sqlite(url)
    # The URL isn't repeated: it may hold a password.
    raise ImproperlyConfigured(f"DATABASE_URL must start with postgresql:// or sqlite:///, not {scheme!r}.")


def sqlite_file(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        # Otherwise a transaction that reads first and writes later fails at once instead of waiting.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }


def _sqlite(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path:
        raise ImproperlyConfigured("DATABASE_URL for SQLite is sqlite:////absolute/path (four slashes).")
    settings = sqlite_file(Path(path))
    settings["OPTIONS"] |= _query(parts.query)
    return settings


def _postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    # SplitResult.hostname lower-cases, which breaks a percent-encoded socket directory.
    address = parts.netloc.rpartition("@")[2]
    host, port = (address, "") if address.endswith("]") or ":" not in address else address.rsplit(":", 1)
    settings: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(host.strip("[]")),
        "PORT": port,
        # Under ASGI each request has a thread of its own: with CONN_MAX_AGE its connection would stay open behind
        # it, unused, until garbage collection finds it. A pool is shared by all threads. No CONN_HEALTH_CHECKS: the
        # pool would wait 1, 2, 4, 8... seconds after each connection that it finds dead.
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 20, "timeout": 5}},
    }
    for key, value in _query(parts.query).items():
        if key in DJANGO_NAMES:
            settings[DJANGO_NAMES[key]] = str(value)
        else:
            settings["OPTIONS"][key] = value
    if not settings["NAME"]:
        raise ImproperlyConfigured("DATABASE_URL names no database: postgresql://user@host/NAME.")
    return settings


def _query(query: str) -> dict[str, str | int]:
    # As in libpq, a plus sign is a plus sign.
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    # sqlite3 takes numbers only as numbers (timeout); psycopg takes either.
    return {key: int(value) if value.isdecimal() else value for key, value in pairs}
