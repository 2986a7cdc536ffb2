"""Sessions as the server keeps them now: read from the primary database or from their store, never changed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheSession
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDatabaseSession
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieSession
from django.core.cache import caches
from django.core.exceptions import SuspiciousOperation
from django.db import models, router
from django.http import parse_cookie
from django.utils import timezone

CACHE_KEY = re.compile(r"[!-~]{8,200}", re.ASCII)  # which every cache takes
SESSIONS_APP = "django.contrib.sessions"
NUL = "\x00"  # in no text that PostgreSQL takes


@dataclass(frozen=True)
class StoredSession:
    """A session that stands, as it was read.

    `version` is another one whenever the session has been saved, None where that can't be told; `expires_at` is its end
    in Unix seconds, None where that isn't known.
    """

    read: Callable[[], Mapping[str, Any]]
    version: int | None = None
    expires_at: float | None = None

    @functools.cached_property
    def data(self) -> Mapping[str, Any]:
        """What is in the session; decoding it takes longer than reading it."""
        return self.read()


def why_there_are_none() -> str | None:
    """Return why nobody can be logged in by a session in this project; None if somebody can."""
    try:
        store = _engine()
    except ImportError as error:
        return f"SESSION_ENGINE can't be imported: {error}"
    if not apps.is_installed("django.contrib.auth"):
        return "django.contrib.auth isn't in INSTALLED_APPS"
    if hasattr(store, "get_model_class"):
        try:
            store.get_model_class()
        except (ImportError, RuntimeError):  # Django's word for a model of an app that isn't installed
            return f"{SESSIONS_APP} isn't in INSTALLED_APPS, whose table SESSION_ENGINE needs"
    return None


def key_of(scope: Mapping[str, Any]) -> str | None:
    """Return the key of the session that a scope has: of the one in it, else of the one that its cookie names."""
    session = session_of(scope)
    if session is not None:
        return session.session_key
    store = _store()
    key = cookies_of(scope).get(settings.SESSION_COOKIE_NAME)
    if store is None or key is None or NUL in key:
        return None
    made: str | None = store(key).session_key
    return made


def session_of(scope: Mapping[str, Any]) -> SessionBase | None:
    """Return the session that middleware has put into a scope; None without one, or if it can't be asked for."""
    session = scope.get("session")
    if not isinstance(session, SessionBase) or NUL in (session.session_key or "") or why_there_are_none():
        return None
    return session


def cookies_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the cookies of a scope by their names."""
    headers = [
        value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"cookie"
    ]
    return parse_cookie("; ".join(headers))


def is_in_scope(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request carries a session, so that a foreign page could have made a browser send it."""
    session = session_of(scope)
    if session is not None and session.session_key is not None:
        return True
    return settings.SESSION_COOKIE_NAME in cookies_of(scope)


def are_rows() -> bool:
    """Tell whether sessions are rows of a table, so that many are read by one query."""
    return _are_rows(_store())


def are_in_cookies() -> bool:
    """Tell whether sessions are kept by the browsers alone, so that the server can't know what became of one."""
    store = _store()
    return store is not None and issubclass(store, CookieSession)


def read(keys: Collection[str]) -> dict[str, StoredSession]:
    """Return the sessions that stand of these keys; by one query or call if a table or Django's cache keeps them.

    Needs a thread that may use the database. Raises what the database, the cache or the host's store raises.
    """
    store = _store()
    if store is None or not keys:
        return {}
    if _are_rows(store):
        return _read_rows(store, keys)
    if store is CacheSession:
        return _read_cache(store, keys)
    return {key: stored for key in keys if (stored := _read_alone(store, key)) is not None}


def _read_rows(store: Any, keys: Collection[str]) -> dict[str, StoredSession]:
    living = primary(store.get_model_class()).filter(session_key__in=keys, expire_date__gt=timezone.now())
    decode = store().decode
    return {
        key: StoredSession(functools.partial(decode, text), hash(text), end.timestamp())
        for key, text, end in living.values_list("session_key", "session_data", "expire_date")
    }


def _read_cache(store: Any, keys: Collection[str]) -> dict[str, StoredSession]:
    # Not by `load`, to which a cache that is away is an empty session.
    prefix = store.cache_key_prefix
    asked = [prefix + key for key in keys if CACHE_KEY.fullmatch(key)]
    found = caches[settings.SESSION_CACHE_ALIAS].get_many(asked)
    return {
        name.removeprefix(prefix): StoredSession(functools.partial(dict, data))
        for name, data in found.items()
    }


def _read_alone(store: Any, key: str) -> StoredSession | None:
    session = store(key)
    try:
        if not (issubclass(store, CookieSession) or session.exists(key)):
            return None
        data = session.load()
    except SuspiciousOperation:  # a key that this store would never have made
        return None
    return StoredSession(functools.partial(dict, data)) if session.session_key == key else None


def primary(model: type[models.Model]) -> models.QuerySet[Any]:
    """Return the rows of a model in the primary: a replica may not know yet that a session or a user has ended."""
    return model._default_manager.using(router.db_for_write(model))


def _are_rows(store: Any) -> bool:
    # With a `load` of the host's own nobody knows what the rows mean.
    return getattr(store, "load", None) in {DatabaseSession.load, CachedDatabaseSession.load}


def _store() -> Any:
    """The class that keeps the sessions; None where there are none (`why_there_are_none`)."""
    return None if why_there_are_none() else _engine()


def _engine() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore
