"""The user at the other end of a connection or request, and whether the login still stands."""

from __future__ import annotations

import copy
import datetime
import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user,
    get_user_model,
    load_backend,
)
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, ValidationError
from django.db import DataError
from django.db import Error as AnyDatabaseError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from orgrealtime.admission import sessions
from orgrealtime.admission.sessions import StoredSession, primary
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.keys import user_keys
from orgrealtime.overrides import is_overridden

logger = logging.getLogger("orgrealtime.connection")

# What comes of a key in a session or token that is of another type than the user's.
NO_KEY = (ValueError, TypeError, OverflowError, ValidationError, ObjectDoesNotExist, DataError)


class _Snapshot(dict[str, Any]):
    """A session's data for Django's `get_user`, which would cycle or flush the browser's session from here."""

    def cycle_key(self) -> None:
        pass

    def flush(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and, where the login came from one, the session that stands for it.

    `session_hash` is the part of the session that changes with the password. Both ends are in Unix seconds, None where
    there is none or it isn't known: at `expires_at` the login ends, after `session_expires_at` the session is asked
    again, for it may have been prolonged. `session_version` is as in StoredSession.
    """

    user: Any
    session_key: str | None = None
    session_hash: str = ""
    expires_at: float | None = None
    session_expires_at: float | None = field(default=None, compare=False)
    session_version: int | None = field(default=None, compare=False)

    def has_expired(self, now: float) -> bool:
        """Tell whether the login has reached its end; `now` is in Unix seconds."""
        return self.expires_at is not None and self.expires_at <= now

    def is_valid_for(self, user: Any) -> bool:
        """Tell whether this login still stands, given the user as the database has it now."""
        return _is_active(user) and (self.session_key is None or _is_hash_of(user, self.session_hash))

    def renewed(self, stored: StoredSession) -> Identity | None:
        """Return this identity as its session is now; None if that is another user's by now, or nobody's."""
        if stored.version is not None and stored.version == self.session_version:
            if stored.expires_at == self.session_expires_at:
                return self
            return replace(self, session_expires_at=stored.expires_at)
        is_still_theirs = _is_of_a_backend(stored.data) and _names(stored.data, self.user)
        return _identity(self, stored) if is_still_theirs else None


def _identity(identity: Identity, stored: StoredSession) -> Identity:
    return replace(
        identity,
        session_hash=stored.data.get(HASH_SESSION_KEY, ""),
        session_expires_at=stored.expires_at,
        session_version=stored.version,
    )


def _is_active(user: Any) -> bool:
    return bool(getattr(user, "is_active", True))


def _is_hash_of(user: Any, session_hash: str) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session_hash, current) for current in hashes)


# -------------------------------------------------------------------------------------- who is at the other end


def authenticate(scope: Mapping[str, Any]) -> Identity:
    """Return the identity of this connection: the user that middleware put into the scope, else the session's.

    Either as the primary database has it now. Needs a thread that may use the database. Raises Refused (4401) without
    a user, for users who aren't active, and for what isn't a row of the user model; Refused (4503) if the store of the
    sessions is away.
    """
    identity = _from_scope(scope) if "user" in scope else _active(_of_session(sessions.key_of(scope)))
    if "expires_at" not in scope:
        return identity
    identity = replace(identity, expires_at=unix_seconds(scope["expires_at"]))
    if identity.has_expired(time.time()):
        raise Refused(CloseCode.UNAUTHENTICATED, "login expired")
    return identity


def authenticate_request(request: HttpRequest) -> Identity:
    """Return the identity of an HTTP request, as `authenticate` does: `request.user` is the user of its scope, and
    `request.expires_at`, if middleware has set it, the end of the login.

    Without middleware that has set `request.user` it is the user that ASGI middleware put into the scope, or the
    session's.
    """
    scope: dict[str, Any] = dict(getattr(request, "scope", None) or {"headers": _cookie_header(request)})
    scope.update((name, getattr(request, name)) for name in ("user", "session") if hasattr(request, name))
    if (end := getattr(request, "expires_at", None)) is not None:
        scope["expires_at"] = end
    return authenticate(scope)


def is_of_session(request: HttpRequest) -> bool:
    """Tell whether the user whom middleware found for an HTTP request is the one of its session, or may be."""
    session = sessions.session_of({"session": getattr(request, "session", None)})
    user = getattr(request, "user", None)
    try:
        return session is not None and user_keys().is_of_family(user) and _names(session, user)
    except NO_KEY:  # a lazy user is looked for here: the session's is none of this model
        return True


def _cookie_header(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", request.META.get("HTTP_COOKIE", "").encode("latin-1", "replace"))]


def has_plain_session(scope: Mapping[str, Any]) -> bool:
    """Tell whether a session that a table keeps, and nothing else, names the user: `authenticate_together`."""
    return "user" not in scope and sessions.are_rows()


def authenticate_together(scopes: Sequence[Mapping[str, Any]]) -> list[Identity | Refused]:
    """Return for each of these connections what `authenticate` returns or raises; two queries for all.

    Needs a thread that may use the database. All have a plain session (`has_plain_session`) and no `expires_at`.
    """
    return [_active_or_refused(found) for found in _of_sessions([sessions.key_of(scope) for scope in scopes])]


def identify(user_id: Any, session_key: str | None) -> Identity:
    """Return this user by the session that must be theirs still, or without one.

    Needs a thread that may use the database. Raises Refused (4401) if the session has ended or the user isn't active.
    """
    if session_key is None:
        return _active(Identity(primary(get_user_model()).filter(pk=user_id).first()))
    identity = _active(_of_session(session_key))
    if identity.user.pk != user_id:
        raise Refused(CloseCode.UNAUTHENTICATED, "another user's session")
    return identity


def _active_or_refused(identity: Identity) -> Identity | Refused:
    try:
        return _active(identity)
    except Refused as refused:
        return refused


def _active(identity: Identity) -> Identity:
    if identity.user is None:
        raise Refused(CloseCode.UNAUTHENTICATED, "anonymous")
    if not _is_active(identity.user):
        raise Refused(CloseCode.UNAUTHENTICATED, "inactive user")
    return identity


# ------------------------------------------------------------------------------------- the user that middleware found


def _from_scope(scope: Mapping[str, Any]) -> Identity:
    given = _given_user(scope["user"])
    session = sessions.session_of(scope)
    if session is None or not _names(session, given):
        # By a token, say; the session is another user's, or nobody's.
        return _active(Identity(_as_stored(given)))
    if _is_new(session, scope):
        return _active(Identity(_as_stored(given), session.session_key, session.get(HASH_SESSION_KEY, "")))
    identity = _active(_of_session(session.session_key))
    if identity.user.pk != user_keys().of(given):
        raise Refused(CloseCode.UNAUTHENTICATED, "another user's session")
    return identity


def _given_user(given: Any) -> Any:
    """The user whom middleware has named; raises Refused (4401) unless it is of the model that the streams refer to."""
    reason = "anonymous"
    try:
        if not user_keys().is_of_family(given):  # a lazy one is looked for here
            is_somebody = getattr(given, "is_authenticated", False)
            reason = "no user of AUTH_USER_MODEL" if is_somebody else "anonymous"
        elif _is_active(given):
            return given
        else:
            reason = "inactive user"
    except Exception as error:
        if not isinstance(error, NO_KEY) and sessions.why_there_are_none() is None:
            raise
    raise Refused(CloseCode.UNAUTHENTICATED, reason)


def _as_stored(user: Any) -> Any:
    key = user_keys().of(user)
    try:
        user_keys().stored(key)
    except Exception:  # made of a token whose subject is no key here; a host's field may raise anything
        return None
    return primary(get_user_model()).filter(pk=key).first()


def _is_new(session: Any, scope: Mapping[str, Any]) -> bool:
    """Tell whether the login was made in this very request, so that its session isn't stored yet."""
    return bool(session.modified) and session.session_key not in sessions.cookies_of(scope).values()


# ------------------------------------------------------------------------------------------ the user of a session


def _of_session(key: str | None) -> Identity:
    (identity,) = _of_sessions([key])
    return identity


def _of_sessions(keys: Sequence[str | None]) -> list[Identity]:
    """Return whom these sessions stand for; the user is None where that is nobody. Two queries."""
    stored = _read({key for key in keys if key is not None})
    users = _users([each.data for each in stored.values()])
    return [_of_stored(key, stored[key], users) if key in stored else Identity(None, key) for key in keys]


def _of_stored(key: str | None, stored: StoredSession, users: Mapping[Any, Any]) -> Identity:
    return _identity(Identity(_user_of(stored.data, users), key), stored)


def _read(keys: Collection[str]) -> dict[str, StoredSession]:
    try:
        return sessions.read(keys)
    except AnyDatabaseError:
        raise
    except Exception as error:  # of a cache or a store of the host's
        logger.warning("the sessions can't be asked", extra={"error": type(error).__name__})
        raise Refused(
            CloseCode.OVERLOADED, "the sessions can't be asked", "logins can't be looked up now"
        ) from None


def _users(found: Iterable[Mapping[str, Any]]) -> dict[Any, Any]:
    """The users of sessions whose backend gets users as Django's own does, by what the column of their primary key
    holds."""
    keys = {_user_key(data) for data in found if _plain_backend(data) is not None}
    keys.discard(None)
    rows = primary(get_user_model()).filter(pk__in=keys) if keys else ()
    return {user_keys().stored_or_text(user.pk): user for user in rows}


def _user_of(data: Mapping[str, Any], users: Mapping[Any, Any]) -> Any:
    """The user whom Django's `get_user` returns for a session, from the primary; None for AnonymousUser."""
    if _user_key(data) is None:
        return None
    backend = _plain_backend(data)
    if backend is None:
        return _user_of_backend(data)
    # Each connection has its own, as it has alone.
    user = copy.copy(users.get(user_keys().stored_or_text(_user_key(data))))
    if user is None or not backend.user_can_authenticate(user):
        return None
    return user if _is_hash_of(user, data.get(HASH_SESSION_KEY, "")) else None


def _user_of_backend(data: Mapping[str, Any]) -> Any:
    """The user whom a backend of the host's returns, which may have asked a replica, as the primary has it."""
    found = get_user(cast(Any, SimpleNamespace(session=_Snapshot(data))))
    user = _as_stored(found) if user_keys().is_of_family(found) else None
    return user if user is not None and _is_hash_of(user, data.get(HASH_SESSION_KEY, "")) else None


def _plain_backend(data: Mapping[str, Any]) -> Any:
    from django.contrib.auth.backends import ModelBackend  # not without django.contrib.auth

    path = data.get(BACKEND_SESSION_KEY)
    if path is None or SESSION_KEY not in data or path not in settings.AUTHENTICATION_BACKENDS:
        return None
    backend = load_backend(path)
    if isinstance(backend, ModelBackend) and not is_overridden(type(backend), ModelBackend, "get_user"):
        return backend
    return None


def _is_of_a_backend(session: Mapping[str, Any]) -> bool:
    """Tell whether the backend of a session is in use; else it is nobody's, to Django too."""
    return session.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS


def _names(session: Any, user: Any) -> bool:
    """Tell whether a session is this user's; what Django's login has put there needn't be the key's text."""
    key = _user_key(session)
    return key is not None and user_keys().stored_or_text(key) == user_keys().stored_or_text(
        user_keys().of(user)
    )


def _user_key(session: Any) -> Any:
    """The primary key of a session's user; None without one, and for what can't be one (of a former user model)."""
    text = session.get(SESSION_KEY)
    if text is None:
        return None
    try:
        key = get_user_model()._meta.pk.to_python(text)
        user_keys().stored(key)
    except Exception:  # whatever a host's field makes of it
        return None
    return key


def unix_seconds(value: object) -> float:
    """Return the end of a login, which is an aware datetime or in Unix seconds, in Unix seconds.

    With `USE_TZ = False` a naive datetime is in the project's own time zone, as it is everywhere in Django then. Raises
    ImproperlyConfigured for anything else.
    """
    if isinstance(value, datetime.datetime):
        if timezone.is_naive(value) and not settings.USE_TZ:
            value = timezone.make_aware(value)
        if timezone.is_aware(value):
            return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ImproperlyConfigured(
        f"expires_at is an aware datetime or a number of Unix seconds, not {value!r:.60}; "
        "leave it out where the login has no end"
    )
