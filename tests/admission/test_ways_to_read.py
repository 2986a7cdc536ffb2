"""The ways to read a stream, by WebSocket, event stream, page and ticket, have one answer to the same person."""

from __future__ import annotations

import copy
import logging
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.core.asgi import get_asgi_application
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.http import Http404
from django.test import Client, RequestFactory
from django.urls import include, path
from pytest_django.fixtures import Settings

from orgrealtime import adapters
from orgrealtime.adapters import MembershipAdapter
from orgrealtime.asgi import realtime
from orgrealtime.consumers import NotificationsConsumer
from orgrealtime.routing import websocket_urlpatterns
from orgrealtime.sse import EventSourceView
from orgrealtime.stream import database
from orgrealtime.views import CatchUpView, TicketView
from tests.conftest import Configure
from tests.host.models import Organization
from tests.project import fenced, read
from tests.sockets import APPLICATION, ORIGIN, Sockets, log_in, publish_event
from tests.test_sse import Page

pytestmark = pytest.mark.django_db(transaction=True)

SOON = 0.2
EVENT_STREAMS: Any = realtime(websocket_urlpatterns, http=get_asgi_application())
NOBODY = {"socket": 4401, "stream": 401, "page": 401, "ticket": 401}
STRANGER = {"socket": 4403, "stream": 403, "page": 403, "ticket": 403}
MEMBER = {"socket": None, "stream": 200, "page": 200, "ticket": 201}


class Ways:
    """Asks by all ways: `await ways.ask("acme", cookie)`."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets

    async def ask(
        self, slug: str, cookie: str, application: Any = APPLICATION, scope: Any = None
    ) -> dict[str, int | None]:
        ask = self._ask_by_http
        return {
            "socket": await self._ask_by_socket(slug, cookie, application, scope or {}),
            "stream": await self._ask_by_event_stream(slug, cookie, scope or {}),
            "page": await database.LIVE.run(ask, "get", f"/orgs/{slug}/notifications/", cookie),
            "ticket": await database.LIVE.run(ask, "post", f"/orgs/{slug}/notifications/ticket/", cookie),
        }

    async def _ask_by_socket(self, slug: str, cookie: str, application: Any, scope: Any) -> int | None:
        socket = await self._sockets.knock(org=slug, cookie=cookie, application=application, scope=scope)
        is_accepted, code = await socket.connect()
        if is_accepted:
            await socket.disconnect()
        return None if is_accepted else code

    async def _ask_by_event_stream(self, slug: str, cookie: str, scope: Any) -> int:
        application: Any = realtime(websocket_urlpatterns, http=get_asgi_application())
        page = Page(cookie, "", {}, unquote(f"/orgs/{slug}/notifications/stream/"), application)
        page.communicator.scope.update(scope)
        await page.begin()
        await page.leave()
        return page.status

    def _ask_by_http(self, method: str, url: str, cookie: str) -> int:
        client = Client(raise_request_exception=False, headers={"cookie": cookie})
        answer = getattr(client, method)(url)
        return int(answer.status_code)


@pytest.fixture
async def ways(sockets: Sockets) -> Ways:
    return Ways(sockets)


@pytest.fixture(autouse=True)
def _no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


# --------------------------------------------------------------------------------------- slugs that can't be


def everything_as_a_slug(settings: Settings) -> None:
    """Routes that take anything, as hosts with other slugs have them."""
    settings.ROOT_URLCONF = (
        path(
            "orgs/<path:org_slug>/notifications/",
            include(
                [
                    path("", CatchUpView.as_view()),
                    path("stream/", EventSourceView.as_view()),
                    path("ticket/", TicketView.as_view()),
                ]
            ),
        ),
    )


ANY_SLUG: Any = realtime([path("ws/orgs/<path:org_slug>/notifications/", NotificationsConsumer.as_asgi())])

IMPOSSIBLE = {
    "text": "abc",
    "beyond 32 bits": "9" * 10,
    "beyond 64 bits": "9" * 23,
    "beyond what Python reads": "9" * 5000,
    "negative": "-1",
    "another script's digits": "%D9%A3" * 8,
    "NUL": "a%00b",
    "a UUID": str(uuid.UUID(int=7)),
    "long": "a" * 3000,
    "no UTF-8": "%ff%fe",
    "half a character": "%ed%a0%80",
    "a decimal": "1.5",
}


@pytest.mark.parametrize("field", ["slug", "id", pytest.param("plan", marks=pytest.mark.slow)])
async def test_slug_that_no_organisation_can_have_is_a_stranger_s(
    ways: Ways, alice: User, configure: Configure, settings: Settings, field: str
) -> None:
    everything_as_a_slug(settings)
    configure(ORGANIZATION_SLUG_FIELD=field)
    cookie = await database.LIVE.run(log_in, alice)
    answers = {kind: await ways.ask(slug, cookie, ANY_SLUG) for kind, slug in IMPOSSIBLE.items()}
    assert answers == dict.fromkeys(IMPOSSIBLE, STRANGER)


@pytest.mark.parametrize("field", ["slug", "id"])
def test_text_that_no_database_takes_is_no_slug(alice: User, configure: Configure, field: str) -> None:
    configure(ORGANIZATION_SLUG_FIELD=field)
    for slug in ("\ud800", "a\udfff", "\x00", "7\x00"):
        assert adapters.find(slug, alice) is None
        assert adapters.find_together({(slug, alice)}) == {}
        assert adapters.resolve(slug) is None


async def test_key_of_an_organisation_does_as_a_slug(
    ways: Ways, alice: User, acme: Organization, configure: Configure
) -> None:
    configure(ORGANIZATION_SLUG_FIELD="id")
    cookie = await database.LIVE.run(log_in, alice)
    assert await ways.ask(str(acme.pk), cookie) == MEMBER


class Choosy(MembershipAdapter):
    """A host's adapter that raises for slugs that it can't read."""

    error: Callable[[], Any] = staticmethod(lambda: None)

    def find(self, slug: str, user: Any) -> Any:
        if slug != "acme":
            self.error()
        return super().find(slug, user)

    def resolve(self, slug: str) -> Any:
        self.error()
        return super().resolve(slug)


class ChoosyTogether(Choosy):
    """The same, with a way of its own to find many."""

    def find_together(self, pairs: Any) -> Any:
        return {(slug, user.pk): found for slug, user in pairs if (found := self.find(slug, user))}


def ask_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::uuid", ["abc"])


def raising(error: Exception) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


ERRORS: dict[str, Callable[[], Any]] = {
    "ValueError": lambda: int("abc"),
    "ValidationError": raising(ValidationError("no UUID")),
    "DoesNotExist": raising(Organization.DoesNotExist()),
    "Http404": raising(Http404()),
    "OverflowError": raising(OverflowError()),
    "DataError": ask_postgresql,
}


@pytest.mark.parametrize("adapter", ["ChoosyTogether", pytest.param("Choosy", marks=pytest.mark.slow)])
async def test_slug_that_the_host_s_adapter_can_not_read_is_a_stranger_s(
    ways: Ways,
    alice: User,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    adapter: str,
) -> None:
    configure(ADAPTER=f"tests.admission.test_ways_to_read.{adapter}")
    cookie = await database.LIVE.run(log_in, alice)
    for error, fail in ERRORS.items():
        monkeypatch.setattr(Choosy, "error", staticmethod(fail))
        assert (error, await ways.ask("abc", cookie)) == (error, STRANGER)
    said = [one for one in caplog.records if one.message.startswith("the adapter can't read a slug")]
    assert {getattr(one, "error", None) for one in said} == ERRORS.keys()
    assert await ways.ask("acme", cookie) == MEMBER


@pytest.mark.parametrize("error", ["ValueError", "DataError"])
def test_command_says_that_there_is_no_such_organisation(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(Choosy, "error", staticmethod(ERRORS[error]))
    configure(ADAPTER="tests.admission.test_ways_to_read.Choosy")
    with pytest.raises(CommandError, match="no organisation with the slug 'abc'"):
        call_command("orgrealtime_publish", "abc", "note", "{}")


def test_command_knows_no_organisation_by_what_is_no_key(configure: Configure) -> None:
    configure(ORGANIZATION_SLUG_FIELD="id")
    for slug in IMPOSSIBLE.values():
        with pytest.raises(CommandError, match="no organisation with the slug"):
            call_command("orgrealtime_publish", unquote(slug), "note", "{}")


# ------------------------------------------------------------------------------------------ what a host lacks


async def test_nobody_is_known_where_there_are_no_sessions(
    ways: Ways, alice: User, settings: Settings
) -> None:
    cookie = await database.LIVE.run(log_in, alice)
    settings.MIDDLEWARE = []
    settings.SESSION_ENGINE = "nowhere.sessions"
    assert await ways.ask("acme", cookie) == NOBODY
    known = await ways.ask("acme", cookie, scope={"user": alice})
    assert (known["socket"], known["stream"]) == (None, 200)


async def test_session_counts_everywhere_where_no_middleware_names_a_user(
    ways: Ways, alice: User, settings: Settings
) -> None:
    cookie = await database.LIVE.run(log_in, alice)
    settings.MIDDLEWARE = []
    assert await ways.ask("acme", cookie) == MEMBER
    assert await ways.ask("acme", "sessionid=unknown") == NOBODY


async def test_session_of_a_former_user_model_is_nobody_s(ways: Ways, alice: User) -> None:
    cookie = await database.LIVE.run(log_in, alice)

    def rewrite(key: Any) -> None:
        session = Session.objects.get(pk=cookie.partition("=")[2])
        data = {**session.get_decoded(), SESSION_KEY: key}
        session.session_data = Session.objects.encode(data)
        session.save()

    for key in ("nobody", "9" * 30, "", str(uuid.UUID(int=7)), "1.5", None, [1]):
        await database.LIVE.run(rewrite, key)
        assert await ways.ask("acme", cookie) == NOBODY


async def test_cookie_with_nul_is_nobody_s(ways: Ways, acme: Organization) -> None:
    assert await ways.ask("acme", 'sessionid="aaaaaaaaaaaa\\000"') == NOBODY


async def test_cache_of_the_sessions_that_is_away_is_no_logout(
    ways: Ways, alice: User, settings: Settings
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    cookie = await database.LIVE.run(log_in, alice)
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}
    settings.MIDDLEWARE = []
    assert await ways.ask("acme", cookie) == {"socket": 4503, "stream": 503, "page": 503, "ticket": 503}


def no_users(alice: User, acme: Organization) -> Iterator[Any]:
    """What middleware may take for a user, with alice's number where it has one."""
    yield None
    yield object()
    yield AnonymousUser()
    yield User(username="not saved", is_active=True)
    yield SimpleNamespace(pk=alice.pk, id=alice.pk, is_authenticated=True, is_active=True)
    of_another_model: Any = Organization(pk=alice.pk)
    of_another_model.is_authenticated = of_another_model.is_active = True
    yield of_another_model


async def test_what_is_no_row_of_the_user_model_is_nobody(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    for who in no_users(alice, acme):
        assert await sockets.refused(scope={"user": who}) == 4401


def ask_as(user: Any) -> tuple[int, int]:
    """What page and ticket answer to a request for which middleware has named this user."""
    page, ticket = RequestFactory().get("/"), RequestFactory().post("/")
    page.user = ticket.user = user
    ticket._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
    views = (CatchUpView, page), (TicketView, ticket)
    pair = [view.as_view()(request, org_slug="acme").status_code for view, request in views]
    return pair[0], pair[1]


def test_what_is_no_row_of_the_user_model_is_nobody_over_http(alice: User, acme: Organization) -> None:
    for who in no_users(alice, acme):
        assert ask_as(who) == (401, 401)
    assert ask_as(alice) == (200, 201)


# -------------------------------------------------------------------------------- the truth is the primary's


class ReadsLoginsFromAReplica:
    """A router as hosts have it, for users and sessions."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model in {User, Session} else None

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *models: Any, **hints: Any) -> bool:
        return True


@pytest.fixture
def replica(settings: Settings, alice: User) -> Iterator[str]:
    """The cookie of alice, whose user and session are in a replica that gets nothing of what is done from now on."""
    cookie = log_in(alice)
    for row in (User.objects.get(), Session.objects.get()):
        copy.copy(row).save(using="other", force_insert=True)
    settings.DATABASE_ROUTERS = ["tests.admission.test_ways_to_read.ReadsLoginsFromAReplica"]
    yield cookie
    settings.DATABASE_ROUTERS = []


ENDS: dict[str, Callable[[], object]] = {
    "deactivated": lambda: User.objects.using("default").update(is_active=False),
    "another password": lambda: User.objects.using("default").update(password="another"),
    "deleted": lambda: User.objects.using("default").get().delete(),
    "logged out": lambda: Session.objects.using("default").get().delete(),
    "emptied": lambda: Session.objects.using("default").update(session_data=Session.objects.encode({})),
}


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("engine", ["db", pytest.param("cached_db", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "end",
    [
        "deactivated",
        "logged out",
        *(pytest.param(end, marks=pytest.mark.slow) for end in ("another password", "deleted", "emptied")),
    ],
)
async def test_login_that_has_ended_counts_nowhere_though_a_replica_knows_it_still(
    ways: Ways, replica: str, settings: Settings, end: str, engine: str
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert await ways.ask("acme", replica) == MEMBER
    await database.LIVE.run(ENDS[end])
    assert await ways.ask("acme", replica) == NOBODY


def test_user_whom_middleware_has_kept_is_asked_about_anew(alice: User) -> None:
    User.objects.update(is_active=False)
    assert alice.is_active
    assert ask_as(alice) == (401, 401)


async def test_user_in_the_scope_is_asked_about_anew(sockets: Sockets, alice: User) -> None:
    await database.LIVE.run(lambda: User.objects.update(is_active=False))
    assert await sockets.refused(scope={"user": alice}) == 4401


async def test_session_of_the_host_s_middleware_is_asked_about_anew(sockets: Sockets, alice: User) -> None:
    def prepare() -> Any:
        session = Client()
        session.force_login(alice)
        store = session.session
        store.load()
        assert store[HASH_SESSION_KEY]
        type(store)(store.session_key).flush()
        return store

    session = await database.LIVE.run(prepare)
    assert await sockets.refused(scope={"user": alice, "session": session}) == 4401


# ------------------------------------------------------------------------------- a session cookie of another name


class HostCookies(SessionMiddleware):
    """A host's session middleware that doesn't know the cookie of `SESSION_COOKIE_NAME`."""

    def process_request(self, request: Any) -> None:
        request.session = self.SessionStore(request.COOKIES.get("__Host-sessionid"))


@pytest.fixture
def of_the_page(settings: Settings) -> Any:
    """The application of the page "Wire it into your project", of a host with these cookies."""
    own, django_s = "tests.admission.test_ways_to_read.HostCookies", SessionMiddleware
    settings.MIDDLEWARE = [own if django_s.__name__ in name else name for name in settings.MIDDLEWARE]
    blocks = fenced(read("howto/wire-into-a-project.md"), "python")
    names: dict[str, Any] = {
        "realtime": realtime,
        "websocket_urlpatterns": websocket_urlpatterns,
        "django_application": None,
    }
    exec(next(block for block in blocks if "def with_session" in block), names)  # noqa: S102 - our own page
    return names["application"]


async def test_session_cookie_of_another_name_counts_by_every_way(
    ways: Ways, sockets: Sockets, alice: User, of_the_page: Any
) -> None:
    key = (await database.LIVE.run(log_in, alice)).partition("=")[2]
    assert await ways.ask("acme", f"theme=dark; __Host-sessionid={key}", of_the_page) == MEMBER
    assert await ways.ask("acme", f"sessionid={key}", of_the_page) == NOBODY
    assert await ways.ask("acme", '__Host-sessionid="aaaaaaaaaaaa\\000"', of_the_page) == NOBODY


async def test_session_cookie_of_another_name_needs_an_origin_too(
    sockets: Sockets, alice: User, of_the_page: Any
) -> None:
    key = (await database.LIVE.run(log_in, alice)).partition("=")[2]
    headers = [(b"host", b"testserver"), (b"cookie", f"__Host-sessionid={key}".encode())]
    assert await sockets.refused(application=of_the_page, scope={"headers": headers}) == 4403


# ------------------------------------------------------------------------------ a session that changes its user


@pytest.mark.parametrize("now", ["bob's", "nobody's"])
async def test_session_that_is_another_s_under_the_same_key_ends_what_it_has_opened(
    sockets: Sockets, ways: Ways, alice: User, bob: User, acme: Organization, configure: Configure, now: str
) -> None:
    configure(ACCESS_CHECK_SECONDS=SOON)
    cookie = await database.LIVE.run(log_in, alice)
    ticket = await database.LIVE.run(fetch, cookie)
    socket = await (await sockets.open(cookie=cookie)).synced()
    other = await (await sockets.open(alice)).synced()
    page = Page(cookie, "", {}, "/orgs/acme/notifications/stream/", EVENT_STREAMS)
    await (await page.begin()).until("synced")

    def rewrite() -> None:
        session = SessionStore(cookie.partition("=")[2])
        if now == "bob's":
            session.update({SESSION_KEY: str(bob.pk), HASH_SESSION_KEY: bob.get_session_auth_hash()})
        else:
            session.load()
            session.clear()
        session.save()

    await database.LIVE.run(rewrite)
    assert await socket.close_code() == 4401
    end = await page.event()
    assert (end.name, end.data) == ("close", {"type": "close", "code": 4401})
    await page.communicator.wait()
    await publish_event(acme, "private", to=[alice])
    assert [event["type"] for event in await other.next_events(1)] == ["private"]
    assert await ways.ask("acme", cookie) == (MEMBER if now == "bob's" else NOBODY)
    assert await sockets.refused(scope={"subprotocols": [f"orgrealtime.ticket.{ticket}"]}) == 4401


def fetch(cookie: str) -> str:
    """A new ticket of a browser with this cookie."""
    answer = Client(headers={"cookie": cookie, "origin": ORIGIN}).post("/orgs/acme/notifications/ticket/")
    return str(answer.json()["ticket"])


def test_login_that_middleware_makes_in_this_very_request_counts(alice: User, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.RemoteUserMiddleware"]
    answer = Client(REMOTE_USER="alice").get("/orgs/acme/notifications/")
    assert answer.status_code == 200
    connections["default"].close()
