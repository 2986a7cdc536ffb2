"""What holds for logins by token. Not collected by itself: tests/test_howto.py runs it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken

from orgrealtime import publish
from orgrealtime.models import Ticket
from tests.host.models import Organization
from tests.sockets import Socket, Sockets
from tests.test_sse import Pages, pages

__all__ = ["pages"]

pytestmark = pytest.mark.django_db

PATH = "/orgs/acme/notifications/"
TICKET = f"{PATH}ticket/"
APP = "capacitor://localhost"


def bearer(token: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ending_in(user: User, seconds: float) -> AccessToken:
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=timedelta(seconds=seconds))
    return token


@pytest.fixture
def app() -> Client:
    """An app, which has no cookies."""
    return Client(enforce_csrf_checks=True)


def test_user_logs_in_and_reads_pages_and_gets_tickets(app: Client, alice: User, acme: Organization) -> None:
    alice.set_password("demo")
    alice.save()
    publish(acme, "note", {})
    tokens = app.post("/api/token/", {"username": "alice", "password": "demo"}).json()
    page = app.get(PATH, headers=bearer(tokens["access"]))
    assert [event["type"] for event in page.json()["events"]] == ["note"]
    assert app.post(TICKET, headers=bearer(tokens["access"])).status_code == 201


@pytest.mark.parametrize("method", ["get", "post"])
def test_token_that_is_not_good_is_answered_with_401(app: Client, alice: User, method: str) -> None:
    for token in ("junk", ending_in(alice, -1), AccessToken()):
        answer = getattr(app, method)(TICKET if method == "post" else PATH, headers=bearer(token))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


def test_request_without_a_token_is_anonymous(app: Client, acme: Organization) -> None:
    assert app.get(PATH).status_code == 401


def test_stranger_gets_403(app: Client, carol: User, acme: Organization) -> None:
    assert app.get(PATH, headers=bearer(ending_in(carol, 60))).status_code == 403


def test_sessions_stay_what_they_are(alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert browser.get(PATH).status_code == 200
    assert browser.post(TICKET).status_code == 403


def test_other_views_are_left_alone(app: Client, alice: User) -> None:
    answer = app.post("/api/token/refresh/", headers=bearer("junk"))
    assert answer.status_code == 400  # there is no refresh token, says its own view


async def test_connection_by_ticket_and_event_stream_end_with_the_token(
    sockets: Sockets, pages: Pages, alice: User, acme: Organization
) -> None:
    token = ending_in(alice, 3)
    asked = await sync_to_async(Client().post)(TICKET, headers={**bearer(token), "Origin": APP})
    names = ["orgrealtime.v1", f"orgrealtime.ticket.{asked.json()['ticket']}"]
    headers = [(b"host", b"testserver"), (b"origin", APP.encode())]
    socket: Socket = await sockets.open(scope={"subprotocols": names, "headers": headers})
    page = await pages.open(headers={"origin": APP, "authorization": f"Bearer {token}"})
    await socket.synced()
    assert page.status == 200
    while (event := await page.event()).name != "close":
        pass
    assert event.data["code"] == 4401
    assert await socket.close_code() == 4401
    assert time.time() >= token["exp"]


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer junk"}])
async def test_event_stream_is_refused_without_a_good_token(
    pages: Pages, acme: Organization, headers: dict[str, str]
) -> None:
    assert (await pages.open(headers={"origin": APP, **headers})).status == 401


class Opaque(BaseAuthentication):
    """Tokens as knox and OAuth Toolkit have them; `token` is that of the next request."""

    token: Any = None

    def authenticate(self, request: Any) -> tuple[User, Any]:
        if isinstance(self.token, Exception):
            raise self.token
        return User.objects.get(username="alice"), self.token


@pytest.mark.parametrize("name", ["expiry", "expires", None])
def test_end_of_a_token_is_that_of_the_ticket(
    app: Client, alice: User, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    end = datetime(2100, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(api_settings, "DEFAULT_AUTHENTICATION_CLASSES", [Opaque])
    monkeypatch.setattr(Opaque, "token", SimpleNamespace(**({name: end} if name else {})))
    assert app.post(TICKET, headers=bearer("opaque")).status_code == 201
    assert Ticket.objects.get().login_expires_at == (end if name else None)


@pytest.mark.parametrize("error", [AuthenticationFailed, NotAuthenticated])
def test_token_that_a_class_refuses_is_answered_with_401(
    app: Client, alice: User, acme: Organization, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(api_settings, "DEFAULT_AUTHENTICATION_CLASSES", [Opaque])
    monkeypatch.setattr(Opaque, "token", error())
    for answer in (app.get(PATH, headers=bearer("opaque")), app.post(TICKET, headers=bearer("opaque"))):
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
