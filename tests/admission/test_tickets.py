"""Tickets: issued to a member over HTTP, good for one connection without a cookie."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.vary import vary_on_cookie
from pytest_django.fixtures import Settings

from orgrealtime.admission import tickets
from orgrealtime.errors import Refused
from orgrealtime.models import Ticket
from orgrealtime.stream import database
from orgrealtime.views import TicketView
from tests.host.models import Membership, Organization
from tests.sockets import ORIGIN, Socket, Sockets, log_in
from tests.threads import start_many

URL = "/orgs/acme/notifications/ticket/"

pytestmark = pytest.mark.django_db


def subprotocols(*tickets: str) -> dict[str, Any]:
    return {"subprotocols": ["orgrealtime.v1", *(f"orgrealtime.ticket.{ticket}" for ticket in tickets)]}


def handshake(*tickets: str, origin: str | None = None, cookie: str = "") -> dict[str, Any]:
    """What a client sends that has these tickets."""
    given = {"host": "testserver", "origin": origin, "cookie": cookie}
    headers = [(name.encode(), value.encode()) for name, value in given.items() if value]
    return {**subprotocols(*tickets), "headers": headers}


def fetch(user: User, origin: str | None = None, org: str = "acme") -> str:
    """A ticket as a logged-in client gets it."""
    client = Client()
    client.force_login(user)
    headers = {} if origin is None else {"Origin": origin}
    answer = client.post(f"/orgs/{org}/notifications/ticket/", headers=headers)
    assert answer.status_code == 201, answer.content
    return str(answer.json()["ticket"])


# ------------------------------------------------------------------------------------------------------ issuing


@pytest.fixture
def hers(client: Client, alice: User) -> Client:
    """Alice's browser."""
    client.force_login(alice)
    return client


def test_member_gets_a_ticket_of_which_only_the_digest_is_kept(hers: Client, alice: User) -> None:
    answer = hers.post(URL)
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    assert answer.json() == {"ticket": answer.json()["ticket"], "expires_in": 30}
    assert len(answer.json()["ticket"]) * 6 >= 128
    stored = Ticket.objects.get()
    assert answer.json()["ticket"] not in str(vars(stored))
    assert (stored.user, stored.session_key) == (alice, hers.session.session_key)
    assert stored.expires_at <= timezone.now() + datetime.timedelta(seconds=30)


@pytest.mark.parametrize("method", ["get", "head", "put", "delete"])
def test_ticket_is_not_given_to_other_methods(hers: Client, method: str) -> None:
    assert getattr(hers, method)(URL).status_code == 405
    assert not Ticket.objects.exists()


@pytest.mark.parametrize("middleware", [True, False])
def test_post_without_csrf_token_gets_403_whatever_middleware_there_is(
    alice: User,
    settings: Settings,
    middleware: bool,
) -> None:
    if not middleware:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post(URL).status_code == 403
    assert not Ticket.objects.exists()


# How a client asks for a ticket, and the status without a CSRF token. The user comes of middleware, as with a token.
ASKED: dict[str, tuple[dict[str, str], int]] = {
    "token": ({"Authorization": "Bearer alice"}, 201),
    "token of a web view": ({"Authorization": "Bearer alice", "Origin": "capacitor://localhost"}, 201),
    "token beside a proxy's cookie": ({"Authorization": "Bearer alice", "Cookie": "lb=7"}, 201),
    "header of one's own": ({"X-Api-Key": "alice"}, 201),
    "header of one's own on a page": ({"X-Api-Key": "alice", "Origin": "https://evil.example"}, 403),
    "what browsers send by themselves": ({"Authorization": "Basic YWxpY2U6ZGVtbw=="}, 403),
    "token in a cookie": ({"Cookie": "access_token=alice"}, 403),
    "nothing, from a page": ({"Origin": "https://evil.example"}, 403),
}


class NamesAlice:
    """Middleware that finds the user by whatever the request has, as a host's for tokens does."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        request.user = User.objects.get(username="alice")
        return self.get_response(request)


@pytest.mark.parametrize("csrf", [True, False])
@pytest.mark.parametrize(("headers", "status"), ASKED.values(), ids=ASKED)
def test_client_needs_a_csrf_token_only_where_a_foreign_page_could_ask(
    alice: User, settings: Settings, headers: dict[str, str], status: int, csrf: bool
) -> None:
    own = [f"{__name__}.NamesAlice"]
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware", *own] if csrf else own
    answer = Client(enforce_csrf_checks=True).post(URL, headers=headers)
    assert answer.status_code == status


def test_header_of_a_token_does_not_spare_a_session_the_csrf_token(alice: User) -> None:
    client = Client(enforce_csrf_checks=True, headers={"Authorization": "Bearer alice"})
    client.force_login(alice)
    assert client.post(URL).status_code == 403


def test_host_may_exempt_the_view(alice: User, settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    for name in ("exempt", "within", "class"):
        assert client.post(f"/{name}/acme/").status_code == 201
    assert client.post("/asked/acme/").status_code == 403


@method_decorator(csrf_exempt, name="dispatch")
class ExemptView(TicketView):
    """A view of a host that has another protection."""


urlpatterns = [
    path("exempt/<slug:org_slug>/", csrf_exempt(TicketView.as_view())),
    path("within/<slug:org_slug>/", vary_on_cookie(csrf_exempt(vary_on_cookie(TicketView.as_view())))),
    path("class/<slug:org_slug>/", ExemptView.as_view()),
    path("asked/<slug:org_slug>/", vary_on_cookie(TicketView.as_view())),
]


def test_nobody_gets_401(client: Client, acme: Organization) -> None:
    answer = client.post(URL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


def test_stranger_gets_one_answer_for_a_foreign_and_an_unknown_organisation(
    hers: Client, carol: User
) -> None:
    foreign, unknown = (hers.post(URL.replace("acme", slug)) for slug in ("globex", "nowhere"))
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "forbidden")


def test_user_has_at_most_a_hundred_living_tickets(hers: Client, bob: User) -> None:
    for _ in range(100):
        assert hers.post(URL).status_code == 201
    answer = hers.post(URL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
    assert fetch(bob)
    expire()
    assert hers.post(URL).status_code == 201
    assert Ticket.objects.count() == 2  # hers that had expired are gone, and bob's isn't hers


def test_prune_deletes_the_expired_tickets_of_all(alice: User, bob: User) -> None:
    fetch(alice), fetch(bob)
    expire()
    living = fetch(alice)
    fetch(bob)
    Ticket.objects.exclude(digest=tickets._digest(living)).update(expires_at=timezone.now())
    call_command("orgrealtime_prune", "--days", "30")
    assert [ticket.digest for ticket in Ticket.objects.all()] == [tickets._digest(living)]


def expire() -> None:
    Ticket.objects.update(expires_at=timezone.now())


# -------------------------------------------------------------------------------------------------------- using


async def open_with(sockets: Sockets, *tickets: str, **given: Any) -> Socket:
    return await sockets.open(scope=handshake(*tickets, **given))


async def refused_with(sockets: Sockets, *tickets: str, org: str = "acme", **given: Any) -> int:
    return await sockets.refused(org=org, scope=handshake(*tickets, **given))


async def test_ticket_opens_one_connection_and_is_not_echoed(sockets: Sockets, alice: User) -> None:
    ticket = await database.LIVE.run(fetch, alice)
    socket = await sockets.knock(scope=handshake(ticket))
    assert await socket.connect() == (True, "orgrealtime.v1")
    await socket.synced()
    assert await refused_with(sockets, ticket) == 4401
    assert await socket.is_alive()


async def test_ticket_counts_and_not_the_cookie(
    sockets: Sockets, alice: User, bob: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orgrealtime.connection")
    ticket, cookie = await database.LIVE.run(fetch, alice), await database.LIVE.run(log_in, bob)
    await (await open_with(sockets, ticket, cookie=cookie)).synced()
    [opened] = [record for record in caplog.records if record.message == "connection opened"]
    assert vars(opened)["user_id"] == str(alice.pk)


@pytest.mark.parametrize("ticket", ["", "unknown", "x" * 10_000, "\udcff"])
async def test_unknown_ticket_is_refused_though_the_cookie_is_good(
    sockets: Sockets, alice: User, ticket: str
) -> None:
    cookie = await database.LIVE.run(log_in, alice)
    assert await refused_with(sockets, ticket, cookie=cookie, origin=ORIGIN) == 4401
    assert await refused_with(sockets, ticket) == 4401


async def test_two_tickets_are_refused(sockets: Sockets, alice: User) -> None:
    both = [await database.LIVE.run(fetch, alice) for _ in range(2)]
    assert await refused_with(sockets, *both) == 4401


async def test_expired_ticket_is_refused(sockets: Sockets, alice: User) -> None:
    ticket = await database.LIVE.run(fetch, alice)
    await database.LIVE.run(expire)
    assert await refused_with(sockets, ticket) == 4401


@pytest.mark.parametrize(
    ("bound", "origin", "is_good"),
    [
        (None, None, True),
        (ORIGIN, None, True),
        (ORIGIN, ORIGIN, True),
        (ORIGIN, "HTTP://TestServer:80", True),
        (ORIGIN, "https://testserver", False),
        (ORIGIN, "http://evil.example", False),
        (ORIGIN, "null", False),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("chrome-extension://abcdef", "chrome-extension://other", False),
        ("tauri://localhost", "capacitor://localhost", False),
        (None, ORIGIN, False),
        ("null", "null", False),
    ],
)
async def test_origin_of_the_handshake_is_none_or_the_one_that_got_the_ticket(
    sockets: Sockets,
    alice: User,
    bound: str | None,
    origin: str | None,
    is_good: bool,
) -> None:
    ticket = await database.LIVE.run(fetch, alice, bound)
    if is_good:
        await open_with(sockets, ticket, origin=origin)
    else:
        assert await refused_with(sockets, ticket, origin=origin) == 4401


@pytest.mark.parametrize("org", ["globex", "initech", "nowhere"])
async def test_ticket_of_another_organisation_is_refused(
    sockets: Sockets, dave: User, make_org: Any, org: str
) -> None:
    await database.LIVE.run(make_org, "initech")
    ticket = await database.LIVE.run(fetch, dave)
    assert await refused_with(sockets, ticket, org=org) == 4401
    assert await refused_with(sockets, ticket) == 4401  # used up by that


async def test_ticket_of_a_member_who_was_removed_is_refused_with_4403(sockets: Sockets, alice: User) -> None:
    ticket = await database.LIVE.run(fetch, alice)
    await database.LIVE.run(Membership.objects.filter(user=alice).delete)
    assert await refused_with(sockets, ticket) == 4403


def _change_password(alice: User) -> None:
    alice.set_password("new")
    alice.save()


ENDINGS: dict[str, Any] = {
    "logout": lambda alice: Session.objects.all().delete(),
    "expiry": lambda alice: Session.objects.update(expire_date=timezone.now()),
    "password": _change_password,
    "inactive": lambda alice: User.objects.filter(pk=alice.pk).update(is_active=False),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
async def test_ticket_ends_with_its_session(sockets: Sockets, alice: User, end: Any) -> None:
    ticket = await database.LIVE.run(fetch, alice)
    await database.LIVE.run(end, alice)
    assert await refused_with(sockets, ticket) == 4401


async def test_ticket_of_a_session_that_is_another_user_s_now_is_refused(
    sockets: Sockets, alice: User, bob: User
) -> None:
    def swap() -> str:
        ticket = fetch(alice)
        Ticket.objects.update(session_key=log_in(bob).partition("=")[2])
        return ticket

    assert await refused_with(sockets, await database.LIVE.run(swap)) == 4401


async def test_connection_by_ticket_is_closed_when_its_session_ends(sockets: Sockets, alice: User) -> None:
    ticket = await database.LIVE.run(fetch, alice)
    socket = await (await open_with(sockets, ticket)).synced()
    client = Client()

    def log_out() -> None:
        client.cookies["sessionid"] = Session.objects.get().pk
        client.logout()

    await database.LIVE.run(log_out)
    assert await socket.close_code() == 4401


async def test_ticket_without_a_session_stands_for_an_active_user(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    first, second = [await database.LIVE.run(tickets.issue, alice, acme, None, None) for _ in range(2)]
    await (await open_with(sockets, first)).synced()
    await database.LIVE.run(User.objects.filter(pk=alice.pk).update, is_active=False)
    assert await refused_with(sockets, second) == 4401


# ------------------------------------------------------------------------------------------ the end of the login


class Ends(NamesAlice):
    """Middleware for tokens that end; `end` is what it says about this one."""

    end: object = None

    def __call__(self, request: Any) -> Any:
        request.expires_at = self.end
        return super().__call__(request)


LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize("end", [LATER, LATER.timestamp() + 0.5, int(LATER.timestamp())])
def test_ticket_keeps_the_end_of_the_login(alice: User, settings: Settings, end: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Ends"]
    Ends.end = end
    ticket = Client().post(URL).json()["ticket"]
    identity = tickets.redeem(ticket, handshake(ticket)).identity
    expected = end.timestamp() if isinstance(end, datetime.datetime) else end
    assert identity.expires_at == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(
    "end",
    [LATER, LATER.timestamp(), datetime.datetime(2099, 12, 31, 19), datetime.datetime(2020, 7, 1), 1e30],
)
def test_host_with_local_times_has_logins_that_end(
    alice: User, acme: Organization, settings: Settings, end: Any
) -> None:
    """There tokens of others have naive datetimes, in the project's time zone."""
    settings.USE_TZ, settings.TIME_ZONE = False, "America/New_York"
    settings.MIDDLEWARE = [f"{__name__}.Ends"]
    Ends.end = end
    answer = Client().post(URL)
    if end == datetime.datetime(2020, 7, 1):
        assert answer.status_code == 401
        return
    ticket = answer.json()["ticket"]
    expires_at = tickets.redeem(ticket, handshake(ticket)).identity.expires_at
    assert expires_at == LATER.timestamp() or (end == 1e30 and expires_at is not None)


@pytest.mark.parametrize("end", [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), 0])
def test_login_that_has_ended_gets_no_ticket(alice: User, settings: Settings, end: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Ends"]
    Ends.end = end
    answer = Client().post(URL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


def test_login_without_an_end_gives_a_ticket_without_one(alice: User, acme: Organization) -> None:
    ticket = tickets.issue(alice, acme, None, None)
    assert tickets.redeem(ticket, handshake(ticket)).identity.expires_at is None


@pytest.mark.parametrize("end", [1e30, float(2**62)])
def test_login_may_end_later_than_any_calendar(alice: User, acme: Organization, end: float) -> None:
    ticket = tickets.issue(alice, acme, None, None, end)
    assert tickets.redeem(ticket, handshake(ticket)).identity.expires_at is not None


def end_logins() -> None:
    Ticket.objects.update(login_expires_at=timezone.now())


async def test_ticket_of_a_login_that_has_ended_meanwhile_is_refused(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    ticket = await database.LIVE.run(tickets.issue, alice, acme, None, None, LATER)
    await database.LIVE.run(end_logins)
    assert await refused_with(sockets, ticket) == 4401


async def test_connection_by_ticket_is_closed_at_the_end_of_the_login(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    soon = timezone.now() + datetime.timedelta(seconds=1.5)
    ticket = await database.LIVE.run(tickets.issue, alice, acme, None, None, soon)
    socket = await (await open_with(sockets, ticket)).synced()
    assert await socket.close_code() == 4401
    assert timezone.now() >= soon


def test_all_failed_uses_get_one_message(alice: User, acme: Organization) -> None:
    used, expired, foreign = (tickets.issue(alice, acme, None, ORIGIN) for _ in range(3))
    tickets.redeem(used, handshake(used))
    Ticket.objects.filter(digest=tickets._digest(expired)).update(expires_at=timezone.now())
    messages = set()
    for ticket, origin in (
        ("unknown", None),
        (used, None),
        (expired, None),
        (foreign, "http://evil.example"),
    ):
        with pytest.raises(Refused) as caught:
            tickets.redeem(ticket, handshake(ticket, origin=origin))
        messages.add((caught.value.code, caught.value.message))
    assert messages == {(4401, tickets.MESSAGE)}


async def test_no_ticket_is_logged(sockets: Sockets, alice: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "orgrealtime")
    ticket = await database.LIVE.run(fetch, alice)
    await (await open_with(sockets, ticket)).synced()
    assert await refused_with(sockets, ticket) == 4401
    logged = [str(vars(record)) for record in caplog.records]
    assert any("unknown or used ticket" in text for text in logged)
    assert not any(ticket in text for text in logged)


@pytest.mark.django_db(transaction=True)
def test_one_of_a_hundred_racing_uses_wins(alice: User, acme: Organization) -> None:
    ticket = tickets.issue(alice, acme, None, None)

    def use(_: int) -> bool:
        try:
            return tickets.redeem(ticket, handshake(ticket)).identity.user == alice
        except Refused:
            return False

    assert start_many(100, use).count(True) == 1
