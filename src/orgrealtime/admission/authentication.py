"""The user at the other end of a connection, and whether the login still stands."""

from __future__ import annotations

import copy
import datetime
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
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
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router
from django.http import parse_cookie
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from orgrealtime.errors import CloseCode, Refused
from orgrealtime.keys import user_keys
from orgrealtime.overrides import is_overridden


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and, where the login came from one, the session that stands for it.

    `session_hash` is the part of the session that changes with the password. Both ends are in Unix seconds, None where
    there is none or it isn't known: at `expires_at` the login ends, after `session_expires_at` the session is asked
    again, for it may have been prolonged.
    """

    user: Any
    session_key: str | None = None
    session_hash: str = ""
    expires_at: float | None = None
    session_expires_at: float | None = field(default=None, compare=False)

    def has_expired(self, now: float) -> bool:
        """Tell whether the login has reached its end; `now` is in Unix seconds."""
        return self.expires_at is not None and self.expires_at <= now

    def is_valid_for(self, user: Any) -> bool:
        """Tell whether this login still stands, given the user as the database has it now."""
        return user.is_active and (self.session_key is None or _is_hash_of(user, self.session_hash))


def _is_hash_of(user: Any, session_hash: str) -> bool:
    if not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session_hash, current) for current in hashes)


class _Snapshot(dict[str, Any]):
    """A session's data for Django's `get_user`, which would cycle or flush the browser's session from here."""

    def cycle_key(self) -> None:
        pass

    def flush(self) -> None:
        pass


def authenticate(scope: Mapping[str, Any]) -> Identity:
    """Return the identity of this connection: the user that middleware put into the scope, else the session's.

    Needs a thread that may use the database. Raises Refused (4401) without a user and for users who aren't active.
    """
    identity = _from_scope(scope) if "user" in scope else _from_session(_session(scope))
    if "expires_at" in scope:
        identity = replace(identity, expires_at=_unix_seconds(scope["expires_at"]))
        if identity.has_expired(time.time()):
            raise Refused(CloseCode.UNAUTHENTICATED, "login expired")
    return _active(identity)


def has_plain_session(scope: Mapping[str, Any]) -> bool:
    """Tell whether a session that the database keeps, and nothing else, names the user: `authenticate_together`."""
    return "user" not in scope and scope.get("session") is None and _is_in_database(_session_store())


def authenticate_together(scopes: Sequence[Mapping[str, Any]]) -> list[Identity | Refused]:
    """Return for each of these connections what `authenticate` returns or raises; two queries for all.

    Needs a thread that may use the database. All have a plain session (`has_plain_session`) and no `expires_at`.
    """
    store = _session_store()
    keys = [store(_session_key(scope)).session_key for scope in scopes]
    sessions = _load_together(store(), {key for key in keys if key is not None})
    users = _users([data for data, _ in sessions.values()])
    return [_verdict(key, sessions, users) for key in keys]


def _verdict(
    key: str | None, sessions: Mapping[str | None, tuple[_Snapshot, float]], users: Mapping[Any, Any]
) -> Identity | Refused:
    data, end = sessions.get(key, (_Snapshot(), None))
    user = _user_of(data, users)
    identity = Identity(user, key, data.get(HASH_SESSION_KEY, ""), session_expires_at=end)
    try:
        return _active(identity)
    except Refused as refused:
        return refused


def _load_together(store: Any, keys: Collection[str]) -> dict[str | None, tuple[_Snapshot, float]]:
    """The sessions in the database that have not ended, as the store's `load` gets them, and when they will."""
    living = _primary(store.get_model_class()).filter(session_key__in=keys, expire_date__gt=timezone.now())
    rows = living.values_list("session_key", "session_data", "expire_date")
    return {key: (_Snapshot(store.decode(data)), end.timestamp()) for key, data, end in rows}


def _users(sessions: Iterable[_Snapshot]) -> dict[Any, Any]:
    """The users of sessions whose backend gets users as Django's own does, by what the column of their primary key
    holds."""
    keys = {_user_key(data) for data in sessions if _plain_backend(data) is not None}
    found = _primary(get_user_model()).filter(pk__in=keys) if keys else ()
    return {user_keys().stored_or_text(user.pk): user for user in found}


def _user_of(data: _Snapshot, users: Mapping[Any, Any]) -> Any:
    """What Django's `get_user` returns for a session."""
    backend = _plain_backend(data)
    if backend is None:
        return get_user(cast(Any, SimpleNamespace(session=data)))
    # Each connection has its own, as it has alone.
    user = copy.copy(users.get(user_keys().stored_or_text(_user_key(data))))
    if user is None or not backend.user_can_authenticate(user):
        return AnonymousUser()
    return user if _is_hash_of(user, data.get(HASH_SESSION_KEY, "")) else AnonymousUser()


def _plain_backend(data: _Snapshot) -> ModelBackend | None:
    path = data.get(BACKEND_SESSION_KEY)
    if path is None or SESSION_KEY not in data or path not in settings.AUTHENTICATION_BACKENDS:
        return None
    backend = load_backend(path)
    if isinstance(backend, ModelBackend) and not is_overridden(type(backend), ModelBackend, "get_user"):
        return backend
    return None


def _user_key(data: _Snapshot) -> Any:
    return get_user_model()._meta.pk.to_python(data[SESSION_KEY])


def identify(user_id: Any, session_key: str | None) -> Identity:
    """Return this user by the session that must be theirs still, or without one.

    Needs a thread that may use the database. Raises Refused (4401) if the session has ended or the user isn't active.
    """
    if session_key is not None:
        identity = _active(_from_session(cast(SessionBase, _session_store()(session_key))))
        if identity.user.pk != user_id:
            raise Refused(CloseCode.UNAUTHENTICATED, "another user's session")
        return identity
    user = _primary(get_user_model()).filter(pk=user_id).first()
    return _active(Identity(AnonymousUser() if user is None else user))


def session_of(user: Any, session: SessionBase | None) -> str | None:
    """Return the key of the session by which this user is logged in; None if it is another's, or there is none."""
    if session is None or not _is_session_of(session, user):
        return None
    return session.session_key


def _is_session_of(session: SessionBase, user: Any) -> bool:
    # What Django's login has put there needn't be the key's text.
    key = user._meta.pk.value_to_string(user) if isinstance(user, models.Model) else str(user.pk)
    return bool(session.get(SESSION_KEY) == key)


def _active(identity: Identity) -> Identity:
    user = identity.user
    if not user.is_authenticated:
        raise Refused(CloseCode.UNAUTHENTICATED, "anonymous")
    if not user.is_active:
        raise Refused(CloseCode.UNAUTHENTICATED, "inactive user")
    return identity


def has_session_cookie(scope: Mapping[str, Any]) -> bool:
    """Tell whether the request carries the session cookie, so that a foreign page could have made a browser send it."""
    return settings.SESSION_COOKIE_NAME in _cookies(scope)


def living_sessions(keys: Collection[str]) -> dict[str, float | None]:
    """Return the session keys that still stand for a session, in one query if the database has them.

    With each its end in Unix seconds, None where that isn't known.
    """
    store = _session_store()
    if store.__module__ == "django.contrib.sessions.backends.signed_cookies":
        # The server knows nothing of these sessions; the password check still holds.
        return dict.fromkeys(keys)
    if hasattr(store, "get_model_class"):
        model = store.get_model_class()
        living = _primary(model).filter(session_key__in=keys, expire_date__gt=timezone.now())
        return {key: end.timestamp() for key, end in living.values_list("session_key", "expire_date")}
    return {key: None for key in keys if store().exists(key)}


def _from_scope(scope: Mapping[str, Any]) -> Identity:
    user, session = scope["user"], scope.get("session")
    if session is None or not _is_session_of(session, user):
        return Identity(user)  # by a token, say; the session is another user's, or nobody's
    return Identity(user, session.session_key, session.get(HASH_SESSION_KEY, ""))


def _from_session(session: SessionBase) -> Identity:
    data, end = _load(session) if session.session_key else (_Snapshot(), None)
    request = cast(Any, SimpleNamespace(session=data))
    session_hash = data.get(HASH_SESSION_KEY, "")
    return Identity(get_user(request), session.session_key, session_hash, session_expires_at=end)


def _load(session: SessionBase) -> tuple[_Snapshot, float | None]:
    if not _is_in_database(type(session)):
        return _Snapshot(session.load()), None
    key = cast(str, session.session_key)
    return _load_together(session, {key}).get(key, (_Snapshot(), None))


def _primary(model: type[models.Model]) -> models.QuerySet[Any]:
    # A replica may not know yet that a session or a user has ended.
    return model._default_manager.using(router.db_for_write(model))


def _unix_seconds(value: object) -> float:
    if isinstance(value, datetime.datetime) and value.utcoffset() is not None:
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ImproperlyConfigured(
        f'scope["expires_at"] is an aware datetime or a number of Unix seconds, not {value!r:.60}; '
        "leave it out where the login has no end"
    )


def _session(scope: Mapping[str, Any]) -> SessionBase:
    given = scope.get("session")
    if given is not None:
        return cast(SessionBase, given)
    return cast(SessionBase, _session_store()(_session_key(scope)))


def _session_key(scope: Mapping[str, Any]) -> str | None:
    key = _cookies(scope).get(settings.SESSION_COOKIE_NAME)
    return None if key is None or "\x00" in key else key  # PostgreSQL takes no such text


def _cookies(scope: Mapping[str, Any]) -> dict[str, str]:
    headers = [
        value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"cookie"
    ]
    return parse_cookie("; ".join(headers))


def _is_in_database(store: Any) -> bool:
    return not is_overridden(store, DatabaseSession, "load")


def _session_store() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore
