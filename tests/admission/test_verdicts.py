"""Whether a connection may stay, as far as its session says so: whatever keeps the sessions."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from pytest_django.fixtures import Settings

from orgrealtime.access import Access
from orgrealtime.admission.authentication import Identity, authenticate
from orgrealtime.admission.verdicts import Checked, Credentials, recheck
from orgrealtime.errors import CloseCode
from tests.admission.test_authentication import ENGINES, SIGNED_COOKIES, scope_with
from tests.host.models import Organization
from tests.sockets import log_in

pytestmark = pytest.mark.django_db

KEPT = [*ENGINES.values(), "tests.admission.own_sessions"]


@pytest.fixture(params=[*KEPT, SIGNED_COOKIES])
def engine(request: pytest.FixtureRequest, settings: Settings, tmp_path: Any) -> str:
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = request.param
    return str(request.param)


@pytest.fixture
def cookie(engine: str, alice: User) -> str:
    return log_in(alice)


@pytest.fixture
def identity(cookie: str) -> Identity:
    return authenticate(scope_with(cookie))


def verdict(identity: Identity, organization: Organization) -> Access | CloseCode:
    access = Access(organization.pk, identity.user.pk)
    subject = Checked("a", access, Credentials(identity, lambda user, access: True, 0.0))
    [found] = recheck([subject])
    assert not isinstance(found, Exception)
    return found.answer


def rewrite(cookie: str, change: Callable[[Any], object]) -> None:
    """Change a session under its own key, as impersonation does."""
    session = import_module(django_settings.SESSION_ENGINE).SessionStore(cookie.partition("=")[2])
    session.load()
    change(session)
    session.save()


def becomes(user: User) -> Callable[[Any], None]:
    def change(session: Any) -> None:
        session[SESSION_KEY] = str(user.pk)
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()

    return change


CHANGES: dict[str, Callable[[Any, User], object]] = {
    "another user's": lambda session, other: becomes(other)(session),
    "another user's, with the hash of the first": lambda session, other: session.update(
        {SESSION_KEY: str(other.pk)}
    ),
    "emptied": lambda session, other: session.clear(),
    "without a user": lambda session, other: session.pop(SESSION_KEY),
    "without a hash": lambda session, other: session.pop(HASH_SESSION_KEY),
    "with another hash": lambda session, other: session.update({HASH_SESSION_KEY: "0" * 64}),
    "without a backend": lambda session, other: session.pop(BACKEND_SESSION_KEY),
    "of a backend that isn't in use": lambda session, other: session.update(
        {BACKEND_SESSION_KEY: "a.former"}
    ),
    "of what is no user": lambda session, other: session.update({SESSION_KEY: "nobody"}),
}


@pytest.mark.parametrize("engine", KEPT, indirect=True)
def test_connection_whose_session_is_its_user_s_no_more_is_closed_with_4401(
    engine: str, alice: User, bob: User, acme: Organization
) -> None:
    def after(change: Callable[[Any, User], object]) -> Access | CloseCode:
        cookie = log_in(alice)
        identity = authenticate(scope_with(cookie))
        assert isinstance(verdict(identity, acme), Access)
        rewrite(cookie, lambda session: change(session, bob))
        return verdict(identity, acme)

    answers = {name: after(change) for name, change in CHANGES.items()}
    assert answers == dict.fromkeys(CHANGES, CloseCode.UNAUTHENTICATED)


def test_connection_whose_session_is_used_for_more_stays(
    cookie: str, identity: Identity, acme: Organization
) -> None:
    rewrite(cookie, lambda session: session.update({"basket": [1, 2, 3]}))
    assert isinstance(verdict(identity, acme), Access)


@pytest.mark.parametrize("engine", KEPT, indirect=True)
def test_connection_whose_session_was_renewed_for_another_password_stays(
    cookie: str, identity: Identity, alice: User, acme: Organization
) -> None:
    alice.set_password("another")
    alice.save()
    assert verdict(identity, acme) is CloseCode.UNAUTHENTICATED
    rewrite(cookie, lambda session: session.update({HASH_SESSION_KEY: alice.get_session_auth_hash()}))
    assert isinstance(verdict(identity, acme), Access)


@pytest.mark.parametrize("engine", [SIGNED_COOKIES], indirect=True)
def test_session_in_a_cookie_counts_as_it_was_for_the_browser_has_another_one_now(
    cookie: str, identity: Identity, bob: User, acme: Organization
) -> None:
    rewrite(cookie, becomes(bob))
    assert isinstance(verdict(identity, acme), Access)


@pytest.mark.parametrize("engine", [ENGINES["db"]], indirect=True)
def test_session_that_was_not_saved_since_is_not_decoded_again(
    identity: Identity, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(store: Any, text: str) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr(SessionStore, "decode", decode)
    assert isinstance(verdict(identity, acme), Access)


@pytest.mark.parametrize("engine", [ENGINES["cached_db"]], indirect=True)
def test_cache_that_was_missed_when_a_session_ended_keeps_nobody(
    cookie: str, identity: Identity, bob: User, acme: Organization
) -> None:
    row = SessionStore(cookie.partition("=")[2])
    row.load()
    becomes(bob)(row)
    row[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    row.save()
    assert verdict(identity, acme) is CloseCode.UNAUTHENTICATED
    assert authenticate(scope_with(cookie)).user == bob
