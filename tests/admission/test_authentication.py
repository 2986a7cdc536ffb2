"""Who is at the other end of a connection: the session's user, or the one whom middleware has found."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from django.conf import settings as django_settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone
from pytest_django.fixtures import Settings

from orgrealtime.admission import authentication as identities
from orgrealtime.admission import sessions
from orgrealtime.admission.authentication import Identity, authenticate_together, has_plain_session
from orgrealtime.delivery.hub import get_hub
from orgrealtime.errors import CloseCode, Refused
from orgrealtime.stream import database
from tests.host.models import Organization
from tests.sockets import APPLICATION, Sockets, log_in, settled
from tests.waiting import eventually

ENGINES = {name: f"django.contrib.sessions.backends.{name}" for name in ("db", "cached_db", "cache", "file")}
SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"

pytestmark = pytest.mark.django_db


def authenticate(scope: dict[str, Any]) -> Identity:
    """What is asked about alone and what is asked about together must agree, in every test here."""
    try:
        alone: Identity | Refused = identities.authenticate(scope)
    except Refused as refused:
        alone = refused
    if has_plain_session(scope) and "expires_at" not in scope:
        (together,) = authenticate_together([scope])
        assert repr(together) == repr(alone)
        assert getattr(together, "session_expires_at", None) == getattr(alone, "session_expires_at", None)
    if isinstance(alone, Refused):
        raise alone
    return alone


def scope_with(cookie: str) -> dict[str, Any]:
    return {"type": "websocket", "headers": [(b"cookie", cookie.encode())]}


def refusal(scope: dict[str, Any]) -> CloseCode:
    with pytest.raises(Refused) as caught:
        authenticate(scope)
    return caught.value.code


def key_of(cookie: str) -> str:
    return cookie.partition("=")[2]


# ------------------------------------------------------------------------------------------------- the session


def test_logged_in_user_is_known_by_the_session_cookie(alice: User) -> None:
    cookie = log_in(alice)
    identity = authenticate(scope_with(f"theme=dark; {cookie}"))
    assert (identity.user, identity.session_key) == (alice, key_of(cookie))
    assert identity.is_valid_for(alice)


def test_session_cookie_in_a_second_header_is_found(alice: User) -> None:
    scope = {"headers": [(b"cookie", b"theme=dark"), (b"Cookie", log_in(alice).encode())]}
    assert authenticate(scope).user == alice


@pytest.mark.parametrize("cookie", ["", "sessionid=", "sessionid=unknown", "sessionid=\x00", "theme=dark"])
def test_nobody_s_cookie_is_refused(cookie: str) -> None:
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED


def test_session_in_which_nobody_has_logged_in_is_refused(alice: User) -> None:
    cookie = log_in(alice)
    Session.objects.update(session_data=Session.objects.encode({}))
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED


def test_inactive_user_is_refused(alice: User) -> None:
    cookie = log_in(alice)
    User.objects.update(is_active=False)
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED


def test_inactive_user_is_refused_where_the_host_lets_them_log_in(alice: User, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    User.objects.update(is_active=False)
    assert refusal(scope_with(log_in(alice))) is CloseCode.UNAUTHENTICATED


def test_deleted_user_is_refused(alice: User) -> None:
    cookie = log_in(alice)
    alice.delete()
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED


def test_user_of_a_backend_that_is_gone_is_refused(alice: User, settings: Settings) -> None:
    cookie = log_in(alice)
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED


def test_expired_session_is_refused(alice: User) -> None:
    cookie = log_in(alice)
    Session.objects.update(expire_date=timezone.now() - datetime.timedelta(seconds=1))
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED


def test_session_from_before_a_password_change_is_refused_and_kept(alice: User) -> None:
    cookie = log_in(alice)
    alice.set_password("new")
    alice.save()
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED
    assert Session.objects.filter(pk=key_of(cookie)).exists()


def test_session_with_a_tampered_hash_is_refused_and_kept(alice: User) -> None:
    cookie = log_in(alice)
    session = Session.objects.get(pk=key_of(cookie))
    data = session.get_decoded() | {HASH_SESSION_KEY: "0" * 64}
    session.session_data = Session.objects.encode(data)
    session.save()
    assert refusal(scope_with(cookie)) is CloseCode.UNAUTHENTICATED
    assert Session.objects.get(pk=key_of(cookie)).session_data == session.session_data


@pytest.fixture
def rotated(alice: User, settings: Settings) -> str:
    """The cookie of a session from before SECRET_KEY was changed."""
    cookie = log_in(alice)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the new one"
    return cookie


def test_session_of_a_rotated_key_is_good_and_left_as_it_is(rotated: str, alice: User) -> None:
    before = Session.objects.values().get()
    identity = authenticate(scope_with(rotated))
    assert identity.user == alice
    assert identity.is_valid_for(alice)
    assert Session.objects.values().get() == before


def test_session_of_a_key_that_is_no_fallback_is_refused_and_kept(rotated: str, settings: Settings) -> None:
    settings.SECRET_KEY_FALLBACKS = []
    assert refusal(scope_with(rotated)) is CloseCode.UNAUTHENTICATED
    assert Session.objects.filter(pk=key_of(rotated)).exists()


def test_connection_from_before_a_key_rotation_stays_valid(alice: User, settings: Settings) -> None:
    identity = authenticate(scope_with(log_in(alice)))
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the new one"
    assert identity.is_valid_for(alice)


# --------------------------------------------------------------------------------------------- session engines


@pytest.fixture(params=[*ENGINES.values(), SIGNED_COOKIES])
def engine(request: pytest.FixtureRequest, settings: Settings, tmp_path: Any) -> str:
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = request.param
    return str(request.param)


def test_user_is_known_whatever_keeps_the_sessions(engine: str, alice: User) -> None:
    identity = authenticate(scope_with(log_in(alice)))
    assert identity.user == alice
    assert identity.session_key is not None
    assert set(sessions.read([identity.session_key])) == {identity.session_key}


def test_unknown_session_is_refused_whatever_keeps_the_sessions(engine: str) -> None:
    assert refusal(scope_with("sessionid=unknown")) is CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("engine", ENGINES.values(), indirect=True)
def test_session_that_has_ended_lives_no_longer_whatever_kept_it(engine: str, alice: User) -> None:
    ended, lasting = key_of(log_in(alice)), key_of(log_in(alice))
    import_module(django_settings.SESSION_ENGINE).SessionStore(ended).flush()
    assert set(sessions.read([ended, lasting])) == {lasting}


def test_expired_session_lives_no_longer(alice: User) -> None:
    cookie = log_in(alice)
    Session.objects.update(expire_date=timezone.now())
    assert sessions.read([key_of(cookie)]) == {}


def test_many_sessions_are_looked_up_in_one_query(
    alice: User, django_assert_num_queries: Callable[[int], Any]
) -> None:
    keys = [key_of(log_in(alice)) for _ in range(3)]
    with django_assert_num_queries(1):
        assert set(sessions.read(keys)) == set(keys)


# ----------------------------------------------------------------------------------------- the host's middleware


def test_user_in_the_scope_is_taken_and_no_cookie_is_asked(alice: User, bob: User) -> None:
    scope = scope_with(log_in(bob)) | {"user": alice}
    assert authenticate(scope) == Identity(alice)


def test_anonymous_user_in_the_scope_is_refused_though_the_cookie_is_good(alice: User) -> None:
    scope = scope_with(log_in(alice)) | {"user": AnonymousUser()}
    assert refusal(scope) is CloseCode.UNAUTHENTICATED


def test_inactive_user_in_the_scope_is_refused(alice: User) -> None:
    alice.is_active = False
    assert refusal({"user": alice, "headers": []}) is CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("key", ["auth0|alice", "1\x00", 10**30, None])
def test_user_in_the_scope_whose_key_can_be_no_row_s_is_refused(key: Any) -> None:
    """A user whom middleware has made of a token, without asking the database."""
    assert refusal({"user": User(pk=key, username="alice"), "headers": []}) is CloseCode.UNAUTHENTICATED


def test_user_in_the_scope_stays_valid_while_active(alice: User) -> None:
    identity = authenticate({"user": alice, "headers": []})
    assert identity.is_valid_for(alice)
    alice.is_active = False
    assert not identity.is_valid_for(alice)


def test_user_in_the_scope_does_not_depend_on_another_user_s_session(alice: User, bob: User) -> None:
    session = SessionStore(key_of(log_in(bob)))
    identity = authenticate({"user": alice, "session": session, "headers": []})
    assert identity == Identity(alice)
    assert identity.is_valid_for(alice)


async def test_user_of_the_host_s_auth_middleware_is_let_in_with_the_session(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    seen: list[Identity] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await database.LIVE.run(authenticate, scope))
        await APPLICATION(scope, receive, send)

    cookie = await database.LIVE.run(log_in, alice)
    await sockets.open(cookie=cookie, application=AuthMiddlewareStack(look))
    assert (seen[0].user, seen[0].session_key) == (alice, key_of(cookie))
    assert seen[0].is_valid_for(alice)


async def test_nobody_of_the_host_s_auth_middleware_is_refused(sockets: Sockets, acme: Organization) -> None:
    assert await sockets.refused(application=AuthMiddlewareStack(APPLICATION)) == 4401


# ------------------------------------------------------------------------------------------------- when it ends


def in_seconds(seconds: float) -> datetime.datetime:
    return timezone.now() + datetime.timedelta(seconds=seconds)


def test_end_of_a_database_session_is_learnt_without_another_query(
    alice: User, django_assert_num_queries: Callable[[int], Any]
) -> None:
    cookie = log_in(alice)
    with django_assert_num_queries(2):
        identity = identities.authenticate(scope_with(cookie))
    assert identity.session_expires_at == Session.objects.get().expire_date.timestamp()


@pytest.mark.parametrize(
    "wrong", [None, True, "soon", datetime.datetime(2100, 1, 1), float("nan"), float("inf")]
)
async def test_end_that_can_t_be_read_is_refused_with_4503_and_one_clear_error(
    sockets: Sockets, alice: User, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert await sockets.refused(scope={"user": alice, "expires_at": wrong}) == 4503
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "aware datetime or a number of Unix seconds" in str(error.exc_info)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [lambda end: end, lambda end: end.timestamp(), lambda end: int(end.timestamp())]
)
async def test_login_of_the_host_s_middleware_ends_at_its_end(
    sockets: Sockets, alice: User, kind: Any
) -> None:
    assert await sockets.refused(scope={"user": alice, "expires_at": kind(in_seconds(-2))}) == 4401
    socket = await sockets.open(scope={"user": alice, "expires_at": kind(in_seconds(3))})
    await socket.synced()
    assert await socket.close_code() == 4401


async def test_expired_database_session_closes_its_socket(sockets: Sockets, alice: User) -> None:
    cookie = await database.LIVE.run(log_in, alice)
    await database.LIVE.run(Session.objects.update, expire_date=in_seconds(3))
    socket = await (await sockets.open(cookie=cookie)).synced()
    assert await socket.close_code() == 4401


@pytest.mark.slow
async def test_prolonged_database_session_keeps_its_socket(sockets: Sockets, alice: User) -> None:
    cookie = await database.LIVE.run(log_in, alice)
    first, later = in_seconds(6), in_seconds(1000)
    await database.LIVE.run(Session.objects.update, expire_date=first)
    socket = await (await sockets.open(cookie=cookie)).synced()
    await settled()  # the check that follows joining is over
    await database.LIVE.run(Session.objects.update, expire_date=later)
    [connection] = get_hub().registry
    await eventually(lambda: connection.credentials.identity.session_expires_at == later.timestamp())
    assert await socket.is_alive()
