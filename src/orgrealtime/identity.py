"""Who is at the other end of a connection, and whether that still holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user
from django.contrib.sessions.backends.base import SessionBase
from django.http import parse_cookie
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from orgrealtime.errors import CloseCode, Refused


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and, where the login came from one, the session that stands for it.

    `session_hash` is the part of the session that changes with the password.
    """

    user: Any
    session_key: str | None = None
    session_hash: str = ""

    def is_valid_for(self, user: Any) -> bool:
        """Tell whether this login still stands, given the user as the database has it now."""
        if not user.is_active:
            return False
        if self.session_key is None or not hasattr(user, "get_session_auth_hash"):
            return True
        hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
        return any(constant_time_compare(self.session_hash, current) for current in hashes)


class _Snapshot(dict[str, Any]):
    """A session's data for Django's `get_user`, which would cycle or flush the browser's session from here."""

    def cycle_key(self) -> None:
        pass

    def flush(self) -> None:
        pass


def authenticate(scope: Mapping[str, Any]) -> Identity:
    """Return who opens this connection: the user that middleware put into the scope, else the session's.

    Needs a thread that may use the database. Raises Refused (4401) for nobody and for users who aren't active.
    """
    identity = _from_scope(scope) if "user" in scope else _from_session(_session(scope))
    user = identity.user
    if not user.is_authenticated:
        raise Refused(CloseCode.UNAUTHENTICATED, "anonymous")
    if not user.is_active:
        raise Refused(CloseCode.UNAUTHENTICATED, "inactive user")
    return identity


def has_session_cookie(scope: Mapping[str, Any]) -> bool:
    """Tell whether the request carries the session cookie, so that a foreign page could have made a browser send it."""
    return settings.SESSION_COOKIE_NAME in _cookies(scope)


def living_sessions(keys: Collection[str]) -> set[str]:
    """Return those of the session keys that still stand for a session, in one query if the database has them."""
    store = _session_store()
    if store.__module__ == "django.contrib.sessions.backends.signed_cookies":
        return set(keys)  # the server knows nothing of these sessions; the password check still holds
    if hasattr(store, "get_model_class"):
        model = store.get_model_class()
        living = model._default_manager.filter(session_key__in=keys, expire_date__gt=timezone.now())
        return set(living.values_list("session_key", flat=True))
    return {key for key in keys if store().exists(key)}


def _from_scope(scope: Mapping[str, Any]) -> Identity:
    user, session = scope["user"], scope.get("session")
    if session is None or session.get(SESSION_KEY) != str(user.pk):
        return Identity(user)  # by a token, say; the session is another user's, or nobody's
    return Identity(user, session.session_key, session.get(HASH_SESSION_KEY, ""))


def _from_session(session: SessionBase) -> Identity:
    data = _Snapshot(session.load()) if session.session_key else _Snapshot()
    request = cast(Any, SimpleNamespace(session=data))
    return Identity(get_user(request), session.session_key, data.get(HASH_SESSION_KEY, ""))


def _session(scope: Mapping[str, Any]) -> SessionBase:
    given = scope.get("session")
    if given is not None:
        return cast(SessionBase, given)
    return cast(SessionBase, _session_store()(_cookies(scope).get(settings.SESSION_COOKIE_NAME)))


def _cookies(scope: Mapping[str, Any]) -> dict[str, str]:
    headers = [
        value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"cookie"
    ]
    return parse_cookie("; ".join(headers))


def _session_store() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore
